"""Driver. Guests that are clones of a frozen virtual machine: no network at all, pristine, gone with their lease.

A lease is an overlay disk, a process, the restored state and the agent's first answer, which shows the template's
nonce: it lies in the template's memory alone, so whoever shows it is a clone of it. Most of that has been done before
where a spare stands ready (``pool``).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import HarnessError, LabError
from harness.frame import Frame
from harness.image import Image
from harness.providers.api import Endpoint, Fitness, Loss, OpenDesktop, Rebooted
from harness.providers.qemu import clone, disc, shelf
from harness.providers.qemu.fitness import check
from harness.providers.qemu.pool import MAX_SPARES, PRIVATE_MIB, RESERVE_MIB, Pool
from harness.providers.qemu.reboot import reboot
from harness.providers.qemu.template import (
    DISK,
    NONCE_FILE,
    STATE,
    Held,
    TemplateDamaged,
    load,
    require_same_machine,
)
from harness.providers.qemu.ways import endpoint_of
from harness.transports.payload import Payload
from harness.transports.unix_socket import UnixSocketTransport

log = logging.getLogger(__name__)

#: How long a spare may take, beside guests that run.
SPARE_S = 60.0

#: Builds of this size and more go in by disc, which is sooner for them; a smaller one costs less by the agent
#: than a script in the guest does (benchmarks/bench_delivery.py).
DISC_FROM_BYTES = 4 << 20

#: A picture takes milliseconds; one that takes longer is not waited for.
SCREEN_S = 5.0

#: What a spare has run before it stands still, so that the next program finds its way warm.
_WARM_UP = ("/bin/sh", "-c", "exec /bin/true")


@dataclass(frozen=True, slots=True)
class _QemuLease:
    machine: clone.RunningMachine
    agent_socket: str
    endpoint: Endpoint

    def lost(self) -> Loss | None:
        return self.machine.lost()

    def screen(self, *, deadline: Deadline) -> Frame | None:
        return self.machine.screen(deadline=deadline.sooner(SCREEN_S))

    def reboot(self, *, deadline: Deadline) -> Rebooted:
        return reboot(self.machine, self.agent_socket, deadline=deadline)

    def press(self, chord: str, *, deadline: Deadline) -> None:
        self.machine.press(chord, deadline=deadline)

    def click_at(self, x: int, y: int, *, deadline: Deadline) -> None:
        self.machine.click_at(x, y, deadline=deadline)

    def worth_a_disc(self, size_bytes: int) -> bool:
        return size_bytes >= DISC_FROM_BYTES

    @contextmanager
    def disc(self, content: Payload, *, sha256: str, deadline: Deadline) -> Iterator[None]:
        with disc.lent(content, sha256=sha256, deadline=deadline) as image, self.machine.disc(image, deadline=deadline):
            yield

    def open_desktop(self, *, deadline: Deadline) -> OpenDesktop:
        return self.machine.open_desktop(deadline=deadline)


class _Clone:
    """A clone of a template, restored, which stands still; see ``pool.Machine``."""

    def __init__(self, held: Held, run_id: str, *, spare: bool, deadline: Deadline) -> None:
        with ExitStack() as stack:
            self._spot = stack.enter_context(clone.spot(run_id, spare=spare))
            places = self._spot.places(memory=held.memory_path, shared=False)
            clone.fork_disk(held.template.file(DISK), places.disk)
            self.machine = clone.RunningMachine(held.template.hardware, places, incoming=True, deadline=deadline)
            stack.callback(self.machine.end)
            restore(self.machine, held.template.file(STATE), deadline)
            self._nonce, self._socket = held.template.about.nonce, str(places.agent_socket)
            self._all = stack.pop_all()

    def go_on(self, deadline: Deadline) -> None:
        """Let it go on and hear its first answer."""
        wake(self.machine, self._socket, self._nonce, deadline)

    def warm_up(self, deadline: Deadline) -> None:
        """Start a first program in it: under TCG no code is translated before it runs."""
        way_in = UnixSocketTransport(self._socket)
        try:
            way_in.run(_WARM_UP, deadline=deadline)
        finally:
            way_in.close()

    def stand_still(self, deadline: Deadline) -> None:
        """Stop it where it is."""
        self.machine.monitor.command("stop", deadline=deadline)

    def leased(self, run_id: str, transport: str, deadline: Deadline) -> _QemuLease:
        """Make it the guest of a run, entered by the way that its image names."""
        self._spot.mark(run_id)
        endpoint = endpoint_of(transport, Path(self._socket), deadline=deadline)
        return _QemuLease(self.machine, self._socket, endpoint)

    def lives(self) -> bool:
        """See ``pool.Machine``."""
        return self.machine.lives()

    def private_mib(self) -> int:
        """See ``pool.Machine``."""
        return self.machine.private_mib()

    def end(self) -> None:
        """See ``pool.Machine``."""
        self._all.close()


class QemuProvider:
    """Leases clones of templates that were made on this machine.

    Args:
        spares: Keep clones ready that have answered and stand still (``pool``).
    """

    name = "qemu"

    def __init__(self, *, spares: bool = True) -> None:
        self._held: dict[str, Held] = {}
        self._loading = threading.Lock()
        self._pool: Pool[_Clone] = Pool(available_mib, max_spares=MAX_SPARES if spares else 0)

    @property
    def pool(self) -> Pool[_Clone]:
        """Give the spares; for who measures them."""
        return self._pool

    def check(self) -> tuple[Fitness, ...]:
        """Say which programs, which accelerator, how much memory and what damage there is; see ``Provider.check``."""
        found = check(private_mib=PRIVATE_MIB, reserve_mib=RESERVE_MIB, available_mib=available_mib())
        return (*found, *shelf.damaged())

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[_QemuLease]:
        """Take a spare, or fork one guest; see ``Provider.lease``. A process has no ``name`` for people."""
        del name
        held = self._hold(image)
        spare = partial(_spare, held, run_id)
        with self._pool.room(image.content, make=spare, deadline=deadline) as room, ExitStack() as stack:
            if room.machine is None or not _goes_on(room.machine, deadline):
                room.machine = _Clone(held, run_id, spare=False, deadline=deadline)
                stack.callback(room.machine.end)
                room.machine.go_on(deadline)
            else:
                stack.callback(room.machine.end)
            with room.machine.machine.watched():
                yield room.machine.leased(run_id, image.transport, deadline)

    def require_whole(self, image: Image) -> None:
        """See that guests can be made of an image's template, also when that has been loaded before; load it.

        Raises:
            TemplateDamaged: A file of it is missing, cut or changed; its spares are gone then, too.
            LabError: The host has no room for it, or it is another one than the plan was made for.
        """
        try:
            held = self._hold(image)
            with self._loading:
                held.require_whole()
        except TemplateDamaged:
            self._pool.empty(image.content)
            with self._loading:
                known = self._held.pop(image.content, None)
            if known is not None:
                known.close()
            raise

    def close(self) -> None:
        """End the spares, and let go of the templates' memory; see ``KeepsGuestsReady``."""
        self._pool.close()
        with self._loading:
            for held in self._held.values():
                held.close()
            self._held.clear()

    def sweep(self, run_id: str | None) -> int:
        """End and delete what a killed run left; see ``Provider.sweep``."""
        return clone.sweep(run_id)

    def _hold(self, image: Image) -> Held:
        """Load a template, once; a cell that comes meanwhile waits."""
        template = load(Path(image.reference)) if image.reference else None
        if template is None or template.about.content != image.content:
            self._pool.empty(image.content)
        if template is None:
            msg = f"There is no image '{image.name}' for virtual machines."
            raise LabError(msg, hint="'hts-compat image list' says which there are, and how to build one.")
        if template.about.content != image.content:
            msg = f"The template of '{image.name}' is another one than the plan was made for."
            raise LabError(msg, hint="Start a new run.")
        with self._loading:
            known = self._held.get(image.content)
            if known is not None:
                known.template = template  # it may have been put in its place since: a layer is proven before that
                return known
            require_same_machine(template)
            self._held[image.content] = held = Held(template)
            return held


def _spare(held: Held, run_id: str) -> _Clone:
    """Make a clone that has answered and run a program, so that what comes first is done, and stands still."""
    deadline = Deadline.after(SPARE_S)
    made = _Clone(held, run_id, spare=True, deadline=deadline)
    try:
        made.go_on(deadline)
        made.warm_up(deadline)
        made.stand_still(deadline)
    except BaseException:
        made.end()
        raise
    return made


def _goes_on(spare: _Clone, deadline: Deadline) -> bool:
    """Let a spare go on; one that does not is ended, and nobody has seen it."""
    try:
        spare.go_on(deadline)
    except HarnessError as error:
        log.warning("a spare guest does not go on: %s", error)
        spare.end()
        return False
    except BaseException:
        spare.end()
        raise
    return True


def restore(machine: clone.RunningMachine, state: Path, deadline: Deadline) -> None:
    """Give a machine that waits the state of a template; it is paused then, and ready to go on.

    Raises:
        LabError: The state is none of this machine, or could not be restored before the deadline.
    """
    monitor = machine.monitor
    ignore_memory = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
    monitor.command("migrate-set-capabilities", ignore_memory, deadline=deadline)
    descriptor = os.open(state, os.O_RDONLY | os.O_CLOEXEC)
    try:
        monitor.hand_over(descriptor, "state", deadline=deadline)
    finally:
        os.close(descriptor)
    monitor.command("migrate-incoming", {"uri": "fd:state"}, deadline=deadline)
    monitor.await_migration(deadline=deadline)
    # Restored is not yet ready: 'cont' before that would race.
    for _ in deadline.poll(0.002):
        answer = monitor.command("query-status", deadline=deadline)
        if isinstance(answer, dict) and answer.get("status") in {"paused", "prelaunch"}:
            break


def go_on(machine: clone.RunningMachine, deadline: Deadline) -> None:
    """Let a paused machine go on."""
    machine.monitor.command("cont", deadline=deadline)


def wake(machine: clone.RunningMachine, socket: str, nonce: str, deadline: Deadline) -> None:
    """Let a paused clone go on, set its clock, which stood meanwhile, and see that it is the template's clone.

    It is greeted before it goes on, so that this is the first that it finds to do.

    Raises:
        LabError: It is none, or does not answer.
    """
    way_in = UnixSocketTransport(socket)
    try:
        result = way_in.greet(
            clock_s=time.time(), file=NONCE_FILE, deadline=deadline, sent=lambda: go_on(machine, deadline)
        )
    finally:
        way_in.close()
    if not result.ok or result.stdout.decode("ascii", "replace").strip() != nonce:
        msg = "The virtual machine that was started is no clone of its template."
        raise LabError(msg, detail=result.stderr[-500:].decode("utf-8", "replace"))


def available_mib() -> int:
    """Give the host's available memory. Source: proc(5), ``MemAvailable``."""
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - a file of the kernel
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:"))
