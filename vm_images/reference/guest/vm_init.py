#!/usr/bin/python3
"""The first process of a reference guest that is a virtual machine: what a container's engine does, and the agent.

Mounts, the loopback device, then the desktop session is started and the agent answers on the virtio port. It reaps, and
never ends: the kernel panics when it does.
"""

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import agent
import ways

PORT_NAME = "org.hts-compat.agent.0"
#: A keyboard and a pointer that programs can read; a drive for discs; a device that tells the host of a panic. Nothing
#: else asks for them without udev.
MODULES = ("evdev", "virtio_input", "virtio_scsi", "sr_mod", "pvpanic-pci")
TOOLS = "/opt/hts-compat"
#: The scheduler's best niceness.
FIRST = -20

#: What is mounted where, in order: source, target, kind, options. Source: mount(8).
MOUNTS = (
    ("proc", "/proc", "proc", "nosuid,nodev,noexec"),
    ("sysfs", "/sys", "sysfs", "nosuid,nodev,noexec"),
    ("devtmpfs", "/dev", "devtmpfs", "nosuid,mode=0755"),
    ("devpts", "/dev/pts", "devpts", "nosuid,noexec,gid=5,mode=620,ptmxmode=000"),
    ("tmpfs", "/dev/shm", "tmpfs", "nosuid,nodev"),
    ("tmpfs", "/run", "tmpfs", "nosuid,nodev,mode=0755"),
)


def mount_all() -> None:
    """Mount what programs expect; what the initial RAM disk has mounted already stays."""
    for source, target, kind, options in MOUNTS:
        Path(target).mkdir(exist_ok=True)
        if not os.path.ismount(target):
            subprocess.run(["/bin/mount", "-t", kind, "-o", options, source, target], check=True)
    for folder, mode in (("/run/hts-compat", 0o755), ("/run/lock", 0o1777), ("/tmp/.X11-unix", 0o1777)):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, mode)
    subprocess.run(["/bin/mount", "-o", "remount,rw", "/"], check=True)
    subprocess.run(["/sbin/ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["/sbin/modprobe", "--all", *MODULES], check=False)
    Path("/proc/sys/kernel/hostname").write_text("hts-guest\n")


def port() -> str:
    """Give the device of our virtio port. Source: kernel, drivers/char/virtio_console.c (sysfs attribute ``name``)."""
    while True:
        for name in Path("/sys/class/virtio-ports").glob("vport*/name"):
            if name.read_text().strip() == PORT_NAME:
                return f"/dev/{name.parent.name}"
        time.sleep(0.02)


def bell() -> int:
    """Give a pipe's end that SIGIO rings. What a signal is handled by here, a program does not inherit."""
    heard, rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(rung, warn_on_full_buffer=False)
    signal.signal(signal.SIGIO, lambda *_: None)
    return heard


def await_somebody(descriptor: int, rings: int, *, again_s: float = 1.0) -> None:
    """Sleep until somebody who is connected to the port has written.

    While nobody is connected the port hangs up, and cannot be waited for: poll(2) is over at once. But it sends SIGIO
    when somebody comes. A guest that looked again every 10 ms instead ran code that each clone has to translate first.

    Args:
        descriptor: The port.
        rings: Of ``bell``.
        again_s: So often it is looked at in any case.

    Source: kernel, drivers/char/virtio_console.c (``send_sigio_to_port``); fcntl(2), F_SETOWN, O_ASYNC.
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)  # before the first look, or one who comes is missed
    try:
        while True:
            events = poller.poll(1000)
            if not events:
                continue
            if not events[0][1] & select.POLLHUP:
                return
            select.select([rings], [], [], again_s)
            with contextlib.suppress(BlockingIOError):
                os.read(rings, 4096)
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)  # each piece of a request would ring


def come_first() -> None:
    """Let the agent run before whatever else wants to, so that it is the first that runs when a clone goes on.

    Programs that it starts are ordinary ones. Source: sched(7), SCHED_RESET_ON_FORK; setpriority(2).
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST)
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


@contextlib.contextmanager
def as_all_others() -> Iterator[None]:
    """Run as all others do meanwhile: a program whose output is read by who comes first stops at each piece of it."""
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)


def serve(device: str) -> None:
    """Answer whoever is connected to the port, one connection after the other, for ever."""
    agent.load_scripts()  # once, before the machine is frozen
    come_first()
    rings = bell()
    descriptor = os.open(device, os.O_RDWR)
    # Kept from one connection to the next: each new one would cost a clone code that it has to translate first.
    streams: tuple[BinaryIO, BinaryIO] | None = None
    while True:
        await_somebody(descriptor, rings)
        if streams is None:
            streams = os.fdopen(os.dup(descriptor), "rb"), os.fdopen(os.dup(descriptor), "wb")
        try:
            agent.serve(*streams, at_work=as_all_others)
        except (OSError, ValueError) as problem:
            print(f"agent: {problem}", file=sys.stderr, flush=True)
            for stream in streams:  # half of a request may be left in them
                with contextlib.suppress(OSError):
                    stream.close()
            streams = None


def main() -> None:
    """Be the first process."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["HOME"] = "/root"
    mount_all()
    if os.fork() == 0:
        serve(port())
    ways.start()
    subprocess.Popen(["/usr/bin/python3", f"{TOOLS}/session"], stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
