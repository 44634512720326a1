"""Pure. What a guest's screen shows, as pixels that came from outside the guest: read with limits, written as PNG.

Whoever is in the guest decides what its display card shows, and how large: no number of a picture is believed.

Source: netpbm, ppm(5); W3C, "Portable Network Graphics (PNG) Specification (Third Edition)".
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass

#: Pixels of a side. A larger screen is no reference guest's, and no page shows it.
MAX_SIDE = 4096
#: Pixels of a screen: 2560 x 1600. What three bytes a pixel of it need is read of a picture, and no more.
MAX_PIXELS = 2560 * 1600
#: Bytes of a picture's file: its head and its pixels.
MAX_PPM_BYTES = 64 + 3 * MAX_PIXELS

_HEAD = re.compile(rb"P6\s{1,8}(\d{1,5})\s{1,8}(\d{1,5})\s{1,8}255\s")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture of a screen. ``pixels`` are rows from the top, three bytes (red, green, blue) a pixel."""

    width: int
    height: int
    pixels: bytes

    @property
    def digest(self) -> str:
        """Give the sha256 of what is shown: the size and every pixel."""
        return hashlib.sha256(b"%d %d\n" % (self.width, self.height) + self.pixels).hexdigest()

    def png(self) -> bytes:
        """Give it as a PNG; equal frames give equal bytes."""
        row = 3 * self.width
        lines = b"".join(b"\0" + self.pixels[at : at + row] for at in range(0, len(self.pixels), row))
        head = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
        return _PNG + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def from_ppm(raw: bytes) -> Frame | None:
    """Read a binary PPM with 8 bits a colour; None when it is none, is cut, or is larger than the limits."""
    head = _HEAD.match(raw)
    if head is None:
        return None
    width, height = int(head[1]), int(head[2])
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        return None
    pixels = raw[head.end() :]
    return Frame(width=width, height=height, pixels=pixels) if len(pixels) == 3 * width * height else None
