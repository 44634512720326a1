"""Pure. A virtual machine as QEMU's command line: the same devices in the same order for a template and its clones.

QEMU accepts another device on a clone's command line in silence, so a template remembers its own line
(``fingerprint``), and a clone with another one is not started.

Source: QEMU 7.2, docs/system/vm-templating.rst and qemu-system-x86_64(1).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "qemu-system-x86_64"

#: Name of the agent's port; guest/vm_init.py looks for it. Those of the other ways in are looked for by guest/ways.py.
PORT_NAME = "org.hts-compat.agent.0"
GUEST_AGENT_PORT, SSH_PORT = "org.qemu.guest_agent.0", "org.hts-compat.ssh.0"
#: Their sockets lie beside the agent's.
GUEST_AGENT_SOCKET, SSH_SOCKET = "qga", "ssh"

#: Name of the drive for discs.
DISC_DRIVE = "disc"

#: Bytes of translated code that TCG keeps, in MiB. More was no faster and cost memory.
TCG_CACHE_MIB = 128

#: The oldest processor that Debian's programs run on well; ``max`` was slower to boot under TCG.
CPU_MODEL = "Nehalem"

#: The screen of the reference guests, in pixels, and memory of the card for that at four bytes a pixel (3 MiB), in MiB:
#: it is part of the template's state, which every clone reads.
SCREEN, SCREEN_MEMORY_MIB = (1024, 768), 4

#: Boot quietly from the first disk, without what a throw-away guest does not need: mitigations, pressure statistics,
#: groups of the scheduler, a second clock that watches the first, security modules without rules (products here use
#: fanotify), and huge pages, of which a clone would copy all for a byte. A clone translates whatever the kernel does.
#: Source: kernel, Documentation/admin-guide/kernel-parameters.txt.
KERNEL_LINE = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off no_timer_check panic=-1 psi=0 noautogroup tsc=reliable "
    "lsm=capability transparent_hugepage=never init=/opt/hts-compat/vm_init.py"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What a machine is made of.

    Attributes:
        accelerator: ``kvm`` or ``tcg``.
        memory_mib: Size of its memory.
        kernel, initrd: Files that it boots from; no boot loader is involved.
    """

    accelerator: str
    memory_mib: int
    cpus: int
    kernel: Path
    initrd: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where one machine's own files and sockets lie.

    Attributes:
        memory: File of its memory. A template writes it (``shared``); a clone sees it and keeps its changes to itself.
        disk: Its overlay, qcow2.
    """

    memory: str
    shared: bool
    disk: Path
    agent_socket: Path
    monitor_socket: Path
    serial_log: Path


def command_line(hardware: Hardware, places: Places, *, incoming: bool, more: str = "") -> list[str]:
    """Give the command line of one machine.

    Args:
        hardware: What it is made of.
        places: Files.
        incoming: Wait for a state to be restored instead of booting; the machine is paused until told to go on.
        more: Further words of the kernel's command line.
    """
    share = "on" if places.shared else "off"
    accelerator = "kvm" if hardware.accelerator == "kvm" else f"tcg,thread=multi,tb-size={TCG_CACHE_MIB}"
    line = [
        PROGRAM,
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *("-vnc", "none,password=on"),  # listens nowhere until told to (clone.RunningMachine.open_desktop)
        *("-vga", "none"),
        "-no-reboot",
        *("-object", f"memory-backend-file,id=ram,size={hardware.memory_mib}M,mem-path={places.memory},share={share}"),
        *("-machine", "q35,memory-backend=ram,hpet=off"),
        *("-accel", accelerator),
        *("-cpu", CPU_MODEL),
        *("-smp", str(hardware.cpus)),
        *("-m", str(hardware.memory_mib)),
        *("-kernel", str(hardware.kernel)),
        *("-initrd", str(hardware.initrd)),
        *("-append", f"{KERNEL_LINE} {more}".strip()),
        *("-drive", f"if=none,id=disk,file={_escaped(places.disk)},format=qcow2,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,path={_escaped(places.agent_socket)},server=on,wait=off"),
        *("-device", f"virtserialport,chardev=agent,name={PORT_NAME}"),
        *_port(GUEST_AGENT_SOCKET, places, GUEST_AGENT_PORT),
        *_port(SSH_SOCKET, places, SSH_PORT),
        *("-device", "virtio-rng-pci"),
        *("-device", f"VGA,id=screen,vgamem_mb={SCREEN_MEMORY_MIB},xres={SCREEN[0]},yres={SCREEN[1]}"),
        *("-device", "virtio-tablet-pci,id=pointer"),
        *("-device", "virtio-scsi-pci,id=scsi"),  # a virtio bus, as the guest's small kernel knows no SATA
        *("-device", f"scsi-cd,bus=scsi.0,id={DISC_DRIVE}"),  # empty until a disc is lent (clone.RunningMachine.disc)
        *("-device", "pvpanic-pci"),  # the guest's kernel tells of its panic, which is a reset like any else without it
        *("-chardev", f"file,id=serial,path={_escaped(places.serial_log)}"),
        *("-serial", "chardev:serial"),
        *("-qmp", f"unix:{_escaped(places.monitor_socket)},server=on,wait=off"),
    ]
    return [*line, *(("-incoming", "defer", "-S") if incoming else ())]


#: QEMU's names of keys, where they are others than a scenario's. Source: QMP Reference Manual, ``QKeyCode``.
QCODES = {"enter": "ret", "space": "spc", "pageup": "pgup", "pagedown": "pgdn", "win": "meta_l"}

#: Where a tablet's axes end, whatever the screen's size. Source: QEMU, include/ui/input.h, INPUT_EVENT_ABS_MAX.
ABS_MAX = 0x7FFF


def clicked(x: int, y: int) -> tuple[tuple[dict[str, object], ...], ...]:
    """Give a click at a place of the screen as QEMU's input events: to the place, button down, button up."""
    axes = zip(("x", "y"), (x, y), SCREEN, strict=True)
    there = tuple(_axis(name, min(at, size - 1) * ABS_MAX // (size - 1)) for name, at, size in axes)
    return (there, (_button(down=True),), (_button(down=False),))


def _button(*, down: bool) -> dict[str, object]:
    return {"type": "btn", "data": {"button": "left", "down": down}}


def _axis(name: str, value: int) -> dict[str, object]:
    return {"type": "abs", "data": {"axis": name, "value": value}}


def _port(socket: str, places: Places, name: str) -> tuple[str, ...]:
    """Give the words of a further virtio port, whose socket lies beside the agent's."""
    path = _escaped(places.agent_socket.with_name(socket))
    device = f"virtserialport,chardev={socket},name={name}"
    return "-chardev", f"socket,id={socket},path={path},server=on,wait=off", "-device", device


def fingerprint(hardware: Hardware, *, qemu_version: str) -> str:
    """Give the sha256 of what a clone must have in common with its template: QEMU's version and every device."""
    anywhere = Places(
        memory="MEMORY",
        shared=False,
        disk=Path("DISK"),
        agent_socket=Path("AGENT"),
        monitor_socket=Path("MONITOR"),
        serial_log=Path("SERIAL"),
    )
    booted = Hardware(
        accelerator=hardware.accelerator,
        memory_mib=hardware.memory_mib,
        cpus=hardware.cpus,
        kernel=Path("KERNEL"),
        initrd=Path("INITRD"),
    )
    words = [qemu_version, *command_line(booted, anywhere, incoming=False)]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def any_fingerprint(*, qemu_version: str) -> str:
    """Give the sha256 of what all machines have in common, whatever their size and accelerator."""
    sizes = [
        Hardware(accelerator=name, memory_mib=1, cpus=1, kernel=Path("KERNEL"), initrd=Path("INITRD"))
        for name in ("kvm", "tcg")
    ]
    words = [fingerprint(hardware, qemu_version=qemu_version) for hardware in sizes]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _escaped(path: Path) -> str:
    """Write a path into an option, where a comma is written twice."""
    return str(path).replace(",", ",,")
