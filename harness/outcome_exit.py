"""Pure. What a run comes to as an exit code (contract): precedence 2, 5, 4, 1, 3, 0; 2 and 5 are raised as errors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.judgement import Judgement
from harness.verdict import BAD, Outcome

ALL_GOOD, INCOMPATIBLE, COULD_NOT_TELL, NOTHING_RAN = 0, 1, 3, 4


def exit_code(judgements: Mapping[str, Judgement | None], *, strict: bool = False, waived: Collection[str] = ()) -> int:
    """Give the exit code of a run from the judgement of each expected cell, by cell id (None where there is none).

    DETECTED and the cells of ``waived`` count as good unless ``strict``. UNSUPPORTED is neutral: a run of nothing else
    has run nothing.
    """
    outcomes = {
        name: judgement.outcome if judgement is not None else Outcome.INCONCLUSIVE
        for name, judgement in judgements.items()
    }
    told = {name: outcome for name, outcome in outcomes.items() if outcome is not Outcome.UNSUPPORTED}
    if not told:
        return NOTHING_RAN
    bad = BAD | ({Outcome.DETECTED} if strict else set())
    if any(outcome in bad and (strict or name not in waived) for name, outcome in told.items()):
        return INCOMPATIBLE
    return COULD_NOT_TELL if Outcome.INCONCLUSIVE in told.values() else ALL_GOOD
