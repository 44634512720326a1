#!/usr/bin/python3
"""The first process of a reference guest that is a virtual machine: what a container's engine does, and the agent.

Mounts, the loopback device, then the desktop session is started and the agent answers on the virtio port. It reaps, and
never ends: the kernel panics when it does.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import agent
import ways

PORT_NAME = "org.hts-compat.agent.0"
#: A keyboard and a pointer that programs can read; a drive for discs; a device that tells the host of a panic. Nothing
#: else asks for them without udev.
MODULES = ("evdev", "virtio_input", "virtio_scsi", "sr_mod", "pvpanic-pci")
TOOLS = "/opt/hts-compat"

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


def serve(device: str) -> None:
    """Answer whoever is connected to the port, one connection after the other, for ever."""
    agent.load_scripts()  # once, before the machine is frozen
    descriptor = os.open(device, os.O_RDWR)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while True:
        # Nobody is connected while the port hangs up; a read then gives nothing, and ends at once.
        events = poller.poll(1000)
        if not events or events[0][1] & select.POLLHUP:
            time.sleep(0.01)
            continue
        with os.fdopen(os.dup(descriptor), "rb") as requests, os.fdopen(os.dup(descriptor), "wb") as replies:
            try:
                agent.serve(requests, replies)
            except (OSError, ValueError) as problem:
                print(f"agent: {problem}", file=sys.stderr, flush=True)


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
