"""Pure. Reads the log of the guard, a TEST product: one JSON object a line, and what it says of itself.

``restored`` and ``loaded`` are read and mean nothing: what was put back was taken all the same. Every other action that
is not known is unread. ``mono_s`` is the guest's monotonic clock; beside the clock at the reading it says how long ago.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.attempt import Attempt, Event, Kind
from harness.log_lines import Line, lines_of
from harness.look import number, text
from harness.observation import Action, Detection, Mechanism, Observation, Statement, Unread
from harness.products.guard.sets import MARKER_PREFIX

_ACTIONS = {
    "denied": Action.DENIED,
    "killed": Action.DENIED,
    "quarantined": Action.QUARANTINED,
    "alerted": Action.ALERTED,
    "locked": Action.ALERTED,
}
_MEANS_NOTHING = frozenset({"restored"})


class _Parser:
    version = 1

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give records, statements, and what could not be read, in the order of the events."""
        found: list[Observation] = []
        if not attempt.of(Kind.LOG) and attempt.of(Kind.SAMPLE):
            found.append(Unread(seq=0, step=None, what="guard.log was never read"))
        clocks = {event.seq: event.data.get("guest_mono_s") for event in attempt.of(Kind.LOG)}
        for item in lines_of(attempt, "guard.log"):
            observed = item if isinstance(item, Unread) else _observation(item, clocks.get(item.seq))
            found += [] if observed is None else [observed]
        found += [_statement(event) for event in attempt.of(Kind.PRODUCT, subject="status")]
        return sorted(found, key=lambda o: (o.seq, repr(o)))


def _observation(line: Line, read_at: object) -> Detection | Unread | None:
    unread = Unread(seq=line.seq, step=line.step, what=f"guard.log: {line.text[:200]}")
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError):
        return unread
    if not isinstance(value, dict) or not isinstance(value.get("action"), str):
        return unread
    if value["action"] in _MEANS_NOTHING:
        return None
    action, threat, path = _ACTIONS.get(value["action"]), text(value.get("threat")), text(value.get("path"))
    if action is None or not threat or not path.startswith("/"):
        return unread
    return Detection(
        seq=line.seq,
        step=line.step,
        threat=threat,
        action=action,
        target=path,
        mechanism=_mechanism(value["action"], late=value.get("late") is True),
        sha256=text(value.get("sha256")) or None,
        accessed_by=text(value.get("exe")) or None,
        accessed_pid=number(value.get("pid")) or None,
        set_label=threat.removeprefix(MARKER_PREFIX) if threat.startswith(MARKER_PREFIX) else None,
        age_s=_age(value.get("mono_s"), read_at),
    )


def _mechanism(action: str, *, late: bool) -> Mechanism:
    """Say what kind of knowledge acted: what watches first and acts later judges behaviour."""
    if action == "locked":
        return Mechanism.LOCK
    return Mechanism.BEHAVIOUR if late or action == "killed" else Mechanism.SIGNATURE


def _age(at: object, read_at: object) -> float | None:
    if not isinstance(at, int | float) or not isinstance(read_at, int | float):
        return None
    return round(read_at - at, 3) if 0 <= at <= read_at else None


def _statement(event: Event) -> Statement | Unread:
    parts = event.data.get("components")
    label = parts.get("definitions") if isinstance(parts, dict) else None
    if not isinstance(label, str) or not label:
        return Unread(seq=event.seq, step=event.step, what="what the guard says of itself could not be read")
    return Statement(seq=event.seq, step=event.step, set_label=label)


PARSER = _Parser()
