"""Driver. The sha256 of a template's files, without reading gigabytes anew when they have not changed.

A digest is remembered beside what the kernel says of the file: device, inode, size, and the times of its last change,
which no ordinary program can set back (``ctime``, stat(2)). So a file that was written to, replaced or cut is read anew
and refused. What is no longer proven at each start: that the disk still gives the bytes that were written to it (a bad
sector, or a write beneath the file system). ``hts-compat image check`` reads all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

PIECE_BYTES = 1 << 20

#: A file that was changed so shortly before it was read may be changed again within one tick of its clock.
SETTLED_S = 2.0


class Digests:
    """The digests of files, remembered in a file.

    Args:
        note: Where they are remembered. One that cannot be read or written costs time and nothing else.
    """

    def __init__(self, note: Path) -> None:
        self._note = note
        self._known = _read(note)

    def known(self, descriptor: int) -> str | None:
        """Give the digest of an open file, when it has not changed since it was read."""
        found = self._known.get(_identity(os.fstat(descriptor)))
        return found if isinstance(found, str) else None

    def of(self, path: Path) -> str:
        """Give the digest of a file, known or read.

        Raises:
            OSError: It cannot be read.
        """
        with path.open("rb", buffering=0) as stream:
            known = self.known(stream.fileno())
            if known is not None:
                return known
            before = os.fstat(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            self.learn(before, digest)
            return digest

    def learn(self, before: os.stat_result, digest: str) -> None:
        """Remember what a file that was as ``before`` when reading began was found to hold.

        One that was changed meanwhile is never as before again.
        """
        if time.time() - max(before.st_mtime, before.st_ctime) > SETTLED_S:
            self._known[_identity(before)] = digest

    def save(self) -> None:
        """Write down what is known."""
        partial = self._note.with_name(f".{self._note.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps(self._known, indent=1) + "\n", encoding="utf-8")
            partial.rename(self._note)
        except OSError:
            partial.unlink(missing_ok=True)


def _read(note: Path) -> dict[str, str]:
    try:
        known = json.loads(note.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _identity(about: os.stat_result) -> str:
    return f"{about.st_dev} {about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"
