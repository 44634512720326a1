"""Driver. Makes a template, without root and without a container engine: a disk, the guest scripts, a boot, a freeze.

1. The disk is a layer of its own (``disk``): packages and the first boot, which cost minutes, are made once.
2. The guest scripts and the guest tools come with the RAM disk (``overlay``): a changed script costs a boot.
3. The boot is frozen when the desktop stands and a first Windows program has run in it.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.providers.build_command import ImageBuildFailed, Report, work_folder
from harness.providers.docker_build import compile_tools
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import clone, disk, layer, recipe, template
from harness.providers.qemu.fitness import accelerator
from harness.providers.qemu.machine import Hardware, fingerprint
from harness.providers.qemu.overlay import TAR_NAME, archive_of, tar_of
from harness.providers.qemu.template import BASE, DISK, INITRD, KERNEL, MEMORY, STATE, About, Template
from harness.providers.qemu.tools import qemu_version
from harness.transports.unix_socket import UnixSocketTransport

BOOT_S = 900.0
FREEZE_S = 300.0

#: In the guest: what the session writes when the desktop stands, and a first Windows program that only lists windows.
_READY_FILE = "/run/hts-compat/session.json"
_FIRST_PROGRAM = ("/usr/lib/wine/wine64", "/opt/hts-compat/winview.exe", "list")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltTemplate:
    """A template that is there to be used; ``made`` is False when it had been there already."""

    template: Template
    made: bool
    duration_s: float


def build(files: ImageFiles, *, memory_mib: int, cpus: int, report: Report) -> BuiltTemplate:
    """Give the template of a definition, making it only when there is none of this recipe.

    Raises:
        InputError: The folder is no image definition.
        BuildToolMissing: A program is missing.
        ImageBuildFailed: A step failed; its last output is in ``detail``.
    """
    began = time.monotonic()
    digest = recipe.template_recipe(files, qemu_version=qemu_version())
    found = template.find(files.name, digest)
    made = found is None
    if found is None:
        folder = template.folder_of(files.name, digest)
        with layer.locked(folder, report=report):
            found = template.find(files.name, digest)  # who was waited for has made it
            made = found is None
            if found is None:
                found = _make(files, digest, folder, memory_mib=memory_mib, cpus=cpus, report=report)
    return BuiltTemplate(template=found, made=made, duration_s=time.monotonic() - began)


def _make(files: ImageFiles, digest: str, folder: Path, *, memory_mib: int, cpus: int, report: Report) -> Template:
    """Make the disk where it is not there, then freeze a boot of it."""
    under = disk.make(files, report=report)
    with layer.begun(folder) as begun:
        for name in (KERNEL, BASE):
            (begun / name).hardlink_to(under.folder / name)
        scripts = archive_of(TAR_NAME, tar_of(_scripts(files, report)))
        if recipe.template_recipe(files, qemu_version=qemu_version()) != digest:
            raise disk.changed_meanwhile(files)
        (begun / INITRD).write_bytes(scripts + (under.folder / INITRD).read_bytes())
        fastest = accelerator(begun / KERNEL)
        report(f"template: accelerator {fastest.name} ({fastest.why})")
        hardware = Hardware(
            accelerator=fastest.name, memory_mib=memory_mib, cpus=cpus, kernel=begun / KERNEL, initrd=begun / INITRD
        )
        nonce = secrets.token_hex(16)
        _freeze(hardware, begun, nonce, report)
        layer.dig_holes(begun / MEMORY)
        sums = {name: template.digest_of(begun / name) for name in (INITRD, DISK, MEMORY, STATE)}
        for name in sums:
            (begun / name).chmod(0o444)
        about = About(
            name=files.name,
            recipe=digest,
            disk=under.about.recipe,
            fingerprint=fingerprint(hardware, qemu_version=qemu_version()),
            qemu_version=qemu_version(),
            accelerator=fastest.name,
            memory_mib=memory_mib,
            cpus=cpus,
            nonce=nonce,
            packages=under.about.packages,
            files={**sums, KERNEL: under.about.files[KERNEL], BASE: under.about.files[BASE]},
        )
        template.write_about(begun, about)
    return Template(folder=folder, about=about)


def _scripts(files: ImageFiles, report: Report) -> Mapping[str, tuple[bytes, bool]]:
    """Give the guest scripts and the compiled guest tools: content, and whether it may be executed, by name."""
    found = {name: (path.read_bytes(), os.access(path, os.X_OK)) for name, path in recipe.guest_files(files).items()}
    with work_folder() as work:
        compile_tools(files.guest_tools, work, report=report)
        return found | {path.name: (path.read_bytes(), True) for path in work.iterdir()}


def _freeze(hardware: Hardware, folder: Path, nonce: str, report: Report) -> None:
    """Boot, wait for the desktop, and write memory and state down."""
    report("boot: desktop")
    began = time.monotonic()
    clone.make_overlay(Path(BASE), folder / DISK)
    layer.make_room(folder / MEMORY, hardware.memory_mib << 20)
    limit = Deadline.after(BOOT_S)
    with clone.spot("build") as spot:
        places = spot.places(memory=str(folder / MEMORY), shared=True, disk=folder / DISK)
        machine = clone.RunningMachine(hardware, places, incoming=False, deadline=limit.sooner(60.0))
        try:
            with machine.watched(), _desktop_up(places.agent_socket, nonce, limit):
                report(f"freeze: desktop up after {time.monotonic() - began:.1f} s")
                write_state(machine, folder / STATE, Deadline.after(FREEZE_S))
        except GuestUnreachable as error:
            lost = machine.lost()
            why = "" if lost is None else f"{lost.summary}\n"
            said = disk.tail(places.serial_log)
            raise ImageBuildFailed(error.summary, detail=f"{why}{error.detail}\n{said}") from error
        finally:
            machine.end()


@contextmanager
def _desktop_up(socket: Path, nonce: str, limit: Deadline) -> Iterator[None]:
    """Wait for the session, run a Windows program so that the next starts warm, and leave the nonce in memory.

    The connection lasts as long as the context: an agent that was frozen while it waited for a request has least to do
    until it answers a clone's first.
    """
    way_in = UnixSocketTransport(str(socket))
    try:
        for _ in limit.poll(0.2):
            result = way_in.run(["/bin/cat", _READY_FILE], deadline=limit)
            if result.ok and json.loads(result.stdout):
                break
        else:
            msg = "The guest's desktop did not come up."
            raise GuestUnreachable(msg)
        way_in.run(_FIRST_PROGRAM, user="trader", deadline=limit)
        way_in.push(nonce.encode(), template.NONCE_FILE, deadline=limit)
        way_in.run(["/bin/sync"], deadline=limit)
        yield
    finally:
        way_in.close()


def write_state(machine: clone.RunningMachine, path: Path, limit: Deadline) -> None:
    """Stop the machine and write the state of everything but its memory, which lies in its file already."""
    monitor = machine.monitor
    monitor.command("stop", deadline=limit)
    ignore_memory = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}
    monitor.command("migrate-set-capabilities", ignore_memory, deadline=limit)
    state = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        monitor.hand_over(state, "state", deadline=limit)
    finally:
        os.close(state)
    monitor.command("migrate", {"uri": "fd:state"}, deadline=limit)
    monitor.await_migration(deadline=limit)
    monitor.command("quit", deadline=limit)
    machine.wait(deadline=limit)
