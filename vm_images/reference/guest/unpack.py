#!/usr/bin/python3
"""Unpack a zip into a folder as the user who runs this: ``unpack.py ARCHIVE FOLDER``. As a portable build is installed.

1. Nothing is written outside the folder, whatever the archive says (the host has checked it too).
2. Limits hold even when the host's check and this archive disagree: files, bytes.
3. The exit code is 0, the errno of what the system refused, or 200 for an archive that cannot be unpacked.

Names without the UTF-8 flag are CP949 when all of them can be, as Korean Windows writes them, else CP437 (APPNOTE D.1).
"""

import os
import sys
import zipfile
from pathlib import Path

MAX_FILES = 20_000
MAX_BYTES = 2 << 30
BAD_ARCHIVE = 200
UTF8_FLAG = 0x800
CHUNK = 1 << 20


class BadArchiveError(Exception):
    """The archive cannot be unpacked; the text says why."""


def encoding_of(archive: str) -> str:
    """Give the encoding of the names that do not say theirs."""
    with zipfile.ZipFile(archive) as opened:
        raw = [item.orig_filename.encode("cp437") for item in opened.infolist() if not item.flag_bits & UTF8_FLAG]
    try:
        for name in raw:
            name.decode("cp949")
    except UnicodeDecodeError:
        return "cp437"
    return "cp949"


def place(folder: Path, name: str) -> Path:
    """Give where an entry belongs, refusing what would leave the folder."""
    parts = name.replace("\\", "/").rstrip("/").split("/")
    if any(part in ("", ".", "..") or ":" in part or "\0" in part for part in parts):
        message = f"the entry {name!r} has no place in a folder"
        raise BadArchiveError(message)
    return folder.joinpath(*parts)


def unpack(archive: str, folder: Path) -> int:
    """Unpack everything; give the number of files."""
    written = files = 0
    with zipfile.ZipFile(archive, metadata_encoding=encoding_of(archive)) as opened:
        for item in opened.infolist():
            target = place(folder, item.filename)
            if item.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            files += 1
            if files > MAX_FILES:
                message = f"more than {MAX_FILES} files"
                raise BadArchiveError(message)
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(item) as source, target.open("wb") as out:
                while piece := source.read(CHUNK):
                    written += len(piece)
                    if written > MAX_BYTES:
                        message = f"more than {MAX_BYTES} bytes"
                        raise BadArchiveError(message)
                    out.write(piece)
    return files


def main() -> int:
    """Do as the arguments say."""
    archive, folder = sys.argv[1], Path(sys.argv[2])
    try:
        files = unpack(archive, folder)
    except (BadArchiveError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as problem:
        sys.stderr.write(f"unpack: {problem}\n")
        return BAD_ARCHIVE
    except OSError as problem:
        sys.stderr.write(f"unpack: {os.strerror(problem.errno or 0)}: {problem.filename}\n")
        return problem.errno if problem.errno and problem.errno < BAD_ARCHIVE else 1
    sys.stdout.write(f"{files} files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
