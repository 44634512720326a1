"""A real guest reaches nothing but itself, whoever asks: no interface, no route, no name, no packet out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import dedent

import pytest

from harness.deadline import Deadline
from harness.image import Image
from harness.providers.docker import DockerProvider
from harness.systems.wine import WineSystem
from harness.transports.docker_exec import DockerExecTransport

pytestmark = pytest.mark.guest

#: A public resolver, a cloud's metadata, the engine's bridge, private networks, and IPv6.
OUTSIDE = ("1.1.1.1", "169.254.169.254", "172.17.0.1", "10.0.0.1", "192.168.0.1", "2606:4700:4700::1111", "fe80::1")

PROBE = dedent(
    """
    import errno, json, os, socket, sys
    found = {"links": sorted(os.listdir("/sys/class/net")), "tcp": {}, "udp": {}}
    found["routes"] = open("/proc/net/route").read().splitlines()[1:]
    for address in sys.argv[1:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
            with socket.socket(family, kind) as probe:
                probe.settimeout(3)
                try:
                    probe.connect((address, 443)) if name == "tcp" else probe.sendto(b"x", (address, 53))
                    found[name][address] = "sent"
                except OSError as error:
                    found[name][address] = errno.errorcode.get(error.errno, str(error))
    try:
        found["dns"] = socket.getaddrinfo("example.com", 443)[0][4][0]
    except socket.gaierror:
        found["dns"] = None
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), 3).close()
        found["loopback"] = True
    print(json.dumps(found))
    """
)
#: What an administrator of the guest could try: an interface of his own, or the network of the machine below.
BREAK_OUT = dedent(
    """
    import fcntl, json, os, socket, struct
    found = {}
    with socket.socket() as probe:
        try:
            fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"eth9", 1))  # SIOCSIFFLAGS
            found["up"] = "done"
        except OSError as error:
            found["up"] = os.strerror(error.errno)
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"tun0", 1))  # TUNSETIFF
        found["tun"] = "made"
    except OSError as error:
        found["tun"] = None
    mine = os.readlink("/proc/self/ns/net")
    found["networks"] = sorted({os.readlink(f"/proc/{p}/ns/net") for p in os.listdir("/proc") if p.isdigit()} - {mine})
    status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
    found["net_admin"] = bool(int(status["CapBnd"], 16) >> 12 & 1)
    print(json.dumps(found))
    """
)


@pytest.fixture(scope="module")
def guest(docker_provider: DockerProvider, reference_image: Image) -> Iterator[WineSystem]:
    deadline = Deadline.after(90)
    with docker_provider.lease(reference_image, run_id="no-way-out", name="egress", deadline=deadline) as lease:
        transport = DockerExecTransport(docker_provider.client, lease.endpoint.address)
        system = WineSystem(reference_image, transport)
        system.await_ready(deadline=deadline)
        yield system
        transport.close()


@pytest.mark.parametrize("user", ["trader", None], ids=["the desktop user", "the administrator"])
def test_nothing_outside_is_reached_and_the_guest_s_own_loopback_is(user: str | None, guest: WineSystem) -> None:
    argv = ["/usr/bin/python3", "-c", PROBE, *OUTSIDE]
    done = guest.admin.run(argv, user=user, deadline=Deadline.after(50))
    found = json.loads(done.stdout or done.stderr)
    assert (found["links"], found["routes"], found["dns"], found["loopback"]) == (["lo"], [], None, True)
    for kind in ("tcp", "udp"):
        assert set(found[kind].values()) <= {"ENETUNREACH", "EADDRNOTAVAIL", "EINVAL", "EHOSTUNREACH"}, found[kind]


def test_not_even_the_guest_s_administrator_can_make_a_way_out(guest: WineSystem) -> None:
    done = guest.admin.run(["/usr/bin/python3", "-c", BREAK_OUT], deadline=Deadline.after(20))
    found = json.loads(done.stdout or done.stderr)
    assert found["up"] != "done"
    assert (found["tun"], found["networks"], found["net_admin"]) == (None, [], False)
