"""Effects. Opens a guest's way out, proves that it works and that it refuses, and records what went through it.

What runs in the guest is pushed into it, so images know nothing of it. A program finds the way out in three ways, and
needs to know of none: the host's name leads to it (/etc/hosts), the desktop user's proxy is set (WinINet), and so are
HTTP_PROXY and HTTPS_PROXY.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Protocol

from harness.attempt import CONNECTIONS, Kind
from harness.deadline import Deadline
from harness.egress import Egress, Pair
from harness.egress_seen import Connection, Fate, doubts, summed
from harness.errors import GuestUnreachable
from harness.products.api import Record
from harness.systems.api import GuestSystem, UsesProxy
from harness.transports.api import Wire
from harness.way_out.proxy import RecordingProxy, Resolve, resolve

PYTHON = "/usr/bin/python3"
PROGRAM = "/opt/hts-way-out.pyz"
PROXY_AT = "127.0.0.1:3128"
SERVICE_USER = "nobody"

#: Seconds until the guest's part listens, and for one proof.
READY_S, PROOF_S = 60.0, 60.0

#: What the guest's part is made of.
_PARTS = ("channels.py", "in_guest.py")
_MAIN = "from harness.way_out.in_guest import main\nmain()\n"

#: Asks for a host that is not open, and says what else there is: interfaces that are up, and routes.
PROOF = """
import json, os, socket, sys
flags = {name: open(f"/sys/class/net/{name}/flags").read() for name in os.listdir("/sys/class/net")}
said = {"links": sorted(name for name, text in flags.items() if int(text, 16) & 1), "answer": None}
with open("/proc/net/route") as table:
    said["routes"] = [line.split()[0] for line in table.read().splitlines()[1:]]
host, _, port = sys.argv[1].rpartition(":")
try:
    with socket.create_connection((host, int(port)), 20) as proxy:
        proxy.settimeout(20)
        proxy.sendall(f"CONNECT {sys.argv[2]} HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n".encode())
        said["answer"] = proxy.recv(64).split(b"\\r\\n")[0].decode("ascii", "replace")
except OSError as error:
    said["answer"] = str(error)
print(json.dumps(said))
"""

#: What refusing answers, and what a guest without a network has.
REFUSED = {"links": ["lo"], "routes": [], "answer": "HTTP/1.1 403 Forbidden"}


class Carry(Protocol):
    """Starts the guest's part; see ``CarriesWayOut.carry``."""

    def __call__(self, argv: Sequence[str], *, deadline: Deadline) -> Wire:
        """Start it."""
        ...


class WayOut:
    """The way out of one guest, open.

    Args:
        start: Opens it, at first and after each pause; it stands when this returns.
        guest: Its desktop stands.
        planted: The host that nobody may reach.
        record: Takes what went through it.
    """

    def __init__(
        self, start: Callable[[Deadline], RecordingProxy], guest: GuestSystem, *, planted: str, record: Record
    ) -> None:
        self._start = start
        self._guest = guest
        self._planted = planted
        self._record = record
        self._proxy: RecordingProxy | None = None
        self._past: tuple[Connection, ...] = ()
        self._past_uncounted = 0
        self._broken: str | None = None
        self._proofs = 0
        self._recorded = False

    def resume(self, *, deadline: Deadline) -> None:
        """Open it, at first or behind a pause.

        Raises:
            GuestUnreachable: It does not stand.
            LabError: The guest's programs could not be told of it.
        """
        self._proxy = self._start(deadline)
        if isinstance(self._guest, UsesProxy):
            self._guest.use_proxy(PROXY_AT, deadline=deadline)

    def pause(self) -> None:
        """End it for now, as a reboot of the guest's machine would; what went through it is kept."""
        if self._proxy is None:
            return
        self._broken = self._broken or self._proxy.broken
        self._proxy.close()
        self._past = (*self._past, *self._proxy.connections())
        self._past_uncounted += self._proxy.uncounted
        self._proxy = None

    def prove(self, *, deadline: Deadline) -> None:
        """See from inside, as the desktop user, that what is not open is refused, and that there is no other way.

        Raises:
            GuestUnreachable: That was not seen, so nobody knows what the guest could reach.
        """
        wanted = f"{self._planted}:443"
        argv = [PYTHON, "-c", PROOF, PROXY_AT, wanted]
        before = self._refusals()
        done = self._guest.admin.run(argv, user=self._guest.image.user, deadline=deadline.sooner(PROOF_S))
        broken = self._proxy.broken if self._proxy is not None else "it is not open"
        if broken is not None or _said(done.stdout) != REFUSED or self._refusals() <= before:
            msg = f"The guest's way out was not proven: {broken or 'it did not refuse what is not open'}."
            raise GuestUnreachable(msg, detail=(done.stdout + done.stderr)[-2000:].decode("utf-8", "replace"))
        self._proofs += 1

    def connections(self) -> tuple[Connection, ...]:
        """Give what was tried so far."""
        return (*self._past, *(self._proxy.connections() if self._proxy is not None else ()))

    def close(self, *, failed: bool) -> tuple[str, ...]:
        """End it and record every connection, once.

        Args:
            failed: A step failed.

        Returns:
            Why the attempt tells nothing certain; see ``doubts``.
        """
        if self._recorded:
            return ()
        self._recorded = True
        self.pause()
        connections, uncounted, broken = self._past, self._past_uncounted, self._broken
        seen = summed(connections, uncounted=uncounted, proven=self._proofs > 1 and broken is None)
        lines = (json.dumps(c.model_dump(mode="json"), sort_keys=True) + "\n" for c in connections)
        self._record(Kind.EGRESS, CONNECTIONS, data=seen.model_dump(mode="json"), blob="".join(lines).encode("ascii"))
        return (*((broken,) if broken else ()), *doubts(connections, uncounted=uncounted, failed=failed))

    def _refusals(self) -> int:
        return sum(c.planted and c.fate is Fate.REFUSED for c in self.connections())


def open_way_out(
    egress: Egress,
    guest: GuestSystem,
    *,
    carry: Carry,
    nonce: str,
    record: Record,
    step: Callable[[], int | None],
    deadline: Deadline,
    resolver: Resolve = resolve,
) -> WayOut:
    """Open a guest's way out and prove it.

    Args:
        egress: What is open.
        guest: Its desktop stands.
        carry: Starts the guest's part.
        nonce: In the name that is asked for to see it refused.
        record: Takes what went through it.
        step: Gives the index of the step that runs now.
        deadline: Bounds the opening.
        resolver: Gives where a name leads on this machine.

    Raises:
        GuestUnreachable: It does not stand, or is not proven.
        LabError: The guest's programs could not be told of it.
    """
    by_name = named_pairs(egress)
    hosts = {pair.host: loopback(number) for number, pair in reversed(list(enumerate(by_name, 1)))}
    places = [PROXY_AT, *(f"{hosts[pair.host]}:{pair.port}" for pair in by_name)]
    planted, began_s = f"{nonce}.hts-compat.invalid", time.monotonic()

    def start(limit: Deadline) -> RecordingProxy:
        proxy = RecordingProxy(
            carry([PYTHON, PROGRAM, SERVICE_USER, *places], deadline=limit),
            egress,
            step=step,
            pairs=by_name,
            planted=planted,
            resolver=resolver,
            began_s=began_s,
        )
        if not proxy.await_ready(limit.sooner(READY_S)):
            proxy.close()
            msg = "The guest's end of its way out did not come up."
            raise GuestUnreachable(msg, detail=proxy.broken or "")
        return proxy

    guest.admin.push(program(), PROGRAM, deadline=deadline)
    _lead_names(guest, hosts, deadline)
    way_out = WayOut(start, guest, planted=planted, record=record)
    try:
        way_out.resume(deadline=deadline)
        way_out.prove(deadline=deadline)
    except BaseException:
        way_out.close(failed=False)
        raise
    return way_out


def _lead_names(guest: GuestSystem, hosts: Mapping[str, str], deadline: Deadline) -> None:
    lines = "".join(f"{address} {host}\n" for host, address in sorted(hosts.items()))
    written = guest.admin.run(["/bin/sh", "-c", "cat >> /etc/hosts"], stdin=lines.encode(), deadline=deadline)
    if not written.ok:
        msg = "The guest's names could not be led to its way out."
        raise GuestUnreachable(msg, detail=written.stderr[-2000:].decode("utf-8", "replace"))


def named_pairs(egress: Egress) -> tuple[Pair, ...]:
    """Give the open pairs that a program can connect to by name; a guest's ``localhost`` stays its own."""
    pairs = (permit.pair for permit in egress.permits())
    return tuple(p for p in pairs if p.address is None and p.host.rpartition(".")[2] != "localhost")


def loopback(number: int) -> str:
    """Give the address in the guest that stands for a host, by the number of its first pair (from 1)."""
    return f"127.77.0.{number}"


def program() -> bytes:
    """Give the guest's part as one file that Python runs; the same sources give the same bytes."""
    here = files("harness.way_out")
    texts = {"__main__.py": _MAIN, "harness/__init__.py": "", "harness/way_out/__init__.py": ""}
    texts |= {f"harness/way_out/{name}": here.joinpath(name).read_text(encoding="utf-8") for name in _PARTS}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return made.getvalue()


def _said(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None
