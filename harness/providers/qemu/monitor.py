"""Driver. QEMU's monitor: commands with a limit of time, and what the machine has told of itself.

Source: QEMU 7.2, "QEMU QMP Reference Manual"; the library qemu.qmp.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from harness.deadline import Deadline
from harness.errors import LabError


class MonitorLost(LabError):
    """The machine's monitor does not answer."""

    retryable = True


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
        self._protocol = QEMUMonitorProtocol(str(socket))
        problem: BaseException | None = None
        for _ in deadline.poll(0.005):
            if not socket.exists():
                if not lives():
                    break
                continue
            try:
                self._protocol.settimeout(max(deadline.remaining_s, 1.0))
                self._protocol.connect()
            except (TimeoutError, QMPError, OSError) as error:
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
        try:
            self._protocol.settimeout(max(deadline.remaining_s, 0.1))
            answer = self._protocol.cmd_raw(name, dict(arguments) if arguments else None)
        except (TimeoutError, QMPError, OSError, asyncio.CancelledError) as error:
            msg = f"The virtual machine did not answer to '{name}'."
            raise MonitorLost(msg, detail=f"{type(error).__name__}: {error}") from error
        if "error" in answer:
            msg = f"The virtual machine refuses '{name}'."
            raise LabError(msg, detail=str(answer["error"])[:500])
        return answer.get("return")

    def answers(self, *, deadline: Deadline) -> bool:
        """Tell whether the machine still answers."""
        try:
            self.command("query-status", deadline=deadline)
        except LabError:
            return False
        return True

    def hand_over(self, descriptor: int, name: str, *, deadline: Deadline) -> None:
        """Give the machine an open file under a name, which ``fd:<name>`` then means. Source: QMP, ``getfd``."""
        try:
            self._protocol.send_fd_scm(descriptor)
        except (QMPError, OSError) as error:
            msg = "The virtual machine did not take a file."
            raise MonitorLost(msg, detail=f"{type(error).__name__}: {error}") from error
        self.command("getfd", {"fdname": name}, deadline=deadline)

    def endings(self) -> tuple[str, ...]:
        """Give the events since the last call that say that the guest has ended by its own doing.

        An end that the host asked for comes as ``SHUTDOWN`` too, and says that it is no guest's.
        """
        try:
            events = self._protocol.get_events(wait=False)
        except (TimeoutError, QMPError, OSError, asyncio.CancelledError):
            return ()
        return tuple(str(event.get("event")) for event in events if _is_ending(event))

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
            self._protocol.close()


def _is_ending(event: Mapping[str, object]) -> bool:
    name, data = event.get("event"), event.get("data")
    if name in {"GUEST_PANICKED", "WATCHDOG"}:
        return True
    return name in {"SHUTDOWN", "RESET"} and isinstance(data, dict) and data.get("guest") is True
