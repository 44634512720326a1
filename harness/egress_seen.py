"""Pure. What guests did with their way out: every connection that was tried, and the sum of it that a verdict shows.

1. A connection is recorded by where it wanted to go, what became of it and how many bytes went, never which.
2. What a guest wrote is cut and kept in plain ASCII; where it floods, what is beyond is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

from pydantic import Field

from harness.frozen import Frozen

#: Connections of one attempt that have a record each; more than that are not let out, and counted.
MAX_CONNECTIONS = 2000

#: Characters of a host that a guest named, and refused hosts that a verdict shows.
MAX_TARGET, MAX_REFUSED = 280, 50


class How(StrEnum):
    """How a program asked."""

    TUNNEL = "tunnel"  # CONNECT
    HTTP = "http"  # a plain request
    NAME = "name"  # it connected to the host's name and knows of no proxy
    UNKNOWN = "unknown"  # it said nothing that could be read


class Fate(StrEnum):
    """What became of a connection."""

    OPENED = "opened"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"  # it was open, and the other side could not be reached from this machine
    LIMIT = "limit"  # a limit of ours ended it or kept it out


class Connection(Frozen):
    """One connection that a guest tried.

    Attributes:
        at_s: Seconds since the way out was opened, by the host's monotonic clock.
        step: Index of the step, as an event's.
        target: ``host:port`` as it was asked for, in plain ASCII.
        cloud: The vendor's cloud that the pair belongs to; None is the program's own, or nobody's.
        address: Where it was connected to.
        why: What kept it from being opened, or ended it.
        planted: Our own try, which proves that refusing works.
    """

    at_s: float
    step: int | None = None
    how: How
    target: str
    fate: Fate
    cloud: str | None = None
    address: str | None = None
    why: str | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    open_s: float = 0.0
    planted: bool = False


class PairUse(Frozen):
    """What went through one open pair in one guest. ``sent_bytes`` left the guest, ``received_bytes`` came into it."""

    pair: str
    cloud: str | None
    connections: int
    failed: int = Field(description="Of these, connections that could not be made or were ended by a limit.")
    why: str | None = Field(description="What kept the last of those from being made.")
    sent_bytes: int
    received_bytes: int


class RefusedTarget(Frozen):
    """What was asked for and not open."""

    target: str
    why: str
    times: int


class EgressSeen(Frozen):
    """All connections of one attempt, summed up.

    Attributes:
        proven: Refusing was tried from inside, before and after, and was seen to work.
        refused_more: Refusals beyond those that are listed.
        uncounted: Connections beyond ``MAX_CONNECTIONS``, which were let nowhere.
    """

    used: tuple[PairUse, ...] = ()
    refused: tuple[RefusedTarget, ...] = ()
    refused_more: int = 0
    uncounted: int = 0
    proven: bool = False


def plain(text: str) -> str:
    r"""Give what a guest wrote in plain ASCII and cut.

    Example:
        >>> print(plain("a\u202e\r\nb"))
        a\u202e\r\nb
    """
    shown = text[:MAX_TARGET].encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= MAX_TARGET and len(text) <= MAX_TARGET else f"{shown[:MAX_TARGET]}..."


def summed(connections: Sequence[Connection], *, uncounted: int = 0, proven: bool = False) -> EgressSeen:
    """Sum connections up; the order is that of the pairs' first use, and of names for what was refused."""
    others = [c for c in connections if not c.planted]
    reached = [c for c in others if c.fate in {Fate.OPENED, Fate.UNREACHABLE} or (c.fate is Fate.LIMIT and c.address)]
    pairs = dict.fromkeys((c.target, c.cloud) for c in reached)
    used = tuple(
        _use(pair, cloud, [c for c in reached if (c.target, c.cloud) == (pair, cloud)]) for pair, cloud in pairs
    )
    left = [c for c in others if c not in reached]
    times: dict[tuple[str, str], int] = {}
    for connection in left:
        key = (connection.target, connection.why or "it is not open")
        times[key] = times.get(key, 0) + 1
    listed = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    return EgressSeen(
        used=used,
        refused=tuple(RefusedTarget(target=t, why=w, times=n) for (t, w), n in listed[:MAX_REFUSED]),
        refused_more=sum(n for _, n in listed[MAX_REFUSED:]),
        uncounted=uncounted,
        proven=proven,
    )


def _use(pair: str, cloud: str | None, all_of_it: Sequence[Connection]) -> PairUse:
    failed = [c for c in all_of_it if c.fate is not Fate.OPENED]
    return PairUse(
        pair=pair,
        cloud=cloud,
        connections=len(all_of_it),
        failed=len(failed),
        why=failed[-1].why if failed else None,
        sent_bytes=sum(c.sent_bytes for c in all_of_it),
        received_bytes=sum(c.received_bytes for c in all_of_it),
    )


def doubts(connections: Iterable[Connection], *, uncounted: int, failed: bool) -> tuple[str, ...]:
    """Say why an attempt with this way out tells nothing certain; nothing when it does.

    A step that failed while a host that it may have needed was away is nobody's doing here. A vendor's cloud that was
    away judged nothing, so a program that passed was not tried with it.

    Args:
        connections: All that were tried.
        uncounted: See ``EgressSeen``.
        failed: A step failed.
    """
    found: dict[str, None] = {}
    for connection in connections:
        whose = "the vendor's cloud" if connection.cloud is not None else "the host"
        if connection.fate is Fate.UNREACHABLE and (failed or connection.cloud is not None):
            found[f"{whose} {connection.target} could not be reached from this machine: {connection.why}"] = None
        if connection.fate is Fate.LIMIT:
            found[f"the way out was used beyond its limits: {connection.why}"] = None
    if uncounted:
        found[f"the guest tried more than {MAX_CONNECTIONS} connections"] = None
    return tuple(found)
