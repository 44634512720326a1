"""Driver. A way into a virtual machine: the agent on a virtio port, which QEMU hands out as a Unix socket."""

from __future__ import annotations

import contextlib
import socket

from harness.deadline import Deadline
from harness.transports.agent import AgentTransport, unreachable

_PIECE_BYTES = 256 * 1024


class UnixSocketTransport(AgentTransport):
    """A live way into one virtual machine.

    Args:
        path: The socket of the machine's port on the host.

    Raises:
        GuestUnreachable: Nobody listens there.
    """

    def __init__(self, path: str) -> None:
        super().__init__(_SocketWire(path))


class _SocketWire:
    """A connected Unix socket; see ``Wire``."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise unreachable(error) from error

    def send(self, data: bytes, *, patience: Deadline) -> None:
        self._socket.settimeout(max(patience.remaining_s, 0.001))
        self._socket.sendall(data)

    def receive(self, *, patience: Deadline) -> bytes:
        self._socket.settimeout(max(patience.remaining_s, 0.001))
        piece = self._socket.recv(_PIECE_BYTES)
        if not piece:
            msg = "the connection to the guest was closed"
            raise EOFError(msg)
        return piece

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._socket.close()
