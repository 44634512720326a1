"""Driver. What virtual machines find on this machine: programs, accelerator, memory.

Which accelerator runs a guest is found out by starting one, and remembered with the reason until something of it
changes: QEMU, the kernel, this user's access to ``/dev/kvm``, or the boot of the host.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from harness.errors import LabError
from harness.frozen import Frozen
from harness.providers.api import Fitness
from harness.providers.qemu.layer import layers_folder
from harness.providers.qemu.template import Template, again, load
from harness.providers.qemu.tools import BUILD_TOOLS, TOOLS, accelerator_for, qemu_version

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

#: The file that remembers, among the templates.
NOTE = "accelerator.json"

#: Programs of the administrator that an ordinary user's PATH does not have, yet may run.
SBIN = "/usr/sbin:/sbin"


class Accelerator(Frozen):
    """Which accelerator runs guests here, and how that is known. ``under`` is all that it depends on."""

    name: str
    why: str
    under: tuple[str, ...]


def check(*, private_mib: int, reserve_mib: int, available_mib: int) -> tuple[Fitness, ...]:
    """Say what is there for virtual machines.

    Args:
        private_mib: What a clone keeps for itself at most.
        reserve_mib: What is left to the host.
        available_mib: What the host has.
    """
    templates = templates_here()
    tools = tuple(_tool(program, package, what, needed=True) for program, package, what in TOOLS)
    building = tuple(_tool(program, package, what, needed=False) for program, package, what in BUILD_TOOLS)
    room = max(available_mib - reserve_mib, 0) // private_mib
    memory = Fitness(
        name="memory for guests",
        ok=room > 0,
        detail=f"{available_mib} MiB free: {room} guests at once, at up to {private_mib} MiB each",
        fix="" if room else f"Free {private_mib + reserve_mib} MiB.",
    )
    if not all(tool.ok for tool in tools):
        return (*tools, *building, memory)
    return (*tools, *building, *_accelerators(templates), memory)


def templates_here() -> tuple[Template, ...]:
    """Give every template of this user that can be read, the newest first."""
    found = []
    for folder in layers_folder().glob("[!.]*"):
        try:
            template = load(folder)
        except LabError:
            continue
        found += [template] if template is not None else []
    return tuple(sorted(found, key=lambda template: template.folder.stat().st_mtime, reverse=True))


def _tool(program: str, package: str, what: str, *, needed: bool) -> Fitness:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    detail = f"{what} ({path})" if path else what if needed else f"{what}; only building a template needs it"
    return Fitness(
        name=program,
        ok=path is not None,
        detail=detail,
        fix="" if path else f"apt-get install {package}",
        needed=needed,
    )


def _accelerators(templates: tuple[Template, ...]) -> tuple[Fitness, ...]:
    """Say which accelerator runs guests, by the newest template's kernel, and which templates that is wrong for."""
    if not templates:
        detail = "not tried: the kernel of a template is needed for that, and there is none yet"
        return (Fitness(name="accelerator", ok=True, detail=detail, needed=False),)
    kernel = templates[0].hardware.kernel
    try:
        found = accelerator(kernel)
    except LabError as error:
        return (Fitness(name="accelerator", ok=False, detail=error.summary, fix=again(templates[0])),)
    frozen = sorted({template.about.accelerator for template in templates})
    lost = "kvm" in frozen and found.name != "kvm"
    detail = f"{found.name} ({found.why}); templates were frozen under {', '.join(frozen)}"
    fix = f"Delete '{layers_folder()}' and build the images again." if lost else ""
    return (Fitness(name="accelerator", ok=not lost, detail=detail, fix=fix, needed=frozen == ["kvm"]),)


def accelerator(
    kernel: Path,
    *,
    try_it: Callable[[Path], tuple[str, str]] = accelerator_for,
    version: Callable[[], str] = qemu_version,
) -> Accelerator:
    """Give which accelerator runs a kernel: as remembered, or by starting a guest, which may take ten seconds.

    Args:
        kernel: What is started.
        try_it: Starts it; gives the accelerator's name and why.
        version: Gives QEMU's.

    Raises:
        LabError: The kernel is not there.
    """
    try:
        under = _depends_on(kernel, version())
    except OSError as error:
        raise LabError(f"The kernel '{kernel}' is not there.", detail=str(error)) from error
    note = layers_folder() / NOTE
    try:
        known = Accelerator.model_validate_json(note.read_bytes())
    except (OSError, ValidationError):
        known = None
    if known is not None and known.under == under:
        return known
    name, why = try_it(kernel)
    found = Accelerator(name=name, why=why, under=under)
    partial = note.with_name(f".{note.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(found.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
        partial.rename(note)
    except OSError:
        partial.unlink(missing_ok=True)  # a cache that cannot be written costs another try, and no answer
    return found


def _depends_on(kernel: Path, version: str) -> tuple[str, ...]:
    there = kernel.stat()
    access = "kvm opens" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "kvm does not open"
    boot = BOOT_ID.read_text(encoding="ascii").strip() if BOOT_ID.exists() else ""
    return (version, f"kernel {there.st_size} {there.st_mtime_ns}", access, f"uid {os.getuid()}", boot)
