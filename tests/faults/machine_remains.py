"""What this process still has of its virtual machines: once a run is over there must be nothing."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from harness.providers.qemu.clone import OWNER, runs_folder

#: How long what is just going may take; what is there still has been left.
SETTLES_S = 10.0


def remains(*, before: Iterable[str] = (), within_s: float = SETTLES_S) -> tuple[str, ...]:
    """Name every folder, process, socket and memory of a virtual machine that is ours, once no more of them go.

    Args:
        before: What was there before, and is not named.
        within_s: How long what goes is waited for.
    """
    until = time.monotonic() + within_s
    known = Counter(before)
    while (found := _all() - known) and time.monotonic() < until:
        time.sleep(0.1)
    return tuple(found.elements())


def _all() -> Counter[str]:
    return Counter((*_folders(), *_processes(), *_descriptors()))


def _folders() -> list[str]:
    found = []
    for folder in sorted(runs_folder().glob("vm-*")):
        with suppress(OSError, ValueError):
            if json.loads((folder / OWNER).read_text(encoding="utf-8")).get("pid") == os.getpid():
                found.append(f"folder {folder.name}")
    return found


def _processes() -> list[str]:
    """Machines whose parent we are, those that nobody has waited for among them."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = status.read_text(encoding="utf-8").partition("(")[2].rpartition(")")
            if int(rest.split()[1]) == os.getpid() and name.startswith("qemu-system"):
                found.append(f"process {status.parent.name} ({name}, {rest.split()[0]})")
    return found


def _descriptors() -> list[str]:
    """Sockets into the folders of machines, and templates' memories."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            target = str(link.readlink())
            if target.startswith("/memfd:hts-"):
                found.append(f"memory {target.removeprefix('/memfd:').split()[0]}")
            elif target.startswith("socket:") and _peer(int(link.name)).startswith(f"{runs_folder()}/"):
                found.append(f"socket {_peer(int(link.name)).removeprefix(f'{runs_folder()}/')}")
    return found


def sockets_to(address: str) -> list[socket.socket]:
    """Give copies of this process's sockets that are connected to a path, for the caller to close."""
    found = []
    for link in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if str(link.readlink()).startswith("socket:") and _peer(int(link.name)) == address:
                found.append(socket.socket(fileno=os.dup(int(link.name))))
    return found


def _peer(descriptor: int) -> str:
    """Give the path at the other end of a socket; empty for any other kind."""
    copy = socket.socket(fileno=os.dup(descriptor))
    try:
        return str(copy.getpeername()) if copy.family is socket.AF_UNIX else ""
    except OSError:
        return ""
    finally:
        copy.close()
