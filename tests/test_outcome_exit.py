"""The exit codes of a run (contract): 4 nothing ran, 1 incompatible, 3 could not tell, 0 all good, in this order."""

from __future__ import annotations

import itertools

import pytest

from harness.outcome_exit import exit_code
from harness.verdict import BAD, Outcome
from tests.builders import make_judgement


def code_of(*outcomes: Outcome | None, strict: bool = False, waived: tuple[str, ...] = ()) -> int:
    judgements = {f"cell-{at}": make_judgement(o) if o is not None else None for at, o in enumerate(outcomes)}
    return exit_code(judgements, strict=strict, waived=waived)


@pytest.mark.parametrize("outcome", sorted(BAD))
def test_one_bad_cell_is_1_whatever_else_there_is(outcome: Outcome) -> None:
    assert code_of(Outcome.COMPATIBLE, outcome, Outcome.INCONCLUSIVE, None) == 1


def test_a_cell_that_could_not_be_told_is_3() -> None:
    assert code_of(Outcome.COMPATIBLE, Outcome.INCONCLUSIVE) == 3


def test_a_cell_that_was_expected_and_has_no_judgement_is_3() -> None:
    assert code_of(Outcome.COMPATIBLE, None) == 3
    assert code_of(None) == 3


def test_all_good_is_0_and_unsupported_does_not_matter_beside_it() -> None:
    assert code_of(Outcome.COMPATIBLE, Outcome.UNSUPPORTED) == 0


def test_nothing_that_could_be_told_is_4_and_never_0() -> None:
    assert code_of() == 4
    assert code_of(Outcome.UNSUPPORTED, Outcome.UNSUPPORTED) == 4


def test_a_detection_is_good_unless_strict() -> None:
    assert code_of(Outcome.DETECTED) == 0
    assert code_of(Outcome.DETECTED, strict=True) == 1


def test_a_waived_cell_counts_as_good_unless_strict() -> None:
    assert code_of(Outcome.QUARANTINED, waived=("cell-0",)) == 0
    assert code_of(Outcome.QUARANTINED, waived=("cell-0",), strict=True) == 1
    assert code_of(Outcome.QUARANTINED, Outcome.BROKEN, waived=("cell-0",)) == 1


def test_a_waiver_does_not_make_an_unknown_cell_known() -> None:
    assert code_of(Outcome.INCONCLUSIVE, waived=("cell-0",)) == 3
    assert code_of(None, waived=("cell-0",)) == 3


def test_0_comes_of_good_outcomes_alone_in_any_order() -> None:
    for some in itertools.product([None, *Outcome], repeat=3):
        code = code_of(*some)
        assert code == code_of(*reversed(some))
        if code == 0:
            assert set(some) <= {Outcome.COMPATIBLE, Outcome.DETECTED, Outcome.UNSUPPORTED}
