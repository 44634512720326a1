"""Effects. Answers a cell from what the store has of it: judged anew, young enough, and still sure."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from harness.attempt import Attempt
from harness.errors import StoreError
from harness.judge import Judged
from harness.judgement import Judgement
from harness.plan import Cell, Suite
from harness.stores.api import Store
from harness.verdict import Outcome

log = logging.getLogger(__name__)


class Judge(Protocol):
    """Judges attempts beside their controls, by today's parsers and rules."""

    def __call__(self, attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> Judged:
        """Judge."""
        ...


class Answer(NamedTuple):
    """What was seen before. ``origin``: the run that saw it."""

    judged: Judged
    attempts: Sequence[Attempt]
    controls: Sequence[Attempt]
    origin: str | None


def answer_from_store(cell: Cell, *, store: Store, suite: Suite, judge: Judge, now: datetime) -> Answer | None:
    """Give what an earlier run saw of a cell; None when a guest must tell.

    Args:
        cell: The cell; all that its guest could see is in its ``execution_key``.
        store: Where to look. What cannot be read there any more answers nothing.
        suite: How old an answer may be, and what share of cells is run again all the same.
        judge: By today's parsers and rules.
        now: Aware.
    """
    known = store.latest_judgement(cell.execution_key())
    if known is None or not _still_counts(cell, known, suite, now):
        return None
    try:
        attempts = store.attempts_by_id(known.attempts)
        controls = store.attempts_by_id(known.controls)
    except StoreError:
        log.warning("what answered %s before cannot be read any more; it is run again", cell.id, exc_info=True)
        return None
    judged = judge(attempts, attempts if cell.is_control else controls)
    if not (judged.verdict.conclusive and judged.verdict.confirmed):
        return None
    return Answer(judged, attempts, controls, known.cached_from or known.run_id)


def _still_counts(cell: Cell, known: Judgement, suite: Suite, now: datetime) -> bool:
    """Tell whether an earlier judgement may answer a cell today."""
    seen_at = known.attempted_at or known.judged_at
    young = now - seen_at <= timedelta(seconds=suite.max_age_s)
    # The day and the cell decide who is re-run all the same, so that a run is repeatable and all get their turn.
    drawn = random.Random(f"{now:%Y-%m-%d}/{cell.execution_key()}").random() < suite.recheck_share  # noqa: S311
    settled = known.confirmed and known.outcome is not Outcome.INCONCLUSIVE and bool(known.attempts)
    return settled and young and not (known.cloud or cell.asks_a_cloud) and not drawn
