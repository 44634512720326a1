"""What a killed harness leaves is found and ended; what another one still uses is left alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
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


_READER = """
import mmap, sys
file = open(sys.argv[1], "rb")
seen = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
read = sum(seen[at] for at in range(0, len(seen), 4096))
for at in range(0, int(sys.argv[2]) << 20, 4096):
    seen[at] = 1
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("written_mib", "least", "most"), [(0, 1, 60), (80, 80, 140)])
def test_what_a_clone_has_only_read_of_its_template_is_not_its_own(written_mib: int, least: int, most: int) -> None:
    """It alone maps these 128 MiB, so the kernel calls them private; only what it wrote is a copy."""
    memory = os.memfd_create("template", os.MFD_CLOEXEC)
    try:
        for at in range(128):
            os.pwrite(memory, b"x" * 2**20, at << 20)
        argv = [sys.executable, "-c", _READER, f"/proc/{os.getpid()}/fd/{memory}", str(written_mib)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clone_like:
            assert clone_like.stdout is not None
            assert clone_like.stdout.readline() == b"done\n"
            assert least <= clone.own_mib(clone_like.pid) <= most
    finally:
        os.close(memory)
    assert clone.own_mib(clone_like.pid) == 0  # gone


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    made = tmp_path / "disk, with a comma.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(made), "64M"], check=True)
    return made


def told_of(image: Path) -> dict[str, object]:
    told = subprocess.run(["qemu-img", "info", "--output=json", str(image)], check=True, capture_output=True).stdout
    found: dict[str, object] = json.loads(told)
    return found


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_a_guest_s_disk_lies_on_its_template_s_and_is_whole(disk: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        overlay = tmp_path / name
        clone.fork_disk(disk, overlay)
        about = told_of(overlay)
        assert about["full-backing-filename"] == str(disk)
        assert about["virtual-size"] == 64 << 20
        subprocess.run(["qemu-img", "check", "-q", str(overlay)], check=True)


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_a_disk_that_was_made_anew_at_its_place_is_not_taken_for_the_one_before(disk: Path, tmp_path: Path) -> None:
    clone.fork_disk(disk, tmp_path / "before")
    disk.unlink()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "128M"], check=True)
    clone.fork_disk(disk, tmp_path / "after")
    assert told_of(tmp_path / "after")["virtual-size"] == 128 << 20


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_a_second_guest_starts_no_program_for_its_disk(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.fork_disk(disk, tmp_path / "one")
    monkeypatch.setattr(clone, "make_overlay", lambda *_: pytest.fail("a program was started"))
    clone.fork_disk(disk, tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == (tmp_path / "one").read_bytes()


def test_a_disk_without_a_template_or_without_room_is_lab_trouble(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="disk cannot be made"):
        clone.fork_disk(tmp_path / "none.qcow2", tmp_path / "overlay")
