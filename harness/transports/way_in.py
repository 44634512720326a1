"""Effects. A way into a guest that can be lost and found again: those who keep it need not know.

A reboot of the guest's machine ends every connection. Products and systems keep the transport that they were given; it
is this one, and what it holds is another one afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.transports.api import OUTPUT_CAP_BYTES, CommandResult, Transport
from harness.transports.payload import Payload


class WayIn:
    """A transport that is made anew by ``reopen``; see ``Transport``.

    Args:
        connect: Opens a connection. Called at once, and by every ``reopen``.

    Raises:
        GuestUnreachable: ``connect`` did.
    """

    def __init__(self, connect: Callable[[], Transport]) -> None:
        self._connect = connect
        self._transport = connect()

    def reopen(self, *, deadline: Deadline) -> None:
        """Let go of the connection, which may be of no use any more, and open another one as soon as somebody answers.

        Raises:
            GuestUnreachable: Nobody did before the deadline.
        """
        self._transport.close()
        unanswered = GuestUnreachable("The guest is not found again.")
        for _ in deadline.poll(0.2):
            try:
                self._transport = self._connect()
            except GuestUnreachable as error:
                unanswered = error
                continue
            return
        raise unanswered

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one program; see ``Transport.run``."""
        return self._transport.run(argv, deadline=deadline, user=user, stdin=stdin)

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Put bytes into a file; see ``Transport.push``."""
        self._transport.push(content, path, deadline=deadline, mode=mode, owner=owner)

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = OUTPUT_CAP_BYTES) -> tuple[bytes, bool]:
        """Take a file's bytes; see ``Transport.pull``."""
        return self._transport.pull(path, deadline=deadline, max_bytes=max_bytes)

    def close(self) -> None:
        """Let go of the connection; see ``Transport.close``."""
        self._transport.close()
