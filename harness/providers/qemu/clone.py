"""Driver. One virtual machine that runs: its process, its folder, its monitor; gone with the harness, or by sweep."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.frame import MAX_PPM_BYTES, Frame, from_ppm
from harness.providers.api import Loss, OpenDesktop
from harness.providers.build_command import QUICK_S, BuildToolMissing, run
from harness.providers.qemu.machine import DISC_DRIVE, QCODES, Hardware, Places, clicked, command_line
from harness.providers.qemu.monitor import PANIC, Monitor

OWNER = "owner.json"

LOOPBACK = "127.0.0.1"

#: Until keys are let go (QEMU holds them for 0.1 s), so that the next ones are no part of them; and how long a button
#: stays down: a program under TCG may see nothing of a click that is over at once.
KEY_S, CLICK_S = 0.15, 0.05

#: How long a machine that runs may take to answer its monitor, and one that was killed to be gone.
MONITOR_S, DYING_S = 5.0, 5.0

#: How often a leased machine is looked after, and how long one may not answer its monitor before it is given up.
WATCH_EVERY_S, HANGING_S = 0.5, 30.0

#: How long behind a reset the firmware may reset once more, and how long it is then waited for. Seen: 15-40 ms.
FIRMWARE_S, QUIET_S = 5.0, 1.0


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

    def mark(self, run_id: str, *, spare: bool = False) -> None:
        """Write down whose machine this is. A spare is nobody's guest yet: it is swept with the others, not counted."""
        owner = {"run": run_id, "pid": os.getpid(), "started": started_at(os.getpid()), "spare": spare}
        partial = self.folder / f".{OWNER}"
        partial.write_text(json.dumps(owner), encoding="utf-8")
        partial.rename(self.folder / OWNER)


def runs_folder() -> Path:
    """Give where running machines have their folders: on this machine, for this user."""
    return Path(tempfile.gettempdir()) / f"hts-compat-qemu-{os.getuid()}"


@contextlib.contextmanager
def spot(run_id: str, *, spare: bool = False) -> Iterator[Spot]:
    """Make the folder of one machine, marked with its run and our process; it is gone with the context."""
    runs = runs_folder()
    with _room_in(runs):
        runs.mkdir(mode=0o700, exist_ok=True)
    if runs.stat().st_uid != os.getuid():
        msg = f"The folder '{runs}' is another user's."
        raise LabError(msg, hint="Set TMPDIR to a folder of your own.")
    with _room_in(runs):
        made = Spot(folder=Path(tempfile.mkdtemp(prefix="vm-", dir=runs)))
    try:
        with _room_in(runs):
            made.mark(run_id, spare=spare)
        yield made
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)


@contextlib.contextmanager
def _room_in(runs: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"A virtual machine has no place in '{runs}'."
        raise LabError(
            msg, detail=str(error), hint="Make room there, or set TMPDIR to a folder that has some."
        ) from error


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
        self._process = _start(self.line(hardware, places, incoming=incoming, more=more))
        self._looking = threading.Lock()
        self._endings: set[str] = set()
        self._trouble: Loss | None = None
        self._resets_allowed, self._resets_seen = False, 0
        try:
            self.monitor = Monitor(places.monitor_socket, lives=self.lives, deadline=deadline)
        except BaseException as error:
            said = self._end()
            if isinstance(error, LabError):
                raise LabError(error.summary, detail=f"{error.detail}\n{said}".strip(), hint=error.hint) from error
            raise

    def line(self, hardware: Hardware, places: Places, *, incoming: bool, more: str) -> list[str]:
        """Give the command line; a benchmark has machines with another one."""
        return command_line(hardware, places, incoming=incoming, more=more)

    @property
    def pid(self) -> int:
        """Give the number of its process (setpriv(1) becomes the machine)."""
        return self._process.pid

    def lives(self) -> bool:
        """Tell whether its process runs."""
        return self._process.poll() is None

    def private_mib(self) -> int:
        """Give what it keeps for itself, in MiB; 0 when it is gone."""
        return own_mib(self.pid)

    def lost(self) -> Loss | None:
        """Say how the guest has ended; None while it runs."""
        code = self._process.poll()
        if code is None and self._trouble is None and not self.monitor.answers(deadline=Deadline.after(MONITOR_S)):
            code = self.wait(deadline=Deadline.after(DYING_S))  # killed a moment ago, and not gone yet
        self._look()
        if self._trouble is not None:
            return self._trouble
        if code is None and not self._endings:
            return None
        if PANIC in self._endings:
            told = ", ".join(sorted(self._endings))
            return Loss(summary=f"the guest's kernel panicked ({told})", crashed=True)
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

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look after the machine meanwhile: one that stands still for good is ended, so that nobody waits for it."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_EVERY_S):
                self._look()
                if self._trouble is None and self.lives() and not self.monitor.answers(deadline=_patience()):
                    if self.wait(deadline=Deadline.after(DYING_S)) is not None:
                        return  # it did not stand still, it was ending
                    self._trouble = Loss(summary="the virtual machine stood still and was ended", crashed=False)
                if self._trouble is not None:
                    self._process.kill()
                if not self.lives():
                    return

        watcher = threading.Thread(target=watch, name="machine", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            self._process.kill()  # an answer that is waited for never comes, and the watch is over at once
            watcher.join()

    @contextlib.contextmanager
    def one_reset(self, *, deadline: Deadline) -> Iterator[Callable[[Deadline], bool]]:
        """Let the guest begin anew once without that being its end; give what waits until it has, and says so.

        One reset comes as two: SeaBIOS makes another one of its own when it finds that it has run before. Those that
        follow at once are that; a kernel does not get so far in the time.

        Source: QMP, ``set-action``; without it ``-no-reboot`` ends the machine at a reset. SeaBIOS, src/resume.c.
        """
        with self._looking:
            self._resets_allowed, self._resets_seen = True, 0
        self.monitor.command("set-action", {"reboot": "reset"}, deadline=deadline)
        try:
            yield self._await_reset
        finally:
            with contextlib.suppress(LabError):  # gone, and then lost
                self.monitor.command("set-action", {"reboot": "shutdown"}, deadline=Deadline.after(MONITOR_S))
            self._look()
            with self._looking:
                self._resets_allowed = False

    def _await_reset(self, deadline: Deadline) -> bool:
        for _ in deadline.poll(0.01):
            self._look()
            if self._resets_seen or not self.lives():
                break
        firmware = Deadline.after(FIRMWARE_S)
        while self._resets_seen and not firmware.expired:
            seen = self._resets_seen
            for _ in firmware.sooner(QUIET_S).poll(0.01):
                self._look()
            if self._resets_seen == seen:
                break
        return self._resets_seen > 0

    def _look(self) -> None:
        """Take in what the machine has told of itself."""
        with self._looking:
            for told in self.monitor.events():
                if told.name == "RESET" and self._resets_allowed:
                    self._resets_seen += told.ends_guest
                elif told.ends_guest:
                    self._endings.add(told.name)
                elif told.stops_for_disk:
                    summary = "the host could not write the virtual machine's disk (is there room?), and it was ended"
                    self._trouble = Loss(summary=summary, crashed=False)

    def press(self, chord: str, *, deadline: Deadline) -> None:
        """Press keys together. Source: QEMU QMP Reference Manual, ``send-key`` and ``QKeyCode``."""
        keys = [{"type": "qcode", "data": QCODES.get(key, key)} for key in chord.split("+")]
        self.monitor.command("send-key", {"keys": keys}, deadline=deadline)
        time.sleep(KEY_S)

    def click_at(self, x: int, y: int, *, deadline: Deadline) -> None:
        """Move the tablet's pointer and click. Source: QEMU QMP Reference Manual, ``input-send-event``."""
        for events in clicked(x, y):
            self.monitor.command("input-send-event", {"events": list(events)}, deadline=deadline)
            time.sleep(CLICK_S)

    @contextlib.contextmanager
    def disc(self, image: Path, *, deadline: Deadline) -> Iterator[None]:
        """Have a disc in the drive until the context ends, also where the guest has locked the drive (``force``).

        Source: QEMU QMP Reference Manual, ``blockdev-change-medium`` and ``eject``.
        """
        put_in = {"id": DISC_DRIVE, "filename": str(image), "format": "raw", "read-only-mode": "read-only"}
        self.monitor.command("blockdev-change-medium", {**put_in, "force": True}, deadline=deadline)
        try:
            yield
        finally:
            with contextlib.suppress(LabError):  # gone, and then lost
                self.monitor.command("eject", {"id": DISC_DRIVE, "force": True}, deadline=Deadline.after(MONITOR_S))

    def open_desktop(self, *, deadline: Deadline) -> OpenDesktop:
        """Let QEMU's VNC server listen on loopback, at a port that is free, for who has a password of eight characters.

        Source: QEMU QMP Reference Manual, ``set_password`` and ``display-update``; RFC 6143, 7.2.2.
        """
        password = secrets.token_urlsafe(6)
        self.monitor.command("set_password", {"protocol": "vnc", "password": password}, deadline=deadline)
        anywhere = {"type": "inet", "host": LOOPBACK, "port": "0"}
        self.monitor.command("display-update", {"type": "vnc", "addresses": [anywhere]}, deadline=deadline)
        told = self.monitor.command("query-vnc", deadline=deadline)
        if not isinstance(told, dict) or (told.get("host"), told.get("auth")) != (LOOPBACK, "vnc"):
            msg = "The virtual machine's desktop could not be opened."
            raise LabError(msg, detail=str(told)[:500])
        return OpenDesktop(address=f"{LOOPBACK}:{told.get('service')}", password=password)

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


def own_mib(pid: int) -> int:
    """Give what a process keeps for itself, in MiB; 0 when it is gone. Source: proc(5), ``smaps_rollup``.

    That is what is anonymous. ``Private_*`` also counts what it alone happens to have read of a template's memory,
    which is there with or without it.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) // 1024


def _patience() -> Deadline:
    return Deadline.after(HANGING_S)


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


def fork_disk(backing: Path, overlay: Path) -> None:
    """Make the same by a copy of one that was made of that disk before: a guest does not wait for a program then.

    Args:
        backing: A template's disk, absolute; nothing writes to it any more.
        overlay: Where the new disk is to lie.

    Raises:
        LabError: There is no such disk, or no room for another one.
    """
    try:
        about = backing.stat()
        blank = _blank_overlay(backing, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns))
        overlay.write_bytes(blank)
    except OSError as error:
        msg = "A virtual machine's disk cannot be made."
        raise LabError(msg, detail=str(error), hint="Is the template's folder whole, and is there room?") from error


@lru_cache(maxsize=16)
def _blank_overlay(backing: Path, _which: tuple[int, ...]) -> bytes:
    """Give an overlay that holds nothing yet, as bytes (0.2 MB); ``_which`` tells disks of one path apart."""
    with tempfile.TemporaryDirectory(prefix="hts-compat-") as folder:
        made = Path(folder) / "blank.qcow2"
        make_overlay(backing, made)
        return made.read_bytes()


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
        swept += owner.get("spare") is not True
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
