"""Pure. A judged cell -> the judgement that is kept: its verdict, what it rests on, and its object of matrix.json."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from harness.attempt import Attempt
from harness.errors import Blame
from harness.judge import Judged, refuse_strangers
from harness.judgement import Judgement
from harness.matrix_cell import Tried, cell_of, without_evidence
from harness.plan import Cell
from harness.rules import RULES_VERSION
from harness.verdict import Outcome


def tried(judged: Judged, attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> tuple[list[Tried], list[Tried]]:
    """Put attempts, facts and findings side by side: the cell's own, and those of its controls (empty for a control).

    Args:
        judged: Made from exactly these attempts and controls, in this order.
        attempts: The cell's own.
        controls: Its controls'; empty for a control cell, whose attempts are its own.
    """
    own = [Tried(*row) for row in zip(attempts, judged.facts, judged.findings, strict=True)]
    if not controls:
        return own, []
    return own, [Tried(*row) for row in zip(controls, judged.controls, judged.control_findings, strict=True)]


def written(
    cell: Cell,
    judged: Judged,
    attempts: Sequence[Attempt],
    controls: Sequence[Attempt],
    *,
    parser_version: int,
    now: datetime,
    cached_from: str | None = None,
) -> Judgement:
    """Write a verdict down, with all that it was computed from and its object of matrix.json.

    Raises:
        ValueError: An attempt is of another cell.
    """
    refuse_strangers(attempts, cell)
    verdict = judged.verdict
    own, beside = tried(judged, attempts, controls)
    shown = cell_of(cell, verdict, attempts=own, controls=beside, cached_from=cached_from)
    return Judgement(
        outcome=verdict.outcome,
        rule=verdict.rule,
        reason=verdict.reason,
        stage=verdict.stage,
        blame=verdict.blame,
        mechanism=verdict.mechanism,
        flaky=verdict.flaky,
        confirmed=verdict.confirmed,
        decided_by=verdict.decided_by,
        attempts=tuple(a.meta.id for a in attempts),
        controls=tuple(a.meta.id for a in controls),
        rules_version=RULES_VERSION,
        parser_version=parser_version,
        judged_at=now,
        attempted_at=min(a.meta.started_at for a in attempts),
        cloud=cell.asks_a_cloud,
        cached_from=cached_from,
        cell=shown.to_value(),
    )


def untried(cell: Cell, *, rule: str, reason: str, parser_version: int, now: datetime) -> Judgement:
    """Write down why a cell got no guest of its own, by trouble of ours; rejudging leaves it as it is."""
    shown = without_evidence(cell, Outcome.INCONCLUSIVE, reason, blame=Blame.LAB, rule=rule)
    return Judgement(
        outcome=Outcome.INCONCLUSIVE,
        rule=rule,
        reason=reason,
        blame=Blame.LAB,
        rules_version=RULES_VERSION,
        parser_version=parser_version,
        judged_at=now,
        cell=shown.to_value(),
    )


def guestless(cell: Cell, why: str, *, parser_version: int, now: datetime) -> Judgement:
    """Write down why a cell can have no guest at all: it makes no sense, or its image is not there."""
    unsupported = cell.unsupported is not None
    return Judgement(
        outcome=Outcome.UNSUPPORTED if unsupported else Outcome.INCONCLUSIVE,
        rule="declared" if unsupported else "lab.image",
        reason=why,
        blame=None if unsupported else Blame.LAB,
        rules_version=RULES_VERSION,
        parser_version=parser_version,
        judged_at=now,
    )
