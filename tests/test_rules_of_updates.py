"""A cell that puts its build over an older one: what a failure of the older, or a record about it, means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.attempt import Role
from harness.errors import Blame
from harness.facts import Facts, Owner
from harness.observation import Action
from harness.rules import decide
from harness.verdict import Need, Outcome
from tests.builders import make_build, make_cell, make_over_older_scenario
from tests.facts_builders import control, detection, failed_step, failing, fresh_control, good
from tests.rule_rows import Row, check

CELL = make_cell(build=make_build("1.1.0"), older=make_build("1.0.0"), scenario=make_over_older_scenario())
NONE = CELL.control()
OLDER_LAUNCH, OWN_DELIVER, UPDATE, LAUNCH = 2, 3, 4, 6


def about_older(step: int, action: Action = Action.QUARANTINED) -> Facts:
    return good(CELL, detections=[detection(CELL, step=step, owner=Owner.OLDER, action=action)])


def failed_at(step: int, *, name: str = "attempt-1", of: Facts | None = None) -> Facts:
    facts = of or good(CELL, attempt_id=name)
    return failing(facts, failed_step(facts.cell, step, expectation="exit_code", code=2, detail="It ended with 2."))


def failed_control(name: str, step: int) -> Facts:
    return control(CELL, attempt_id=name, failed=failed_step(NONE, step, expectation="exit_code", code=2))


CONTROLS = (control(CELL), fresh_control(CELL))
ROWS = {
    "nothing recorded: the update is good": Row(
        facts=good(CELL), controls=CONTROLS, rule="all.passed", outcome=Outcome.COMPATIBLE, says=("Every step passed",)
    ),
    "the older build was taken away before it could be updated": Row(
        facts=about_older(OLDER_LAUNCH),
        controls=CONTROLS,
        rule="older.build",
        outcome=Outcome.INCONCLUSIVE,
        stage="launch",
        says=("clamav removed", "of the older build 1.0.0 at 'launch'", "the update to 1.1.0 did not start"),
    ),
    "an alert alone about the older build is no good news either": Row(
        facts=about_older(UPDATE, Action.ALERTED),
        controls=CONTROLS,
        rule="older.build",
        outcome=Outcome.INCONCLUSIVE,
        stage="update",
        says=("clamav reported", "of the older build 1.0.0"),
    ),
    "the older build fails beside the product": Row(
        facts=failed_at(OLDER_LAUNCH),
        controls=CONTROLS,
        rule="older.build",
        outcome=Outcome.INCONCLUSIVE,
        stage="launch",
        says=("The older build 1.0.0 failed at 'launch'", "nothing to update"),
    ),
    "the update fails because the product takes the older build's file": Row(
        facts=failed_at(UPDATE, of=about_older(UPDATE)),
        controls=CONTROLS,
        rule="step.failed",
        outcome=Outcome.BLOCKED,
        stage="update",
        says=("'update' fails with the product", "hts_comm.dll of the older build 1.0.0", "It ended with 2."),
        needs=frozenset({Need.CONFIRM}),
    ),
    "the update fails without a record": Row(
        facts=failed_at(UPDATE),
        controls=CONTROLS,
        rule="step.failed",
        outcome=Outcome.BROKEN,
        stage="update",
        says=("left no record",),
        needs=frozenset({Need.CONFIRM}),
    ),
    "this build's own delivery fails": Row(
        facts=failed_at(OWN_DELIVER),
        controls=CONTROLS,
        rule="step.failed",
        outcome=Outcome.BROKEN,
        stage="deliver",
        says=("'deliver' fails with the product",),
        needs=frozenset({Need.CONFIRM}),
    ),
    "a record about this build stands, whatever befell the older": Row(
        facts=replace(about_older(OLDER_LAUNCH), detections=(
            *about_older(OLDER_LAUNCH).detections, detection(CELL, step=LAUNCH, seq=301))),
        controls=CONTROLS,
        rule="product.acted",
        outcome=Outcome.QUARANTINED,
        stage="launch",
        says=("hts_comm.dll",),
        needs=frozenset({Need.CONFIRM}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_an_update_is_judged_by_the_first_rule_that_matches(row: Row) -> None:
    check(row)


def test_a_record_about_the_older_build_blames_the_product_and_its_own_failure_the_build() -> None:
    assert decide(about_older(OLDER_LAUNCH), CONTROLS).blame is Blame.PRODUCT
    assert decide(failed_at(OLDER_LAUNCH), CONTROLS).blame is Blame.BUILD


def test_a_control_in_which_the_older_build_fails_is_no_fault_of_this_one() -> None:
    first, second = failed_control("c1", OLDER_LAUNCH), failed_control("c2", OLDER_LAUNCH)
    finding = decide(first, [second])
    assert (finding.rule, finding.outcome) == ("control.older", Outcome.INCONCLUSIVE)
    assert "The older build 1.0.0 fails at 'launch'" in finding.reason
    late = decide(failed_control("c1", UPDATE), [failed_control("c2", UPDATE)])
    assert (late.rule, late.outcome) == ("control.failed", Outcome.BUILD_FAULT)


@pytest.mark.parametrize("step", range(len(CELL.scenario.steps) + 1))
@pytest.mark.parametrize("action", Action)
def test_a_record_about_the_older_build_never_leaves_compatible(step: int, action: Action) -> None:
    assert decide(about_older(step, action), CONTROLS).outcome is Outcome.INCONCLUSIVE


def test_a_cell_without_an_older_build_never_speaks_of_one() -> None:
    finding = decide(replace(good(), role=Role.FIRST), [control()])
    assert finding.outcome is Outcome.COMPATIBLE
