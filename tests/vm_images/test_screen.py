"""The screen of a reference guest as a PNG (guest/screen.py), run here against a made-up X server."""

from __future__ import annotations

import importlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.rig import ROOT

GUEST = ROOT / "vm_images" / "reference" / "guest"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the guest's module, which is no part of our package."""
    monkeypatch.syspath_prepend(str(GUEST))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("screen")
    for name in ("screen", "desktop_user"):
        sys.modules.pop(name, None)


def _server(at: socket.socket, width: int, height: int, data: bytes, *, depth: int = 24) -> None:
    """Be an X server with one screen, whose vendor's name needs padding."""
    with at.accept()[0] as client:
        client.recv(12)
        vendor, formats = b"maker", 2
        body = struct.pack("<IIIIHHBBBBBBBBxxxx", 1, 0, 0, 0, len(vendor), 0xFFFF, 1, formats, 0, 0, 32, 32, 8, 255)
        body += vendor + bytes(3) + bytes(8 * formats)
        body += struct.pack("<IIIIIHHHHHHIBBBB", 0x4D2, 0, 0, 0, 0, width, height, 0, 0, 1, 1, 0, 0, 0, depth, 0)
        client.sendall(struct.pack("<BxHHH", 1, 11, 0, len(body) // 4) + body)
        opcode, kind, _, root, x, y, *size, planes = struct.unpack("<BBHIhhHHI", client.recv(20))
        assert (opcode, kind, root, x, y, size, planes) == (73, 2, 0x4D2, 0, 0, [width, height], 0xFFFFFFFF)
        client.sendall(struct.pack("<BBHII20x", 1, depth, 0, len(data) // 4, 0) + data)


def test_the_picture_has_the_screen_s_colours_at_their_places(
    screen: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = 3, 2
    wanted = [[(255, 0, 0), (0, 255, 0), (0, 0, 255)], [(1, 2, 3), (250, 251, 252), (0, 0, 0)]]
    data = b"".join(bytes([blue, green, red, 99]) for row in wanted for red, green, blue in row)
    with socket.socket(socket.AF_UNIX) as at:
        at.bind(str(tmp_path / "X7"))
        at.listen()
        thread = threading.Thread(target=_server, args=(at, width, height, data))
        thread.start()
        connect = socket.socket.connect
        monkeypatch.setattr(socket.socket, "connect", lambda self, _path: connect(self, str(tmp_path / "X7")))
        display, root, *size = screen.connect(":7")
        with display:
            picture = screen.png(screen.pixels(display, root, *size), *size)
        thread.join()
    assert size == [width, height]
    assert _decoded(picture) == wanted


def _decoded(picture: bytes) -> list[list[tuple[int, ...]]]:
    """Decode a PNG whose rows are not filtered, with another's eyes: zlib and the chunks' checksums."""
    import zlib

    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, dict[bytes, bytes]()
    while at < len(picture):
        (length,) = struct.unpack_from(">I", picture, at)
        name, content = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", picture, at + 8 + length)[0] == zlib.crc32(name + content)
        chunks[name] = content
        at += 12 + length
    width, height = struct.unpack_from(">II", chunks[b"IHDR"])
    assert chunks[b"IHDR"][8:] == bytes([8, 2, 0, 0, 0])
    raw = zlib.decompress(chunks[b"IDAT"])
    rows = [raw[y * (1 + 3 * width) :][: 1 + 3 * width] for y in range(height)]
    assert all(row[0] == 0 for row in rows)
    return [[tuple(row[1 + 3 * x : 4 + 3 * x]) for x in range(width)] for row in rows]
