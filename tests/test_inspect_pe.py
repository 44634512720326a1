from __future__ import annotations

import base64
import contextlib
import struct
import sysconfig
from pathlib import Path

import pytest

from harness.inspect_pe import NotAProgram, inspect_program, read_headers
from tests.fake_project import tiny_program

SIGNED = base64.b64decode((Path(__file__).parent / "inspection" / "self_signed.b64").read_bytes())
#: A program that nobody here wrote, in every environment with pip: distlib's launcher.
LAUNCHER = Path(sysconfig.get_path("purelib")) / "pip" / "_vendor" / "distlib" / "t64.exe"


def put(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def test_headers_tell_machine_subsystem_and_sections(tmp_path: Path) -> None:
    headers = read_headers(put(tmp_path / "a.exe", tiny_program()))
    assert (headers.machine, headers.is_dll, headers.signed) == (0x8664, False, False)
    assert [(s.name, s.size_bytes, len(s.sample)) for s in headers.sections] == [(".text", 512, 512)]
    assert (headers.overlay_bytes, headers.texts, headers.manifest) == (0, {}, "")


def test_what_lies_behind_a_program_is_its_overlay(tmp_path: Path) -> None:
    headers = read_headers(put(tmp_path / "a.exe", tiny_program() + b"overlay"))
    assert (headers.overlay_offset, headers.overlay_bytes) == (1024, 7)


def test_a_signature_is_no_overlay(tmp_path: Path) -> None:
    headers = read_headers(put(tmp_path / "a.exe", SIGNED))
    assert (headers.signed, headers.overlay_bytes) == (True, 0)


def test_a_signature_that_is_cut_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAProgram, match="its signature ends at byte 2624 and it has 2600"):
        read_headers(put(tmp_path / "a.exe", SIGNED[:2600]))


def test_a_section_that_is_cut_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotAProgram, match="is cut short: its header promises 5512 bytes and it has 1024"):
        read_headers(put(tmp_path / "a.exe", tiny_program(promised_bytes=5000)))


def test_a_library_has_headers_and_is_no_program(tmp_path: Path) -> None:
    path = put(tmp_path / "a.dll", tiny_program(is_dll=True))
    assert read_headers(path).is_dll
    with pytest.raises(NotAProgram, match="is a library"):
        inspect_program(path)


@pytest.mark.parametrize("at", range(0, 512, 61))
def test_a_header_with_any_wrong_byte_reads_or_is_told(tmp_path: Path, at: int) -> None:
    data = bytearray(tiny_program())
    data[at] ^= 0xFF
    path = put(tmp_path / "a.exe", data)
    with contextlib.suppress(NotAProgram):
        assert read_headers(path).sections


def test_a_header_that_points_far_away_is_told(tmp_path: Path) -> None:
    data = bytearray(tiny_program())
    struct.pack_into("<I", data, 60, 0x7FFFFFFF)
    with pytest.raises(NotAProgram, match="does not read"):
        read_headers(put(tmp_path / "a.exe", data))


@pytest.mark.skipif(not LAUNCHER.exists(), reason="this environment's pip has no launchers")
def test_a_program_of_a_stranger_reads() -> None:
    headers = read_headers(LAUNCHER)
    assert headers.machine == 0x8664
    assert headers.subsystem == 3
    assert ".text" in [section.name for section in headers.sections]
