"""Driver. A way into a virtual machine: the agent on a virtio port, which QEMU hands out as a Unix socket."""

from __future__ import annotations

from harness.transports.agent import AgentTransport, unreachable
from harness.transports.socket_stream import SocketStream, connected_to


class UnixSocketTransport(AgentTransport):
    """A live way into one virtual machine.

    Args:
        path: The socket of the machine's port on the host.

    Raises:
        GuestUnreachable: Nobody listens there.
    """

    def __init__(self, path: str) -> None:
        try:
            stream = SocketStream(connected_to(path))
        except OSError as error:
            raise unreachable(error) from error
        super().__init__(stream)
