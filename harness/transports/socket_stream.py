"""Driver. A connected socket whose every wait has a limit: what carries the bytes of all ways into a guest."""

from __future__ import annotations

import contextlib
import socket

from harness.deadline import Deadline

_PIECE_BYTES = 256 * 1024


class SocketStream:
    """A two-way stream of bytes; see ``Wire``.

    Args:
        connected: The socket, which is ours from now on.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    def send(self, data: bytes, *, patience: Deadline) -> None:
        """Send all bytes; ``TimeoutError`` when that takes too long, another ``OSError`` when nobody is there."""
        self._socket.settimeout(max(patience.remaining_s, 0.001))
        self._socket.sendall(data)

    def receive(self, *, patience: Deadline) -> bytes:
        """Give the next bytes; ``EOFError`` at the end, else as ``send``.

        Once the patience is over nothing is taken any more, however much is there: who trickles is waited for no longer
        than who is silent.
        """
        if patience.expired:
            raise TimeoutError
        self._socket.settimeout(max(patience.remaining_s, 0.001))
        piece = self._socket.recv(_PIECE_BYTES)
        if not piece:
            msg = "the connection to the guest was closed"
            raise EOFError(msg)
        return piece

    def close(self) -> None:
        """Let go of the socket; never raises."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._socket.close()


def connected_to(path: str) -> socket.socket:
    """Connect to a Unix socket; ``OSError`` when nobody listens there."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made
