"""Driver. QEMU's monitor: commands with a limit of time, and what the machine has told of itself.

Source: QEMU 7.2, "QEMU QMP Reference Manual"; the library qemu.qmp.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError

from harness.deadline import Deadline
from harness.errors import LabError

T = TypeVar("T")

_EVENTS_S, _CLOSING_S = 10.0, 2.0

_TROUBLE = (TimeoutError, QMPError, OSError, EOFError, asyncio.CancelledError)


#: What a machine tells of a guest whose kernel has panicked; the guest's ``pvpanic`` tells the machine.
PANIC = "GUEST_PANICKED"


class MonitorLost(LabError):
    """The machine's monitor does not answer."""

    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event of a machine.

    Attributes:
        ends_guest: The guest has ended, or begun anew, by its own doing.
        stops_for_disk: The machine stands still because the host could not write its disk.
        text: The reason, where one is given.
    """

    name: str
    ends_guest: bool = False
    stops_for_disk: bool = False
    text: str = ""


class Monitor:
    """The monitor of one machine, connected."""

    def __init__(self, socket: Path, *, lives: Callable[[], bool], deadline: Deadline) -> None:
        """Connect as soon as the socket is there.

        Args:
            socket: The monitor's.
            lives: Tells whether the machine's process runs; one that has ended is not waited for.
            deadline: Bounds the wait.

        Raises:
            MonitorLost: It was not there in time, or the machine has ended.
        """
        self._client = QMPClient()
        problem: BaseException | None = None
        for _ in deadline.poll(0.005):
            if not lives():
                break
            if not socket.exists():
                continue
            try:
                _done(self._client.connect(str(socket)), limit_s=max(deadline.remaining_s, 1.0))
            except _TROUBLE as error:
                problem = error
                continue
            return
        msg = "The virtual machine did not start in time."
        raise MonitorLost(msg, detail=str(problem or "its monitor's socket never appeared"))

    def command(self, name: str, arguments: Mapping[str, object] | None = None, *, deadline: Deadline) -> object:
        """Run one command and give what it returns.

        Raises:
            MonitorLost: No answer before the deadline, or the machine has gone.
            LabError: The machine refuses it.
        """
        asked = self._client.execute(name, dict(arguments) if arguments else None)
        try:
            return _done(asked, limit_s=max(deadline.remaining_s, 0.1))
        except ExecuteError as error:
            msg = f"The virtual machine refuses '{name}'."
            raise LabError(msg, detail=str(error)[:500]) from error
        except _TROUBLE as error:
            msg = f"The virtual machine did not answer to '{name}'."
            raise MonitorLost(msg, detail=f"{type(error).__name__}: {error}") from error

    def answers(self, *, deadline: Deadline) -> bool:
        """Tell whether the machine still answers."""
        try:
            self.command("query-status", deadline=deadline)
        except LabError:
            return False
        return True

    def hand_over(self, descriptor: int, name: str, *, deadline: Deadline) -> None:
        """Give the machine an open file under a name, which ``fd:<name>`` then means. Source: QMP, ``getfd``."""

        async def send() -> None:
            self._client.send_fd_scm(descriptor)

        try:
            _done(send(), limit_s=max(deadline.remaining_s, 0.1))
        except _TROUBLE as error:
            msg = "The virtual machine did not take a file."
            raise MonitorLost(msg, detail=f"{type(error).__name__}: {error}") from error
        self.command("getfd", {"fdname": name}, deadline=deadline)

    def events(self) -> tuple[Told, ...]:
        """Give what the machine has told of itself since the last call; nothing once it has gone."""

        async def taken() -> list[Mapping[str, object]]:
            return list(self._client.events.clear())

        return tuple(told(event) for event in _done(taken(), limit_s=_EVENTS_S))

    def await_migration(self, *, deadline: Deadline) -> None:
        """Wait until a state has been written or restored.

        Raises:
            LabError: It failed, or did not end before the deadline.
        """
        status: object = None
        for _ in deadline.poll(0.002):
            answer = self.command("query-migrate", deadline=deadline)
            status = answer.get("status") if isinstance(answer, dict) else None
            if status == "completed":
                return
            if status == "failed":
                break
        msg = "The state of the virtual machine could not be written or restored."
        raise LabError(msg, detail=f"migration status {status}")

    def close(self) -> None:
        """Let go of the monitor; never raises."""
        with contextlib.suppress(Exception):
            _done(self._client.disconnect(), limit_s=_CLOSING_S)


class Loop:
    """The loop of all monitors, which a thread of its own runs: whoever asks may be in any thread, at any time.

    There must be one alone: what was connected in another one never answers. The first two machines of a run are
    started at the same moment, a guest and a spare, so it is made under a lock (``functools.cache`` has none).
    """

    def __init__(self) -> None:
        self._making = threading.Lock()
        self._made: asyncio.AbstractEventLoop | None = None

    def running(self) -> asyncio.AbstractEventLoop:
        """Give the loop, which runs."""
        with self._making:
            if self._made is None:
                self._made = asyncio.new_event_loop()
                threading.Thread(target=self._made.run_forever, name="monitors", daemon=True).start()
            return self._made


_LOOP = Loop()


def _done(work: Coroutine[Any, Any, T], *, limit_s: float) -> T:
    """Let the monitors' loop do something; ``TimeoutError`` when it took too long."""
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), _LOOP.running()).result()


def told(event: Mapping[str, object]) -> Told:
    """Read an event.

    An end that the host asked for comes as ``SHUTDOWN`` too, and says that it is no guest's. A disk without room stops
    the machine (``werror=enospc``, which is QEMU's default), and so says who made it stop.
    """
    name, data = str(event.get("event")), event.get("data")
    facts = data if isinstance(data, dict) else {}
    by_guest = name in {PANIC, "WATCHDOG"} or (name in {"SHUTDOWN", "RESET"} and facts.get("guest") is True)
    disk = name == "BLOCK_IO_ERROR" and facts.get("action") == "stop"
    return Told(name=name, ends_guest=by_guest, stops_for_disk=disk, text=str(facts.get("reason", ""))[:200])
