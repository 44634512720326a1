"""A real guest with a way out: what is named is reached, by programs that know of no proxy, and nothing else is."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import JsonValue

from harness.attempt import Kind
from harness.deadline import Deadline
from harness.egress import Egress
from harness.egress_seen import Connection, Fate, How
from harness.image import Image
from harness.providers import kit_of
from harness.providers.api import CarriesWayOut, KeepsGuestsReady, Lease, Reboots
from harness.providers.docker import DockerProvider
from harness.rig import ROOT
from harness.systems.wine import WINE, WineSystem
from harness.transports.way_in import WayIn
from harness.way_out.open_way import PROXY_AT, WayOut, open_way_out
from tests.providers.test_no_way_out import BREAK_OUT, OUTSIDE, PROBE
from tests.way_out.guest_end import head_of, server

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]

NAME = "quotes.hts-compat.test"
PROGRAM = "C:\\users\\trader\\reach.exe"

#: What a program of the guest gets when it asks the proxy for a host, or a host itself.
ASK = dedent(
    """
    import json, socket, sys
    found = {}
    for target in sys.argv[2:]:
        host, _, port = sys.argv[1].rpartition(":")
        with socket.create_connection((host, int(port)), 20) as proxy:
            proxy.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode())
            found[target] = proxy.recv(64).split(b"\\r\\n")[0].decode()
    print(json.dumps(found))
    """
)
#: What is not TCP: echo requests by ordinary and by raw sockets, and the machine below by its usual addresses.
PING = dedent(
    """
    import errno, json, socket, sys
    found = {}
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        for address in sys.argv[1:]:
            try:
                with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as probe:
                    probe.settimeout(2)
                    probe.sendto(b"\\x08\\x00\\xf7\\xff\\x00\\x00\\x00\\x00", (address, 0))
                    found[f"{kind.name} {address}"] = "sent"
            except OSError as error:
                found[f"{kind.name} {address}"] = errno.errorcode.get(error.errno, str(error))
    print(json.dumps(found))
    """
)


def quote(connected: socket.socket) -> None:
    if head_of(connected):
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n51000")


@dataclass(frozen=True)
class Guest:
    """A guest with a way out to one host. ``open_port`` is the host's; on ``other_port`` another server listens."""

    system: WineSystem
    way_in: WayIn
    lease: Lease
    way_out: WayOut
    recorded: list[tuple[dict[str, JsonValue], bytes]]
    open_port: int
    other_port: int

    def python(self, script: str, *words: str, user: str | None = "trader") -> dict[str, str]:
        done = self.system.admin.run(
            ["/usr/bin/python3", "-c", script, *words], user=user, deadline=Deadline.after(120)
        )
        found: dict[str, str] = json.loads(done.stdout or done.stderr)
        return found

    def reach(self, how: str, host: str, port: int) -> str:
        argv = [WINE, PROGRAM, how, host, str(port)]
        done = self.system.admin.run(argv, user="trader", deadline=Deadline.after(120))
        return done.stdout.decode("ascii", "replace")

    def last(self, target: str) -> Connection:
        connections = self.way_out.connections()
        return next(c for c in reversed(connections) if c.target == target)


@pytest.fixture(scope="module", params=[("docker", "reference_image"), ("qemu", "vm_image")], ids=["docker", "qemu"])
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    provider, fixture = request.param
    image: Image = request.getfixturevalue(fixture)
    compiler = shutil.which("x86_64-w64-mingw32-gcc")
    if compiler is None:
        pytest.skip("mingw-w64 is not installed")
    built = tmp_path_factory.mktemp("reach") / "reach.exe"
    source = ROOT / "tests" / "probe_app" / "reach.c"
    libraries = ["-lwininet", "-lwinhttp", "-lws2_32"]
    subprocess.run([compiler, "-O2", "-s", "-o", str(built), str(source), *libraries], check=True)
    kit, deadline = kit_of(provider), Deadline.after(300)
    assert isinstance(kit, CarriesWayOut)
    recorded: list[tuple[dict[str, JsonValue], bytes]] = []

    def record(kind: Kind, subject: str = "", *, data: object = None, blob: bytes | None = None, **_: object) -> None:
        assert (kind, subject, isinstance(data, dict)) == (Kind.EGRESS, "connections", True)
        recorded.append((data, blob or b""))  # type: ignore[arg-type]

    with (
        server(quote) as open_port,
        server(quote) as other_port,
        kit.provider.lease(image, run_id="way-out", name="way-out", deadline=deadline) as lease,
    ):
        transport = WayIn(partial(kit.connect, lease.endpoint))
        system = WineSystem(image, transport)
        system.await_ready(deadline=deadline)
        way_out = open_way_out(
            Egress(private_hosts=(f"{NAME}:{open_port}", f"localhost:{open_port}")),
            system,
            carry=partial(kit.carry, lease.endpoint, transport=transport),
            nonce="abcdef012345",
            record=record,
            step=lambda: None,
            deadline=deadline,
            resolver=lambda _host, _port: ("127.0.0.1",),
        )
        system.deliver(Path(built).read_bytes(), PROGRAM, deadline=deadline)
        yield Guest(system, transport, lease, way_out, recorded, open_port, other_port)
        way_out.close(failed=False)
        transport.close()
    if isinstance(kit.provider, KeepsGuestsReady):
        kit.provider.close()
    if isinstance(kit.provider, DockerProvider):
        kit.provider.client.close()


@pytest.mark.parametrize(("how", "seen"), [("inet", How.HTTP), ("http", How.HTTP), ("tcp", How.NAME)])
def test_a_windows_program_that_knows_of_no_proxy_reaches_what_is_named(how: str, seen: How, guest: Guest) -> None:
    assert guest.reach(how, NAME, guest.open_port).endswith("51000")
    found = guest.last(f"{NAME}:{guest.open_port}")
    assert (found.how, found.fate, found.address) == (seen, Fate.OPENED, "127.0.0.1")
    assert found.received_bytes > len("51000")


@pytest.mark.parametrize("how", ["inet", "http"])
def test_a_windows_program_that_asks_for_another_host_is_refused_and_recorded(how: str, guest: Guest) -> None:
    assert "51000" not in guest.reach(how, NAME, guest.other_port)
    found = guest.last(f"{NAME}:{guest.other_port}")
    assert (found.fate, found.why, found.address) == (Fate.REFUSED, "it is not open", None)


def test_a_name_that_is_not_open_leads_nowhere(guest: Guest) -> None:
    assert guest.reach("tcp", "example.com", 80).startswith("failed name")


def test_the_proxy_leads_neither_to_the_machine_below_nor_to_metadata_nor_to_another_port(guest: Guest) -> None:
    inside = ("127.0.0.1", "[::1]", "169.254.169.254", "172.17.0.1", "10.0.0.1", "metadata.google.internal")
    targets = [f"localhost:{guest.other_port}", *(f"{host}:{guest.open_port}" for host in inside)]
    assert set(guest.python(ASK, PROXY_AT, *targets).values()) == {"HTTP/1.1 403 Forbidden"}
    for target in targets:
        assert guest.last(target).fate is Fate.REFUSED
    assert guest.python(ASK, PROXY_AT, f"localhost:{guest.open_port}") == {
        f"localhost:{guest.open_port}": "HTTP/1.1 200 Connection established"
    }


@pytest.mark.parametrize("user", ["trader", None], ids=["the desktop user", "the administrator"])
def test_beside_the_way_out_there_is_no_other(user: str | None, guest: Guest) -> None:
    found = json.loads(
        guest.system.admin.run(
            ["/usr/bin/python3", "-c", PROBE, *OUTSIDE], user=user, deadline=Deadline.after(120)
        ).stdout
    )
    assert (found["links"], found["routes"], found["dns"]) == (["lo"], [], None)
    for kind in ("tcp", "udp"):
        assert set(found[kind].values()) <= {"ENETUNREACH", "EADDRNOTAVAIL", "EINVAL", "EHOSTUNREACH"}, found[kind]
    pinged = guest.python(PING, *(address for address in OUTSIDE if ":" not in address), user=user)
    assert set(pinged.values()) <= {"ENETUNREACH", "EACCES", "EPERM"}, pinged


def test_the_servers_of_the_machine_below_are_not_on_the_guest_s_loopback(guest: Guest) -> None:
    script = dedent(
        """
        import json, socket, sys
        with socket.socket() as probe:
            print(json.dumps({"code": str(probe.connect_ex((sys.argv[1], int(sys.argv[2]))))}))
        """
    )
    for address in ("127.0.0.1", "127.77.0.1", "127.77.0.2"):
        assert guest.python(script, address, str(guest.other_port)) == {"code": "111"}


def test_the_guest_s_administrator_still_cannot_make_another_way_out(guest: Guest) -> None:
    done = guest.system.admin.run(["/usr/bin/python3", "-c", BREAK_OUT], deadline=Deadline.after(120))
    found = json.loads(done.stdout or done.stderr)
    # Root of a virtual machine may make interfaces of its kernel's, which has no device that leads anywhere.
    assert (found["tun"], found["networks"], found["net_admin"]) == (None, [], isinstance(guest.lease, Reboots))


def test_behind_a_reboot_of_its_machine_it_is_opened_anew(guest: Guest) -> None:
    if not isinstance(guest.lease, Reboots):
        pytest.skip("a container's machine is not its own")
    before, deadline = len(guest.way_out.connections()), Deadline.after(400)
    guest.way_out.pause()
    guest.way_in.close()
    guest.lease.reboot(deadline=deadline)
    guest.way_in.reopen(deadline=deadline)
    guest.system.await_ready(deadline=deadline)
    guest.way_out.resume(deadline=deadline)
    assert guest.reach("inet", NAME, guest.open_port).endswith("51000")
    assert guest.reach("tcp", NAME, guest.open_port).endswith("51000")
    assert [c.fate for c in guest.way_out.connections()[before:]] == [Fate.OPENED, Fate.OPENED]


def test_the_guest_s_part_is_nobody_s_to_end_and_no_administrator(guest: Guest) -> None:
    script = dedent(
        """
        import json, os
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with open(f"/proc/{pid}/cmdline") as line:
                if "hts-way-out" in line.read().replace(chr(0), " ").split(" -c ")[0]:
                    try:
                        os.kill(int(pid), 0)
                        found[pid] = "could be ended"
                    except PermissionError:
                        found[pid] = str(os.stat(f"/proc/{pid}").st_uid)
        print(json.dumps(found))
        """
    )
    assert set(guest.python(script).values()) == {"65534"}


def test_it_is_proven_again_and_recorded_once(guest: Guest) -> None:
    guest.way_out.prove(deadline=Deadline.after(120))
    assert guest.way_out.close(failed=False) == ()
    assert guest.way_out.close(failed=False) == ()
    ((seen, lines),) = guest.recorded
    assert seen["proven"] is True
    assert len(lines.splitlines()) == len(guest.way_out.connections())
