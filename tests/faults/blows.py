"""What can be done to a real guest from outside, in the middle of a cell: each blow is a few lines run in it as root.

A blow goes past the harness's own way into the guest, as what it stands for would: the harness does not know of it.
What a container cannot do is not done: its clock is the host's (no time namespace holds the wall's clock), and the
host's disk and engine belong to everybody on the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass

import docker
from docker.errors import DockerException
from docker.models.containers import Container

from harness.plan import ProductChoice
from harness.products.clamav.adapter import CLAMONACC_LOG, CONF, DATABASE, QUARANTINE
from harness.products.clamav.sets import database_of
from harness.products.fapolicyd.adapter import LOG, RULES
from harness.products.fapolicyd.rules import rules_of
from harness.transports.api import Transport

#: Words of a call into the guest: the first planting, which comes when the product runs; and the program's start.
ARMED, LAUNCHED = "plant.py", '"id": "launch"'

#: How long what is paused stays paused.
PAUSE_S = 5.0

#: What is done to a container, and how it is undone.
Engine = tuple[Callable[[Container], object], Callable[[Container], object] | None]

#: Where the desktop user's programs write most.
TEMP = "/home/trader/.wine/drive_c/users/trader"

_ONACC = (
    f"setsid clamonacc -c {CONF} -F --fdpass --move={QUARANTINE} --log={CLAMONACC_LOG} < /dev/null > /dev/null 2>&1 &"
)


def _link(container: Container, state: str) -> None:
    """Pull the guest's plug, or put it back: from the host, as no guest may do it itself (NET_ADMIN)."""
    container.reload()
    pid = str(container.attrs["State"]["Pid"])
    subprocess.run(["nsenter", "-t", pid, "-n", "ip", "link", "set", "lo", state], check=True, capture_output=True)


def _signal(container: Container, words: str, number: signal.Signals) -> None:
    """Signal the guest's processes whose command line has these words, from the host.

    Not by a program in the guest: while fapolicyd is stopped nothing can be executed there, the way back least of all.
    """
    listed = container.top(ps_args="-eo pid,args")
    pids = [int(row[0]) for row in listed["Processes"] or [] if words in row[-1] and "docker-init" not in row[-1]]
    if not pids:
        msg = f"no process '{words}'"
        raise OSError(msg)
    for pid in pids:
        os.kill(pid, number)


def _stop(words: str, *, back: bool) -> Engine:
    return (
        lambda c: _signal(c, words, signal.SIGSTOP),
        (lambda c: _signal(c, words, signal.SIGCONT)) if back else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One thing that is done to a guest.

    Attributes:
        product: The only product that it makes sense for; None for any.
        script: Run in the guest as root.
        engine: Done from outside instead, and how it is undone ``PAUSE_S`` later (None: it is for good).
        hurts_protection: From then on this guest's protection is not what the cell asks for: nothing that comes after
            proves anything.
        behind: Words of the call behind which it strikes; before that there is nothing to hit.
        within: It strikes at the latest so many calls behind that.
        updates: It means something only where the product is moved to another set.
        layer: What befalls the layer in which the cell's protection is up (``spoiled_layers``), before a guest is asked
            for; nothing falls into the guest then.
    """

    name: str
    product: str | None = None
    script: str = ""
    engine: Engine | None = None
    hurts_protection: bool = False
    behind: str = ARMED
    within: int = 45
    updates: bool = False
    layer: str | None = None


def blows(chosen: ProductChoice) -> tuple[Blow, ...]:
    """Give all blows that make sense for a product with its sets."""
    own = {"clamav": _clamav, "fapolicyd": _fapolicyd}
    return (*_ANYWHERE, *own[chosen.name](chosen))


_ANYWHERE = (
    Blow(name="kill wineserver", script="pkill -KILL -x wineserver || pkill -KILL wineserver"),
    Blow(name="kill the program", behind=LAUNCHED, within=12, script='pkill -KILL -f "[D]emoHTS.exe"'),
    Blow(name="freeze the program", behind=LAUNCHED, within=12, engine=_stop("DemoHTS.exe", back=False)),
    Blow(name="freeze the program, and back", behind=LAUNCHED, within=12, engine=_stop("DemoHTS.exe", back=True)),
    Blow(name="kill the trading server", script='pkill -KILL -f "[t]rading_server.py"'),
    Blow(name="kill the desktop session", script='pkill -KILL -f "[/]opt/hts-compat/session"'),
    Blow(name="kill the guest", engine=(lambda c: c.kill(), None)),
    Blow(name="freeze the guest, and back", engine=(lambda c: c.pause(), lambda c: c.unpause())),
    Blow(
        name="fill the guest's disk",
        script=f"mount -t tmpfs -o size=64k,mode=0777 full {TEMP}/Temp;"
        f" head -c 100000 /dev/zero > {TEMP}/Temp/full; true",
    ),
    Blow(
        name="fill the downloads' disk",
        script=f"mount -t tmpfs -o size=64k,mode=0777 full {TEMP}/Downloads;"
        f" head -c 100000 /dev/zero > {TEMP}/Downloads/full; true",
    ),
    Blow(name="drop the network", engine=(lambda c: _link(c, "down"), None)),
    Blow(name="drop the network, and back", engine=(lambda c: _link(c, "down"), lambda c: _link(c, "up"))),
)


def _clamav(chosen: ProductChoice) -> tuple[Blow, ...]:
    other = next(s for s in (chosen.known or chosen.schedule) if s.label != chosen.schedule[0].label)
    swapped = database_of(other).decode()
    return (
        Blow(name="kill clamd", script="pkill -KILL -x clamd", hurts_protection=True),
        Blow(name="kill clamonacc", script="pkill -KILL -x clamonacc", hurts_protection=True),
        Blow(name="pause clamd, and back", engine=_stop("clamd -c", back=True)),
        Blow(name="pause clamonacc, and back", engine=_stop("clamonacc -c", back=True)),
        Blow(
            name="swap signatures",
            script=f"cat > {DATABASE} <<'END'\n{swapped}END\nclamdscan -c {CONF} --reload",
            hurts_protection=True,
        ),
        Blow(
            name="a reload that silently fails",
            script="mv /usr/bin/clamdscan /usr/bin/clamdscan.real; cat > /usr/bin/clamdscan <<'END'\n#!/bin/sh\n"
            'case "$*" in *--reload*) exit 0;; esac\nexec /usr/bin/clamdscan.real "$@"\nEND\n'
            "chmod 0755 /usr/bin/clamdscan",
            hurts_protection=True,
            within=12,
            updates=True,
        ),
        Blow(
            name="an exclusion behind our back",
            script=f"echo 'OnAccessExcludePath /home/trader/.wine/drive_c/Program Files' >> {CONF};"
            f" pkill -KILL -x clamonacc; sleep 0.3; {_ONACC}",
            hurts_protection=True,
        ),
    )


def _fapolicyd(chosen: ProductChoice) -> tuple[Blow, ...]:
    other = next(s for s in (chosen.known or chosen.schedule) if s.label != chosen.schedule[0].label)
    rules, _ = rules_of(other)
    start = f"setsid fapolicyd --debug-deny < /dev/null >> {LOG} 2>&1 &"
    return (
        Blow(name="kill fapolicyd", script="pkill -KILL -x fapolicyd", hurts_protection=True),
        Blow(name="pause fapolicyd, and back", engine=_stop("fapolicyd --debug", back=True)),
        Blow(
            name="swap the rules",
            script=f"cat > {RULES} <<'END'\n{rules.decode()}END\npkill -KILL -x fapolicyd; sleep 0.3;"
            f" rm -f /run/fapolicyd/*; {start}",
            hurts_protection=True,
        ),
    )


class Arm:
    """Deals one blow to one container, and undoes it after a while; ``rest`` waits until that is over."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client
        self._undoing: list[threading.Thread] = []

    def strike(self, address: str, blow: Blow, way_in: Transport | None = None) -> tuple[bool, str]:
        """Deal a blow; tell whether it fell on something, and what was said of it. The way in is not used."""
        del way_in
        container = self._client.containers.get(address)
        if blow.engine is not None:
            hit, undo = blow.engine
            try:
                hit(container)
            except (DockerException, OSError, subprocess.CalledProcessError) as error:
                return False, f"the engine could not ({error})"
            if undo is not None:
                self._later(lambda: undo(container))
            return True, "done from outside"
        done = container.exec_run(["/bin/sh", "-c", blow.script], user="root")
        said = done.output if isinstance(done.output, bytes) else b""
        return done.exit_code == 0, "done" if done.exit_code == 0 else f"exit code {done.exit_code} {said[:200]!r}"

    def rest(self) -> None:
        """Wait until everything is undone."""
        for thread in self._undoing:
            thread.join()

    def _later(self, undo: Callable[[], object]) -> None:
        def wait() -> None:
            threading.Event().wait(PAUSE_S)
            with contextlib.suppress(
                DockerException, OSError, subprocess.CalledProcessError
            ):  # the guest may be gone by now
                undo()

        thread = threading.Thread(target=wait, name="undo", daemon=True)
        thread.start()
        self._undoing.append(thread)
