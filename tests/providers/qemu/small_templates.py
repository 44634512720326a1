"""Layers of a few bytes, whole in every other way: what is said of them, their digests, and the names they share."""

from __future__ import annotations

import json
from pathlib import Path

from harness.protection import Protection
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import disk, freeze, recipe, template
from harness.providers.qemu.machine import Hardware, fingerprint
from harness.providers.qemu.template import BASE, DISK, INITRD, KERNEL, MEMORY, STATE, UNDER, About, Protected, Template
from tests.builders import QEMU_VERSION, make_signature

FILES = (KERNEL, INITRD, BASE, DISK, MEMORY, STATE)


def write_files(folder: Path) -> None:
    """Write the files of a template: a memory of 8 MiB with holes, and a few bytes of all else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).write_bytes(name.encode() * 100)
    with (folder / MEMORY).open("wb") as stream:
        stream.write(b"begin")
        stream.truncate(8 << 20)
        stream.seek(5 << 20)
        stream.write(b"middle")


def describe(
    folder: Path, *, recipe: str = "r" * 64, below: str = "d" * 64, protected: Protected | None = None
) -> None:
    """Write what a template says of itself."""
    hardware = Hardware(accelerator="tcg", memory_mib=8, cpus=1, kernel=folder / KERNEL, initrd=folder / INITRD)
    names = (*FILES, UNDER) if protected is not None else FILES
    about = About(
        name="reference-vm",
        recipe=recipe,
        disk=below,
        fingerprint=fingerprint(hardware, qemu_version=QEMU_VERSION),
        qemu_version=QEMU_VERSION,
        accelerator="tcg",
        memory_mib=8,
        cpus=1,
        nonce="n" * 32,
        packages=3,
        files={name: template.digest_of(folder / name) for name in names},
        protected=protected,
    )
    template.write_about(folder, about)


def loaded(folder: Path) -> Template:
    """Load a template that is there."""
    found = template.load(folder)
    assert found is not None
    return found


def make_disk(files: ImageFiles) -> Path:
    """Make the disk layer of a definition."""
    digest = recipe.disk_recipe(files)
    folder = disk.folder_of(files.name, digest)
    folder.mkdir(parents=True)
    for name in (KERNEL, INITRD, BASE):
        (folder / name).write_bytes(name.encode() * 100)
    sums = {name: template.digest_of(folder / name) for name in (KERNEL, INITRD, BASE)}
    about = disk.DiskAbout(name=files.name, recipe=digest, packages=3, files=sums)
    (folder / disk.ABOUT).write_text(json.dumps(about.model_dump(mode="json")))
    return folder


def make_template(files: ImageFiles) -> Template:
    """Make the template of a definition, upon a disk layer that is there."""
    below = disk.find(files.name, recipe.disk_recipe(files))
    assert below is not None
    digest = recipe.template_recipe(files, qemu_version=QEMU_VERSION)
    folder = template.folder_of(files.name, digest)
    write_files(folder)
    for name in (KERNEL, BASE):
        (folder / name).unlink()
        (folder / name).hardlink_to(below.folder / name)
    describe(folder, recipe=digest, below=below.about.recipe)
    return loaded(folder)


def make_protection(parent: Template, *, product: str = "clamav", code: str = "c0de") -> Template:
    """Make the template of a protection, derived from another one."""
    up = Protection(product=product, profile="standard", signature=make_signature(), code=code)
    folder = freeze.folder_of(parent.about.name, parent.about.content, up)
    write_files(folder)
    for name, source in ((KERNEL, KERNEL), (INITRD, INITRD), (BASE, BASE), (UNDER, DISK)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).hardlink_to(parent.file(source))
    describe(folder, recipe="p" * 64, protected=Protected(parent=parent.about.content, protection=up, planted=()))
    return loaded(folder)
