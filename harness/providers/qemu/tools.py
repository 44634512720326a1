"""Driver. The programs that virtual machines need of this machine, and which accelerator really runs a guest."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from harness.deadline import Deadline
from harness.providers.build_command import QUICK_S, run
from harness.providers.qemu.machine import CPU_MODEL, PROGRAM

#: Program, Debian package, what it is for.
TOOLS = (
    (PROGRAM, "qemu-system-x86", "runs the guests"),
    ("qemu-img", "qemu-utils", "makes their disks"),
    ("setpriv", "util-linux", "ends them when the harness ends"),
)
#: What building a template needs beyond that.
BUILD_TOOLS = (
    ("mmdebstrap", "mmdebstrap", "makes the guest's root"),
    ("fakechroot", "fakechroot", "lets an ordinary user make it"),
    ("fakeroot", "fakeroot", "lets an ordinary user own it as root"),
    ("mke2fs", "e2fsprogs", "makes its file system"),
)

#: A kernel says its first line within a second wherever an accelerator works at all.
_PROBE_S = 10.0


@cache
def qemu_version() -> str:
    """Give the version of QEMU, as it says it.

    Raises:
        BuildToolMissing: It is not installed.
    """
    return run([PROGRAM, "--version"], what=PROGRAM, limit_s=QUICK_S).decode("utf-8", "replace").splitlines()[0]


def accelerator_for(kernel: Path) -> tuple[str, str]:
    """Find out which accelerator runs this kernel, by starting it; give its name and why.

    ``/dev/kvm`` may be there, open, and still not run an ordinary guest.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "/dev/kvm is not there or may not be opened"
    with tempfile.TemporaryDirectory(prefix="hts-kvm-") as folder:
        serial = Path(folder) / "serial.log"
        argv = [PROGRAM, "-nodefaults", "-display", "none", "-no-reboot", "-machine", "q35", "-accel", "kvm"]
        argv += ["-cpu", CPU_MODEL, "-m", "256", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [*argv, "-serial", f"file:{serial}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in Deadline.after(_PROBE_S).poll(0.1):
                if serial.exists() and b"Linux version" in serial.read_bytes():
                    return "kvm", "a kernel began to run under KVM"
                if process.poll() is not None:
                    return "tcg", f"a kernel under KVM ended at once (exit code {process.returncode})"
            return "tcg", f"a kernel under KVM said nothing within {_PROBE_S:.0f} s"
        finally:
            process.kill()
            process.wait()
