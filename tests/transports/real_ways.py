"""Real servers of this machine that a way leads to: a qemu-ga, started as a child of the test and ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.rig import ROOT

GUEST = ROOT / "vm_images" / "reference" / "guest"

#: What no test may make this machine do.
_BLOCKED = (
    "guest-shutdown,guest-suspend-disk,guest-suspend-ram,guest-suspend-hybrid,guest-set-time,guest-fsfreeze-freeze"
)


def program(name: str, package: str) -> str:
    """Give the path of a server's program; skip the test where it is not installed, fail in CI, which installs it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        reason = f"'{name}' is not installed (apt-get install {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    if os.getuid() != 0:
        pytest.skip(f"'{name}' makes programs another user's as root only")
    return found


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder with a short name: a socket's path has 107 characters (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="hts-way-") as name:
        yield Path(name)


@contextlib.contextmanager
def child(argv: list[str], *, there: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the context ends; it is up when a path is there."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 20
        while not there.exists():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < end, f"{argv[0]} did not begin"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def guest_agent() -> Iterator[Path]:
    """Run a real qemu-ga; give its socket, whose path is on its command line and on no other one."""
    qemu_ga = program("qemu-ga", "qemu-guest-agent")
    with folder() as where:
        socket = where / "qga"
        argv = [qemu_ga, "-m", "unix-listen", "-p", str(socket), "-t", str(where), "-f", str(where / "pid")]
        with child([*argv, "-b", _BLOCKED], there=socket):
            yield socket


def helper() -> tuple[str, ...]:
    """Give what runs a request of the guest agent's on this machine."""
    return (sys.executable, str(GUEST / "once.py"))
