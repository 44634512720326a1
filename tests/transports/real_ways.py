"""Real servers of this machine that a way leads to, qemu-ga and sshd: children of the test, ended with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.rig import ROOT
from harness.transports.qga import HELPER
from harness.transports.ssh import SshAddress

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
        path = where / "qga"
        argv = [qemu_ga, "-m", "unix-listen", "-p", str(path), "-t", str(where), "-f", str(where / "pid")]
        with child([*argv, "-b", _BLOCKED], there=path):
            yield path


def helper() -> tuple[str, ...]:
    """Give what runs a request of the guest agent's on this machine."""
    return (*HELPER[:-1], str(GUEST / "once.py"))


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """A real sshd on loopback with a key of its own; ``agent`` runs requests, by a path that no other test's has."""

    address: SshAddress
    agent: tuple[str, ...]


_SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {where}/host
PidFile {where}/pid
AuthorizedKeysFile {where}/own.pub
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


@contextlib.contextmanager
def sshd() -> Iterator[Sshd]:
    """Run a real sshd; it knows one host key and one of ours, both made for it."""
    server = program("sshd", "openssh-server")
    with folder() as where:
        for name in ("host", "own"):
            make_key(where / name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (where / "config").write_text(_SSHD.format(port=port, where=where))
        Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation's, and only Debian's unit makes it
        shutil.copytree(GUEST, where / "guest", ignore=shutil.ignore_patterns("__pycache__"))
        with child([server, "-D", "-e", "-f", str(where / "config")], there=where / "pid"):
            address = SshAddress(
                at=f"127.0.0.1:{port}", host_key=public(where / "host"), user="root", key_file=str(where / "own")
            )
            yield Sshd(address=address, agent=("/usr/bin/python3", str(where / "guest" / "agent.py")))


def make_key(path: Path, kind: str = "ed25519") -> None:
    """Make a pair of keys."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True)


def public(path: Path) -> str:
    """Give the public half of a pair, without its comment."""
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])
