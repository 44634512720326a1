"""The guest's unpacking script, run on this machine: what a portable build's user does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.zip_files import write_zip, zip_that_promises, zip_with_raw_name

SCRIPT = Path(__file__).parents[2] / "vm_images" / "reference" / "guest" / "unpack.py"


def unpack(archive: Path, folder: Path) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, str(SCRIPT), str(archive), str(folder)]
    return subprocess.run(argv, capture_output=True, timeout=25, check=False)


def test_files_and_folders_come_out_as_they_are(tmp_path: Path) -> None:
    files = {"empty/": b"", "App.exe": b"main", "한글 자료/a b.txt": b"text", "win\\path.dll": b"dll"}
    done = unpack(write_zip(tmp_path / "a.zip", files), tmp_path / "out")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3 files\n", b"")
    assert (tmp_path / "out" / "empty").is_dir()
    assert (tmp_path / "out" / "한글 자료" / "a b.txt").read_bytes() == b"text"
    assert (tmp_path / "out" / "win" / "path.dll").read_bytes() == b"dll"


def test_a_korean_name_of_old_is_read_as_korean(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_with_raw_name("데모.exe".encode("cp949")))
    assert unpack(tmp_path / "a.zip", tmp_path / "out").returncode == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["데모.exe"]


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a\\..\\..\\evil", "/tmp/evil", "C:\\evil", "a/b:c"])
def test_nothing_is_written_outside_the_folder(tmp_path: Path, name: str) -> None:
    done = unpack(write_zip(tmp_path / "a.zip", {name: b"evil"}), tmp_path / "sub" / "out")
    assert done.returncode == 200
    assert b"has no place in a folder" in done.stderr
    assert not [p for p in tmp_path.rglob("*evil*") if p.is_file()]


def test_what_is_no_zip_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert unpack(tmp_path / "a.zip", tmp_path / "out").returncode == 200


def test_a_zip_that_lies_about_a_size_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_that_promises(10))
    assert unpack(tmp_path / "a.zip", tmp_path / "out").returncode == 200


def test_what_the_system_refuses_is_its_errno(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a/b": b"x"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"a file")
    assert unpack(archive, tmp_path / "out").returncode in {errno.EEXIST, errno.ENOTDIR}
    assert unpack(tmp_path / "none.zip", tmp_path / "out").returncode == errno.ENOENT


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_its_errno(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": b"x"})
    (tmp_path / "out").mkdir(mode=0o500)
    assert unpack(archive, tmp_path / "out").returncode == errno.EACCES
