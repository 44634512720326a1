from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import pytest

from harness.build import BuildKind
from harness.build_file import MAX_BYTES, build_from_file, digest_file, is_msi
from harness.errors import InputError
from harness.machine import Machine
from harness.plan import Cell
from tests.builders import make_cell
from tests.fake_project import tiny_program
from tests.zip_files import write_zip, zip_that_promises


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def tiny_msi(class_id: str = "84100c0000000000c000000000000046") -> bytes:
    """Give the first two sectors of an OLE file: its header, and a directory whose root has a class."""
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(22) + struct.pack("<H", 9) + bytes(16) + struct.pack("<I", 0)
    return header.ljust(512, b"\0") + (bytes(80) + bytes.fromhex(class_id)).ljust(512, b"\0")


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def key_of(path: Path) -> str:
    cell: Cell = make_cell(build=build_from_file(path, name="HTS", version="1"))
    return cell.execution_key()


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        build_from_file(path)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in caught.value.summary
    assert caught.value.summary.count(". ") == 0
    return caught.value


# --- what is a build -------------------------------------------------------------------------------------------------


def test_a_setup_program_is_described_by_its_bytes(tmp_path: Path) -> None:
    path = put(tmp_path / "HTS-2.0.exe", tiny_program())
    build = build_from_file(path)
    assert build.kind is BuildKind.PROGRAM
    assert build.installer.sha256 == hashlib.sha256(tiny_program()).hexdigest()
    assert (build.name, build.version, build.files) == ("HTS-2.0", "HTS-2.0", ())
    assert build.installer.machine is Machine.X64


@pytest.mark.parametrize(
    "name", ["데모 증권 HTS 설치.exe", "공백 있는 폴더/한글 폴더/설치 파일.exe", "a'b $(x) %TEMP% &.exe"]
)
def test_a_path_with_korean_spaces_and_signs_works(tmp_path: Path, name: str) -> None:
    build = build_from_file(put(tmp_path / name, tiny_program()))
    assert build.installer.file_name == Path(name).name
    assert Path(build.installer.host_path).read_bytes() == tiny_program()


def test_a_path_with_dots_leads_to_the_same_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "builds" / "setup.exe", tiny_program())
    (tmp_path / "suites").mkdir()
    monkeypatch.chdir(tmp_path / "suites")
    dotted = build_from_file(Path("../builds/../builds/setup.exe"))
    assert dotted.model_dump() == build_from_file(path).model_dump()


def test_an_msi_is_known_by_its_class(tmp_path: Path) -> None:
    assert build_from_file(put(tmp_path / "hts.msi", tiny_msi())).kind is BuildKind.MSI
    assert not is_msi(put(tmp_path / "a.doc", tiny_msi("0609020000000000c000000000000046")))
    assert not is_msi(put(tmp_path / "cut.msi", tiny_msi()[:40]))


def test_a_zip_is_a_portable_build_with_a_manifest(tmp_path: Path) -> None:
    build = build_from_file(write_zip(tmp_path / "HTS.zip", {"HTS.exe": b"main", "c.dll": b"c"}))
    assert build.kind is BuildKind.PORTABLE
    assert [file.path for file in build.files] == ["HTS.exe", "c.dll"]


def test_a_folder_is_a_portable_build_of_its_content(tmp_path: Path) -> None:
    for place in ("one", "two"):
        put(tmp_path / place / "HTS" / "HTS.exe", b"main")
    assert key_of(tmp_path / "one" / "HTS") == key_of(tmp_path / "two" / "HTS")
    put(tmp_path / "two" / "HTS" / "HTS.exe", b"Main")
    assert key_of(tmp_path / "one" / "HTS") != key_of(tmp_path / "two" / "HTS")


def test_the_current_folder_is_a_build_with_the_folder_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "HTS" / "sub" / "HTS.exe", b"main")
    monkeypatch.chdir(tmp_path / "HTS" / "sub")
    assert build_from_file(Path()).installer.file_name == "sub.zip"
    assert build_from_file(Path("..")).installer.file_name == "HTS.zip"


# --- what is none: one sentence, a hint, exit 2 ----------------------------------------------------------------------


def test_a_missing_build_is_told(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.exe").summary


def test_an_empty_build_is_told(tmp_path: Path) -> None:
    assert "is empty (0 bytes)" in refusal(put(tmp_path / "a.exe", b"")).summary


def test_a_two_gigabyte_installer_is_refused_without_being_read(tmp_path: Path) -> None:
    path = put(tmp_path / "huge.exe", tiny_program())
    os.truncate(path, 2 * 1000**3)
    assert refusal(path).summary == f"The build '{path}' has 1907 MiB; 512 MiB are the most."
    assert path.stat().st_blocks * 512 < 1 << 20


def test_the_largest_build_that_is_taken_is_one_byte_below_refusal(tmp_path: Path) -> None:
    path = put(tmp_path / "large.exe", tiny_program())
    os.truncate(path, MAX_BYTES + 1)
    assert "are the most" in refusal(path).summary


@pytest.mark.parametrize("kept", [1, 2, 63, 64, 100, 400, 700, 1023])
def test_a_program_that_is_cut_short_is_told(tmp_path: Path, kept: int) -> None:
    summary = refusal(put(tmp_path / "cut.exe", tiny_program()[:kept])).summary
    assert "is not a Windows program" in summary or "is cut short" in summary


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello", "is not a Windows program (no MZ header)"),
        (b"\x7fELF" + bytes(100), "is a Linux program"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "is a 7z archive"),
        (tiny_msi("0609020000000000c000000000000046"), "is an OLE file"),
        (tiny_program(is_dll=True), "is a library (DLL)"),
        (b"PK\x03\x04" + bytes(100), "cannot be read as a zip"),
        (zip_that_promises(3 << 30), "as a zip bomb does"),
    ],
)
def test_what_is_no_build_is_told_for_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal(put(tmp_path / "a.exe", content)).summary


def test_a_zip_slip_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "evil.zip", {"../../evil.exe": b"evil"})
    assert "it leads out of its folder" in refusal(path).summary
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["evil.zip"]


@pytest.mark.parametrize(
    "name", ["a\x1b[31mred.exe", "<script>alert(1)<.exe", 'a"b.exe', "a\nb.exe", "con.exe", "a:b.exe"]
)
def test_a_name_that_no_customer_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot have on a customer's PC") as caught:
        build_from_file(put(tmp_path / name, tiny_program()))
    assert caught.value.hint == "Rename it."


def test_a_pipe_is_no_build_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.exe")
    assert "is no ordinary file" in refusal(tmp_path / "pipe.exe").summary


def test_a_file_is_digested_in_pieces(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)
    digests = digest_file(put(tmp_path / "a", content))
    assert digests.sha256 == hashlib.sha256(content).hexdigest()
    assert digests.size_bytes == len(content)
