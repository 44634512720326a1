"""Driver. What a Windows program says of itself: that it is one, and its version resource. The only user of pefile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pefile


class NotAProgram(Exception):
    """The file is no Windows program; the text says what it is or lacks, to follow the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """The version resource's texts; None where the program has none."""

    product_name: str | None = None
    version: str | None = None


#: First bytes of files that people hand over instead of a setup program.
_OTHER_KINDS = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an .msi or another OLE file, not a Windows program",
    b"PK\x03\x04": "is a zip archive, not a Windows program",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive, not a Windows program",
    b"MSCF": "is a cabinet, not a Windows program",
    b"\x7fELF": "is a Linux program, not a Windows program",
}


def inspect_program(path: Path) -> ProgramFacts:
    """Read the headers and the version resource of a Windows program; the file is mapped, not loaded.

    Raises:
        NotAProgram: It is none, is cut short, or is a library.
        OSError: It cannot be read.

    Source:
        Microsoft, "PE Format": the MZ stub, section table and resources; StringFileInfo holds ProductVersion and
        FileVersion.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head.startswith(b"MZ"):
        kind = next((text for magic, text in _OTHER_KINDS.items() if head.startswith(magic)), None)
        raise NotAProgram(kind or "is not a Windows program (no MZ header)")
    try:
        program = pefile.PE(str(path), fast_load=True)
    except pefile.PEFormatError as error:
        raise NotAProgram("is not a Windows program (its PE header does not read)") from error
    with program:
        if program.is_dll():
            raise NotAProgram("is a library (DLL), not a program")
        end = max((s.PointerToRawData + s.SizeOfRawData for s in program.sections), default=0)
        if end > path.stat().st_size:
            raise NotAProgram(f"is cut short: its header promises {end} bytes and it has {path.stat().st_size}")
        return _version_facts(program)


def _version_facts(program: pefile.PE) -> ProgramFacts:
    resource = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_RESOURCE"]
    program.parse_data_directories(directories=[resource])
    texts: dict[str, str] = {}
    for entries in getattr(program, "FileInfo", []):
        for entry in entries:
            for table in getattr(entry, "StringTable", []):
                texts |= {_text(key): _text(value) for key, value in table.entries.items()}
    version = texts.get("ProductVersion") or texts.get("FileVersion")
    return ProgramFacts(product_name=texts.get("ProductName") or None, version=version or None)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip("\x00 ")
