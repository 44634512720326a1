"""Driver. A template that is derived from another one: a guest of it is changed, and frozen again.

The guest is restored as any clone is, but on a copy of the memory that it may write, and with its overlay kept. What it
takes from its parent is a hard link, so the parent may be deleted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.frozen import digest_of as digest_of_value
from harness.image import Image
from harness.protection import Layer, Protection
from harness.providers.api import Arm, Endpoint, FrozenLayer
from harness.providers.build_command import Report
from harness.providers.qemu import clone, layer, template
from harness.providers.qemu.build import FREEZE_S, write_state
from harness.providers.qemu.provider import restore, wake
from harness.providers.qemu.template import (
    BASE,
    DISK,
    INITRD,
    KERNEL,
    MEMORY,
    NONCE_FILE,
    STATE,
    UNDER,
    Protected,
    Template,
)
from harness.providers.qemu.ways import UNIX_SOCKET
from harness.transports.unix_socket import UnixSocketTransport

#: How long setting a product up may take, the restored guest's first answer included.
ARM_S = 180.0


def folder_of(image: str, parent: str, up: Protection) -> Path:
    """Give the folder of a protection's template, whether it is there or not."""
    digest = _recipe(parent, up)
    return layer.layers_folder() / f"{image}-{up.product}-{up.profile}-{up.signature.label}-{digest[:16]}"


def find(parent: Template, up: Protection) -> Template | None:
    """Find the template in which a protection is up; None when nobody has frozen it.

    Raises:
        LabError: There is one that cannot be read.
    """
    found = template.load(folder_of(parent.about.name, parent.about.content, up))
    if found is None or found.about.protected is None:
        return None
    of = found.about.protected
    return found if (of.parent, of.protection) == (parent.about.content, up) else None


def layer_of(image: Image, found: Template) -> Layer:
    """Give a protection's template as cells take it: another image of the same name."""
    of = found.about.protected
    if of is None:
        msg = f"The template '{found.folder.name}' has no protection."
        raise LabError(msg)
    leased = image.model_copy(update={"content": found.about.content, "reference": str(found.folder)})
    return Layer(image=leased, protection=of.protection, planted=of.planted)


def freeze(
    parent: Template, image: Image, up: Protection, *, arm: Arm, prove: Callable[[Layer], None], report: Report
) -> FrozenLayer:
    """Derive a template in which a protection is up; see ``Freezes.freeze``."""
    began = time.monotonic()
    found = find(parent, up)
    made = found is None
    if found is None:
        folder = folder_of(parent.about.name, parent.about.content, up)
        with layer.locked(folder, report=report):
            found = find(parent, up)  # who was waited for has made it
            made = found is None
            if found is None:
                found = _make(parent, folder, image, up, arm=arm, prove=prove, report=report)
    return FrozenLayer(layer=layer_of(image, found), made=made, duration_s=time.monotonic() - began)


def _make(
    parent: Template,
    folder: Path,
    image: Image,
    up: Protection,
    *,
    arm: Arm,
    prove: Callable[[Layer], None],
    report: Report,
) -> Template:
    template.require_same_machine(parent)
    with template.held(parent), layer.begun(folder) as begun:
        for name, source in ((KERNEL, KERNEL), (INITRD, INITRD), (BASE, BASE), (UNDER, DISK)):
            (begun / name).hardlink_to(parent.file(source))
        report("layer: a copy of the memory")
        copy_memory(parent, begun / MEMORY)
        clone.make_overlay(Path(UNDER), begun / DISK)
        nonce = secrets.token_hex(16)
        planted = _run(parent, begun, nonce, arm, report)
        layer.dig_holes(begun / MEMORY)
        sums = {name: template.digest_of(begun / name) for name in (DISK, MEMORY, STATE)}
        for name in sums:
            (begun / name).chmod(0o444)
        kept = parent.about.files
        about = parent.about.model_copy(
            update={
                "recipe": _recipe(parent.about.content, up),
                "nonce": nonce,
                "files": {**sums, KERNEL: kept[KERNEL], INITRD: kept[INITRD], BASE: kept[BASE], UNDER: kept[DISK]},
                "protected": Protected(parent=parent.about.content, protection=up, planted=planted),
            }
        )
        template.write_about(begun, about)
        prove(layer_of(image, Template(folder=begun, about=about)))
    return Template(folder=folder, about=about)


def _run(parent: Template, folder: Path, nonce: str, arm: Arm, report: Report) -> tuple[dict[str, str], ...]:
    """Restore a guest of the parent that may change its memory's file, have it changed, and write its state down."""
    limit = Deadline.after(ARM_S)
    with clone.spot("freeze") as spot:
        places = spot.places(memory=str(folder / MEMORY), shared=True, disk=folder / DISK)
        machine = clone.RunningMachine(parent.hardware, places, incoming=True, deadline=limit)
        try:
            with machine.watched():
                restore(machine, parent.file(STATE), limit)
                socket = str(places.agent_socket)
                wake(machine, socket, parent.about.nonce, limit)
                began = time.monotonic()
                planted = arm(Endpoint(transport=UNIX_SOCKET, address=socket), limit)
                report(f"layer: set up in {time.monotonic() - began:.1f} s")
                with _left(socket, nonce, limit):
                    write_state(machine, folder / STATE, Deadline.after(FREEZE_S))
        finally:
            machine.end()
    return planted


@contextmanager
def _left(socket: str, nonce: str, limit: Deadline) -> Iterator[None]:
    """Leave the layer's own nonce in memory, and the disk written; stay connected, as ``build`` does."""
    way_in = UnixSocketTransport(socket)
    try:
        way_in.push(nonce.encode(), NONCE_FILE, deadline=limit)
        way_in.run(["/bin/sync"], deadline=limit)
        yield
    finally:
        way_in.close()


def copy_memory(parent: Template, target: Path) -> None:
    """Copy a template's memory to a file with room for all of it: a machine that finds none would be killed.

    Raises:
        LabError: It is not the memory that was frozen.
        OSError: There is no room.
    """
    layer.make_room(target, parent.file(MEMORY).stat().st_size)
    with parent.file(MEMORY).open("rb") as source, target.open("r+b") as copy:
        digest = template.copy_and_hash(source, copy.fileno())
    if digest != parent.about.files.get(MEMORY):
        raise template.unusable(parent, MEMORY, f"its sha256 is {digest}")


def _recipe(parent: str, up: Protection) -> str:
    return digest_of_value({"parent": parent, "protection": up.model_dump(mode="json")})
