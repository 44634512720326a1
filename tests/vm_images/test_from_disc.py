"""The guest's half of a delivery by disc (guest/from_disc.py), with an image's file as the drive."""

from __future__ import annotations

import errno
import getpass
import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from harness.providers.qemu.disc import write_image
from harness.rig import ROOT
from tests.builders import sha256_of

SCRIPT = ROOT / "vm_images" / "reference" / "guest" / "from_disc.py"
SECTOR = 2048
BUILD = os.urandom(3 * 1024**2 + 17)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the image of a disc with the build."""
    made = tmp_path_factory.mktemp("disc") / "disc.iso"
    write_image(BUILD, made)
    return made


def write(device: Path, target: Path, **more: object) -> dict[str, Any]:
    """Run the script as a guest would and give its answer, which is well-formed whatever the disc is."""
    request = {"path": str(target), "user": getpass.getuser(), "size": len(BUILD), "sha256": sha256_of(BUILD)}
    done = subprocess.run(
        [sys.executable, "-B", str(SCRIPT)],
        input=json.dumps({**request, "device": str(device), **more}).encode(),
        capture_output=True,
        check=False,
        timeout=40,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize("name", ["setup.exe", "데모 증권 설치 1.0.exe", "가" * 80 + ".exe", "-n", "a'b\"c$d.exe"])
def test_the_disc_s_file_is_written_under_any_name_as_a_program_s_output_is(
    name: str, image: Path, tmp_path: Path
) -> None:
    assert write(image, tmp_path / name) == {"exit": 0, "signal": None, "error": ""}
    there = (tmp_path / name).stat()
    assert (tmp_path / name).read_bytes() == BUILD
    assert stat.S_IMODE(there.st_mode) == 0o644
    assert there.st_uid == os.getuid()


def test_a_write_that_is_refused_is_the_writer_s_exit_code_and_no_trouble(image: Path, tmp_path: Path) -> None:
    answer = write(image, tmp_path / "no folder" / "setup.exe")
    by_hand = subprocess.run(
        ["/bin/sh", "-c", 'cat > "$1"', "deliver", str(tmp_path / "no folder" / "setup.exe")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    assert by_hand.returncode > 0
    assert (answer["exit"], answer["signal"]) == (by_hand.returncode, None)
    assert answer["error"]


def spoiled(image: Path, tmp_path: Path, *, at: int | None = None, size: int | None = None) -> Path:
    """Give a copy with another byte, or cut."""
    copy = tmp_path / "spoiled.iso"
    content = bytearray(image.read_bytes())
    if at is not None:
        content[at] ^= 0xFF
    copy.write_bytes(content[:size])
    return copy


@pytest.mark.parametrize(
    "size", [0, 16 * SECTOR - 1, 16 * SECTOR + 7, 17 * SECTOR, 25 * SECTOR, 1024**2, 3 * 1024**2, 3 * 1024**2 + 30_000]
)
def test_a_disc_that_is_cut_is_trouble_and_no_whole_file_comes_of_it(size: int, image: Path, tmp_path: Path) -> None:
    answer = write(spoiled(image, tmp_path, size=size), tmp_path / "setup.exe")
    assert set(answer) == {"trouble"}
    assert not (tmp_path / "setup.exe").exists() or (tmp_path / "setup.exe").stat().st_size < len(BUILD)


@pytest.mark.parametrize("at", [16 * SECTOR, 16 * SECTOR + 158, -SECTOR * 200, -SECTOR * 160 + 5])
def test_a_disc_with_other_bytes_is_trouble_and_no_whole_file_comes_of_it(at: int, image: Path, tmp_path: Path) -> None:
    answer = write(spoiled(image, tmp_path, at=at), tmp_path / "setup.exe")
    assert set(answer) == {"trouble"}
    assert not (tmp_path / "setup.exe").exists() or (tmp_path / "setup.exe").stat().st_size < len(BUILD)


def test_another_build_s_disc_is_trouble_and_nothing_of_it_is_delivered_whole(image: Path, tmp_path: Path) -> None:
    assert set(write(image, tmp_path / "setup.exe", sha256="0" * 64)) == {"trouble"}
    assert (tmp_path / "setup.exe").stat().st_size < len(BUILD)
    assert set(write(image, tmp_path / "other.exe", size=len(BUILD) + 1)) == {"trouble"}
    assert not (tmp_path / "other.exe").exists() or (tmp_path / "other.exe").stat().st_size == 0


def test_a_drive_that_cannot_be_read_is_trouble(tmp_path: Path) -> None:
    answer = write(tmp_path, tmp_path / "setup.exe")
    assert os.strerror(errno.EISDIR) in answer["trouble"]


@pytest.mark.skipif(os.getuid() != 0, reason="root alone becomes another user")
def test_the_file_is_the_user_s_own(image: Path, tmp_path: Path) -> None:
    user = pwd.getpwnam("nobody")
    for folder in (tmp_path, *tmp_path.parents):
        if tempfile.gettempdir() in map(str, folder.parents):
            folder.chmod(0o755)
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", user.pw_uid, user.pw_gid)
    assert write(image, tmp_path / "home" / "setup.exe", user="nobody")["exit"] == 0
    there = (tmp_path / "home" / "setup.exe").stat()
    assert (there.st_uid, there.st_gid, stat.S_IMODE(there.st_mode)) == (user.pw_uid, user.pw_gid, 0o644)
