from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tracemalloc
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.inspection.inspect_build import inspect_build
from harness.inspection.kinds import NSIS_MARK
from harness.inspection.model import Kind, Trust
from tests.fake_project import tiny_program
from tests.inspection.test_signers import SIGNED
from tests.test_build_file import tiny_msi
from tests.zip_files import write_zip, zip_that_promises

LAUNCHERS = Path(sysconfig.get_path("purelib")) / "pip" / "_vendor" / "distlib"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def put(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def test_a_program_is_described(tmp_path: Path) -> None:
    found = inspect_build(put(tmp_path / "데모 HTS.exe", tiny_program()))
    assert (found.kind, found.machine, found.bits) == (Kind.PROGRAM, "x64", 64)
    assert found.signed.trust is Trust.UNSIGNED
    assert found.refused is None


def test_an_installer_is_known_and_what_cannot_be_listed_is_said(tmp_path: Path) -> None:
    found = inspect_build(put(tmp_path / "setup.exe", tiny_program() + bytes(4) + NSIS_MARK + bytes(100)))
    assert found.kind is Kind.NSIS
    assert found.contents.files == ()
    assert found.contents.why_not


def test_a_certificate_table_that_does_not_read_is_not_called_unsigned(tmp_path: Path) -> None:
    data = bytearray(SIGNED)
    data[1024 + 8 : 1024 + 60] = os.urandom(52)
    assert inspect_build(put(tmp_path / "a.exe", data)).signed.trust not in {Trust.UNSIGNED, Trust.VALID}


def test_a_library_is_described_and_cannot_be_run(tmp_path: Path) -> None:
    found = inspect_build(put(tmp_path / "a.dll", tiny_program(is_dll=True)))
    assert found.kind is Kind.LIBRARY
    assert found.refused is not None


def test_a_zip_is_described_by_its_main_program(tmp_path: Path) -> None:
    found = inspect_build(write_zip(tmp_path / "a.zip", {"bin/HTS.exe": tiny_program(), "nos_setup.exe": b"MZ"}))
    assert (found.kind, found.machine) == (Kind.ZIP, "x64")
    assert [m.module for m in found.modules] == ["nProtect Online Security"]
    assert any("those of 'bin/HTS.exe'" in note for note in found.notes)
    assert any("It holds 'nos_setup.exe'" in note for note in found.notes)


def test_a_folder_is_described_as_the_zip_that_is_delivered(tmp_path: Path) -> None:
    (tmp_path / "HTS").mkdir()
    put(tmp_path / "HTS" / "HTS.exe", tiny_program())
    found = inspect_build(tmp_path / "HTS")
    assert (found.kind, found.file_name, found.machine) == (Kind.FOLDER, "HTS.zip", "x64")


def test_a_program_in_a_zip_that_does_not_read_is_said(tmp_path: Path) -> None:
    found = inspect_build(write_zip(tmp_path / "a.zip", {"HTS.exe": b"no program"}))
    assert found.machine is None
    assert "is not a Windows program" in found.notes[-1]


@pytest.mark.parametrize("name", ["../../evil.exe", "/evil.exe", "a\x1b[2J.exe"])
def test_a_zip_slip_is_shown_and_cannot_be_run(tmp_path: Path, name: str) -> None:
    found = inspect_build(write_zip(tmp_path / "a.zip", {name: tiny_program()}))
    assert [f.path for f in found.contents.files] == [name]
    assert found.refused is not None


def test_a_zip_bomb_is_shown_and_cannot_be_run(tmp_path: Path) -> None:
    found = inspect_build(put(tmp_path / "a.zip", zip_that_promises(3 << 30)))
    assert "zip bomb" in (found.refused or "")


def test_an_msi_is_known_also_where_its_tables_do_not_read(tmp_path: Path) -> None:
    found = inspect_build(put(tmp_path / "a.msi", tiny_msi()))
    assert found.kind is Kind.MSI
    assert found.notes


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    inspect_build(put(tmp_path / "small.exe", tiny_program()))  # so that imports are not counted
    path = put(tmp_path / "large.exe", tiny_program())
    os.truncate(path, 100 << 20)
    tracemalloc.start()
    try:
        found = inspect_build(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.overlay_bytes == (100 << 20) - 1024
    assert most < 16 << 20


@pytest.mark.parametrize("content", [b"", b"text", tiny_program()[:300], b"\x7fELF" + bytes(100), b"PK\x03\x04zip"])
def test_what_is_no_build_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError) as caught:
        inspect_build(put(tmp_path / "a.exe", content))
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_file_of_many_gigabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    os.truncate(put(tmp_path / "a.exe", tiny_program()), 9 << 30)
    with pytest.raises(InputError, match="has 9 GiB"):
        inspect_build(tmp_path / "a.exe")


@pytest.mark.skipif(not (LAUNCHERS / "t32.exe").is_file(), reason="this environment's pip has no launchers")
@pytest.mark.parametrize(
    ("name", "machine", "bits", "windowed"),
    [("t32.exe", "x86", 32, False), ("t64.exe", "x64", 64, False), ("w64.exe", "x64", 64, True)],
)
def test_programs_of_a_stranger_are_described(name: str, machine: str, bits: int, windowed: bool) -> None:
    found = inspect_build(LAUNCHERS / name)
    assert (found.kind, found.machine, found.bits, found.windowed) == (Kind.PROGRAM, machine, bits, windowed)


@pytest.mark.skipif(shutil.which("makensis") is None, reason="no makensis")
@pytest.mark.skipif(not any(map(shutil.which, ("7zz", "7z"))), reason="no 7-Zip")
def test_a_real_nsis_installer_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "Demo.exe", tiny_program())
    script = b'OutFile "setup.exe"\nInstallDir "C:\\Demo"\nSection\nSetOutPath $INSTDIR\nFile Demo.exe\nSectionEnd\n'
    put(tmp_path / "a.nsi", script)
    subprocess.run(["makensis", "-V1", "a.nsi"], cwd=tmp_path, check=True, timeout=30)
    found = inspect_build(tmp_path / "setup.exe")
    assert found.kind is Kind.NSIS
    assert [f.path for f in found.contents.files] == ["Demo.exe"]
