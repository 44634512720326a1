"""The same guest under Debian's libvirt, for ``bench_clone.py``: a daemon of our own, its snapshot and its revert.

The daemon runs in session mode with every folder of its own, as an ordinary user (as ``nobody`` when root runs the
benchmark, for root's libvirtd is the whole machine's). It and its guests end with the context.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from harness.providers.qemu.machine import CPU_MODEL, KERNEL_LINE, PORT_NAME, TCG_CACHE_MIB, Hardware

PROGRAMS = ("libvirtd", "virsh", "setpriv")
NAME, SNAPSHOT = "bench", "ready"
NOBODY = 65534
START_S, VIRSH_S = 20.0, 600.0

#: The devices of ``machine.command_line`` at places of their own on the first bus, without a display or a network.
DOMAIN = """<domain type='{kind}'>
  <name>{name}</name><memory unit='MiB'>{memory_mib}</memory><vcpu>{cpus}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{initrd}</initrd><cmdline>{cmdline}</cmdline></os>
  <features><acpi/><apic/>{tcg}</features>
  <cpu mode='custom' match='exact' check='none'><model>{cpu}</model></cpu>
  <clock offset='utc'><timer name='hpet' present='no'/></clock>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='unsafe' discard='unmap'/><source file='{disk}'/>
      <target dev='vda' bus='virtio'/><address type='pci' bus='0' slot='3'/></disk>
    <controller type='usb' model='none'/>
    <controller type='virtio-serial'><address type='pci' bus='0' slot='4'/></controller>
    <channel type='unix'><source mode='bind' path='{agent}'/><target type='virtio' name='{port}'/></channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend><address type='pci' bus='0' slot='5'/></rng>
    <serial type='file'><source path='{serial}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def missing() -> str:
    """Name the programs that are not there; empty when libvirt can be measured."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return ", ".join(program for program in PROGRAMS if shutil.which(program, path=path) is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvirtGuest:
    """One domain. Its daemon runs as long as the context that gave it."""

    folder: Path
    agent_socket: Path
    version: str

    def boot(self) -> None:
        """Start it from its disk."""
        self._virsh("start", NAME)

    def freeze(self) -> None:
        """Make an internal snapshot with memory, as CAPE wants it of its machines, while the guest runs."""
        self._virsh("snapshot-create-as", NAME, SNAPSHOT)

    def revert(self) -> None:
        """Go back to the snapshot: from stopped, or in place when the guest runs."""
        self._virsh("snapshot-revert", NAME, SNAPSHOT, "--running")

    def stop(self) -> None:
        """End the guest's process."""
        self._virsh("destroy", NAME)

    def _virsh(self, *words: str) -> str:
        return _run(self.folder, ["virsh", "-q", "-c", "qemu:///session", *words]).decode()


@contextmanager
def libvirt_guest(folder: Path, hardware: Hardware, disk: Path) -> Iterator[LibvirtGuest]:
    """Define the guest under a daemon of its own. ``folder`` must be short, empty and readable to everybody."""
    agent = folder / "agent"
    text = DOMAIN.format(
        kind="kvm" if hardware.accelerator == "kvm" else "qemu",
        name=NAME,
        memory_mib=hardware.memory_mib,
        cpus=hardware.cpus,
        kernel=hardware.kernel,
        initrd=hardware.initrd,
        cmdline=escape(KERNEL_LINE),
        tcg="" if hardware.accelerator == "kvm" else f"<tcg><tb-cache unit='MiB'>{TCG_CACHE_MIB}</tb-cache></tcg>",
        cpu=CPU_MODEL,
        emulator=shutil.which("qemu-system-x86_64"),
        disk=disk,
        agent=agent,
        port=PORT_NAME,
        serial=folder / "serial.log",
    )
    settings = folder / "config" / "libvirt"
    settings.mkdir(parents=True)
    (folder / "run").mkdir(mode=0o700)
    (settings / "qemu.conf").write_text('stdio_handler = "file"\nsecurity_driver = "none"\ncgroup_controllers = []\n')
    (folder / "domain.xml").write_text(text)
    if os.geteuid() == 0:
        for path in (folder, disk, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    with (folder / "libvirtd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [*_as_user(), "setpriv", "--pdeathsig", "KILL", "libvirtd", "--timeout", "0"],
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _await_daemon(folder, daemon)
        guest = LibvirtGuest(folder=folder, agent_socket=agent, version=_run(folder, ["virsh", "-v"]).decode().strip())
        guest._virsh("define", str(folder / "domain.xml"))
        try:
            yield guest
        finally:
            with contextlib.suppress(RuntimeError):
                guest.stop()
    finally:
        daemon.terminate()
        try:
            daemon.wait(START_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _await_daemon(folder: Path, daemon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and daemon.poll() is None:
        if (folder / "run" / "libvirt" / "libvirt-sock").exists():
            return
        time.sleep(0.05)
    msg = f"libvirtd did not start: {(folder / 'libvirtd.log').read_text()[-1000:]}"
    raise RuntimeError(msg)


def _run(folder: Path, argv: list[str]) -> bytes:
    done = subprocess.run(
        [*_as_user(), *argv], env=_environment(folder), capture_output=True, timeout=VIRSH_S, check=False
    )
    if done.returncode != 0:
        msg = f"{' '.join(argv)}: {done.stderr.decode('utf-8', 'replace').strip()[-1000:]}"
        raise RuntimeError(msg)
    return done.stdout


def _as_user() -> list[str]:
    """Give the words that make a program an ordinary user's."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", "--"]


def _environment(folder: Path) -> dict[str, str]:
    places = {
        f"XDG_{name}": str(folder / place)
        for name, place in (
            ("RUNTIME_DIR", "run"),
            ("CONFIG_HOME", "config"),
            ("CACHE_HOME", "cache"),
            ("DATA_HOME", "data"),
        )
    }
    return {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "HOME": str(folder), "LC_ALL": "C", **places}
