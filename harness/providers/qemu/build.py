"""Driver. Makes a template, once, without root and without a container engine: packages, disk, first boot, freeze.

1. mmdebstrap (fakechroot) makes the root from the host's own apt sources; mke2fs makes a file system of it.
2. The first boot runs prepare.sh: a wine prefix needs a real owner, which a faked one is not.
3. The second boot is frozen when the desktop stands and a first Windows program has run in it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.providers.build_command import BUILD_S, ImageBuildFailed, Report, stream, work_folder
from harness.providers.docker_base import LEFT_OUT, SUITE, host_apt_settings, host_apt_sources
from harness.providers.docker_build import compile_tools
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import clone, template
from harness.providers.qemu.machine import Hardware, fingerprint
from harness.providers.qemu.template import BASE, DISK, INITRD, KERNEL, MEMORY, STATE, About, Template
from harness.providers.qemu.tools import accelerator_for, qemu_version
from harness.transports.unix_socket import UnixSocketTransport

DISK_SIZE = "6G"
PREPARE_S = 1200.0
BOOT_S = 300.0
FREEZE_S = 300.0

#: In the guest: what the session writes when the desktop stands, and a first Windows program that only lists windows.
_READY_FILE = "/run/hts-compat/session.json"
_FIRST_PROGRAM = ("/usr/lib/wine/wine64", "/opt/hts-compat/winview.exe", "list")

#: Loaded by the initial RAM disk; all else is found once the root is there.
_MODULES = ("virtio_pci", "virtio_blk", "ext4", "virtio_console", "virtio_rng")
_HOOK = (
    'printf "' + "\\n".join(_MODULES) + '\\n" > "$1/etc/initramfs-tools/modules";'
    ' sed -i "s/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=lz4/" "$1/etc/initramfs-tools/initramfs.conf";'
    ' chroot "$1" update-initramfs -u -k all'
)
#: $1 the root's tar, $2 a folder to unpack it in, $3 what goes to /opt/hts-compat, $4 the disk, $5 its size. Everything
#: under one fakeroot, which alone remembers who owns what.
_MAKE_DISK = """set -eu
mkdir "$2"
tar -xpf "$1" -C "$2" --numeric-owner --exclude='./dev/*'
mkdir -p "$2/opt/hts-compat"
cp -r "$3/." "$2/opt/hts-compat/"
chown -R 0:0 "$2/opt/hts-compat"
cp "$2"/boot/vmlinuz-* "$6/vmlinuz"
cp "$2"/boot/initrd.img-* "$6/initrd"
dpkg-query --admindir="$2/var/lib/dpkg" -W | wc -l > "$6/packages"
mke2fs -q -t ext4 -O ^has_journal -d "$2" "$4" "$5"
"""


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
    recipe = files.recipe()
    found = template.find(files.name, recipe)
    if found is not None:
        return BuiltTemplate(template=found, made=False, duration_s=time.monotonic() - began)
    folder = template.folder_of(files.name, recipe)
    begun = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    begun.mkdir(parents=True)
    try:
        packages = _make_root(files, begun, report)
        accelerator, why = accelerator_for(begun / KERNEL)
        report(f"template: accelerator {accelerator} ({why})")
        hardware = Hardware(
            accelerator=accelerator, memory_mib=memory_mib, cpus=cpus, kernel=begun / KERNEL, initrd=begun / INITRD
        )
        _prepare(hardware, begun, report)
        nonce = secrets.token_hex(16)
        _freeze(hardware, begun, nonce, report)
        report("template: digests")
        about = About(
            name=files.name,
            recipe=recipe,
            fingerprint=fingerprint(hardware, qemu_version=qemu_version()),
            qemu_version=qemu_version(),
            accelerator=accelerator,
            memory_mib=memory_mib,
            cpus=cpus,
            nonce=nonce,
            packages=packages,
            files={name: template.digest_of(begun / name) for name in (KERNEL, INITRD, BASE, DISK, MEMORY, STATE)},
        )
        for name in about.files:
            (begun / name).chmod(0o444)
        template.write_about(begun, about)
        shutil.rmtree(folder, ignore_errors=True)
        begun.rename(folder)
    except BaseException:
        shutil.rmtree(begun, ignore_errors=True)
        raise
    return BuiltTemplate(template=Template(folder=folder, about=about), made=True, duration_s=time.monotonic() - began)


def _make_root(files: ImageFiles, folder: Path, report: Report) -> int:
    """Make kernel, initial RAM disk and an unprepared disk; give how many packages are in it."""
    with work_folder() as work:
        ours = work / "ours"
        files.copy_to(work / "context")
        shutil.copytree(work / "context" / "guest", ours)
        shutil.copy2(work / "context" / "prefix.reg", ours)
        shutil.copy2(work / "context" / "prepare.sh", ours)
        compile_tools(files.guest_tools, ours, report=report)
        packages = files.packages()
        options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
        options += [f'--aptopt={key} "{value}"' for key, value in host_apt_settings()]
        tar = work / "root.tar"
        report(f"root: {len(packages)} packages from this machine's apt")
        argv = ["mmdebstrap", "--mode=fakechroot", "--variant=minbase", f"--include={','.join(packages)}", *options]
        argv += [f"--customize-hook={_HOOK}", SUITE, str(tar), "-"]
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
        words = [str(tar), str(work / "root"), str(ours), str(raw), DISK_SIZE, str(folder)]
        stream(
            ["fakeroot", "sh", "-c", _MAKE_DISK, "make-disk", *words],
            what="making the disk",
            report=report,
            prefix="disk: ",
            environment=os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            limit_s=BUILD_S,
        )
        _convert(raw, folder / "unprepared.qcow2", "raw", report)
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
        memory = spot.folder / MEMORY
        places = spot.places(memory=str(memory), shared=True, disk=folder / "unprepared.qcow2")
        limit = Deadline.after(PREPARE_S)
        machine = clone.RunningMachine(
            hardware, places, incoming=False, deadline=limit.sooner(60.0), more="hts.prepare"
        )
        try:
            code = machine.wait(deadline=limit)
        finally:
            machine.end()
        said = _tail(places.serial_log)
    if code != 0 or "hts-compat: prepared, exit code 0" not in said:
        msg = "The guest could not be prepared in its first boot."
        raise ImageBuildFailed(msg, detail=said)
    _convert(folder / "unprepared.qcow2", folder / BASE, "qcow2", report)
    (folder / "unprepared.qcow2").unlink()
    report(f"first boot: done in {time.monotonic() - began:.0f} s")


def _freeze(hardware: Hardware, folder: Path, nonce: str, report: Report) -> None:
    """Boot, wait for the desktop, and write memory and state down."""
    report("second boot: desktop")
    began = time.monotonic()
    clone.make_overlay(Path(BASE), folder / DISK)
    limit = Deadline.after(BOOT_S)
    with clone.spot("build") as spot:
        places = spot.places(memory=str(folder / MEMORY), shared=True, disk=folder / DISK)
        machine = clone.RunningMachine(hardware, places, incoming=False, deadline=limit.sooner(60.0))
        try:
            _await_desktop(places.agent_socket, nonce, limit)
        except GuestUnreachable as error:
            raise ImageBuildFailed(error.summary, detail=f"{error.detail}\n{_tail(places.serial_log)}") from error
        else:
            report(f"freeze: desktop up after {time.monotonic() - began:.1f} s")
            _write_state(machine, folder / STATE, Deadline.after(FREEZE_S))
        finally:
            machine.end()


def _await_desktop(socket: Path, nonce: str, limit: Deadline) -> None:
    """Wait for the session, run a Windows program so that the next starts warm, and leave the nonce in memory."""
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
    finally:
        way_in.close()


def _write_state(machine: clone.RunningMachine, path: Path, limit: Deadline) -> None:
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


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-3000:].decode("utf-8", "replace")
    except OSError:
        return ""
