"""Driver. What a Windows program says of itself: that it is one, its headers, its resources. The only pefile user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pefile

#: How much of a section its entropy is measured over, and how much of a file's manifest is read.
SAMPLE_BYTES = 1 << 20
MAX_MANIFEST_BYTES = 64 << 10
#: Sections beyond this many are left out; a program has about ten.
MAX_SECTIONS = 96
MAX_TEXTS = 64


class NotAProgram(Exception):
    """The file is no Windows program; the text says what it is or lacks, to follow the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """The version resource's texts; None where the program has none."""

    product_name: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: its name as text, its bytes in the file, and the beginning of them."""

    name: str
    size_bytes: int
    sample: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramHeaders:
    """A program's headers and resources.

    Attributes:
        machine: COFF machine type, such as 0x8664.
        subsystem: 2 is a program with windows, 3 one for the console.
        texts: The version resource's strings, by their names.
        manifest: The application manifest, as text; empty when there is none.
        overlay_offset, overlay_bytes: What lies behind the last section, certificates excepted; 0 bytes when nothing.
        signed: There is a certificate table. Whether it is worth anything is not asked here.
    """

    machine: int
    subsystem: int
    is_dll: bool
    sections: tuple[Section, ...]
    texts: Mapping[str, str]
    manifest: str
    overlay_offset: int
    overlay_bytes: int
    signed: bool

    @property
    def version(self) -> str | None:
        """Give the version resource's product version, else its file version."""
        return self.texts.get("ProductVersion") or self.texts.get("FileVersion") or None


#: First bytes of files that people hand over instead of a setup program.
_OTHER_KINDS = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "is an OLE file, not a Windows program",
    b"PK\x03\x04": "is a zip archive, not a Windows program",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive, not a Windows program",
    b"MSCF": "is a cabinet, not a Windows program",
    b"\x7fELF": "is a Linux program, not a Windows program",
}


def inspect_program(path: Path) -> ProgramFacts:
    """Read what names a Windows program; the file is mapped, not loaded.

    Raises:
        NotAProgram: It is none, is cut short, or is a library.
        OSError: It cannot be read.
    """
    headers = read_headers(path)
    if headers.is_dll:
        raise NotAProgram("is a library (DLL), not a program")
    return ProgramFacts(product_name=headers.texts.get("ProductName") or None, version=headers.version)


def read_headers(path: Path) -> ProgramHeaders:
    """Read the headers and resources of a Windows program or library; the file is mapped, not loaded.

    Raises:
        NotAProgram: It is none, or is cut short.
        OSError: It cannot be read.

    Source:
        Microsoft, "PE Format": the MZ stub, section table, certificate table and resources; StringFileInfo holds
        ProductVersion and FileVersion.
    """
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head.startswith(b"MZ"):
        kind = next((text for magic, text in _OTHER_KINDS.items() if head.startswith(magic)), None)
        raise NotAProgram(kind or "is not a Windows program (no MZ header)")
    try:
        program = pefile.PE(str(path), fast_load=True)
    except (pefile.PEFormatError, ValueError) as error:
        raise NotAProgram("is not a Windows program (its PE header does not read)") from error
    with program:
        size = path.stat().st_size
        promised = program.FILE_HEADER.NumberOfSections
        if promised == 0 or len(program.sections) < promised:
            raise NotAProgram(f"is cut short: {len(program.sections)} of its {promised} sections are there")
        end = max((s.PointerToRawData + s.SizeOfRawData for s in program.sections), default=0)
        if end > size:
            raise NotAProgram(f"is cut short: its header promises {end} bytes and it has {size}")
        signed_at, signed_bytes = _certificates(program)
        if signed_at + signed_bytes > size:
            raise NotAProgram(f"is cut short: its signature ends at byte {signed_at + signed_bytes} and it has {size}")
        overlay = program.get_overlay_data_start_offset() or size
        resource = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_RESOURCE"]
        program.parse_data_directories(directories=[resource])
        with path.open("rb") as stream:
            sections = tuple(_section(s, stream) for s in program.sections[:MAX_SECTIONS])
        return ProgramHeaders(
            machine=program.FILE_HEADER.Machine,
            subsystem=program.OPTIONAL_HEADER.Subsystem,
            is_dll=program.is_dll(),
            sections=sections,
            texts=dict(_texts(program)),
            manifest=_manifest(program),
            overlay_offset=overlay,
            overlay_bytes=max((signed_at if signed_at >= overlay else size) - overlay, 0),
            signed=signed_bytes > 0,
        )


def _certificates(program: pefile.PE) -> tuple[int, int]:
    """Give offset and length of the certificate table, whose "address" is an offset in the file; zeros without one."""
    index = pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_SECURITY"]
    directories = program.OPTIONAL_HEADER.DATA_DIRECTORY
    if len(directories) <= index:
        return 0, 0
    return directories[index].VirtualAddress, directories[index].Size


def _section(section: pefile.SectionStructure, stream: BinaryIO) -> Section:
    size = section.SizeOfRawData
    stream.seek(section.PointerToRawData)
    sample = stream.read(min(size, SAMPLE_BYTES))
    return Section(name=_text(section.Name), size_bytes=size, sample=sample)


def _texts(program: pefile.PE) -> Iterator[tuple[str, str]]:
    tables = (
        table
        for entries in getattr(program, "FileInfo", [])
        for entry in entries
        for table in getattr(entry, "StringTable", [])
    )
    found = [(_text(key), _text(value)) for table in tables for key, value in table.entries.items()]
    yield from found[:MAX_TEXTS]


def _manifest(program: pefile.PE) -> str:
    wanted = pefile.RESOURCE_TYPE["RT_MANIFEST"]
    for kind in getattr(getattr(program, "DIRECTORY_ENTRY_RESOURCE", None), "entries", []):
        if kind.id != wanted:
            continue
        for name in getattr(getattr(kind, "directory", None), "entries", []):
            for language in getattr(getattr(name, "directory", None), "entries", []):
                data = language.data.struct
                try:
                    raw = program.get_data(data.OffsetToData, min(data.Size, MAX_MANIFEST_BYTES))
                except pefile.PEFormatError:
                    continue
                return _text(raw)
    return ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip("\x00 ")
