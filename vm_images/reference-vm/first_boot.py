#!/usr/bin/python3
"""The first process of a reference guest's first boot as a virtual machine: runs prepare.sh once and switches off.

It belongs to the disk: what it makes, all later boots find. The guest scripts come later, with the template.
"""

import ctypes
import os
import subprocess
from pathlib import Path

TOOLS = "/opt/hts-compat"

#: What prepare.sh and wine expect, in order: source, target, kind, options. Source: mount(8).
MOUNTS = (
    ("proc", "/proc", "proc", "nosuid,nodev,noexec"),
    ("sysfs", "/sys", "sysfs", "nosuid,nodev,noexec"),
    ("devtmpfs", "/dev", "devtmpfs", "nosuid,mode=0755"),
    ("tmpfs", "/dev/shm", "tmpfs", "nosuid,nodev"),
    ("tmpfs", "/run", "tmpfs", "nosuid,nodev,mode=0755"),
)


def main() -> None:
    """Prepare the disk, say how that ended, and cut the power. Source: reboot(2), RB_POWER_OFF."""
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.environ["HOME"] = "/root"
    for source, target, kind, options in MOUNTS:
        Path(target).mkdir(exist_ok=True)
        if not os.path.ismount(target):
            subprocess.run(["/bin/mount", "-t", kind, "-o", options, source, target], check=True)
    subprocess.run(["/bin/mount", "-o", "remount,rw", "/"], check=True)
    subprocess.run(["/sbin/ip", "link", "set", "lo", "up"], check=True)
    done = subprocess.run(["/bin/sh", f"{TOOLS}/prepare.sh"], stdin=subprocess.DEVNULL, check=False)
    print(f"hts-compat: prepared, exit code {done.returncode}", flush=True)
    os.sync()
    subprocess.run(["/bin/mount", "-o", "remount,ro", "/"], check=False)
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)


if __name__ == "__main__":
    main()
