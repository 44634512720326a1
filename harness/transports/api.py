"""Pure. The way into a guest: run a program, put bytes in, take bytes out. Nothing here knows what runs there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.deadline import Deadline
from harness.transports.payload import Payload

#: At most so much of each output stream is kept; the rest is read and dropped, and said to be cut.
OUTPUT_CAP_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """How a program in the guest ended.

    Attributes:
        exit_code: None when a signal or the guest ended it; then ``signal`` holds the number where it is known.
        stdout, stderr: Raw bytes, at most ``OUTPUT_CAP_BYTES`` each; a cut stream must not be read as complete.
        errno: Why the program could not be started at all; None when it was.
        duration_s: Seconds in the guest.
    """

    exit_code: int | None
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    signal: int | None = None
    errno: int | None = None
    duration_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Tell whether the program ran and ended with 0."""
        return self.exit_code == 0


class Wire(Protocol):
    """A two-way stream of bytes to one program in a guest: its agent, or its end of the way out."""

    def send(self, data: bytes, *, patience: Deadline) -> None:
        """Send all bytes; ``TimeoutError`` when that takes too long, another ``OSError`` when nobody is there."""
        ...

    def receive(self, *, patience: Deadline) -> bytes:
        """Give the next bytes of the program's output, possibly none yet; ``EOFError`` at its end, else as ``send``."""
        ...

    def close(self) -> None:
        """Let go of the stream; never raises."""
        ...


class Transport(Protocol):
    """A live way into one guest."""

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one program and wait until it ends.

        The program gets a process group of its own, which is ended at the deadline. No shell expands anything. A
        non-zero exit code is a result, not an error.

        Args:
            argv: Program, then its arguments; at least one item.
            deadline: Bounds the whole call.
            user: Account in the guest; None is its administrator.
            stdin: Bytes for the program's standard input, sent piece by piece.

        Raises:
            GuestUnreachable: The way in is gone, or the guest gave no sensible answer. Retryable.
            InputError: ``stdin`` could not be read to its end. The way in is closed.
            GuestCommandTimeout: The program still ran at the deadline and was ended. Retryable.
            ValueError: ``argv`` is empty.
        """
        ...

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Put bytes into a file as the administrator, making its folders; for what belongs to the lab, never a build.

        Raises:
            GuestUnreachable: As for ``run``.
        """
        ...

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = OUTPUT_CAP_BYTES) -> tuple[bytes, bool]:
        """Take a file's bytes and whether they were cut; ``FileNotFoundError`` when it is missing or vanishes."""
        ...

    def close(self) -> None:
        """Let go of the connection; never raises."""
        ...
