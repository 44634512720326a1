"""A picture from a guest is hostile: its size is checked before anything is believed, and its PNG is one."""

from __future__ import annotations

import struct
import zlib

import pytest

from harness.frame import MAX_PPM_BYTES, MAX_SIDE, Frame, from_ppm

TWO_BY_ONE = Frame(width=2, height=1, pixels=b"\x01\x02\x03\xff\xfe\xfd")


def test_a_ppm_is_read_as_qemu_writes_it() -> None:
    assert from_ppm(b"P6\n2 1\n255\n" + TWO_BY_ONE.pixels) == TWO_BY_ONE


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"P6\n2 1\n255\n",
        b"P6\n2 1\n255\n" + b"\0" * 5,
        b"P6\n2 1\n255\n" + b"\0" * 7,
        b"P6\n0 1\n255\n",
        b"P6\n-2 1\n255\n" + b"\0" * 6,
        b"P6\n2 1\n65535\n" + b"\0" * 12,
        b"P5\n2 1\n255\n" + b"\0" * 2,
        b"P6\n99999 99999\n255\n" + b"\0" * 6,
        b"P6\n999999999999999999 1\n255\n",
        b"P6\n# a remark\n2 1\n255\n" + b"\0" * 6,
        f"P6\n{MAX_SIDE + 1} 1\n255\n".encode() + b"\0" * 3 * (MAX_SIDE + 1),
    ],
    ids=[
        "empty",
        "no-pixels",
        "cut",
        "more",
        "no-width",
        "minus",
        "16-bit",
        "grey",
        "huge",
        "absurd",
        "remark",
        "wide",
    ],
)
def test_what_is_no_whole_picture_of_a_sensible_size_is_none(raw: bytes) -> None:
    assert from_ppm(raw) is None


def test_the_largest_picture_fits_what_is_read_of_a_file() -> None:
    head = b"P6\n2560 1600\n255\n"
    pixels = bytes(3 * 2560 * 1600)
    assert len(head + pixels) <= MAX_PPM_BYTES
    assert from_ppm(head + pixels) is not None
    assert from_ppm(b"P6\n2560 1601\n255\n" + bytes(3 * 2560 * 1601)) is None


def test_a_frame_becomes_a_png_with_the_same_pixels_and_equal_bytes() -> None:
    frame = Frame(width=3, height=2, pixels=bytes(range(18)))
    png = frame.png()
    assert png == Frame(width=3, height=2, pixels=bytes(range(18))).png()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
        chunks[kind], at = data, at + 12 + size
    assert chunks[b"IHDR"] == struct.pack(">IIBBBBB", 3, 2, 8, 2, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + bytes(range(9)) + b"\0" + bytes(range(9, 18))
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]


def test_frames_are_the_same_only_with_size_and_pixels() -> None:
    assert TWO_BY_ONE.digest == Frame(width=2, height=1, pixels=TWO_BY_ONE.pixels).digest
    assert TWO_BY_ONE.digest != Frame(width=1, height=2, pixels=TWO_BY_ONE.pixels).digest
    assert TWO_BY_ONE.digest != Frame(width=2, height=1, pixels=bytes(6)).digest
