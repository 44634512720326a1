"""Rules 0, 1 and 3: a control cell, the product's own act, a step that failed. A row is: facts, controls -> finding."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.attempt import Role
from harness.errors import Blame
from harness.facts import Facts, Owner
from harness.machine import Machine
from harness.observation import Action
from harness.rules import decide
from harness.verdict import Need, Outcome
from tests.facts_builders import (
    COMM,
    control,
    detection,
    failed_step,
    failing,
    fresh_control,
    good,
    lost,
)
from tests.rule_rows import (
    CELL,
    CONNECT,
    DELIVER,
    INSPECT,
    INSTALL,
    LAUNCH,
    NONE,
    UPDATE,
    UPDATE_STEP,
    Row,
    alert,
    check,
    failing_control,
    not_run_here,
    with_label,
    without_sample,
)

# --- rule 0: a control cell -----------------------------------------------------------------------------------------


def failed_control(attempt_id: str, *, code: int = 1, index: int = CONNECT, detail: str = "") -> Facts:
    step = failed_step(NONE, index, expectation="exit_code", code=code, detail=detail or "The program ended.")
    return control(attempt_id=attempt_id, failed=step)


CONTROL_ROWS = {
    "a control that passes is compatible": Row(
        facts=control(),
        controls=(),
        rule="control.passed",
        outcome=Outcome.COMPATIBLE,
        says=("without a security product",),
    ),
    "a program that the image does not run is nobody's fault": Row(
        facts=not_run_here(control()),
        controls=(not_run_here(control(attempt_id="c2")),),
        rule="control.machine",
        outcome=Outcome.INCONCLUSIVE,
        stage="launch",
        says=("DEMOHTS.EXE is made for x86", "image 'reference' runs x64 programs only"),
    ),
    "the same failure in two controls is the build's fault": Row(
        facts=failed_control("c1", detail="ended after 3 s"),
        controls=(failed_control("c2", detail="ended after 9 s"),),
        rule="control.failed",
        outcome=Outcome.BUILD_FAULT,
        stage="connect",
        says=("'connect'", "in 2 guests", "ended after 3 s"),
    ),
    "one failed control says nothing yet": Row(
        facts=failed_control("c1"),
        controls=(),
        rule="control.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("the only control run so far",),
        needs=frozenset({Need.CONTROL}),
    ),
    "a control that fails and passes changes": Row(
        facts=failed_control("c1"),
        controls=(control(attempt_id="c2"),),
        rule="control.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("changes from run to run",),
    ),
    "a control that fails with another code changes": Row(
        facts=failed_control("c1", code=1),
        controls=(failed_control("c2", code=2),),
        rule="control.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("not again in the same way",),
    ),
    "a control beside a lost one is not confirmed by it": Row(
        facts=failed_control("c1"),
        controls=(lost(control(attempt_id="c2")),),
        rule="control.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("the only control run so far",),
        needs=frozenset({Need.CONTROL}),
    ),
    "a lost control says nothing": Row(
        facts=lost(control()),
        controls=(),
        rule="control.trouble",
        outcome=Outcome.INCONCLUSIVE,
        says=("The lab had trouble at 'launch'", "The guest is gone."),
        needs=frozenset({Need.RETRY}),
    ),
    "a control that cannot be read says nothing": Row(
        facts=replace(control(), unread=("event 7 is cut",)),
        controls=(),
        rule="control.trouble",
        outcome=Outcome.INCONCLUSIVE,
        says=("event 7 is cut",),
        needs=frozenset({Need.RETRY}),
    ),
    "a control that is not finished says nothing": Row(
        facts=replace(control(), complete=False),
        controls=(),
        rule="control.trouble",
        outcome=Outcome.INCONCLUSIVE,
        says=("was not finished",),
        needs=frozenset({Need.RETRY}),
    ),
    "a control with fewer steps than asked says nothing": Row(
        facts=replace(control(), steps=control().steps[:-1]),
        controls=(),
        rule="control.unfinished",
        outcome=Outcome.INCONCLUSIVE,
        says=("did not run all of its steps",),
        needs=frozenset({Need.RETRY}),
    ),
    "a step that is counted twice does not stand for one that never ran": Row(
        facts=replace(control(), steps=(*control().steps[:-1], control().steps[0])),
        controls=(),
        rule="control.unfinished",
        outcome=Outcome.INCONCLUSIVE,
        says=("did not run all of its steps",),
        needs=frozenset({Need.RETRY}),
    ),
}


@pytest.mark.parametrize("row", CONTROL_ROWS.values(), ids=CONTROL_ROWS.keys())
def test_rule_0_judges_a_control_by_itself(row: Row) -> None:
    check(row)


# --- rule 1: the product's own act ------------------------------------------------------------------------------------

ACTED = frozenset({Need.CONFIRM})


def acted(rule_facts: Facts, outcome: Outcome, stage: str, *says: str) -> Row:
    return Row(facts=rule_facts, rule="product.acted", outcome=outcome, stage=stage, says=says, needs=ACTED)


denied = detection(CELL, action=Action.DENIED, step=LAUNCH)
taken = detection(CELL, action=Action.QUARANTINED, step=LAUNCH)

ACTED_ROWS = {
    "a file of the build was taken": acted(
        good(detections=[taken]), Outcome.QUARANTINED, "launch", "clamav removed", COMM, "'launch'", "Win.Trojan.Comm"
    ),
    "a file of the build was denied": acted(
        good(detections=[denied]), Outcome.BLOCKED, "launch", "clamav denied", COMM, "'launch'"
    ),
    "a file that was denied, then another taken": acted(
        good(detections=[detection(CELL, step=INSTALL, action=Action.DENIED, target=r"C:\DemoHTS\a.dll"), taken]),
        Outcome.QUARANTINED,
        "install",
        f"removed {COMM} at 'launch'",
    ),
    "a record without a name": acted(
        good(detections=[detection(CELL, threat=None)]), Outcome.QUARANTINED, "launch", "no name recorded"
    ),
    "a step failed in the control as well": Row(
        facts=failing(good(detections=[taken]), failed_step(CELL, CONNECT)),
        controls=(control(failed=failed_step(NONE, CONNECT)), control(attempt_id="c2", failed=failed_step(NONE, 4))),
        rule="product.acted",
        outcome=Outcome.QUARANTINED,
        stage="launch",
        says=("removed",),
        needs=ACTED,
    ),
    "no control at all": Row(
        facts=good(detections=[taken]),
        controls=(),
        rule="product.acted",
        outcome=Outcome.QUARANTINED,
        stage="launch",
        says=("removed",),
        needs=ACTED,
    ),
    "a guest that was lost after it": acted(
        lost(good(detections=[taken]), step=LAUNCH), Outcome.QUARANTINED, "launch", "removed"
    ),
    "a guest that crashed after it": acted(
        lost(good(detections=[taken]), step=LAUNCH, crashed=True), Outcome.QUARANTINED, "launch", "removed"
    ),
    "canaries that were silent later": acted(
        replace(good(detections=[taken]), canaries=()), Outcome.QUARANTINED, "launch", "removed"
    ),
    "evidence that is unread beside it": acted(
        replace(good(detections=[taken]), unread=("a piece was cut",)), Outcome.QUARANTINED, "launch", "removed"
    ),
    "protection that died at a later step": acted(
        with_label(good(detections=[detection(CELL, step=INSTALL)]), LAUNCH, None),
        Outcome.QUARANTINED,
        "install",
        "removed",
    ),
    "protection that died within the step": acted(
        with_label(good(detections=[taken]), LAUNCH, None), Outcome.QUARANTINED, "launch", "removed"
    ),
    "a set that is proven only at the step's end": acted(
        with_label(good(detections=[taken]), LAUNCH - 1, None), Outcome.QUARANTINED, "launch", "removed"
    ),
    "an act before the first step": acted(
        good(detections=[detection(CELL, step=None)]), Outcome.QUARANTINED, "deliver", "at 'deliver'"
    ),
    "a latent detection of our last look": acted(
        good(detections=[detection(CELL, step=INSPECT)]), Outcome.QUARANTINED, "inspect", "at 'inspect'"
    ),
    "a latent detection after a step that failed early": acted(
        failing(good(detections=[detection(CELL, step=INSPECT)]), failed_step(CELL, LAUNCH)),
        Outcome.QUARANTINED,
        "inspect",
        "at 'inspect'",
    ),
    "an act while the vendor's update ran": Row(
        facts=good(UPDATE, detections=[detection(UPDATE, step=UPDATE_STEP)]),
        rule="product.acted",
        outcome=Outcome.QUARANTINED,
        stage="vendor_update",
        says=("removed",),
        needs=ACTED,
    ),
    "a guest that was lost while the vendor's update ran": Row(
        facts=lost(good(UPDATE, detections=[detection(UPDATE, step=UPDATE_STEP)]), step=UPDATE_STEP),
        rule="product.acted",
        outcome=Outcome.QUARANTINED,
        stage="vendor_update",
        says=("removed",),
        needs=ACTED,
    ),
    "an act that is proven beside one that drifted": acted(
        with_label(good(detections=[detection(CELL, step=DELIVER), denied]), -1, "2026-11-03"),
        Outcome.BLOCKED,
        "launch",
        "denied",
    ),
}


@pytest.mark.parametrize("row", ACTED_ROWS.values(), ids=ACTED_ROWS.keys())
def test_rule_1_a_products_act_about_the_build_stands_whatever_else_happened(row: Row) -> None:
    finding = check(row)
    assert finding.blame is Blame.PRODUCT
    assert finding.detections
    assert finding.refs


def acted_at(facts: Facts, *, step: int = LAUNCH) -> Facts:
    return replace(facts, detections=(detection(facts.cell, step=step),))


DRIFT_ROWS = {
    "another set before the step": (with_label(acted_at(good()), LAUNCH - 1, "2026-11-03"), "2026-11-03"),
    "another set at the step's end": (with_label(acted_at(good()), LAUNCH, "2026-11-03"), "2026-11-03"),
    "no known set at either border": (with_label(with_label(acted_at(good()), 2, None), 3, None), None),
    "no sample at either border": (without_sample(acted_at(good()), LAUNCH - 1, LAUNCH), None),
    "no sample at all": (replace(acted_at(good()), samples=()), None),
    "the new set already before the vendor's update": (
        with_label(acted_at(good(UPDATE), step=UPDATE_STEP), UPDATE_STEP - 1, "2026-11-05"),
        "2026-11-05",
    ),
    "the old set still after the vendor's update": (
        with_label(acted_at(good(UPDATE), step=UPDATE_STEP), UPDATE_STEP, "2026-11-04"),
        "2026-11-04",
    ),
    "the old set still at the launch": (
        with_label(acted_at(good(UPDATE), step=UPDATE_STEP + 1), UPDATE_STEP, "2026-11-04"),
        "2026-11-04",
    ),
    "another set behind our last look": (
        replace(
            acted_at(good(), step=INSPECT),
            samples=(*good().samples, replace(good().samples[-1], border=INSPECT, label="2026-11-05")),
        ),
        "2026-11-05",
    ),
    "another set at our last look": (with_label(acted_at(good(), step=INSPECT), CONNECT, "2026-11-03"), "2026-11-03"),
}


@pytest.mark.parametrize(("facts", "found"), DRIFT_ROWS.values(), ids=DRIFT_ROWS.keys())
def test_rule_1_an_act_under_another_set_than_scheduled_is_inconclusive_and_names_it(
    facts: Facts, found: str | None
) -> None:
    finding = decide(facts, [control()])
    assert (finding.rule, finding.outcome) == ("product.acted", Outcome.INCONCLUSIVE)
    assert finding.drifted_to == found
    assert f"signature {found or 'of unknown name'} was loaded where" in finding.reason
    assert finding.needs == {Need.RETRY}
    assert finding.blame is Blame.LAB


@pytest.mark.parametrize("owner", [Owner.PLANTED, Owner.UNATTRIBUTED])
def test_rule_1_acts_about_other_objects_convict_nobody(owner: Owner) -> None:
    finding = decide(good(detections=[detection(CELL, owner=owner)]), [control()])
    assert finding.outcome not in {Outcome.QUARANTINED, Outcome.BLOCKED}


# --- rule 3: a step failed --------------------------------------------------------------------------------------------


def broken(step: int = CONNECT, *, code: int | None = 5, detail: str = "It hangs.", started: float = 100.0) -> Facts:
    return failing(good(started=started), failed_step(CELL, step, code=code, detail=detail))


def late(seconds: float = 30.0, *, alone: bool = True) -> Facts:
    step = failed_step(CELL, CONNECT, timed_out=True, duration_s=seconds)
    return failing(good(alone=alone), step)


BOTH = (control(), fresh_control())

FAILED_ROWS = {
    "fails without the product too, in two controls": Row(
        facts=broken(),
        controls=(failing_control("c1"), failing_control("c2")),
        rule="step.failed",
        outcome=Outcome.BUILD_FAULT,
        stage="connect",
        says=("without a security product", "2 control runs", "It hangs."),
    ),
    "fails without the product too, seen once": Row(
        facts=broken(),
        controls=(failing_control("c1"),),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("seen only once",),
        needs=frozenset({Need.CONTROL}),
    ),
    "the control passes it, before and after": Row(
        facts=broken(),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.BROKEN,
        stage="connect",
        says=("passes without it", "left no record", "It hangs."),
        needs=frozenset({Need.CONFIRM}),
    ),
    "the control passes it and fails later by the build's own fault": Row(
        facts=broken(INSTALL),
        controls=(
            failing_control("c1"),
            replace(failing_control("c2"), role=Role.CONTROL_AFTER, started_order=500.0),
        ),
        rule="step.failed",
        outcome=Outcome.BROKEN,
        stage="install",
        says=("passes without it",),
        needs=frozenset({Need.CONFIRM}),
    ),
    "the product alerted about the build": Row(
        facts=replace(broken(), detections=(alert,)),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.BLOCKED,
        stage="connect",
        says=("raised Win.Trojan.Comm about", COMM),
        needs=frozenset({Need.CONFIRM}),
    ),
    "no control after it": Row(
        facts=broken(),
        controls=(control(), control(attempt_id="c2")),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("a fresh control run is needed",),
        needs=frozenset({Need.CONTROL_AFTER}),
    ),
    "a control after an earlier attempt is not after this one": Row(
        facts=broken(started=501.0),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("a fresh control run is needed",),
        needs=frozenset({Need.CONTROL_AFTER}),
    ),
    "an ordinary control that began later is no fresh one": Row(
        facts=broken(),
        controls=(control(started=900.0),),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("a fresh control run is needed",),
        needs=frozenset({Need.CONTROL_AFTER}),
    ),
    "the control after it was lost": Row(
        facts=broken(),
        controls=(control(), lost(fresh_control())),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("a fresh control run is needed",),
        needs=frozenset({Need.CONTROL_AFTER}),
    ),
    "the control after it fails": Row(
        facts=broken(),
        controls=(control(), replace(failing_control("c2"), role=Role.CONTROL_AFTER, started_order=500.0)),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("the control changes",),
    ),
    "one control passes and one fails": Row(
        facts=broken(),
        controls=(*BOTH, failing_control("c2")),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("the control changes",),
    ),
    "the controls fail in two ways": Row(
        facts=broken(),
        controls=(failing_control("c1"), failing_control("c2"), failing_control("c3", code=6)),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("the control changes",),
    ),
    "the control never reached the step": Row(
        facts=broken(),
        controls=(failing_control("c1", INSTALL), failing_control("c2", INSTALL)),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("the control changes",),
    ),
    "only time ran out, beside other guests": Row(
        facts=late(alone=False),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("ran out of time", "3 times"),
        needs=frozenset({Need.ALONE}),
    ),
    "only time ran out, alone, but too little of it": Row(
        facts=late(2.9),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("ran out of time",),
        needs=frozenset({Need.ALONE}),
    ),
    "only time ran out, alone, three times the control's": Row(
        facts=late(3.0),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.BROKEN,
        stage="connect",
        says=("passes without it",),
        needs=frozenset({Need.CONFIRM}),
    ),
    "the slowest control counts for the time": Row(
        facts=late(30.0),
        controls=(
            *BOTH,
            replace(control(attempt_id="c2"), steps=tuple(replace(s, duration_s=11.0) for s in control().steps)),
        ),
        rule="step.failed",
        outcome=Outcome.INCONCLUSIVE,
        stage="connect",
        says=("ran out of time",),
        needs=frozenset({Need.ALONE}),
    ),
    "the product's record could not all be read": Row(
        facts=replace(broken(), unread=("clamd.log: a piece was cut",)),
        controls=BOTH,
        rule="step.failed",
        outcome=Outcome.BROKEN,
        stage="connect",
        says=("could not all be read", "clamd.log: a piece was cut"),
        needs=frozenset({Need.CONFIRM}),
    ),
}


@pytest.mark.parametrize("row", FAILED_ROWS.values(), ids=FAILED_ROWS.keys())
def test_rule_3_a_failed_step_is_judged_by_its_control(row: Row) -> None:
    check(row)


def test_rule_3_a_program_that_the_image_does_not_run_says_nothing_about_the_build_or_the_product() -> None:
    facts = not_run_here(good())
    for controls in ((), BOTH, (failing_control("c2", LAUNCH),)):
        finding = decide(facts, controls)
        assert (finding.rule, finding.outcome, finding.blame) == ("lab.machine", Outcome.INCONCLUSIVE, Blame.LAB)
        assert finding.needs == frozenset(), "no further guest of this image helps"


def test_rule_3_a_program_that_the_image_runs_is_judged_by_its_failure() -> None:
    assert decide(not_run_here(good(), made_for=Machine.X64), BOTH).rule == "step.failed"
    started = not_run_here(good())
    later = replace(failing(good(), failed_step(CELL, CONNECT)), cell=started.cell, files=started.files)
    assert decide(later, BOTH).rule == "step.failed", "it was started, whatever it is made for"


@pytest.mark.parametrize(
    "other",
    [failing_control("c2", code=6), failing_control("c2", expectation="tcp"), failing_control("c2", LAUNCH)],
    ids=["another code", "another expectation", "another step"],
)
def test_rule_3_a_control_that_fails_otherwise_does_not_blame_the_build(other: Facts) -> None:
    finding = decide(broken(), [other, replace(other, attempt_id="c3")])
    assert finding.outcome is Outcome.INCONCLUSIVE


def test_rule_3_text_and_time_of_a_failure_are_never_compared() -> None:
    one, other = failed_step(CELL, CONNECT, detail="a", duration_s=1.0), failed_step(CELL, CONNECT, detail="b")
    assert replace(one, dialog="x").failure == replace(other, duration_s=9.0, timed_out=True).failure


def test_rule_3_detections_are_listed_with_a_build_fault() -> None:
    facts = replace(broken(), detections=(alert,))
    finding = decide(facts, [failing_control("c1"), failing_control("c2")])
    assert (finding.outcome, finding.detections) == (Outcome.BUILD_FAULT, (alert,))


def test_rule_3_what_the_product_says_about_others_does_not_make_broken_blocked() -> None:
    stranger = detection(CELL, action=Action.ALERTED, owner=Owner.UNATTRIBUTED)
    assert decide(replace(broken(), detections=(stranger,)), BOTH).outcome is Outcome.BROKEN
