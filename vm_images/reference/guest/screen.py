#!/usr/bin/python3
"""Write what the desktop's screen shows to stdout, as a PNG. Runs as the desktop user.

One X request, instead of a program that loads an image library: that took seconds in a virtual machine without
hardware acceleration. As with any client, the pointer is not in the picture.

Source: X Window System Protocol, X Version 11, "Connection Setup", "GetImage"; Portable Network Graphics (W3C, 2003).
"""

import socket
import struct
import sys
import zlib

import desktop_user

GET_IMAGE, Z_PIXMAP, ALL_PLANES = 73, 2, 0xFFFFFFFF


def receive(display: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes."""
    data = bytearray()
    while len(data) < size:
        piece = display.recv(size - len(data))
        if not piece:
            sys.exit("screen: the X server has gone")
        data += piece
    return bytes(data)


def connect(display: str) -> tuple[socket.socket, int, int, int]:
    """Give a connection, and the first screen's root window, width and height."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    found.settimeout(10.0)
    found.connect(f"/tmp/.X11-unix/X{display.removeprefix(':')}")
    found.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))
    status, length = struct.unpack("<B5xH", receive(found, 8))
    setup = receive(found, 4 * length)
    if status != 1:
        sys.exit("screen: the X server refuses us")
    vendor, formats = struct.unpack_from("<H3xB", setup, 16)
    at = 32 + (vendor + 3) // 4 * 4 + 8 * formats
    root, width, height = struct.unpack_from("<I16xHH", setup, at)
    return found, root, width, height


def pixels(display: socket.socket, root: int, width: int, height: int) -> bytes:
    """Give the screen as rows of blue, green, red, nothing."""
    request = struct.pack("<BBHIhhHHI", GET_IMAGE, Z_PIXMAP, 5, root, 0, 0, width, height, ALL_PLANES)
    display.sendall(request)
    kind, depth, length = struct.unpack("<BBxxI24x", receive(display, 32))
    if kind != 1 or depth != 24 or length != width * height:
        sys.exit("screen: this is no picture with 24 bits")
    return receive(display, 4 * length)


def png(data: bytes, width: int, height: int) -> bytes:
    """Pack rows of blue, green, red, nothing."""
    rows = bytearray(height * (1 + 3 * width))
    colours = bytearray(3 * width * height)
    colours[0::3], colours[1::3], colours[2::3] = data[2::4], data[1::4], data[0::4]
    for row in range(height):
        start = row * (1 + 3 * width)
        rows[start + 1 : start + 1 + 3 * width] = colours[row * 3 * width : (row + 1) * 3 * width]

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def main() -> None:
    """Write one picture."""
    display, root, width, height = connect(desktop_user.DISPLAY)
    with display:
        sys.stdout.buffer.write(png(pixels(display, root, width, height), width, height))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
