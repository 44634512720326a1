"""Pure. What a cell does in a guest, whatever its system. Answers stay raw bytes: evidence before values.

Paths are Windows paths. The watcher is passive: it lists, reads logs, looks at processes, windows and sockets; it opens
no file of a build. ``inspect`` is the exception and comes once, after the last step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harness.deadline import Deadline
from harness.image import Image
from harness.scenario import Service
from harness.transports.api import CommandResult, Transport
from harness.transports.payload import Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A field that was filled in. ``hidden``: it shows no character of its text, as fields for passwords do."""

    hidden: bool


class Desktop(Protocol):
    """The desktop session, and the person before it."""

    def start(self, job: str, argv: Sequence[str], *, deadline: Deadline) -> bytes:
        """Start a program in the session as the desktop user; answer as ``look.job`` reads it."""
        ...

    def job(self, job: str, *, deadline: Deadline, wait_s: float = 0.0) -> bytes:
        """Tell how a started program is, waiting at most ``wait_s`` for its end and its children's."""
        ...

    def click(self, *, window: str, button: str, deadline: Deadline) -> bool:
        """Press a button, by its exact text, in a window whose title contains ``window``; False when there is none."""
        ...

    def fill(self, *, window: str, field: str | int, value: str, deadline: Deadline) -> Filled | None:
        """Set the text of a field in a window whose title contains ``window``; None when there is no such field.

        Args:
            window: Part of the title.
            field: The exact text of the label before the field, or the field's number among the window's (from 1).
            value: May be secret: it stands in no command line, and in no error.
            deadline: Bounds the call.
        """
        ...

    def close_window(self, *, window: str, deadline: Deadline) -> bool:
        """Close a window whose title contains ``window``, as its X does; False when there is none."""
        ...

    def screenshot(self, *, deadline: Deadline) -> bytes | None:
        """Give a PNG of the whole screen; None when none could be made."""
        ...


class Watcher(Protocol):
    """Passive eyes in the guest."""

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        """Answer a request as ``look`` reads it (windows, tcp, processes, images, list, tail, time)."""
        ...

    def plant(self, nonce: str, items: Sequence[Mapping[str, object]], *, deadline: Deadline) -> bytes:
        """Plant objects as the desktop user and tell how the guest reacts; answer as ``look.planted`` reads it."""
        ...

    def inspect(self, folder: str, *, deadline: Deadline) -> bytes:
        """Open and hash every file below a folder as the desktop user; answer as ``look.digests`` reads it."""
        ...


@runtime_checkable
class ReadsDiscs(Protocol):
    """The ability of a guest system to take a build from the disc in the guest's drive."""

    def deliver_from_disc(self, path: str, *, size_bytes: int, sha256: str, deadline: Deadline) -> CommandResult:
        """Write the disc's one file to a path, as ``GuestSystem.deliver`` would write it.

        Raises:
            LookError: The disc cannot be read, or does not hold these bytes.
        """
        ...


class GuestSystem(Desktop, Watcher, Protocol):
    """A guest whose system is known."""

    image: Image

    @property
    def admin(self) -> Transport:
        """Give the administrator's way in, for what belongs to the lab."""
        ...

    def await_ready(self, *, deadline: Deadline) -> bytes:
        """Wait until the desktop session stands; give what it says of itself."""
        ...

    def reboot(self, *, deadline: Deadline) -> bytes:
        """Start the guest anew (a container: its desktop session) and wait until the session stands."""
        ...

    def deliver(self, content: Payload, path: str, *, deadline: Deadline) -> CommandResult:
        """Write a file as the desktop user, as a browser's download would be written."""
        ...

    def unpack(self, archive: str, folder: str, *, deadline: Deadline) -> CommandResult:
        """Unpack a zip into a folder as the desktop user; a failure's exit code is its errno where there is one."""
        ...

    def start_service(self, service: Service, files: Mapping[str, bytes], *, deadline: Deadline) -> None:
        """Start a stand-in server under a user of its own and wait until it listens.

        Raises:
            LabError: It did not listen before the deadline.
        """
        ...


@runtime_checkable
class UsesProxy(Protocol):
    """The ability of a system to tell the desktop user's programs of a proxy."""

    def use_proxy(self, address: str, *, deadline: Deadline) -> None:
        """Set the user's proxy as a person would: what WinINet reads, and the variables that other programs read.

        Args:
            address: ``host:port``.
            deadline: Bounds it.

        Raises:
            LabError: It could not be set.
        """
        ...
