"""Spares on real virtual machines: what becomes of them when they are killed, when the harness is, and at the end."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import LabError
from harness.image import Image
from harness.providers.qemu import clone, provider
from harness.providers.qemu.provider import QemuProvider
from harness.rig import ROOT
from harness.transports.unix_socket import UnixSocketTransport

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

#: Leases one guest of the image named, says so when its spare stands ready, and is killed then.
HARNESS = """
import sys, time
from harness.deadline import Deadline
from harness.image import Image
from harness.providers.qemu.provider import QemuProvider
image = Image.model_validate_json(sys.argv[1])
provider = QemuProvider()
with provider.lease(image, run_id=sys.argv[2], name="k", deadline=Deadline.after(120)):
    while not provider.pool.spares(image.content):
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def run_id() -> str:
    return f"spares-{secrets.token_hex(4)}"


@pytest.fixture
def qemu(run_id: str) -> Iterator[QemuProvider]:
    made = QemuProvider()
    yield made
    made.close()
    made.sweep(run_id)


def becomes(condition: Callable[[], bool], seconds: float = 60) -> bool:
    return any(condition() for _ in Deadline.after(seconds).poll(0.01))


def folders_of(run_id: str) -> dict[Path, bool]:
    """Give the folders of a run's machines, and whether each is a spare's."""
    found = {}
    for path in clone.runs_folder().glob(f"vm-*/{clone.OWNER}"):
        with contextlib.suppress(OSError, ValueError):
            owner = json.loads(path.read_text())
            if owner["run"] == run_id:
                found[path.parent] = owner["spare"]
    return found


def machines_in(folder: Path) -> list[int]:
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{folder}/monitor".encode() in line.read_bytes():
                found.append(int(line.parent.name))
    return found


def lease_once(qemu: QemuProvider, image: Image, run_id: str) -> str:
    """Lease a guest, see that it works, and give its address."""
    deadline = Deadline.after(120)
    with qemu.lease(image, run_id=run_id, name="x", deadline=deadline) as lease:
        way_in = UnixSocketTransport(lease.endpoint.address)
        said = way_in.run(["/bin/date", "+%s"], deadline=deadline)
        way_in.close()
        assert abs(int(said.stdout) - time.time()) < 10
        assert lease.lost() is None
        return lease.endpoint.address


def with_a_spare(qemu: QemuProvider, image: Image, run_id: str) -> Path:
    """Lease once, and give the folder of the spare that is ready then."""
    lease_once(qemu, image, run_id)
    assert becomes(lambda: qemu.pool.spares(image.content) == 1)
    (spare,) = [folder for folder, is_spare in folders_of(run_id).items() if is_spare]
    return spare


def test_a_guest_that_was_a_spare_is_used_once_and_is_marked_as_the_run_s(
    qemu: QemuProvider, vm_image: Image, run_id: str
) -> None:
    spare = with_a_spare(qemu, vm_image, run_id)
    with qemu.lease(vm_image, run_id=run_id, name="x", deadline=Deadline.after(120)) as lease:
        assert Path(lease.endpoint.address).parent == spare
        assert folders_of(run_id)[spare] is False
    assert not spare.exists()
    assert Path(lease_once(qemu, vm_image, run_id)).parent != spare


def test_a_spare_that_was_killed_is_never_leased(qemu: QemuProvider, vm_image: Image, run_id: str) -> None:
    spare = with_a_spare(qemu, vm_image, run_id)
    for pid in machines_in(spare):
        os.kill(pid, signal.SIGKILL)
    assert becomes(lambda: not machines_in(spare))
    assert Path(lease_once(qemu, vm_image, run_id)).parent != spare
    assert not spare.exists()


def test_a_spare_that_does_not_go_on_is_replaced_by_a_new_clone(
    qemu: QemuProvider, vm_image: Image, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = with_a_spare(qemu, vm_image, run_id)
    whole = provider.wake

    def broken(machine: clone.RunningMachine, socket: str, nonce: str, deadline: Deadline) -> None:
        whole(machine, socket, "another" if Path(socket).parent == spare else nonce, deadline)

    monkeypatch.setattr(provider, "wake", broken)
    assert Path(lease_once(qemu, vm_image, run_id)).parent != spare
    assert not spare.exists()


def test_a_refill_that_fails_leaves_nothing_and_costs_no_guest(
    qemu: QemuProvider, vm_image: Image, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = provider.restore
    failed = threading.Event()

    def broken(machine: clone.RunningMachine, state: Path, deadline: Deadline) -> None:
        if threading.current_thread().name == "spare guests":
            failed.set()
            msg = "no more of these"
            raise LabError(msg)
        whole(machine, state, deadline)

    monkeypatch.setattr(provider, "restore", broken)
    lease_once(qemu, vm_image, run_id)
    assert failed.wait(60)
    lease_once(qemu, vm_image, run_id)
    qemu.close()
    assert folders_of(run_id) == {}


def test_closing_ends_spares_and_no_guest(qemu: QemuProvider, vm_image: Image, run_id: str) -> None:
    spare = with_a_spare(qemu, vm_image, run_id)
    with qemu.lease(vm_image, run_id=run_id, name="x", deadline=Deadline.after(120)) as lease:
        assert becomes(lambda: qemu.pool.spares(vm_image.content) == 1)
        qemu.close()
        assert list(folders_of(run_id)) == [spare]
        assert lease.lost() is None
    assert folders_of(run_id) == {}


def test_a_killed_harness_takes_its_spares_with_it_and_a_sweep_finds_their_folders(
    vm_image: Image, run_id: str
) -> None:
    words = [sys.executable, "-c", HARNESS, vm_image.model_dump_json(), run_id]
    harness = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    assert harness.stdout is not None
    with harness.stdout:
        assert harness.stdout.readline() == b"ready\n"
    folders = folders_of(run_id)
    assert sorted(folders.values()) == [False, True]
    harness.kill()
    harness.wait()
    assert becomes(lambda: not any(machines_in(folder) for folder in folders))
    assert QemuProvider().sweep(run_id) == 1  # a spare was nobody's guest
    assert folders_of(run_id) == {}
