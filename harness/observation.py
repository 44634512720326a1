"""Pure. What the events say, in product-neutral words. Product parsers make these; ``judge`` joins them.

A ``target`` is what the guest's own tools call the object; its Windows path is worked out by ``judge``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from harness.attempt import Attempt


class Action(StrEnum):
    """What a product did about an object, mildest first."""

    ALERTED = "alerted"
    DENIED = "denied"
    QUARANTINED = "quarantined"


class Mechanism(StrEnum):
    """What kind of knowledge or rule made the product act; the remedy differs by it."""

    SIGNATURE = "signature"
    HEURISTIC = "heuristic"
    BEHAVIOUR = "behaviour"
    CLOUD = "cloud"
    REPUTATION = "reputation"
    POLICY = "policy"
    NETWORK = "network"
    EXPLOIT_GUARD = "exploit_guard"
    LOCK = "lock"
    HOOK = "hook"
    CRASH = "crash"
    UNKNOWN = "unknown"


class Layer(StrEnum):
    """Which layer of a product's protection a canary tries."""

    FILE = "file"
    EXECUTION = "execution"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A product's own record about one object.

    Attributes:
        seq: The event that holds the record.
        step: The step whose border closed the chunk of log that holds it.
        threat: The detection's name or the rule; None when the record has none.
        action: The strongest thing that the product says it did.
        target: The object, as the product names it.
        sha256, md5: Digests that the record states; None when it states none.
        accessed_by: Path of the program that touched the object; None when not recorded.
        accessed_pid: Its process id in the guest; None when not recorded.
        set_label: Label of the signature set, when the record's own name says it (a set marker).
        at: The product's own time stamp, raw.
        count: How many records of the product were joined into this one.
        age_s: How long ago it had happened when it was read, by the guest's own clock; None when nobody can tell.
    """

    seq: int
    step: int | None
    threat: str | None
    action: Action
    target: str
    mechanism: Mechanism
    sha256: str | None = None
    md5: str | None = None
    accessed_by: str | None = None
    accessed_pid: int | None = None
    set_label: str | None = None
    at: str | None = None
    count: int = 1
    age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Evidence that exists and could not be read as what it should be. Never good news."""

    seq: int
    step: int | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFailure:
    """The product says of itself that it failed to check an object: a hole in the protection."""

    seq: int
    step: int | None
    target: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """The product's own settings say that it does not watch what lies below a path (the guest's own; ``/`` is all)."""

    seq: int
    step: int | None
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The product says of itself which signature set it has loaded. Never believed; what is proven must not differ."""

    seq: int
    step: int | None
    set_label: str


Observation = Detection | Unread | ScanFailure | Exclusion | Statement


class ProductParser(Protocol):
    """Reads one product's raw records out of an attempt. Pure; never raises for what a guest wrote."""

    #: Bumped with every change that may change what is read.
    version: int

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give all that the product's events say, in the order of the events."""
        ...
