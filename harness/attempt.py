"""Pure. What was seen: one execution of a cell on one guest, as events and raw blobs. Never changed.

1. An event says what happened; it never says what it means. Meaning is computed from it, again and again.
2. Bytes from a guest stay bytes, in a blob named by its sha256; an event refers to it and says whether it was cut.
3. ``seq`` orders events. ``step`` is the index of the step during or after which it was recorded, None before the
   first, and ``len(steps)`` for our own last look (stage ``inspect``).
4. An attempt is complete only with its ``attempt.end`` event; without it nothing in it can be good news.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import Field, JsonValue

from harness.frozen import Frozen
from harness.plan import Cell


class Role(StrEnum):
    """Why an attempt was made."""

    FIRST = "first"
    CONFIRM = "confirm"
    CONTROL = "control"
    CONTROL_AFTER = "control_after"
    SENTINEL = "sentinel"
    RETRY = "retry"


class Kind(StrEnum):
    """What kind of thing an event records."""

    BEGIN = "attempt.begin"
    END = "attempt.end"
    TROUBLE = "trouble"
    GUEST = "guest"
    PRODUCT = "product"
    EXCLUSION = "exclusion"
    PLANTED = "planted"
    CANARY = "canary"
    SAMPLE = "sample"
    LOG = "log"
    STEP_BEGIN = "step.begin"
    STEP_END = "step.end"
    LOOK = "look"
    SCREENSHOT = "screenshot"
    INSPECTION = "inspection"
    EGRESS = "egress"


#: Source of events that the harness itself records; a product's are ``product:<name>``.
HARNESS = "harness"

#: Names of the programs that the harness starts in a guest; their processes carry the name, and so do their children's.
INSTALL_JOB = "install"
LAUNCH_JOB = "launch"
UNINSTALL_JOB = "uninstall"

#: Subject of the event that names what a guest was leased from so that its protection was up from its first moment.
LAYER = "layer"

#: Subject of the event that holds every connection out of the guest; its data is their sum (``EgressSeen``).
CONNECTIONS = "connections"

#: Says in the data of the last look that protection is sampled once more behind it (collector version 2).
SAMPLED_BEHIND = "sampled_behind"
UPDATE_JOB = "update"


class Event(Frozen):
    """One thing that happened in an attempt."""

    seq: int = Field(ge=0)
    host_mono_s: float = Field(description="Host's monotonic clock, seconds since the attempt began.")
    guest_time: str | None = None
    step: int | None = None
    source: str = HARNESS
    kind: Kind
    subject: str = ""
    data: dict[str, JsonValue] = Field(default_factory=dict)
    blob: str | None = Field(default=None, description="sha256 of the raw bytes.")
    truncated: bool = False


class AttemptMeta(Frozen):
    """Who made an attempt, when, and for which cell."""

    id: str
    cell: Cell
    role: Role
    ordinal: int = Field(ge=1)
    alone: bool = Field(default=False, description="True when no other guest ran beside it.")
    nonce: str = Field(pattern=r"^[a-z0-9]{8,32}$", description="In the name of every object that was planted.")
    provider: str
    tool_version: str
    started_at: datetime
    finished_at: datetime | None = None


class Blobs(Protocol):
    """Where raw bytes are found by their sha256."""

    def get(self, sha256: str) -> bytes:
        """Give the bytes; raise ``KeyError`` when they are missing and ``ValueError`` when they are not these bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An immutable bundle: who and what (``meta``), what happened (``events``), and the raw bytes (``blobs``)."""

    meta: AttemptMeta
    events: tuple[Event, ...]
    blobs: Blobs

    @property
    def cell(self) -> Cell:
        """Give the cell that was tried."""
        return self.meta.cell

    @property
    def complete(self) -> bool:
        """Tell whether the attempt was finished by its own last event."""
        return bool(self.events) and self.events[-1].kind is Kind.END

    def of(self, kind: Kind, *, subject: str | None = None) -> list[Event]:
        """Give the events of a kind, in order."""
        return [e for e in self.events if e.kind is kind and (subject is None or e.subject == subject)]


@dataclass(frozen=True, slots=True)
class MemoryBlobs:
    """Blobs that are kept in memory: while an attempt is being made, and in tests."""

    bytes_by_sha256: Mapping[str, bytes]

    def get(self, sha256: str) -> bytes:
        """Give the bytes; raise ``KeyError`` when they are missing."""
        return self.bytes_by_sha256[sha256]


def to_jsonl(events: Sequence[Event]) -> bytes:
    """Write events as UTF-8 JSON lines, one event a line, in order."""
    return b"".join(
        json.dumps(e.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
        + b"\n"
        for e in events
    )


def from_jsonl(raw: bytes) -> tuple[Event, ...]:
    """Read what ``to_jsonl`` wrote.

    Raises:
        ValueError: A line is no event, or the order is broken: what cannot be read whole is not read at all.
    """
    events = tuple(Event.model_validate_json(line) for line in raw.splitlines() if line.strip())
    if [e.seq for e in events] != list(range(len(events))):
        msg = "the events are not numbered from 0 without gaps"
        raise ValueError(msg)
    return events
