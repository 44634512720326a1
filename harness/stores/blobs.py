"""Driver. Raw bytes in files that are named by their sha256: written once, durable before anyone is told.

1. A file appears under its name only whole: temporary file, fsync, rename, fsync of the folder.
2. Bytes are checked against their name when they are written and every time they are read.
3. The same bytes are kept once. Files are not compressed, so that a person can open a screenshot where it lies.

Layout: ``<root>/<first two digits>/<sha256>``, and ``<root>/tmp`` for what is being written.

Source:
    Linux, fsync(2): the entry in the folder needs an fsync of its own. Design, vm-performance E.5.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

SHA256 = re.compile(r"[0-9a-f]{64}")

#: A temporary file of this age was left by a killed process; no write takes so long.
LEFT_BEHIND_S = 24 * 3600.0


def is_name(text: str) -> bool:
    """Tell whether a text can be a blob's name; anything else never becomes part of a path."""
    return SHA256.fullmatch(text) is not None


def checked(sha256: str, data: bytes) -> bytes:
    """Give the bytes back; raise ``ValueError`` when they are not those of the name."""
    if hashlib.sha256(data).hexdigest() != sha256:
        msg = f"these are not the bytes of blob {sha256}"
        raise ValueError(msg)
    return data


def means_disk_full(error: OSError) -> bool:
    """Tell whether an error says that there is no room (disk or quota)."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


class BlobFolder:
    """Blobs below one folder. Safe for threads and processes: a name always means the same bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / "tmp"

    def create(self) -> None:
        """Make the folders, and remove what killed processes left half-written."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - LEFT_BEHIND_S
        for left in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):  # its process has renamed it meanwhile
                if left.stat().st_mtime < oldest:
                    left.unlink()

    @property
    def empty(self) -> bool:
        """Tell whether no blob was ever kept here."""
        return not self._root.is_dir() or all(path == self._temporary for path in self._root.iterdir())

    def get(self, sha256: str) -> bytes:
        """Give the bytes; raise ``KeyError`` when they are missing and ``ValueError`` when they are not these bytes."""
        if not is_name(sha256):
            raise KeyError(sha256)
        try:
            data = self._path(sha256).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(sha256) from error
        return checked(sha256, data)

    def put(self, blobs: Mapping[str, bytes]) -> None:
        """Make blobs durable, all of them, before this returns.

        Raises:
            ValueError: A name is not that of its bytes. Nothing is written.
            OSError: The disk refused. Some blobs may be kept; they are whole, and nobody was told of them.
        """
        for sha256, data in blobs.items():
            checked(sha256, data)
        waiting: dict[Path, Path] = {}
        try:
            for sha256, data in blobs.items():
                if not self._has(sha256, data):
                    waiting[self._write(data)] = self._path(sha256)
            for temporary in waiting:
                fsync(temporary)
            for temporary, path in waiting.items():
                path.parent.mkdir(exist_ok=True)
                temporary.rename(path)
        finally:
            for temporary in waiting:
                temporary.unlink(missing_ok=True)
        # Also for blobs that were here: the process that renamed them may not have come to its own fsync.
        for folder in {self._root, *(self._path(sha256).parent for sha256 in blobs)}:
            fsync(folder)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256

    def _has(self, sha256: str, data: bytes) -> bool:
        """Tell whether the blob is here and still as it was; a damaged one is written again."""
        try:
            return self._path(sha256).read_bytes() == data
        except FileNotFoundError:
            return False

    def _write(self, data: bytes) -> Path:
        path = self._temporary / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            path.write_bytes(data)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path


def fsync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
