"""A run against what is documented about it: every difference is a sentence, and no difference is none."""

from __future__ import annotations

import pytest

from harness.build import Component
from harness.expectation import Expectations, Expected, differences, promises
from harness.facts import Owner
from harness.matrix import FailedStep, MatrixCell, MatrixDetection
from harness.observation import Action, Mechanism
from harness.verdict import Outcome
from tests.builders import make_matrix_cell


def detection(target: str | None) -> MatrixDetection:
    return MatrixDetection(
        threat="T",
        action=Action.QUARANTINED,
        target=target,
        sha256=None,
        component=None,
        mechanism=Mechanism.SIGNATURE,
        signature=None,
        at=None,
        after_s=None,
        stage="connect",
        owner=Owner.BUILD,
        raw_target=target,
        accessed_by=None,
        count=1,
    )


def quarantined(*, target: str | None = r"C:\App\Comm.DLL", dialog: str | None = "연결 모듈이 없습니다") -> MatrixCell:
    step = FailedStep(
        index=4, kind="connect", expectation="window", code=None, code_text=None, timed_out=False, duration_s=1.0,
        detail=None, dialog=dialog,
    )  # fmt: skip
    return make_matrix_cell(Outcome.QUARANTINED, detections=(detection(target),), failed_step=step)


def found(cells: list[MatrixCell], *expected: Expected) -> tuple[str, ...]:
    return differences(Expectations(cells=expected), cells)


def expected(cell: str = "*", outcome: Outcome = Outcome.QUARANTINED, **more: object) -> Expected:
    return Expected.model_validate({"cell": cell, "outcome": outcome, **more})


def test_a_run_that_is_as_documented_has_no_difference() -> None:
    wanted = expected("1.0.0/*", stage=("connect",), target=r"\comm.dll", dialog="모듈이 없습니다")
    assert found([quarantined()], wanted) == ()


def test_another_outcome_is_said_with_its_reason() -> None:
    [said] = found([quarantined()], expected(outcome=Outcome.COMPATIBLE))
    assert said.endswith(": QUARANTINED instead of COMPATIBLE (Says QUARANTINED.)")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"stage": ("launch", "install")}, "at 'connect' instead of launch or install"),
        ({"target": r"\other.dll"}, r"no detection of \other.dll"),
        ({"dialog": "다른"}, "the dialog does not say '다른'"),
    ],
)
def test_each_thing_that_differs_is_said(more: dict[str, object], said: str) -> None:
    wanted = Expected.model_validate({"cell": "*", "outcome": Outcome.QUARANTINED, **more})
    [sentence] = found([quarantined()], wanted)
    assert sentence.endswith(said)


def test_all_differences_of_a_cell_are_said() -> None:
    assert len(found([quarantined()], expected(stage=("launch",), target="x", dialog="y"))) == 3


def test_what_is_expected_and_was_not_recorded_differs() -> None:
    cell = make_matrix_cell(Outcome.QUARANTINED)
    assert len(found([cell], expected(target="x", dialog="y"))) == 2
    assert len(found([quarantined(target=None, dialog=None)], expected(target="x", dialog="y"))) == 2


def test_the_first_pattern_that_fits_counts() -> None:
    assert found([quarantined()], expected("1.0.0/*"), expected("*", Outcome.COMPATIBLE)) == (
        "*: no cell of the run has this id",
    )


def test_a_cell_that_nothing_is_documented_about_differs() -> None:
    [said] = found([make_matrix_cell()])
    assert said.endswith("nothing is documented about this cell")


def test_a_documented_cell_that_the_run_has_not_differs() -> None:
    assert found([], expected("9.9.9/*")) == ("9.9.9/*: no cell of the run has this id",)


def late(after_s: float | None = 12.0, component: Component | None = Component.MODULE) -> MatrixCell:
    found = detection(None).model_copy(update={"after_s": after_s, "component": component})
    return make_matrix_cell(Outcome.QUARANTINED, detections=(found,), mechanism=Mechanism.BEHAVIOUR)


def test_kind_of_file_mechanism_and_seconds_are_compared_where_they_are_documented() -> None:
    whole = expected(component=("module",), mechanism="behaviour", after_s=(10, 20))
    assert found([late()], whole) == ()
    assert found([late(component=Component.MAIN, after_s=3.0)], expected()) == ()
    [kind] = found([late(component=Component.MAIN)], whole)
    assert kind.endswith("about main instead of module")
    [mechanism] = found([late()], whole.model_copy(update={"mechanism": Mechanism.SIGNATURE}))
    assert mechanism.endswith("by behaviour instead of signature")


@pytest.mark.parametrize(("after_s", "shown"), [(9.9, "9.9"), (20.1, "20.1"), (None, "unknown")])
def test_seconds_outside_their_bounds_and_unknown_ones_are_told(after_s: float | None, shown: str) -> None:
    [said] = found([late(after_s)], expected(after_s=(10, 20)))
    assert said.endswith(f"after {shown} s instead of 10 to 20 s")


def test_a_cell_without_a_detection_has_no_kind_of_file_and_no_seconds() -> None:
    said = found([make_matrix_cell(Outcome.QUARANTINED)], expected(component=("module",), after_s=(0, 1)))
    assert [s.partition(": ")[2] for s in said] == [
        "about nothing instead of module",
        "after unknown s instead of 0 to 1 s",
    ]


def test_a_rule_and_words_of_the_reason_are_compared_where_they_are_documented() -> None:
    cell = make_matrix_cell(Outcome.INCONCLUSIVE, rule="lab.trouble", reason="The set b was not proven to be loaded.")
    wanted = expected(outcome=Outcome.INCONCLUSIVE, rule=("lab.trouble",), reason="not proven")
    assert found([cell], wanted) == ()
    [rule] = found([cell], wanted.model_copy(update={"rule": ("lab.canary", "lab.exclusion")}))
    assert "by the rule lab.trouble instead of lab.canary or lab.exclusion" in rule
    [reason] = found([cell], wanted.model_copy(update={"reason": "exploded"}))
    assert "does not say 'exploded' (The set b was not proven" in reason


def test_only_what_names_a_promise_is_one_and_each_wrong_cell_speaks_against_it() -> None:
    cells = [late(), late().model_copy(update={"id": "2.0.0/x", "outcome": Outcome.COMPATIBLE})]
    plain, named = expected(), expected(promise="late", words="Caught late.")
    [seen] = promises(Expectations(cells=(plain, named)), cells)
    assert (seen.promise, seen.words, seen.kept, len(seen.cells)) == ("late", "Caught late.", False, 2)
    [why] = seen.why_not
    assert why.startswith("2.0.0/x: COMPATIBLE instead of QUARANTINED")
    [kept] = promises(Expectations(cells=(named,)), cells[:1])
    assert kept.kept


@pytest.mark.parametrize(("slowdown", "shown"), [(None, "no step is slower"), (1.4, "1.4 times")])
def test_a_step_that_should_be_slower_and_is_not_is_told(slowdown: float | None, shown: str) -> None:
    wanted = expected(outcome=Outcome.COMPATIBLE, slower=1.5)
    [said] = found([make_matrix_cell(slowdown=slowdown)], wanted)
    assert said.endswith(f"{shown} instead of at least 1.5 times the control's time")
    assert found([make_matrix_cell(slowdown=1.5)], wanted) == ()
