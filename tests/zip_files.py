"""Zips for tests, good and bad, made byte by byte where ``zipfile`` would refuse to."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_zip(path: Path, files: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Path:
    """Write a zip with these files, in this order; names may be there twice."""
    pairs = files.items() if isinstance(files, Mapping) else files
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile, about names that are there twice
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in pairs:
                made.writestr(zipfile.ZipInfo(name), content)
    return path


def zip_with_raw_name(name: bytes, content: bytes = b"x") -> bytes:
    """Give a zip whose one name is exactly these bytes, without the UTF-8 flag."""
    stand_in = "n" * len(name)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as opened:
        opened.writestr(stand_in, content)
    return made.getvalue().replace(stand_in.encode(), name)


def zip_that_promises(unpacked_bytes: int) -> bytes:
    """Give a zip of a few bytes whose one file is said to unpack to so many."""
    packed = zlib.compress(b"\0" * 1000, wbits=-15)
    crc = zlib.crc32(b"\0" * 1000)
    name = b"bomb.exe"
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, len(packed), unpacked_bytes, len(name), 0)
    local = b"PK\x03\x04" + common + name + packed
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def list_of_bytes_stated(data: bytes, stated: int) -> bytes:
    """Give a zip whose end record states another length of its list."""
    at = data.rindex(b"PK\x05\x06")
    return data[: at + 12] + struct.pack("<I", stated) + data[at + 16 :]
