"""Driver. The first layer of a virtual machine's image: Debian on a disk that has been booted once, without root.

1. mmdebstrap (fakechroot) makes the root from the host's own apt sources; mke2fs makes a file system of it.
2. The first boot runs prepare.sh: a wine prefix needs a real owner, which a faked one is not.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.deadline import Deadline
from harness.frozen import Frozen
from harness.providers.build_command import BUILD_S, ImageBuildFailed, Report, stream, work_folder
from harness.providers.docker_base import LEFT_OUT, SUITE, host_apt_settings, host_apt_sources
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import clone, layer, recipe
from harness.providers.qemu.fitness import accelerator
from harness.providers.qemu.machine import Hardware
from harness.providers.qemu.template import BASE, INITRD, KERNEL, MEMORY, digest_of

ABOUT = "disk.json"
PREPARE_S = 1200.0

#: The first boot's machine; what the guests get is the template's matter.
_MEMORY_MIB, _CPUS = 1024, 2
_UNPREPARED = "unprepared.qcow2"


class DiskAbout(Frozen):
    """What a disk layer says of itself. ``files`` holds the sha256 of each of its files."""

    name: str
    recipe: str
    packages: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskLayer:
    """A disk layer that is there: kernel, initial RAM disk, and a disk that has been prepared."""

    folder: Path
    about: DiskAbout

    def whole(self) -> bool:
        """Tell whether its files are what they were when it was made."""
        try:
            return all(digest_of(self.folder / name) == sha256 for name, sha256 in self.about.files.items())
        except OSError:
            return False


def folder_of(name: str, digest: str) -> Path:
    """Give the folder of a disk's recipe, whether it is there or not."""
    return layer.layers_folder() / f"{name}-disk-{digest[:16]}"


def find(name: str, digest: str) -> DiskLayer | None:
    """Find the disk layer of a recipe; None when it has not been made, or cannot be read."""
    found = load(folder_of(name, digest))
    return found if found is not None and found.about.recipe == digest else None


def load(folder: Path) -> DiskLayer | None:
    """Read what a disk layer says of itself; None when there is none that can be read."""
    try:
        about = DiskAbout.model_validate_json((folder / ABOUT).read_bytes())
    except (OSError, ValidationError):
        return None
    return DiskLayer(folder=folder, about=about)


def make(files: ImageFiles, *, report: Report) -> DiskLayer:
    """Give the disk layer of a definition, making it only when there is none of this recipe that is whole.

    Raises:
        InputError: The folder is no image definition.
        BuildToolMissing: A program is missing.
        ImageBuildFailed: A step failed; its last output is in ``detail``.
    """
    digest = recipe.disk_recipe(files)
    folder = folder_of(files.name, digest)
    with layer.locked(folder, report=report):
        found = find(files.name, digest)
        if found is not None and found.whole():
            return found
        if found is not None:
            report("disk: a file of it is missing or changed; it is made again")
        with layer.begun(folder) as begun:
            packages = _make_root(files, digest, begun, report)
            fastest = accelerator(begun / KERNEL)
            report(f"disk: accelerator {fastest.name} ({fastest.why})")
            hardware = Hardware(
                accelerator=fastest.name,
                memory_mib=_MEMORY_MIB,
                cpus=_CPUS,
                kernel=begun / KERNEL,
                initrd=begun / INITRD,
            )
            _prepare(hardware, begun, report)
            sums = {name: digest_of(begun / name) for name in (KERNEL, INITRD, BASE)}
            for name in sums:
                (begun / name).chmod(0o444)
            about = DiskAbout(name=files.name, recipe=digest, packages=packages, files=sums)
            (begun / ABOUT).write_text(json.dumps(about.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return DiskLayer(folder=folder, about=about)


def _make_root(files: ImageFiles, digest: str, folder: Path, report: Report) -> int:
    """Make kernel, initial RAM disk and an unprepared disk; give how many packages are in it."""
    with work_folder() as work:
        ours = work / "ours"
        for name, path in recipe.disk_files(files).items():
            target = ours / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        packages = files.packages()
        if recipe.disk_recipe(files) != digest:
            raise changed_meanwhile(files)
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        options += [f'--aptopt={key} "{value}"' for key, value in host_apt_settings()]
        tar = work / "root.tar"
        report(f"root: {len(packages)} packages from this machine's apt")
        argv = ["mmdebstrap", "--mode=fakechroot", "--variant=minbase", f"--include={','.join(packages)}", *options]
        argv += [f"--customize-hook={recipe.HOOK}", SUITE, str(tar), "-"]
        stream(
            argv,
            what="mmdebstrap",
            report=report,
            prefix="root: ",
            only="I: ",
            stdin=host_apt_sources().encode("utf-8"),
        )
        report("disk: making its file system")
        raw = work / "disk.raw"
        words = [str(tar), str(work / "root"), str(ours), str(raw), recipe.DISK_SIZE, str(folder)]
        stream(
            ["fakeroot", "sh", "-c", recipe.MAKE_DISK, "make-disk", *words],
            what="making the disk",
            report=report,
            prefix="disk: ",
            environment=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            limit_s=BUILD_S,
        )
        _convert(raw, folder / _UNPREPARED, "raw", report)
        count = folder / "packages"
        packages_count = int(count.read_text(encoding="ascii"))
        count.unlink()
        return packages_count


def _convert(source: Path, target: Path, kind: str, report: Report) -> None:
    argv = ["qemu-img", "convert", "-q", "-f", kind, "-O", "qcow2", str(source), str(target)]
    stream(argv, what="qemu-img", report=report, prefix="disk: ")


def _prepare(hardware: Hardware, folder: Path, report: Report) -> None:
    """Boot once and let prepare.sh run to its end; what it made becomes the base disk."""
    report("first boot: locale, users, wine prefix")
    began = time.monotonic()
    with clone.spot("build") as spot:
        places = spot.places(memory=str(spot.folder / MEMORY), shared=True, disk=folder / _UNPREPARED)
        limit = Deadline.after(PREPARE_S)
        # Of two words 'init' the kernel takes the last (kernel-parameters.txt).
        first = f"init={recipe.FIRST_BOOT}"
        machine = clone.RunningMachine(hardware, places, incoming=False, deadline=limit.sooner(60.0), more=first)
        try:
            code = machine.wait(deadline=limit)
        finally:
            machine.end()
        said = tail(places.serial_log)
    if code != 0 or "hts-compat: prepared, exit code 0" not in said:
        msg = "The guest could not be prepared in its first boot."
        raise ImageBuildFailed(msg, detail=said)
    _convert(folder / _UNPREPARED, folder / BASE, "qcow2", report)
    (folder / _UNPREPARED).unlink()
    report(f"first boot: done in {time.monotonic() - began:.0f} s")


def changed_meanwhile(files: ImageFiles) -> ImageBuildFailed:
    """Say that a definition was edited between its digest and its use: the layer would lie about itself."""
    msg = f"The files of the image '{files.name}' changed while it was made."
    return ImageBuildFailed(msg, hint="Run the command again when nobody edits them.")


def tail(log: Path) -> str:
    """Give the last that a machine wrote on its serial line."""
    try:
        return log.read_bytes()[-3000:].decode("utf-8", "replace")
    except OSError:
        return ""
