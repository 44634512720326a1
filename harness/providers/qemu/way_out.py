"""Driver. What carries a machine's way out: the virtio port of a way in that its cell does not take.

Every machine has ports for three ways in (``ways``) and a cell uses one, so that no machine is made otherwise for this.
Whatever serves the port in the guest is ended first: it would greet us.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.providers.api import Endpoint
from harness.providers.qemu.machine import GUEST_AGENT_PORT, GUEST_AGENT_SOCKET, SSH_PORT, SSH_SOCKET
from harness.providers.qemu.ways import SSH
from harness.transports.api import Transport, Wire
from harness.transports.socket_stream import SocketStream, connected_to
from harness.transports.ssh import address_in

#: Frees the port of a name and says its device; a port is open to one process only.
#: Source: kernel, drivers/char/virtio_console.c (sysfs attribute ``name``, port_fops_open).
_TAKE = """set -eu
for name in /sys/class/virtio-ports/*/name; do
    [ "$(cat "$name")" = "$1" ] || continue
    device=/dev/$(basename "$(dirname "$name")")
    fuser -s -k -KILL "$device" || true
    while fuser -s "$device"; do sleep 0.05; done
    echo "$device"
    exit 0
done
echo "no port $1" >&2
exit 1
"""
_START = 'device=$1; shift; setsid "$@" 0<>"$device" 1>&0 2> /dev/null &'


def carry(endpoint: Endpoint, argv: Sequence[str], *, transport: Transport, deadline: Deadline) -> Wire:
    """Start a program on a free port of a machine; see ``CarriesWayOut.carry``."""
    socket, port = free_port(endpoint)
    taken = transport.run(["/bin/sh", "-c", _TAKE, "take", port], deadline=deadline)
    device = taken.stdout.decode("ascii", "replace").strip()
    if not taken.ok or not device:
        msg = "The guest has no port for its way out."
        raise GuestUnreachable(msg, detail=taken.stderr[-2000:].decode("utf-8", "replace"))
    try:
        wire = SocketStream(connected_to(str(socket)))
    except OSError as error:
        msg = "The machine's port for the guest's way out does not answer."
        raise GuestUnreachable(msg, detail=str(error)) from error
    started = transport.run(["/bin/sh", "-c", _START, "start", device, *argv], deadline=deadline)
    if not started.ok:
        wire.close()
        msg = "The guest's end of its way out could not be started."
        raise GuestUnreachable(msg, detail=started.stderr[-2000:].decode("utf-8", "replace"))
    return wire


def free_port(endpoint: Endpoint) -> tuple[Path, str]:
    """Give a port that the way in does not use: its socket on the host, and its name in the guest."""
    if endpoint.transport == SSH:
        return Path(address_in(endpoint.address).at).with_name(GUEST_AGENT_SOCKET), GUEST_AGENT_PORT
    return Path(endpoint.address).with_name(SSH_SOCKET), SSH_PORT
