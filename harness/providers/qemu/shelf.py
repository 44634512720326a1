"""Driver. All layers of virtual machines on this machine: which there are, whether each is whole, what may go.

Nothing that a process uses or makes is touched: it holds a lock (``layer.unused``, ``layer.locked``).
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import InputError, LabError
from harness.providers.api import Fitness, KeptLayer, LayerKind
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import disc, disk, layer, recipe, template
from harness.providers.qemu.machine import fingerprint
from harness.providers.qemu.template import Template, TemplateDamaged
from harness.providers.qemu.tools import qemu_version

log = logging.getLogger(__name__)

_DAMAGED = ".damaged"

#: In a layer that was put aside: why.
_WHY = "why.txt"


def kept(definitions: Sequence[tuple[Path, Path | None]], *, code_of: Callable[[str], str]) -> tuple[KeptLayer, ...]:
    """Give every layer; see ``KeepsLayers.kept``."""
    folders = _folders()
    made_by = _recipes(definitions)
    contents = {
        found.about.content
        for found in (_template(folder) for folder in folders)
        if found is not None and found.about.protected is None and found.about.recipe in made_by
    }
    return tuple(_kept(folder, made_by, contents, code_of) for folder in folders)


def check(name: str) -> tuple[Fitness, ...]:
    """Compare one layer with what was made; see ``KeepsLayers.check``."""
    folder = _folder(name)
    again = f"hts-compat image prune --layer {name} --yes, then make it again"
    found = _template(folder)
    below = disk.load(folder) or disc.load(folder) if found is None else None
    if found is None and below is None:
        return (Fitness(name=name, ok=False, detail="it was never finished, or is of another version", fix=again),)
    sums = found.about.files if found is not None else below.about.files if below is not None else {}
    checked = [_checked(folder / file, sums[file], again) for file in sorted(sums)]
    if found is not None:
        checked.append(_same_machine(found, again))
    return tuple(checked)


def remove(name: str) -> bool:
    """Delete one layer; see ``KeepsLayers.remove``."""
    folder = _folder(name)
    return layer.delete(folder, *_held_by(folder))


def put_aside(folder: Path, damage: TemplateDamaged) -> bool:
    """Take a damaged layer out of the way, so that what it was made of serves instead; kept for who wants to look.

    Returns:
        False when it stays where it is: another process has loaded or makes it, or the folder may not be written.
    """
    aside = folder.with_name(f".{folder.name}{_DAMAGED}")
    try:
        with ExitStack() as stack:
            gone = all(
                stack.enter_context(free) for free in (layer.unlocked(folder), layer.unused(folder / template.ABOUT))
            )
            if gone:
                shutil.rmtree(aside, ignore_errors=True)
                with contextlib.suppress(OSError):  # a full disk has room for another name
                    (folder / _WHY).write_text(damage.summary, encoding="utf-8")
                folder.rename(aside)
    except OSError as error:
        log.warning("the damaged layer %s could not be put aside: %s", folder.name, error)
        gone = False
    log.warning("%s Its cells begin without it.", damage.summary)
    return gone


def damaged() -> tuple[Fitness, ...]:
    """Name the layers that were put aside, and what mends it."""
    fix = "hts-compat image prune --yes; then 'image freeze', where its cells shall begin as fast as before"
    return tuple(
        Fitness(
            name="layer",
            ok=False,
            needed=False,
            detail=f"{layer.made_as(folder).name} was put aside. {_why(folder)}",
            fix=fix,
        )
        for folder in _folders()
        if folder.name.endswith(_DAMAGED)
    )


def _why(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return (folder / _WHY).read_text(encoding="utf-8", errors="replace")[:500]
    return "It was damaged."


def _folders() -> list[Path]:
    root = layer.layers_folder()
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _folder(name: str) -> Path:
    folder = layer.layers_folder() / name
    if folder not in _folders():  # listed, not tried: '..' is a folder too
        raise InputError(f"There is no layer '{name}'.", hint="'hts-compat image list' names all of them.")
    return folder


def _held_by(folder: Path) -> tuple[Path, ...]:
    """Give the files by whose locks a layer may be held; it has one of them."""
    return (folder / template.ABOUT, folder / disc.ABOUT)


def _recipes(definitions: Sequence[tuple[Path, Path | None]]) -> frozenset[str]:
    """Give the recipes of all disks and templates that today's definitions are made of."""
    version = qemu_version()
    found: set[str] = set()
    for folder, like in definitions:
        files = ImageFiles(folder=folder, like=like)
        found |= {recipe.disk_recipe(files), recipe.template_recipe(files, qemu_version=version)}
    return frozenset(found)


def _template(folder: Path) -> Template | None:
    try:
        return template.load(folder)
    except LabError:
        return None


def _kept(folder: Path, made_by: frozenset[str], contents: set[str], code_of: Callable[[str], str]) -> KeptLayer:
    found, below = _template(folder), disk.load(folder)
    size_bytes, freed_bytes = _sizes(folder)
    kind, image, content, protection, needed = LayerKind.UNREADABLE, None, None, None, False
    if folder.name.startswith("."):
        kind = LayerKind.DAMAGED if folder.name.endswith(_DAMAGED) else LayerKind.UNFINISHED
    elif found is not None:
        image, content = found.about.name, found.about.content
        kind, needed = LayerKind.TEMPLATE, found.about.recipe in made_by
        of = found.about.protected
        if of is not None:
            up = of.protection
            kind, protection = LayerKind.PROTECTION, f"{up.product}@{up.signature.label} ({up.profile})"
            needed = of.parent in contents and _code(up.product, code_of) == up.code
    elif below is not None:
        kind, image, needed = LayerKind.DISK, below.about.name, below.about.recipe in made_by
    elif disc.load(folder) is not None:
        kind = LayerKind.DISC
    return KeptLayer(
        name=folder.name,
        kind=kind,
        image=image,
        content=content,
        protection=protection,
        made_at=datetime.fromtimestamp(folder.stat().st_mtime, UTC),
        size_bytes=size_bytes,
        freed_bytes=freed_bytes,
        needed=needed,
        held=_is_held(folder),
        why=_why(folder) if kind is LayerKind.DAMAGED else "",
    )


def _code(product: str, code_of: Callable[[str], str]) -> str | None:
    try:
        return code_of(product)
    except InputError:
        return None  # its package is not installed any more


def _is_held(folder: Path) -> bool:
    with ExitStack() as stack:
        nobody_makes = stack.enter_context(layer.unlocked(layer.made_as(folder)))
        return not (nobody_makes and all(stack.enter_context(layer.unused(file)) for file in _held_by(folder)))


def _sizes(folder: Path) -> tuple[int, int]:
    """Give the bytes on the disk of all files, and of those that have no other name. Source: stat(2), 512 a block."""
    size_bytes = freed_bytes = 0
    for status in _statuses(folder):
        size_bytes += status[0]
        freed_bytes += status[0] if status[1] == 1 else 0
    return size_bytes, freed_bytes


def _statuses(folder: Path) -> Iterator[tuple[int, int]]:
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue  # of a layer that is being made
        if path.is_file():
            yield status.st_blocks * 512, status.st_nlink


def _checked(file: Path, sha256: str, again: str) -> Fitness:
    try:
        found = template.digest_of(file)
    except OSError as error:
        return Fitness(name=file.name, ok=False, detail=f"cannot be read ({error.strerror})", fix=again)
    if found != sha256:
        return Fitness(name=file.name, ok=False, detail=f"changed since it was made: sha256 {found}", fix=again)
    return Fitness(name=file.name, ok=True, detail=f"sha256 {sha256[:12]}")


def _same_machine(found: Template, again: str) -> Fitness:
    version = qemu_version()
    about = found.about
    if about.qemu_version != version:
        detail = f"frozen by {about.qemu_version}, here is {version}"
        return Fitness(name="machine", ok=False, detail=detail, fix=again)
    if fingerprint(found.hardware, qemu_version=version) != about.fingerprint:
        return Fitness(name="machine", ok=False, detail="frozen with another command line", fix=again)
    return Fitness(
        name="machine", ok=True, detail=f"{version}, {about.accelerator}, fingerprint {about.fingerprint[:12]}"
    )
