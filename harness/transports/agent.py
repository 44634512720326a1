"""Driver. The agent in a guest (guest/agent.py) over any two-way stream of bytes: requests out, replies back.

What carries the bytes is a ``Wire``: a Docker exec's hijacked connection, a virtual machine's serial port.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, HarnessError
from harness.transports.api import CommandResult, Wire
from harness.transports.files import FilesByPrograms
from harness.transports.frames import ProtocolError, Reply, ReplyReader, encode_greeting, encode_request
from harness.transports.payload import Payload, pieces_of, size_of

#: How much longer than the program's own time we wait for the agent to say that it ended it.
AGENT_GRACE_S = 5.0


class AgentTransport(FilesByPrograms):
    """A live way into one guest. Not for several threads at once: a guest belongs to one cell."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        # A port outlives a connection: what answers the request of one that was given up must answer none of ours.
        self._number = secrets.randbits(48)
        self._replies = ReplyReader()

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one program through the agent; see ``Transport.run``."""
        if not argv:
            msg = "argv is empty"
            raise ValueError(msg)
        size = size_of(stdin)
        first = encode_request(self._number + 1, argv, user=user, timeout_s=deadline.remaining_s, stdin_bytes=size)
        reply = self._exchange(
            chain((first,), pieces_of(stdin)), deadline, f"The guest did not answer while '{argv[0]}' ran."
        )
        return result_of(reply, argv)

    def greet(
        self, *, clock_s: float | None, file: str, deadline: Deadline, sent: Callable[[], None] = lambda: None
    ) -> CommandResult:
        """Set the guest's clock and take a small file, without starting a program: what is asked of a clone first.

        Args:
            clock_s: Seconds since 1970; None leaves the clock as it is.
            file: Path in the guest; its bytes are the result's ``stdout``.
            deadline: Bounds it.
            sent: Called when the greeting is on its way: a guest that stands still is let go on by it.

        Raises:
            GuestUnreachable: No answer in time, or nobody is there.
        """
        first = encode_greeting(self._number + 1, clock_s=clock_s, file=file)
        return self._exchange((first,), deadline, "The guest did not answer to a first greeting.", sent=sent).result

    def close(self) -> None:
        """Let go of the connection; the agent then ends what it runs."""
        self._wire.close()

    def _exchange(
        self, pieces: Iterable[bytes], deadline: Deadline, late: str, *, sent: Callable[[], None] = lambda: None
    ) -> Reply:
        """Send one request and wait for its reply; ``late`` says what it means when none comes in time."""
        self._number += 1
        patience = Deadline(deadline.at_s + AGENT_GRACE_S)
        try:
            for piece in pieces:
                self._wire.send(piece, patience=patience)
            sent()
            while (reply := self._replies.next_reply(self._number)) is None:
                self._replies.feed(self._wire.receive(patience=patience))
        except TimeoutError as error:
            self.close()
            raise GuestUnreachable(late) from error
        except (OSError, ProtocolError, EOFError) as error:
            self.close()
            raise unreachable(error) from error
        except HarnessError:  # half of a request was sent, so nothing that follows would be understood
            self.close()
            raise
        return reply


def result_of(reply: Reply, argv: Sequence[str]) -> CommandResult:
    """Give how a program ended.

    Raises:
        GuestCommandTimeout: It was ended at its deadline.
    """
    if reply.timed_out:
        msg = f"'{argv[0]}' did not end in time in the guest."
        raise GuestCommandTimeout(msg, detail=reply.result.stderr[-2000:].decode("utf-8", "replace"))
    return reply.result


def unreachable(error: BaseException, *, gone: bool = False) -> GuestUnreachable:
    """Put a broken way in into words."""
    text = (
        "The guest is gone."
        if gone or isinstance(error, EOFError | ConnectionError)
        else "The guest cannot be reached."
    )
    return GuestUnreachable(text, detail=f"{type(error).__name__}: {error}")
