"""Driver. The ways into a virtual machine by their names, as an image's ``transport`` says them.

Every machine has a port for each. An endpoint is data: the ssh server's key, and the one key that it lets in, were made
with the image and are fetched from the clone over the agent's port, before anything of a cell has run in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.image import DEFAULT_TRANSPORT
from harness.providers.api import Endpoint
from harness.providers.qemu.machine import GUEST_AGENT_SOCKET, SSH_SOCKET
from harness.transports.api import Transport
from harness.transports.qga import QgaTransport
from harness.transports.ssh import SshAddress, SshTransport, address_in
from harness.transports.unix_socket import UnixSocketTransport

AGENT, GUEST_AGENT, SSH = DEFAULT_TRANSPORT, "qga", "ssh"
#: The agent's transport, as endpoints name it.
UNIX_SOCKET = "unix_socket"

#: In the guest; see guest/ways.py.
_KEYS = "/etc/hts-compat/ssh"
_OWN_KEY = "ssh-key"

_CONNECT: Mapping[str, Callable[[str], Transport]] = {
    UNIX_SOCKET: UnixSocketTransport,
    GUEST_AGENT: QgaTransport,
    SSH: lambda address: SshTransport(address_in(address)),
}


def connect(endpoint: Endpoint) -> Transport:
    """Open the way into a machine that an endpoint names.

    Raises:
        GuestUnreachable: Nobody answers there.
        LabError: There is no way of that name.
    """
    if endpoint.transport not in _CONNECT:
        raise _no_way(endpoint.transport)
    return _CONNECT[endpoint.transport](endpoint.address)


def endpoint_of(transport: str, agent_socket: Path, *, deadline: Deadline) -> Endpoint:
    """Give the endpoint of a machine that has answered its agent.

    Args:
        transport: Name of the way.
        agent_socket: Of the machine; its other sockets, and our key, lie beside it.
        deadline: Bounds the fetching of keys.

    Raises:
        GuestUnreachable: The machine does not answer.
        LabError: There is no way of that name, or the image has no ssh server.
    """
    if transport == AGENT:
        return Endpoint(transport=UNIX_SOCKET, address=str(agent_socket))
    if transport == GUEST_AGENT:
        return Endpoint(transport=transport, address=str(agent_socket.with_name(GUEST_AGENT_SOCKET)))
    if transport == SSH:
        return Endpoint(transport=transport, address=_ssh_address(agent_socket, deadline).model_dump_json())
    raise _no_way(transport)


def _ssh_address(agent_socket: Path, deadline: Deadline) -> SshAddress:
    way_in = UnixSocketTransport(str(agent_socket))
    try:
        host, _ = way_in.pull(f"{_KEYS}/host.pub", deadline=deadline)
        own, _ = way_in.pull(f"{_KEYS}/own", deadline=deadline)
    except FileNotFoundError as error:
        msg = "The guest has no ssh server."
        raise LabError(msg, hint="Choose another 'transport' for its image, or build the image again.") from error
    finally:
        way_in.close()
    key_file = agent_socket.with_name(_OWN_KEY)
    descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(own)
    return SshAddress(
        at=str(agent_socket.with_name(SSH_SOCKET)),
        host_key=" ".join(host.decode("ascii", "replace").split()[:2]),
        user="root",
        key_file=str(key_file),
    )


def _no_way(transport: str) -> LabError:
    msg = f"There is no way '{transport}' into virtual machines."
    return LabError(msg, hint=f"The image's 'transport' is one of: {AGENT}, {GUEST_AGENT}, {SSH}.")
