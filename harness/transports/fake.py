"""Driver. The way into a guest in memory, for tests, with the few programs that such a guest has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout
from harness.fake_guest import ENOENT, Called, FakeMachine
from harness.transports.api import OUTPUT_CAP_BYTES, CommandResult
from harness.transports.payload import Payload, whole


class FakeTransport:
    """A way into one simulated guest; see ``Transport``."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        machine.reach()

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one of ``PROGRAMS``, or a program that was put into the guest; see ``Transport.run``."""
        if not argv:
            msg = "argv is empty"
            raise ValueError(msg)
        self.machine.reach()
        called = Called(argv=tuple(argv), user=user or "root", stdin=whole(stdin), deadline=deadline)
        if argv[0] in self.machine.programs:
            return CommandResult(exit_code=0, stdout=self.machine.programs[argv[0]](called))
        program = PROGRAMS.get(argv[0])
        if program is None:
            return CommandResult(exit_code=None, errno=ENOENT, stderr=b"no such program")
        return program(called)

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Put bytes into a file; see ``Transport.push``."""
        del deadline, mode, owner
        self.machine.reach()
        self.machine.files[path] = content

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = OUTPUT_CAP_BYTES) -> tuple[bytes, bool]:
        """Take a file's bytes; see ``Transport.pull``."""
        del deadline
        self.machine.reach()
        content = self.machine.files.get(path)
        if content is None:
            raise FileNotFoundError(path)
        return content[:max_bytes], len(content) > max_bytes

    def close(self) -> None:
        """Do nothing; see ``Transport.close``."""


def hang(deadline: Deadline, what: str) -> None:
    """Wait until the deadline, and say that a program was ended by it.

    Raises:
        GuestCommandTimeout: Always.
    """
    for _ in deadline.poll(0.01):
        pass
    msg = f"'{what}' did not end in time in the guest."
    raise GuestCommandTimeout(msg)


def _sleep(called: Called) -> CommandResult:
    seconds = float(called.argv[1])
    if seconds > called.deadline.remaining_s:
        hang(called.deadline, called.argv[0])
    for _ in called.deadline.sooner(seconds).poll(seconds):
        pass
    return CommandResult(exit_code=0, duration_s=seconds)


def _head(called: Called) -> CommandResult:
    """Give zeros, as ``head -c N /dev/zero``."""
    wanted = int(called.argv[2])
    return CommandResult(
        exit_code=0, stdout=bytes(min(wanted, OUTPUT_CAP_BYTES)), stdout_truncated=wanted > OUTPUT_CAP_BYTES
    )


PROGRAMS: dict[str, Callable[[Called], CommandResult]] = {
    "/bin/true": lambda _called: CommandResult(exit_code=0),
    "/bin/false": lambda _called: CommandResult(exit_code=1),
    "/bin/cat": lambda called: CommandResult(exit_code=0, stdout=called.stdin),
    "/usr/bin/id": lambda called: CommandResult(exit_code=0, stdout=called.user.encode() + b"\n"),
    "/bin/sleep": _sleep,
    "/usr/bin/head": _head,
}
