from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from pathlib import Path

import pytest

from harness.build import Component
from harness.machine import Machine
from harness.portable import MAX_FILES, NotPortable, copy_out, list_zip, manifest_of_zip, pack_folder
from tests.fake_project import tiny_program
from tests.zip_files import list_of_bytes_stated, write_zip, zip_that_promises, zip_with_raw_name


def refused(path: Path) -> str:
    with pytest.raises(NotPortable) as caught:
        manifest_of_zip(path)
    return str(caught.value)


def test_a_zip_s_manifest_has_every_file_with_its_digests_and_part(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "a.zip", {"App/": b"", "App/HTS.exe": b"main", "App/c.dll": b"", "App/한글 자료.txt": b"t"}
    )
    files = {f.path: f for f in manifest_of_zip(path)}
    assert set(files) == {"App\\HTS.exe", "App\\c.dll", "App\\한글 자료.txt"}
    main = files["App\\HTS.exe"]
    assert main.sha256 == hashlib.sha256(b"main").hexdigest()
    assert main.md5 == hashlib.md5(b"main", usedforsecurity=False).hexdigest()
    assert main.size_bytes == 4
    assert [files[n].component for n in sorted(files)] == [Component.MAIN, Component.MODULE, Component.DATA]


def test_a_zip_s_manifest_says_what_its_programs_are_made_for(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"HTS.exe": tiny_program(), "odd.exe": b"main", "c.dll": tiny_program()})
    machines = {f.path: f.machine for f in manifest_of_zip(path)}
    assert machines == {"HTS.exe": Machine.X64, "odd.exe": None, "c.dll": None}, "who runs alone is a program"


def test_of_several_programs_none_is_called_the_main_one(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.exe": b"a", "b.exe": b"b"})
    assert {f.component for f in manifest_of_zip(path)} == {Component.MODULE}


@pytest.mark.parametrize(
    ("raw", "name"),
    [("데모.exe".encode("cp949"), "데모.exe"), ("데모.exe".encode(), "데모.exe"), (b"caf\x82.exe", "café.exe")],
    ids=["cp949", "utf-8 without its flag", "cp437"],
)
def test_a_name_without_its_encoding_is_read_as_korean_windows_writes_it(tmp_path: Path, raw: bytes, name: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_with_raw_name(raw))
    (file,) = manifest_of_zip(path)
    if raw == name.encode():
        assert file.path  # read as something; the archive does not say what it is
    else:
        assert file.path == name


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["../../etc/cron.d/x"], "leads out of its folder"),
        (["a/..\\..\\x.exe"], "leads out of its folder"),
        (["/etc/passwd"], "absolute"),
        (["C:\\windows\\x.dll"], "absolute"),
        (["a/nul.txt"], "device"),
        (["a/x.exe:stream"], "cannot stand in a name"),
        (["a/\x1b]0;title\x07.exe"], "cannot stand in a name"),
        (["A.exe", "a.EXE"], "twice for Windows"),
        (["a.exe", "a.exe"], "twice for Windows"),
        (["only/folders/"], "has no files"),
    ],
)
def test_a_zip_that_could_do_harm_is_refused(tmp_path: Path, names: list[str], why: str) -> None:
    path = write_zip(tmp_path / "a.zip", [(name, b"" if name.endswith("/") else b"x") for name in names])
    said = refused(path)
    assert why in said
    assert said.isprintable()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [3 << 30, 0xFFFFFFFE, 300 << 20])
def test_a_zip_bomb_is_refused_by_its_list_alone(tmp_path: Path, size: int) -> None:
    path = tmp_path / "bomb.zip"
    path.write_bytes(zip_that_promises(size))
    assert "zip bomb" in refused(path)


def test_a_zip_that_holds_more_than_it_says_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    path.write_bytes(zip_that_promises(10))
    assert "damaged" in refused(path)


def test_a_zip_with_too_many_files_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{n}": b"" for n in range(MAX_FILES + 1)})
    assert f"{MAX_FILES} are the most" in refused(path)


def test_a_list_that_would_not_fit_into_memory_is_not_read(tmp_path: Path) -> None:
    good = write_zip(tmp_path / "good.zip", {"a.exe": b"a"}).read_bytes()
    path = tmp_path / "a.zip"
    path.write_bytes(list_of_bytes_stated(good, 1 << 30))
    assert "list of files longer than" in refused(path)


def test_an_entry_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zip_with_raw_name(b"\0.exe"))  # zipfile ends a name at its first NUL
    assert "cannot be unpacked" in refused(path)


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as made:
        info = zipfile.ZipInfo("link.exe")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(info, "/etc/passwd")
    assert "the link 'link.exe'" in refused(path)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.exe": b"a"})
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    path.write_bytes(data)
    assert refused(path) == "is encrypted ('a.exe')"


@pytest.mark.parametrize("cut", [1, 10, 30, 60])
def test_a_zip_that_is_cut_short_cannot_be_read(tmp_path: Path, cut: int) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.exe": os.urandom(200)})
    path.write_bytes(path.read_bytes()[:-cut])
    assert refused(path).startswith(("cannot be read as a zip", "is damaged"))


def test_a_zip_whose_beginning_is_missing_points_outside_itself_and_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.exe": b"a", "b.dll": b"b"})
    path.write_bytes(path.read_bytes()[1:])
    assert refused(path).startswith("is damaged")
    with pytest.raises(NotPortable, match="is damaged"):
        copy_out(path, "a.exe", tmp_path / "out.exe")


def test_a_zip_with_a_changed_byte_is_damaged(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a.exe": bytes(range(256)) * 8})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    assert refused(path).startswith("is damaged")


def test_the_list_of_a_refused_zip_can_still_be_looked_at(tmp_path: Path) -> None:
    listed = list_zip(write_zip(tmp_path / "a.zip", {"../x.exe": b"abc"}))
    assert [(e.path, e.size_bytes) for e in listed.entries] == [("../x.exe", 3)]
    assert listed.refused is not None


def test_one_file_can_be_copied_out(tmp_path: Path) -> None:
    copy_out(write_zip(tmp_path / "a.zip", {"a/b.exe": b"abc"}), "a/b.exe", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"abc"


# --- folders ---------------------------------------------------------------------------------------------------------


def make_folder(path: Path) -> Path:
    (path / "한글 자료").mkdir(parents=True)
    (path / "App.exe").write_bytes(b"main")
    (path / "한글 자료" / "a b.txt").write_bytes(b"text")
    return path


def test_a_folder_becomes_a_zip_with_its_name(tmp_path: Path) -> None:
    made = pack_folder(make_folder(tmp_path / "데모 HTS"), tmp_path / "kept")
    assert made.name == "데모 HTS.zip"
    assert [f.path for f in manifest_of_zip(made)] == ["App.exe", "한글 자료\\a b.txt"]
    assert [p.name for p in (tmp_path / "kept").iterdir()] == [made.parent.name]


def test_equal_folders_make_equal_zips_whatever_their_times(tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "a" / "HTS"), make_folder(tmp_path / "b" / "HTS")
    os.utime(second / "App.exe", (1, 1))
    (second / "App.exe").chmod(0o700)
    assert pack_folder(first, tmp_path / "kept") == pack_folder(second, tmp_path / "kept")


def test_a_folder_that_changes_makes_another_zip(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "HTS")
    before = pack_folder(folder, tmp_path / "kept")
    (folder / "App.exe").write_bytes(b"Main")
    assert pack_folder(folder, tmp_path / "kept") != before


def test_a_folder_without_files_is_no_build(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(NotPortable, match="without files"):
        pack_folder(tmp_path / "a", tmp_path / "kept")


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_folder_with_what_is_no_file_is_no_build(tmp_path: Path, kind: str) -> None:
    folder = make_folder(tmp_path / "HTS")
    if kind == "link":
        (folder / "odd").symlink_to("/etc")
    else:
        os.mkfifo(folder / "odd")
    with pytest.raises(NotPortable, match="holds 'odd'"):
        pack_folder(folder, tmp_path / "kept")
