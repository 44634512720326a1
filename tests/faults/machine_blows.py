"""The blows at a container (``blows``) dealt to a virtual machine, and those that only a machine of its own can take.

What the engine does to a container, root in the guest or the host does to a machine. A script goes by the harness's own
way in, between two of its calls: a machine has no other.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.plan import ProductChoice
from harness.transports.api import Transport
from tests.faults.blows import PAUSE_S, Blow, blows
from tests.faults.machine_remains import sockets_to
from tests.faults.spoiled_layers import SPOILT

_YEAR_S = 365 * 86400

#: Around what is done in the guest behind the answer to the call that asked for it.
_LATER, _ALONE = 'setsid sh -c "sleep 0.2;', '" < /dev/null > /dev/null 2>&1 &'

#: In the guest: stops the processes with these words in their command line, and lets them go on after so many seconds
#: (0: never). Nothing is executed meanwhile: while fapolicyd is stopped nothing can be.
_STOP = """
import os, signal, sys, time
words, seconds = sys.argv[1].encode(), float(sys.argv[2])
pids = []
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) != os.getpid():
        try:
            said = open(f"/proc/{name}/cmdline", "rb").read().replace(b"\\0", b" ")
        except OSError:
            continue
        if words in said and b"import os, signal" not in said:
            pids.append(int(name))
if not pids:
    sys.exit(9)
for pid in pids:
    os.kill(pid, signal.SIGSTOP)
if seconds and os.fork() == 0:
    os.setsid()
    for stream in (0, 1, 2):
        os.close(stream)
    time.sleep(seconds)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except OSError:
            pass
os._exit(0)
"""


def _stop(words: str, seconds: float) -> str:
    return f"python3 - '{words}' {seconds} <<'END'\n{_STOP}\nEND"


#: What stands in for a blow of the engine, by its name.
_SCRIPTS = {
    "freeze the program": _stop("DemoHTS.exe", 0),
    "freeze the program, and back": _stop("DemoHTS.exe", PAUSE_S),
    "drop the network": "ip link set lo down",
    "drop the network, and back": "ip link set lo down;"
    f" (sleep {PAUSE_S}; ip link set lo up) < /dev/null > /dev/null 2>&1 &",
    "pause clamd, and back": _stop("clamd -c", PAUSE_S),
    "pause clamonacc, and back": _stop("clamonacc -c", PAUSE_S),
    "pause fapolicyd, and back": _stop("fapolicyd --debug", PAUSE_S),
}
KILL, FREEZE, STILL = "kill the guest", "freeze the guest, and back", "freeze the guest"
DROP = "drop the agent's connection"
#: What is dealt from the host.
FROM_OUTSIDE = frozenset({KILL, FREEZE, STILL, DROP})


def _clock(name: str, by_s: int) -> Blow:
    return Blow(name=f"the clock jumps {name}", script=f'date -s "@$(($(date +%s) + {by_s}))"', within=30)


#: What a container cannot take: its clock is the host's, its kernel too.
_OF_MACHINES = (
    _clock("a year ahead", _YEAR_S),
    _clock("a year back", -_YEAR_S),
    _clock("90 s ahead", 90),
    _clock("90 s back", -90),
    Blow(name="the guest reboots by itself", script="echo b > /proc/sysrq-trigger"),
    Blow(name="the guest panics", script="echo c > /proc/sysrq-trigger"),
    Blow(name="the guest powers off", script="echo o > /proc/sysrq-trigger"),
    Blow(name=STILL),
    Blow(name=DROP),
    # A moment later, so that its answer is not the last one.
    Blow(name="kill the agent", script=f"{_LATER} pkill -KILL -f '[/]opt/hts-compat/agent.py'; true {_ALONE}"),
    # Blocks that nobody has written cost the host nothing.
    Blow(
        name="fill the whole disk",
        script="fallocate -l $(($(df --output=avail -B1 / | tail -n 1) - 8192)) /full && sync",
    ),
)

#: Before the guest: what the product's own layer may have suffered.
_OF_LAYERS = tuple(Blow(name=name, layer=name) for name in SPOILT)


def machine_blows(chosen: ProductChoice) -> tuple[Blow, ...]:
    """Give all blows at a machine that make sense for a product with its sets."""
    dealt = (replace(blow, engine=None, script=_SCRIPTS.get(blow.name, blow.script)) for blow in blows(chosen))
    return (*dealt, *_OF_MACHINES, *_OF_LAYERS)


class MachineArm:
    """Deals one blow to one virtual machine; ``rest`` waits until what is undone later is undone."""

    def __init__(self) -> None:
        self._undoing: list[threading.Thread] = []

    def strike(self, address: str, blow: Blow, way_in: Transport) -> tuple[bool, str]:
        """Deal a blow; tell whether it fell on something, and what was said of it."""
        if blow.name == DROP:
            return _dropped(address)
        if blow.name in FROM_OUTSIDE:
            return self._from_the_host(address, blow.name)
        try:
            done = way_in.run(["/bin/sh", "-c", blow.script], deadline=Deadline.after(30))
        except HarnessError as error:
            return True, f"the guest did not answer any more ({error.summary})"
        return done.ok, "done" if done.ok else f"exit code {done.exit_code} {done.stderr[:200]!r}"

    def rest(self) -> None:
        """Wait until everything is undone."""
        for thread in self._undoing:
            thread.join()

    def _from_the_host(self, address: str, name: str) -> tuple[bool, str]:
        process = process_of(address)
        if process is None:
            return False, "its process is not there"
        os.kill(process, signal.SIGKILL if name == KILL else signal.SIGSTOP)
        if name == FREEZE:
            undo = threading.Timer(PAUSE_S, _go_on, [process])
            undo.start()
            self._undoing.append(undo)
        return True, "done from outside"


def _go_on(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGCONT)


def _dropped(address: str) -> tuple[bool, str]:
    """End our own connections to the agent, as whoever is in between would."""
    found = sockets_to(address)
    for one in found:
        with one:
            one.shutdown(socket.SHUT_RDWR)
    return bool(found), f"{len(found)} connections dropped"


def process_of(address: str) -> int | None:
    """Give the process of the machine whose agent has this socket."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"path={address},".encode() in line.read_bytes():
                return int(line.parent.name)
    return None
