"""Driver. A way into a virtual machine through QEMU's guest agent (qemu-ga) on a virtio port, a Unix socket here.

The guest agent starts a process and is asked again and again how it is; it can neither end one nor make it another
user's. So it starts guest/once.py, which does both and ends itself with its program. Output comes whole and in base64,
16 MiB of each stream at most. An input beyond ``INLINE_BYTES`` goes piece by piece through a FIFO, never onto a disk.

The guest agent has no signal of who is connected, and answers what the last one asked: every connection, and every
answer that was late or nonsense, is followed by guest-sync-delimited before anything else is asked.

In a Windows guest the service runs as SYSTEM in session 0 and there is no once.py: a helper of its own is needed there.

Source: QEMU 7.2, "QEMU Guest Agent Protocol Reference".
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

from harness.deadline import Deadline
from harness.errors import GuestUnreachable, HarnessError
from harness.transports.agent import AGENT_GRACE_S, result_of, unreachable
from harness.transports.api import CommandResult
from harness.transports.files import FilesByPrograms
from harness.transports.frames import ProtocolError, Reply, encode_request
from harness.transports.payload import Payload, pieces_of, size_of, whole
from harness.transports.qga_messages import (
    AnswerReader,
    Ended,
    Refused,
    encode_call,
    encode_sync,
    ended_in,
    pid_in,
    reply_in,
    start_of,
)
from harness.transports.socket_stream import SocketStream, connected_to

#: Without the module site and its settings, which the helper does not use: a Python is started for every command.
HELPER = ("/usr/bin/python3", "-S", "-E", "/opt/hts-compat/once.py")

#: So much input goes with the question that starts a program; of more, so much at a time. A virtio port's driver for
#: Windows takes 2 MiB at once (virtio-win, issue 1406).
INLINE_BYTES = PIECE_BYTES = 1024**2

#: A process is asked for at first after the one, later at most every other; in between after a tenth of its time.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1


class QgaTransport(FilesByPrograms):
    """A live way into one guest. Not for several threads at once: a guest belongs to one cell.

    Args:
        path: The socket of the guest agent's port on the host.
        helper: Program and arguments that run a request in the guest; see guest/once.py.
        pipes: Folder in the guest, writable for its administrator alone.

    Raises:
        GuestUnreachable: Nobody listens there.
    """

    def __init__(self, path: str, *, helper: Sequence[str] = HELPER, pipes: str = "/run") -> None:
        try:
            self._agent = _GuestAgent(SocketStream(connected_to(path)))
        except OSError as error:
            raise unreachable(error) from error
        self._helper = tuple(helper)
        self._pipes = pipes
        self._number = 0

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one program through the guest agent; see ``Transport.run``."""
        if not argv:
            msg = "argv is empty"
            raise ValueError(msg)
        self._number += 1
        patience = Deadline(deadline.at_s + AGENT_GRACE_S)
        try:
            reply = self._reply(argv, stdin, user, deadline, patience)
        except TimeoutError as error:
            msg = f"The guest did not answer while '{argv[0]}' ran."
            raise GuestUnreachable(msg) from error
        except (ProtocolError, Refused) as error:
            self._agent.out_of_step()
            raise unreachable(error) from error
        except (OSError, EOFError) as error:
            self.close()
            raise unreachable(error) from error
        except HarnessError:  # a program waits for input that will not come; its helper ends it in time
            self.close()
            raise
        return result_of(reply, argv)

    def close(self) -> None:
        """Let go of the connection; what runs in the guest is ended at its deadline."""
        self._agent.close()

    def _reply(
        self, argv: Sequence[str], stdin: Payload, user: str | None, deadline: Deadline, patience: Deadline
    ) -> Reply:
        size = size_of(stdin)
        pipe = None if size <= INLINE_BYTES else f"{self._pipes}/hts-compat-{secrets.token_hex(8)}"
        if pipe is not None:
            made = self._agent.await_end(self._agent.start(("/usr/bin/mkfifo", "-m", "600", pipe), patience), patience)
            if made.exit_code != 0:
                msg = f"no pipe could be made in {self._pipes}"
                raise ProtocolError(msg)
        request = encode_request(
            self._number, argv, user=user, timeout_s=deadline.remaining_s, stdin_bytes=size, pipe=pipe
        )
        more = whole(stdin) if pipe is None else b""
        helper = self._agent.start(self._helper, patience, stdin=request + more, capture=True)
        if pipe is not None:
            self._feed(pipe, stdin, patience)
        return reply_in(self._agent.await_end(helper, patience), self._number)

    def _feed(self, pipe: str, stdin: Payload, patience: Deadline) -> None:
        """Write the input into a pipe of the guest, until its reader has gone."""
        # ``nocreat``: a reader that has gone took the pipe with it, and no file shall stand there instead.
        writer = ("/usr/bin/dd", f"of={pipe}", "conv=nocreat,notrunc", "bs=64K", "status=none")
        for piece in _cut(pieces_of(stdin)):
            if self._agent.await_end(self._agent.start(writer, patience, stdin=piece), patience).exit_code != 0:
                return


def _cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for at in range(0, len(piece), PIECE_BYTES):
            yield piece[at : at + PIECE_BYTES]


class _GuestAgent:
    """Calls of the guest agent, one after the other, each with its own answer."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._answers = AnswerReader()
        self._in_step = False
        # Not from 1: an answer to whoever was connected before must not look like one to us.
        self._number = secrets.randbelow(2**30) * 1024

    def out_of_step(self) -> None:
        """Trust nothing that comes before the next sync."""
        self._in_step = False

    def close(self) -> None:
        self._stream.close()

    def start(self, argv: Sequence[str], patience: Deadline, *, stdin: bytes = b"", capture: bool = False) -> int:
        """Start a process; give its number."""
        return pid_in(self._call("guest-exec", start_of(argv, stdin, capture=capture), patience))

    def await_end(self, pid: int, patience: Deadline) -> Ended:
        """Ask until a process has ended."""
        began = time.monotonic()
        while (ended := ended_in(self._call("guest-exec-status", {"pid": pid}, patience))) is None:
            _still_time(patience)
            pause_s = min(max((time.monotonic() - began) / 10, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
            time.sleep(min(pause_s, patience.remaining_s))
        return ended

    def _call(self, name: str, arguments: Mapping[str, object], patience: Deadline) -> object:
        if not self._in_step:
            self._sync(patience)
        self._number += 1
        self._in_step = False  # until the answer is here: whatever happens in between may leave one half read
        self._stream.send(encode_call(self._number, name, arguments), patience=patience)
        while (returned := self._answers.next_answer(self._number)) is None:
            self._hear(patience)
        self._in_step = True
        return returned

    def _sync(self, patience: Deadline) -> None:
        self._number += 1
        self._answers.forget()
        self._stream.send(encode_sync(self._number), patience=patience)
        while not self._answers.after_sync(self._number):
            self._hear(patience)
        self._in_step = True

    def _hear(self, patience: Deadline) -> None:
        _still_time(patience)
        self._answers.feed(self._stream.receive(patience=patience))


def _still_time(patience: Deadline) -> None:
    """Raise ``TimeoutError`` at the deadline, also when the guest never stops talking."""
    if patience.expired:
        raise TimeoutError
