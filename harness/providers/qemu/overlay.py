"""Pure. Files that a machine finds when it boots, without a disk being touched: an archive in front of its RAM disk.

The kernel unpacks archives one after the other. Ours stands first, as an uncompressed one may be followed by a
compressed one; behind one that lz4 packed nothing can follow, for that has no end. It holds one tar, which a script of
the RAM disk unpacks into the root (``recipe.UNPACK``).

Source: kernel, Documentation/driver-api/early-userspace/buffer-format.rst; cpio(5), "newc".
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

#: Where the RAM disk finds the tar, and where it unpacks it.
TAR_NAME = "hts-compat.tar"
TARGET = "/opt/hts-compat"

_PLAIN, _PROGRAM = 0o644, 0o755
_END = "TRAILER!!!"
_ROUND = 512


def tar_of(files: Mapping[str, tuple[bytes, bool]]) -> bytes:
    """Pack files into a tar whose bytes depend on nothing else; owned by root, without a date.

    Args:
        files: Content, and whether it may be executed, by relative name.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            content, executable = files[name]
            item = tarfile.TarInfo(name)
            item.size, item.mode = len(content), _PROGRAM if executable else _PLAIN
            tar.addfile(item, io.BytesIO(content))
    return packed.getvalue()


def archive_of(name: str, content: bytes) -> bytes:
    """Give a cpio archive of one file, as long as may stand in front of another."""
    whole = _entry(name, content, number=1, mode=0o100600) + _entry(_END, b"", number=0, mode=0)
    return whole + bytes(-len(whole) % _ROUND)


def _entry(name: str, content: bytes, *, number: int, mode: int) -> bytes:
    """Give one entry: magic, 13 numbers of 8 hexadecimal digits, the name, the content; both padded to 4 bytes."""
    raw = name.encode("ascii") + b"\0"
    # inode, mode, uid, gid, links, date, size, device (2), special device (2), length of the name, checksum
    numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + raw
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
