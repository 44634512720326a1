"""Pure. What a product adapter does in a guest, and what it is given to do it with.

An adapter records what it sees as it sees it, so that an attempt that dies keeps what came before. It decides nothing:
its ``parse.py`` reads the records later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import JsonValue

from harness.attempt import Kind
from harness.deadline import Deadline
from harness.facts import When
from harness.image import Folder
from harness.signature import Signature
from harness.systems.api import GuestSystem


class Record(Protocol):
    """Adds one event to the attempt, at the current step."""

    def __call__(
        self,
        kind: Kind,
        subject: str = "",
        *,
        data: Mapping[str, JsonValue] | None = None,
        blob: bytes | None = None,
        truncated: bool = False,
    ) -> None:
        """Record an event; ``blob`` holds raw bytes from the guest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What an adapter works with.

    Attributes:
        profile: Name of the product's settings.
        nonce: Part of the name of every object that is planted.
        known: Every signature set that the plan knows of this product.
    """

    guest: GuestSystem
    record: Record
    profile: str
    nonce: str
    known: tuple[Signature, ...]


@runtime_checkable
class Scans(Protocol):
    """The ability to scan on demand."""

    def scan(self, folder: str, *, deadline: Deadline) -> None:
        """Scan a Windows folder now and record how that ended (``LOOK`` ``scan``, ``finished`` true or false)."""
        ...


@runtime_checkable
class ComesUp(Protocol):
    """The ability to be there again behind a reboot of the machine, where a product is no service of its guest.

    A product without it, and without services, is seen to be gone by the next sample.
    """

    def come_up(self, signature: Signature, *, deadline: Deadline) -> None:
        """Start what its services would start, from what lies on the disk, and wait until it reacts with a signature.

        Nothing is set up again: what was changed on the disk behind our back is there after it, as on any PC.

        Raises:
            ProtectionNotProven: It did not before the deadline.
        """
        ...


@runtime_checkable
class Resumes(Protocol):
    """The ability to be taken over in a guest that was frozen with the product up (``harness.protection``)."""

    def resume(self, signature: Signature, *, deadline: Deadline) -> None:
        """Take over what ``arm`` did with this signature before the guest was frozen, and prove what ``arm`` proves.

        Starts nothing. What the product was given is read back: it must be what ``arm`` would have given it.

        Raises:
            ProtectionNotProven: It is not, or the product does not react with exactly that set before the deadline.
        """
        ...


class Product(Protocol):
    """One security product in one guest."""

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        """Set the product up with a signature and wait until it really reacts with exactly that set.

        Raises:
            ProtectionNotProven: It did not before the deadline. What it said is recorded.
        """
        ...

    def pin(self, signature: Signature, *, deadline: Deadline) -> None:
        """Move to another signature, as a vendor's update would; wait until its marker fires and the old one does not.

        Raises:
            ProtectionNotProven: It did not before the deadline.
        """
        ...

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Record which set is loaded, and all that the product has written since the last sample (at ``border``)."""
        ...

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Try every layer of the product in each folder (Windows paths) and record how the guest reacted."""
        ...

    def collect(self, *, deadline: Deadline) -> None:
        """Record what is left to read: the rest of the logs, the quarantine's listing."""
        ...
