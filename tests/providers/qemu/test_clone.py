"""What a killed harness leaves is found and ended; what another one still uses is left alone."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.providers.qemu import clone


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(clone, "runs_folder", lambda: tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def machine(runs: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that could be a machine: its command line names the monitor of its folder."""
    folder = runs / "vm-left"
    folder.mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", f"unix:{folder}/monitor,server=on"]
    )
    while str(folder).encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.001)  # it is still a copy of us
    yield process
    process.kill()
    process.wait()


def owned(folder: Path, *, pid: int, run: str, started: str | None) -> None:
    (folder / clone.OWNER).write_text(json.dumps({"run": run, "pid": pid, "started": started}))


def ended(process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    return process.poll() is not None


def test_a_spot_is_gone_with_its_context(runs: Path) -> None:
    with clone.spot("run-1") as spot:
        assert json.loads((spot.folder / clone.OWNER).read_text())["run"] == "run-1"
        assert runs.stat().st_mode & 0o077 == 0
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize("name", ["mkdtemp", "write_text"])
def test_a_host_s_disk_without_room_is_lab_trouble_and_leaves_nothing(
    name: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile if name == "mkdtemp" else Path, name, full)
    with pytest.raises(LabError, match="no place") as told, clone.spot("run-1"):
        pass
    assert "No space left" in told.value.detail
    assert told.value.hint
    assert list(runs.iterdir()) == []


def test_the_machine_of_a_harness_that_is_gone_is_ended(runs: Path, machine: subprocess.Popen[bytes]) -> None:
    owned(runs / "vm-left", pid=2**22 - 3, run="run-1", started="1")
    assert clone.sweep(None) == 1
    assert ended(machine)
    assert list(runs.iterdir()) == []


def test_a_harness_whose_number_another_process_has_is_gone(runs: Path, machine: subprocess.Popen[bytes]) -> None:
    owned(runs / "vm-left", pid=os.getpid(), run="run-1", started="1")
    assert clone.sweep(None) == 1
    assert ended(machine)


def test_the_machine_of_a_living_harness_stays_unless_its_run_is_named(
    runs: Path, machine: subprocess.Popen[bytes]
) -> None:
    owned(runs / "vm-left", pid=os.getpid(), run="run-1", started=clone.started_at(os.getpid()))
    assert clone.sweep(None) == 0
    assert clone.sweep("run-2") == 0
    assert machine.poll() is None
    assert clone.sweep("run-1") == 1
    assert ended(machine)


def test_a_folder_that_is_being_made_is_left_alone(runs: Path) -> None:
    (runs / "vm-new").mkdir(parents=True)
    assert clone.sweep(None) == 0
    assert (runs / "vm-new").is_dir()
