"""Driver. Guests that are clones of a frozen virtual machine: no network at all, pristine, gone with their lease.

A lease is an overlay disk, a process, the restored state and the first command's answer, which shows the template's
nonce: it lies in the template's memory alone, so whoever shows it is a clone of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.frame import Frame
from harness.image import Image
from harness.providers.api import Endpoint, Fitness, Loss, Rebooted
from harness.providers.qemu import clone
from harness.providers.qemu.fitness import check
from harness.providers.qemu.machine import fingerprint
from harness.providers.qemu.reboot import reboot
from harness.providers.qemu.template import DISK, NONCE_FILE, STATE, Held, again, load
from harness.providers.qemu.tools import qemu_version
from harness.transports.unix_socket import UnixSocketTransport

TRANSPORT = "unix_socket"

#: What a clone keeps for itself at most, seen after whole cells, beside its share of the template.
PRIVATE_MIB = 400
#: What is left to the host.
RESERVE_MIB = 512

#: A picture takes milliseconds; one that takes longer is not waited for.
SCREEN_S = 5.0

_FIRST_COMMAND = 'date -s "@$1" > /dev/null && cat "$2"'


@dataclass(frozen=True, slots=True)
class _QemuLease:
    machine: clone.RunningMachine
    endpoint: Endpoint

    def lost(self) -> Loss | None:
        return self.machine.lost()

    def screen(self, *, deadline: Deadline) -> Frame | None:
        return self.machine.screen(deadline=deadline.sooner(SCREEN_S))

    def reboot(self, *, deadline: Deadline) -> Rebooted:
        return reboot(self.machine, self.endpoint.address, deadline=deadline)


class QemuProvider:
    """Leases clones of templates that were made on this machine."""

    name = "qemu"

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._loading = threading.Lock()

    def check(self) -> tuple[Fitness, ...]:
        """Say which programs, which accelerator and how much memory there is; see ``Provider.check``."""
        return check(private_mib=PRIVATE_MIB, reserve_mib=RESERVE_MIB, available_mib=_available_mib())

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[_QemuLease]:
        """Fork one guest; see ``Provider.lease``. ``name`` is for engines that show one; a process has none."""
        del name
        held = self._hold(image, deadline)
        about = held.template.about
        with clone.spot(run_id) as spot:
            places = spot.places(memory=held.memory_path, shared=False)
            clone.make_overlay(held.template.file(DISK), places.disk)
            machine = clone.RunningMachine(held.template.hardware, places, incoming=True, deadline=deadline)
            try:
                restore(machine, held.template.file(STATE), deadline)
                go_on(machine, deadline)
                first_command(str(places.agent_socket), about.nonce, deadline)
                with machine.watched():
                    yield _QemuLease(machine, Endpoint(transport=TRANSPORT, address=str(places.agent_socket)))
            finally:
                machine.end()

    def sweep(self, run_id: str | None) -> int:
        """End and delete what a killed run left; see ``Provider.sweep``."""
        return clone.sweep(run_id)

    def _hold(self, image: Image, deadline: Deadline) -> Held:
        """Load a template, once; a cell that comes meanwhile waits."""
        template = load(Path(image.reference)) if image.reference else None
        if template is None:
            msg = f"There is no image '{image.name}' for virtual machines."
            raise LabError(msg, hint="'hts-compat image list' says which there are, and how to build one.")
        if template.about.content != image.content:
            msg = f"The template of '{image.name}' is another one than the plan was made for."
            raise LabError(msg, hint="Start a new run.")
        with self._loading:
            known = self._held.get(image.content)
            if known is not None:
                _await_memory(deadline)
                return known
            version = qemu_version()
            if fingerprint(template.hardware, qemu_version=version) != template.about.fingerprint:
                msg = f"The template of '{image.name}' was frozen by another QEMU, or as another machine."
                detail = f"frozen by {template.about.qemu_version}, here {version}"
                raise LabError(msg, detail=detail, hint=again(template))
            self._held[image.content] = held = Held(template)
            return held


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


def first_command(socket: str, nonce: str, deadline: Deadline) -> None:
    """Set the clock, which stood since the template was frozen, and see that the guest is the template's clone."""
    way_in = UnixSocketTransport(socket)
    try:
        now = f"{time.time():.3f}"
        result = way_in.run(["/bin/sh", "-c", _FIRST_COMMAND, "first", now, NONCE_FILE], deadline=deadline)
    finally:
        way_in.close()
    if not result.ok or result.stdout.decode("ascii", "replace").strip() != nonce:
        msg = "The virtual machine that was started is no clone of its template."
        raise LabError(msg, detail=result.stderr[-500:].decode("utf-8", "replace"))


def _await_memory(deadline: Deadline) -> None:
    """Wait until the host has room for what one more clone will keep for itself.

    Raises:
        LabError: It had not before the deadline.
    """
    free = 0
    for _ in deadline.poll(0.5):
        free = _available_mib()
        if free >= PRIVATE_MIB + RESERVE_MIB:
            return
    msg = "The host has no memory left for one more virtual machine."
    raise LabError(
        msg, detail=f"{free} MiB are available, {PRIVATE_MIB + RESERVE_MIB} are needed", hint="Run with fewer '--jobs'."
    )


def _available_mib() -> int:
    """Give the host's available memory. Source: proc(5), ``MemAvailable``."""
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - a file of the kernel
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:"))
