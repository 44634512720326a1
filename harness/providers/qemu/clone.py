"""Driver. One virtual machine that runs: its process, its folder, its monitor; gone with the harness, or by sweep."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.frame import MAX_PPM_BYTES, Frame, from_ppm
from harness.providers.api import Loss
from harness.providers.build_command import QUICK_S, BuildToolMissing, run
from harness.providers.qemu.machine import Hardware, Places, command_line
from harness.providers.qemu.monitor import Monitor

OWNER = "owner.json"

#: How long a machine that runs may take to answer its monitor, and one that was killed to be gone.
MONITOR_S, DYING_S = 5.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """The folder of one running machine. Short, for a Unix socket's path has 107 characters (unix(7))."""

    folder: Path

    def places(self, *, memory: str, shared: bool, disk: Path | None = None) -> Places:
        """Give the places of a machine in this folder; ``disk`` where its overlay is not to lie there."""
        return Places(
            memory=memory,
            shared=shared,
            disk=disk or self.folder / "disk.qcow2",
            agent_socket=self.folder / "agent",
            monitor_socket=self.folder / "monitor",
            serial_log=self.folder / "serial.log",
        )


def runs_folder() -> Path:
    """Give where running machines have their folders: on this machine, for this user."""
    return Path(tempfile.gettempdir()) / f"hts-compat-qemu-{os.getuid()}"


@contextlib.contextmanager
def spot(run_id: str) -> Iterator[Spot]:
    """Make the folder of one machine, marked with its run and our process; it is gone with the context."""
    runs = runs_folder()
    runs.mkdir(mode=0o700, exist_ok=True)
    if runs.stat().st_uid != os.getuid():
        msg = f"The folder '{runs}' is another user's."
        raise LabError(msg, hint="Set TMPDIR to a folder of your own.")
    folder = Path(tempfile.mkdtemp(prefix="vm-", dir=runs))
    owner = {"run": run_id, "pid": os.getpid(), "started": started_at(os.getpid())}
    (folder / OWNER).write_text(json.dumps(owner), encoding="utf-8")
    try:
        yield Spot(folder=folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class RunningMachine:
    """A machine's process, started in a spot."""

    def __init__(
        self, hardware: Hardware, places: Places, *, incoming: bool, deadline: Deadline, more: str = ""
    ) -> None:
        """Start it and connect to its monitor.

        Raises:
            LabError: It did not start.
        """
        self._folder = places.monitor_socket.parent
        self._process = _start(command_line(hardware, places, incoming=incoming, more=more))
        self._endings: set[str] = set()
        try:
            self.monitor = Monitor(places.monitor_socket, lives=self._lives, deadline=deadline)
        except BaseException as error:
            said = self._end()
            if isinstance(error, LabError):
                raise LabError(error.summary, detail=f"{error.detail}\n{said}".strip(), hint=error.hint) from error
            raise

    def _lives(self) -> bool:
        return self._process.poll() is None

    def lost(self) -> Loss | None:
        """Say how the guest has ended; None while it runs."""
        code = self._process.poll()
        if code is None and not self.monitor.answers(deadline=Deadline.after(MONITOR_S)):
            code = self.wait(deadline=Deadline.after(DYING_S))  # killed a moment ago, and not gone yet
        self._endings.update(self.monitor.endings())
        if code is None and not self._endings:
            return None
        if self._endings or code == 0:
            told = ", ".join(sorted(self._endings)) or "exit code 0"
            return Loss(summary=f"the guest ended by itself ({told})", crashed=True)
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return Loss(summary=f"the virtual machine was ended from outside ({how})", crashed=False)

    def screen(self, *, deadline: Deadline) -> Frame | None:
        """Give what the display card shows; None when the machine gives no picture.

        A PPM, which costs the machine milliseconds; writing a PNG would stop the guest meanwhile (measured).
        """
        picture = self._folder / "screen.ppm"
        picture.unlink(missing_ok=True)
        try:
            self.monitor.command("screendump", {"filename": str(picture)}, deadline=deadline)
            with picture.open("rb") as file:
                return from_ppm(file.read(MAX_PPM_BYTES + 1))
        except (LabError, OSError):
            return None

    def wait(self, *, deadline: Deadline) -> int | None:
        """Wait until the machine has ended by itself; give its exit code, None when it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(max(deadline.remaining_s, 0.001))
        return None

    def end(self) -> None:
        """Kill it. Nothing of a guest is worth keeping that is not in the attempt."""
        self.monitor.close()
        self._end()

    def _end(self) -> str:
        self._process.kill()
        self._process.wait()
        if self._process.stderr is None:
            return ""
        with self._process.stderr as stream:
            return stream.read(4000).decode("utf-8", "replace")


def _start(line: list[str]) -> subprocess.Popen[bytes]:
    """Start QEMU so that it dies with us: setpriv(1) asks the kernel for a signal when the parent ends."""
    try:
        return subprocess.Popen(  # noqa: S603 - our own command line
            ["setpriv", "--pdeathsig", "KILL", "--", *line],  # noqa: S607 - the user's own
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        msg = f"'{error.filename}' is not installed."
        raise BuildToolMissing(msg, hint="Run 'make setup PROVIDER=qemu', which installs what is missing.") from error


def make_overlay(backing: Path, overlay: Path) -> None:
    """Make a disk that holds only what differs from another one, which stays as it is (qemu-img(1))."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(overlay)]
    run(argv, what="qemu-img", limit_s=QUICK_S)


def sweep(run_id: str | None) -> int:
    """End and delete the machines of a run, or those whose harness is gone; give how many that were."""
    swept = 0
    for folder in sorted(runs_folder().glob("vm-*")):
        try:
            owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # being made, or being deleted, at this very moment
        if not isinstance(owner, dict):
            continue
        lives = isinstance(owner.get("pid"), int) and started_at(owner["pid"]) == owner.get("started")
        if (run_id is None and lives) or (run_id is not None and owner.get("run") != run_id):
            continue
        _kill_in(folder)
        shutil.rmtree(folder, ignore_errors=True)
        swept += 1
    return swept


def _kill_in(folder: Path) -> None:
    """Kill the machine whose monitor lies in a folder of ours, found by its command line."""
    mark = f"{folder}/monitor".encode()
    killed = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark in line.read_bytes():
                os.kill(int(line.parent.name), signal.SIGKILL)
                killed.append(line)
    # A process without a command line is dead, whether its parent has looked at it or not (proc(5)).
    for _ in Deadline.after(DYING_S).poll(0.01):
        if not any(_has_words(line) for line in killed):
            return


def _has_words(line: Path) -> bool:
    try:
        return bool(line.read_bytes())
    except OSError:
        return False


def started_at(pid: int) -> str | None:
    """Give when a process started, in clock ticks since boot; None when there is none. Source: proc(5), stat, 22."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
