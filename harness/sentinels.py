"""Pure. What a wrong sentinel takes back: every verdict since the same sentinel last came out right.

A verdict rests on the time of its attempts and of its controls'. It is withdrawn when any of that time lies between the
begin of the last right sighting (else the run's) and the end of the wrong one. A right one that comes later does not
give it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from harness.errors import Blame
from harness.judgement import Judgement
from harness.matrix import MatrixCell
from harness.verdict import Outcome

RULE = "sentinel.wrong"


class Span(NamedTuple):
    """From when to when an attempt went on, by the host's clock."""

    began: datetime
    ended: datetime


class Sighting(NamedTuple):
    """One sentinel attempt, and whether it came out as known. ``told`` says what it came to, as a sentence."""

    cell_id: str
    attempt_id: str
    span: Span
    right: bool
    told: str


def withdrawn_by(spans: Sequence[Span], sightings: Sequence[Sighting], *, run_began: datetime) -> Sighting | None:
    """Give the first wrong sighting that takes back a verdict with these attempts; None when none does."""
    wrong = sorted((s for s in sightings if not s.right), key=lambda s: s.span.began)
    return next((w for w in wrong if any(_doubtful(span, w, sightings, run_began) for span in spans)), None)


def since(wrong: Sighting, sightings: Sequence[Sighting], *, run_began: datetime) -> datetime:
    """Give from when on nothing is sure: when the same sentinel was last seen right before it was seen wrong."""
    before = [s.span.began for s in sightings if s.right and s.cell_id == wrong.cell_id and s.span < wrong.span]
    return max(before, default=run_began)


def _doubtful(span: Span, wrong: Sighting, sightings: Sequence[Sighting], run_began: datetime) -> bool:
    return span.ended > since(wrong, sightings, run_began=run_began) and span.began < wrong.span.ended


def withdrawn(judgement: Judgement, wrong: Sighting, last_right: datetime, *, now: datetime) -> Judgement:
    """Write a judgement down as taken back; its attempts stay, and it says what it was."""
    stage = f" at '{judgement.stage}'" if judgement.stage else ""
    reason = (
        f"Withdrawn: {wrong.told} Nothing since {last_right:%H:%M:%S} UTC is sure."
        f" It was {judgement.outcome.value}{stage}: {judgement.reason}"
    )
    new = {
        "outcome": Outcome.INCONCLUSIVE,
        "rule": RULE,
        "reason": reason,
        "stage": None,
        "blame": Blame.LAB,
        "mechanism": None,
        "flaky": False,
        "confirmed": False,
    }
    shown = MatrixCell.model_validate(judgement.cell).model_copy(update=new)
    return judgement.model_copy(
        update={**new, "judged_at": now, "withdrawn_by": wrong.attempt_id, "cell": shown.to_value()}
    )
