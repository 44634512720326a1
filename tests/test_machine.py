from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.machine import HEAD_BYTES, Machine, machine_of
from tests.fake_project import tiny_program

#: Where the COFF machine and the PE32+ magic of ``tiny_program`` stand.
PE_AT = 64


def program_for(machine: int) -> bytes:
    program = bytearray(tiny_program())
    struct.pack_into("<H", program, PE_AT + 4, machine)
    return bytes(program)


def program_32(*, clr: int = 0, directories: int = 16) -> bytes:
    """Give the beginning of a PE32 program, with or without a CLR header."""
    optional = struct.pack("<H", 0x10B).ljust(92, b"\0") + struct.pack("<I", directories)
    optional += bytes(14 * 8) + struct.pack("<II", clr, 72 if clr else 0) + bytes(8)
    dos = b"MZ" + bytes(58) + struct.pack("<I", PE_AT)
    return dos + b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, len(optional), 0x102) + optional


@pytest.mark.parametrize(
    ("coff", "machine"), [(0x8664, Machine.X64), (0x14C, Machine.X86), (0xAA64, Machine.ARM64), (0x1C4, None)]
)
def test_the_machine_is_what_the_header_says(coff: int, machine: Machine | None) -> None:
    assert machine_of(program_for(coff)) is machine


def test_a_32_bit_program_is_x86_unless_it_is_dot_net_which_runs_as_64_bit_too() -> None:
    assert machine_of(program_32()) is Machine.X86
    assert machine_of(program_32(clr=0x2008)) is None
    assert machine_of(program_32(clr=0x2008, directories=2)) is Machine.X86, "there is no such directory"


@pytest.mark.parametrize("length", [0, 2, 63, 64, 67, 80, 89])
def test_a_file_cut_short_says_nothing(length: int) -> None:
    assert machine_of(program_32()[:length]) is None


@given(st.binary(max_size=256), st.integers(0, 2**32 - 1))
def test_hostile_bytes_say_nothing_and_do_no_harm(tail: bytes, offset: int) -> None:
    head = b"MZ" + bytes(58) + struct.pack("<I", offset) + tail
    assert machine_of(head[:HEAD_BYTES]) in {None, *Machine}
    assert machine_of(tail) in {None, *Machine}
