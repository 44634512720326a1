"""A build that goes into a real virtual machine by disc is there as one that went in by the agent's port."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.image import Image
from harness.look import LookError
from harness.providers.api import Lease, LendsDiscs
from harness.providers.qemu import disc
from harness.providers.qemu.provider import DISC_FROM_BYTES, QemuProvider
from harness.systems.api import ReadsDiscs
from harness.systems.wine import WineSystem
from harness.transports.unix_socket import UnixSocketTransport
from tests.builders import sha256_of

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

BUILD = os.urandom(DISC_FROM_BYTES + 12345)
#: Source: linux/cdrom.h, CDROMEJECT and CDROM_LOCKDOOR; open(2).
EJECT, LOCK_DOOR = 0x5309, 0x5329
DRIVE = "os.open('/dev/sr0', os.O_RDONLY | os.O_NONBLOCK)"
DOWNLOADS = r"C:\users\trader\Downloads"


def soon() -> Deadline:
    return Deadline.after(120)


@dataclass(frozen=True)
class Guest:
    """A clone, its drive, and the ways into it."""

    lease: Lease
    drive: LendsDiscs
    system: WineSystem
    way_in: UnixSocketTransport

    def said(self, script: str, *more: str) -> str:
        result = self.way_in.run(["/bin/sh", "-c", script, "sh", *more], deadline=soon())
        return (result.stdout + result.stderr).decode().strip()

    def path(self, name: str) -> str:
        return self.system.image.guest_path(f"{DOWNLOADS}\\{name}")

    def from_disc(self, name: str, *, sha256: str | None = None) -> bool:
        """Deliver the build from the disc in the drive; tell whether that went well."""
        path, digest = f"{DOWNLOADS}\\{name}", sha256 or sha256_of(BUILD)
        result = self.system.deliver_from_disc(path, size_bytes=len(BUILD), sha256=digest, deadline=soon())
        return result.ok


@pytest.fixture
def guest(vm_image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """Give a guest whose discs are kept in a folder of the test's."""
    provider = QemuProvider(spares=False)
    with provider.lease(vm_image, run_id="discs", name="discs", deadline=soon()) as lease:
        assert isinstance(lease, LendsDiscs)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        way_in = UnixSocketTransport(lease.endpoint.address)
        system = WineSystem(vm_image, way_in)
        assert isinstance(system, ReadsDiscs)
        yield Guest(lease, lease, system, way_in)
        way_in.close()
    provider.close()


def test_both_ways_give_the_same_file_and_the_drive_is_empty_afterwards(guest: Guest) -> None:
    names = ("데모 증권 설치 1.0.exe", "가" * 80 + ".exe")
    assert guest.drive.worth_a_disc(len(BUILD))
    assert not guest.drive.worth_a_disc(200_000)
    for name in names:
        assert guest.system.deliver(BUILD, f"{DOWNLOADS}\\port {name}", deadline=soon()).ok
    for name in names:
        with guest.drive.disc(BUILD, sha256=sha256_of(BUILD), deadline=soon()):
            assert guest.from_disc(f"disc {name}")
    for name in names:
        told = [
            guest.said('stat -c "%a %U %G %s %F" "$1"; sha256sum < "$1"', guest.path(f"{way} {name}"))
            for way in ("port", "disc")
        ]
        assert told[0] == told[1]
        assert sha256_of(BUILD) in told[1]
        assert told[1].startswith(f"644 trader trader {len(BUILD)} ")
    assert "No medium" in guest.said("head -c 1 /dev/sr0")
    with pytest.raises(LookError, match="No medium"):
        guest.from_disc("none.exe")
    assert guest.lease.lost() is None


def test_a_guest_can_neither_write_to_a_disc_nor_keep_its_drive_shut(guest: Guest) -> None:
    with guest.drive.disc(BUILD, sha256=sha256_of(BUILD), deadline=soon()):
        image = disc.folder_of(sha256_of(BUILD)) / disc.IMAGE
        before = image.read_bytes()
        assert guest.said("dd if=/dev/zero of=/dev/sr0 bs=2048 count=1 2> /dev/null; echo $?") == "1"
        held = (
            f"import fcntl, os, time; d = {DRIVE}; fcntl.ioctl(d, {LOCK_DOOR}, 1); print(1, flush=True); time.sleep(90)"
        )
        guest.said('python3 -c "$1" > /run/locked 2>&1 & while ! test -s /run/locked; do sleep 0.05; done', held)
        assert guest.said("cat /run/locked") == "1"
        assert guest.from_disc("locked.exe")
    other = b"another" * 100_000
    with (
        guest.drive.disc(other, sha256=sha256_of(other), deadline=soon()),
        pytest.raises(LookError, match="bytes instead"),
    ):
        guest.from_disc("other.exe")
    assert image.read_bytes() == before
    with guest.drive.disc(BUILD, sha256=sha256_of(BUILD), deadline=soon()):
        assert guest.from_disc("again.exe")


def test_a_disc_that_is_cut_or_another_one_is_trouble_and_no_whole_file_comes_of_it(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(content: object, target: Path) -> None:
        del content
        whole(BUILD, target)
        os.truncate(target, target.stat().st_size // 2)

    whole = disc.write_image
    with monkeypatch.context() as patched:
        patched.setattr(disc, "write_image", half)
        with guest.drive.disc(BUILD, sha256=sha256_of(BUILD), deadline=soon()), pytest.raises(LookError):
            guest.from_disc("half.exe")
    assert int(guest.said('stat -c %s "$1" || echo 0', guest.path("half.exe")).split()[-1]) < len(BUILD)
    other = sha256_of(BUILD[::-1])
    with guest.drive.disc(BUILD[::-1], sha256=other, deadline=soon()):
        with pytest.raises(LookError, match="digest"):
            guest.from_disc("backwards.exe")
        # Linux closes a drive that it finds open; whatever a guest does with its drive, the file is the disc's or none.
        assert guest.said('python3 -c "$1"', f"import fcntl, os; fcntl.ioctl({DRIVE}, {EJECT})") == ""
        assert guest.from_disc("taken out.exe", sha256=other)
    assert guest.said('sha256sum < "$1"', guest.path("taken out.exe")).split()[0] == other
    assert int(guest.said('stat -c %s "$1"', guest.path("backwards.exe"))) < len(BUILD)
