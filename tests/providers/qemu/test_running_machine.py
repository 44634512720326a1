"""What becomes of a machine is told apart: the guest's own end, an end from outside, a host without room."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.providers.api import Loss
from harness.providers.qemu import clone
from harness.providers.qemu.clone import RunningMachine
from harness.providers.qemu.machine import Hardware, Places
from harness.rig import ROOT
from tests.providers.qemu import fake_qemu

FAKE = Path(fake_qemu.__file__)
RESET = {"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}}
OFF = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}}
FULL = {"event": "BLOCK_IO_ERROR", "data": {"action": "stop", "nospace": True, "reason": "No space left on device"}}


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone, "runs_folder", lambda: tmp_path / "runs")
    monkeypatch.setattr(clone, "WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(clone, "MONITOR_S", 0.2)
    monkeypatch.setattr(clone, "DYING_S", 0.2)
    monkeypatch.setattr(clone, "FIRMWARE_S", 0.5)
    monkeypatch.setattr(clone, "QUIET_S", 0.1)
    monkeypatch.setattr(clone, "command_line", _fake_line)


def _fake_line(hardware: Hardware, places: Places, *, incoming: bool, more: str = "") -> list[str]:
    del hardware, incoming, more
    return [sys.executable, str(FAKE), str(places.monitor_socket)]


@contextmanager
def running() -> Iterator[RunningMachine]:
    hardware = Hardware(accelerator="tcg", memory_mib=1, cpus=1, kernel=Path("k"), initrd=Path("i"))
    with clone.spot("run-1") as spot:
        places = spot.places(memory="m", shared=False)
        machine = RunningMachine(hardware, places, incoming=False, deadline=soon())
        try:
            yield machine
        finally:
            machine.end()


def soon() -> Deadline:
    return Deadline.after(20)


def ask(machine: RunningMachine, name: str, **arguments: object) -> None:
    machine.monitor.command(name, arguments, deadline=soon())


def said_to(machine: RunningMachine) -> list[object]:
    """Give what the machine has been told about its drive so far."""
    told = machine.monitor.command("x-told", deadline=soon())
    assert isinstance(told, dict)
    return [asked for asked in told["told"] if asked["execute"] in {"blockdev-change-medium", "eject"}]


def lost(machine: RunningMachine) -> Loss | None:
    for _ in soon().poll(0.01):
        found = machine.lost()
        if found is not None:
            return found
    return None


@pytest.mark.parametrize(
    "event",
    [RESET, OFF, {"event": "WATCHDOG", "data": {}}],
    ids=["reset", "off", "watchdog"],
)
def test_a_guest_that_ends_by_itself_crashed(event: dict[str, object]) -> None:
    with running() as machine:
        assert machine.lost() is None
        ask(machine, "x-emit", events=[event])
        found = lost(machine)
    assert found == Loss(summary=f"the guest ended by itself ({event['event']})", crashed=True)


def test_a_guest_whose_kernel_panics_crashed_and_is_said_to_have_panicked() -> None:
    panic = {"event": "GUEST_PANICKED", "data": {"action": "poweroff"}}
    off = {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-panic"}}
    with running() as machine:
        ask(machine, "x-emit", events=[panic, off])
        found = lost(machine)
    assert found == Loss(summary="the guest's kernel panicked (GUEST_PANICKED, SHUTDOWN)", crashed=True)


def test_a_disc_is_in_the_drive_read_only_and_comes_out_whatever_happens(tmp_path: Path) -> None:
    with running() as machine:
        with suppress(KeyError), machine.disc(tmp_path / "a, b.iso", deadline=soon()):
            assert len(said_to(machine)) == 1
            raise KeyError
        put_in, taken_out = said_to(machine)
        assert put_in == {
            "execute": "blockdev-change-medium",
            "arguments": {
                "id": "disc",
                "filename": str(tmp_path / "a, b.iso"),
                "format": "raw",
                "read-only-mode": "read-only",
                "force": True,
            },
        }
        assert taken_out == {"execute": "eject", "arguments": {"id": "disc", "force": True}}


def test_a_machine_that_goes_with_a_disc_in_its_drive_is_no_trouble_beyond_that() -> None:
    with running() as machine:
        with machine.disc(Path("disc.iso"), deadline=soon()):
            machine._process.kill()
        found = lost(machine)
    assert found == Loss(summary="the virtual machine was ended from outside (signal 9)", crashed=False)


def test_an_end_that_the_host_asked_for_and_one_from_outside_are_no_crash() -> None:
    with running() as machine:
        ask(machine, "x-emit", events=[{"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-qmp-quit"}}])
        assert machine.lost() is None
        machine._process.kill()
        found = lost(machine)
    assert found == Loss(summary="the virtual machine was ended from outside (signal 9)", crashed=False)


def test_a_host_without_room_ends_the_machine_at_once_and_is_no_crash() -> None:
    with running() as machine, machine.watched():
        ask(machine, "x-emit", events=[FULL, {"event": "STOP"}])
        assert machine.wait(deadline=soon()) == -signal.SIGKILL, "nobody waits for a machine that stands still"
        found = machine.lost()
    assert found is not None
    assert not found.crashed
    assert "could not write the virtual machine's disk" in found.summary


def test_a_write_that_failed_without_a_stop_is_the_guest_s_to_tell() -> None:
    with running() as machine, machine.watched():
        ask(machine, "x-emit", events=[{"event": "BLOCK_IO_ERROR", "data": {"action": "report", "nospace": False}}])
        assert machine.lost() is None


def test_a_machine_that_stands_still_is_ended_and_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clone, "HANGING_S", 0.3)
    with running() as machine, machine.watched():
        os.kill(machine._process.pid, signal.SIGSTOP)
        assert machine.wait(deadline=soon()) == -signal.SIGKILL
        found = machine.lost()
    assert found == Loss(summary="the virtual machine stood still and was ended", crashed=False)


def test_a_machine_that_is_ending_while_it_is_asked_did_not_stand_still() -> None:
    with running() as machine, machine.watched():
        ask(machine, "x-emit", events=[OFF])
        ask(machine, "x-hang-up")
        assert machine.wait(deadline=soon()) == 0
        found = machine.lost()
    assert found == Loss(summary="the guest ended by itself (SHUTDOWN)", crashed=True)


def test_a_reset_that_was_asked_for_is_no_end_nor_the_firmware_s_own_behind_it() -> None:
    with running() as machine:
        with machine.one_reset(deadline=soon()) as await_reset:
            assert not await_reset(Deadline.after(0.05))
            ask(machine, "x-emit", events=[RESET])
            firmware = threading.Timer(0.05, lambda: ask(machine, "x-emit", events=[RESET]))
            firmware.start()
            assert await_reset(soon())
        firmware.join()
        assert machine.lost() is None
        ask(machine, "x-emit", events=[RESET])
        assert lost(machine) == Loss(summary="the guest ended by itself (RESET)", crashed=True)


def test_a_guest_that_resets_for_ever_has_not_come_up() -> None:
    with running() as machine, machine.one_reset(deadline=soon()) as await_reset:
        over = threading.Event()

        def reset() -> None:
            while not over.wait(0.02):
                ask(machine, "x-emit", events=[RESET])

        guest = threading.Thread(target=reset)
        guest.start()
        assert await_reset(soon())
        over.set()
        guest.join()
    assert not machine._resets_allowed


def test_the_watch_ends_with_the_lease_also_when_the_monitor_is_silent() -> None:
    with running() as machine:
        with machine.watched():
            os.kill(machine._process.pid, signal.SIGSTOP)
        assert [t for t in threading.enumerate() if t.name == "machine"] == []


# --- a harness that is killed -----------------------------------------------------------------------------------------

_HARNESS = """
import sys, time
from pathlib import Path
from harness.deadline import Deadline
from harness.providers.qemu import clone
from harness.providers.qemu.machine import Hardware
clone.runs_folder = lambda: Path(sys.argv[1])
clone.command_line = lambda h, p, **more: [sys.executable, sys.argv[2], str(p.monitor_socket)]
hardware = Hardware(accelerator="tcg", memory_mib=1, cpus=1, kernel=Path("k"), initrd=Path("i"))
with clone.spot(sys.argv[3]) as spot:
    places = spot.places(memory="m", shared=False)
    places.disk.write_bytes(b"overlay")
    machine = clone.RunningMachine(hardware, places, incoming=False, deadline=Deadline.after(20))
    print(machine._process.pid, flush=True)
    time.sleep(60)
"""


def _harness(runs: Path, run_id: str) -> tuple[subprocess.Popen[str], int]:
    argv = [sys.executable, "-c", _HARNESS, str(runs), str(FAKE), run_id]
    harness = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert harness.stdout is not None
    return harness, int(harness.stdout.readline())


def _alive(pid: int) -> bool:
    """A dead process that nobody has looked at yet has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_a_killed_harness_takes_its_machines_with_it_and_a_sweep_finds_the_rest(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    killed, machine = _harness(runs, "run-killed")
    other, others_machine = _harness(runs, "run-other")
    try:
        assert _alive(machine)
        killed.kill()
        killed.wait()
        for _ in soon().poll(0.01):
            if not _alive(machine):
                break
        assert not _alive(machine), "the kernel ends it (PR_SET_PDEATHSIG)"
        left = list(runs.glob("*/disk.qcow2"))
        assert len(left) == 2
        assert clone.sweep("run-killed") == 1
        assert [path.is_file() for path in left].count(True) == 1
        assert _alive(others_machine)
        assert clone.sweep("run-killed") == 0
    finally:
        for harness in (killed, other):
            harness.kill()
            harness.communicate()
    assert clone.sweep("run-other") == 1
    assert list(runs.iterdir()) == []
