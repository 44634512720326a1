"""Pure. Reads what ordinary tools print about an installer: ``7z l -slt``, ``innoextract --list``, ``msiinfo export``.

The tools read hostile files, and their output has hostile names in it: a line that fits nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.inspection.model import FileSeen

MAX_FILES = 20_000


def seven_zip(output: str) -> tuple[FileSeen, ...]:
    """Read the technical list of 7-Zip: blocks of ``Key = value`` below a line of dashes, folders left out.

    Source:
        7-Zip, "l (List contents of archive) command" and "-slt".
    """
    _, _, listed = output.rpartition("\n----------\n")
    files: list[FileSeen] = []
    for block in listed.split("\n\n"):
        facts = dict(line.split(" = ", 1) for line in block.splitlines() if " = " in line)
        if "Path" in facts and facts.get("Folder", "-") != "+" and not facts.get("Attributes", "").startswith("D"):
            size = facts.get("Size", "")
            files.append(FileSeen(path=facts["Path"], size_bytes=int(size) if size.isdecimal() else None))
    return tuple(files[:MAX_FILES])


_INNO_LINE = re.compile(r'^ - "(?P<path>.+)"(?: \[[^\]]*\])*(?: \((?P<size>[\d.]+) (?P<unit>B|KiB|MiB|GiB)\))?')
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def innoextract(output: str) -> tuple[FileSeen, ...]:
    """Read the list of innoextract 1.9; its sizes are rounded."""
    files = []
    for line in output.splitlines():
        match = _INNO_LINE.match(line)
        if match:
            size = round(float(match["size"]) * _UNITS[match["unit"]]) if match["size"] else None
            files.append(FileSeen(path=match["path"], size_bytes=size))
    return tuple(files[:MAX_FILES])


def msi_table(output: str) -> tuple[Mapping[str, str], ...]:
    """Read one table as ``msiinfo export`` prints it: names, types and keys in three lines, then tab-separated rows.

    Source:
        Microsoft, "Archive File Format" of Windows Installer.
    """
    lines = output.replace("\r\n", "\n").split("\n")
    if len(lines) < 3:  # noqa: PLR2004 - the three lines of the head
        return ()
    names = lines[0].split("\t")
    return tuple(dict(zip(names, line.split("\t"), strict=False)) for line in lines[3:] if line)


def msi_properties(output: str) -> tuple[tuple[str, str], ...]:
    """Give the properties that say what a package is."""
    wanted = ("ProductName", "ProductVersion", "Manufacturer", "ProductLanguage", "ALLUSERS")
    rows = {row.get("Property", ""): row.get("Value", "") for row in msi_table(output)}
    return tuple((name, rows[name]) for name in wanted if rows.get(name))


def msi_files(output: str) -> tuple[FileSeen, ...]:
    """Give the files of the table ``File``; the long name stands behind the bar."""
    return tuple(
        FileSeen(
            path=row.get("FileName", "").rpartition("|")[2],
            size_bytes=int(row["FileSize"]) if row.get("FileSize", "").isdecimal() else None,
        )
        for row in msi_table(output)[:MAX_FILES]
        if row.get("FileName")
    )


def msi_bits(summary: str) -> int | None:
    """Give 32 or 64 from the summary's template, such as ``x64;1033``; None when it says neither."""
    match = re.search(r"^Template: *(x64|Arm64|Intel64|AMD64|Intel)?;", summary, re.MULTILINE | re.IGNORECASE)
    if match is None:
        return None
    return 32 if (match[1] or "intel").casefold() == "intel" else 64
