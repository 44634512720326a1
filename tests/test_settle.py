"""``settle``: what all attempts of a cell mean together. The findings are those of real ``decide`` over made facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from harness.errors import Blame
from harness.facts import ExclusionSeen, Facts, FileSeen, Owner
from harness.observation import Action, Mechanism
from harness.rules import decide
from harness.settle import settle
from harness.verdict import Finding, Outcome, Verdict
from tests.builders import make_cell
from tests.facts_builders import COMM, FILES, control, detection, failed_step, failing, fresh_control, good, lost

CELL = make_cell()
STAGES = [step.kind for step in CELL.scenario.steps]
PASSING = (control(), control(attempt_id="control-2"), fresh_control())
INSTALL, LAUNCH, CONNECT = 1, 3, 4

Make = Callable[[str], Finding]


def found(facts: Facts, attempt_id: str, controls: Sequence[Facts] = PASSING) -> Finding:
    return decide(replace(facts, attempt_id=attempt_id), controls)


def settled(*findings: Finding, confirm: int = 2) -> Verdict:
    """Settle in every order, which must not matter."""
    verdicts = [settle(order, stages=STAGES, confirm=confirm) for order in permutations(findings)]
    assert all(verdict == verdicts[0] for verdict in verdicts)
    return verdicts[0]


def passes(attempt_id: str) -> Finding:
    return found(good(), attempt_id)


def quarantined(attempt_id: str, step: int = LAUNCH, action: Action = Action.QUARANTINED) -> Finding:
    return found(good(detections=[detection(CELL, step=step, action=action)]), attempt_id)


def broken(attempt_id: str, step: int = CONNECT) -> Finding:
    return found(failing(good(), failed_step(CELL, step)), attempt_id)


def blocked_by_alert(attempt_id: str) -> Finding:
    alert = detection(CELL, step=INSTALL, action=Action.ALERTED)
    return found(failing(good(detections=[alert]), failed_step(CELL, CONNECT)), attempt_id)


def fault(attempt_id: str) -> Finding:
    step = failed_step(CELL, CONNECT)
    fails = [control(attempt_id=c, failed=failed_step(CELL.control(), CONNECT)) for c in ("c1", "c2")]
    return found(failing(good(), step), attempt_id, fails)


def detected(attempt_id: str) -> Finding:
    return found(good(detections=[detection(CELL, action=Action.ALERTED)]), attempt_id)


def trouble(attempt_id: str) -> Finding:
    return found(lost(good()), attempt_id)


def crashed(attempt_id: str, step: int = LAUNCH) -> Finding:
    return found(lost(good(), step=step, crashed=True), attempt_id)


def changed(attempt_id: str, sha256: str | None = "c" * 64) -> Finding:
    return found(replace(good(), files=(FILES[0], FileSeen(path=COMM, size_bytes=1, sha256=sha256))), attempt_id)


def stranger(attempt_id: str) -> Finding:
    record = detection(CELL, owner=Owner.UNATTRIBUTED, target="/tmp/x")
    return found(good(detections=[record]), attempt_id)


def late(attempt_id: str, *, alone: bool) -> Finding:
    step = failed_step(CELL, CONNECT, timed_out=True, duration_s=60.0)
    return found(failing(good(alone=alone), step), attempt_id)


def test_no_attempt_at_all_is_inconclusive_and_the_labs() -> None:
    verdict = settled()
    assert (verdict.outcome, verdict.blame, verdict.confirmed) == (Outcome.INCONCLUSIVE, Blame.LAB, False)
    assert verdict.reason == "No attempt of this cell was made."


def test_one_good_attempt_is_enough() -> None:
    verdict = settled(passes("a"))
    assert (verdict.outcome, verdict.flaky, verdict.confirmed) == (Outcome.COMPATIBLE, False, True)


def test_product_evidence_is_confirmed_by_a_second_guest() -> None:
    assert not settled(quarantined("a")).confirmed
    verdict = settled(quarantined("a"), quarantined("b"))
    assert (verdict.outcome, verdict.stage, verdict.flaky, verdict.confirmed) == (
        Outcome.QUARANTINED,
        "launch",
        False,
        True,
    )


@pytest.mark.parametrize("other", [passes, detected, trouble, broken, fault, crashed, changed, stranger])
def test_product_evidence_stands_whatever_another_attempt_says_and_is_flaky(other: Make) -> None:
    denied = quarantined("a", action=Action.DENIED)
    for evidence, outcome in ((quarantined("a"), Outcome.QUARANTINED), (denied, Outcome.BLOCKED)):
        verdict = settled(evidence, other("b"))
        assert (verdict.outcome, verdict.flaky, verdict.confirmed) == (outcome, True, False)
        assert len(verdict.findings) == 2


@pytest.mark.parametrize("other", [passes, detected, trouble, crashed, changed, stranger])
def test_a_failure_beside_an_alert_must_repeat_as_any_failure_must(other: Make) -> None:
    """The record says that the product minded; that it made the step fail is our conclusion."""
    verdict = settled(blocked_by_alert("a"), other("b"))
    assert (verdict.outcome, verdict.flaky) == (Outcome.INCONCLUSIVE, True)
    assert settled(blocked_by_alert("a"), blocked_by_alert("b")).outcome is Outcome.BLOCKED


def test_two_failures_of_different_kinds_convict_only_with_a_third_guest() -> None:
    """Two accidents of ours look like this: a program that dies once, and a connection that drops in another guest."""
    assert settled(broken("a", LAUNCH), broken("b", CONNECT)).outcome is Outcome.INCONCLUSIVE
    third = settled(broken("a", LAUNCH), broken("b", CONNECT), broken("c", INSTALL))
    assert (third.outcome, third.stage, third.flaky, third.confirmed) == (Outcome.BROKEN, "install", True, True)
    again = settled(broken("a", LAUNCH), broken("b", CONNECT), broken("c", CONNECT))
    assert (again.outcome, again.stage, again.flaky) == (Outcome.BROKEN, "launch", True)


def test_a_failure_with_an_alert_and_the_same_without_one_is_blocked() -> None:
    verdict = settled(blocked_by_alert("a"), broken("b"))
    assert (verdict.outcome, verdict.stage, verdict.blame) == (Outcome.BLOCKED, "connect", Blame.PRODUCT)


def test_of_two_product_outcomes_the_graver_is_shown() -> None:
    verdict = settled(quarantined("a", INSTALL, Action.DENIED), quarantined("b"))
    assert (verdict.outcome, verdict.stage, verdict.flaky) == (Outcome.QUARANTINED, "launch", True)


def test_the_same_outcome_at_two_stages_is_shown_at_the_earlier_and_flaky() -> None:
    verdict = settled(quarantined("a", LAUNCH), quarantined("b", INSTALL))
    assert (verdict.stage, verdict.flaky, verdict.decided_by) == ("install", True, "b")
    assert "'install'" in verdict.reason


def test_broken_once_is_inconclusive_until_it_repeats() -> None:
    verdict = settled(broken("a"))
    assert (verdict.outcome, verdict.confirmed, verdict.stage) == (Outcome.INCONCLUSIVE, False, "connect")
    assert "BROKEN did not repeat" in verdict.reason


def test_broken_twice_is_broken() -> None:
    verdict = settled(broken("a"), broken("b"))
    assert (verdict.outcome, verdict.flaky, verdict.confirmed) == (Outcome.BROKEN, False, True)
    assert verdict.mechanism is Mechanism.UNKNOWN


def test_broken_twice_beside_lab_trouble_is_broken_and_flaky() -> None:
    verdict = settled(broken("a"), broken("b"), trouble("c"))
    assert (verdict.outcome, verdict.flaky) == (Outcome.BROKEN, True)


@pytest.mark.parametrize("other", [passes, detected, crashed, changed, trouble, stranger])
def test_broken_that_does_not_repeat_is_inconclusive_and_flaky(other: Make) -> None:
    verdict = settled(broken("a"), other("b"))
    assert (verdict.outcome, verdict.blame, verdict.flaky) == (Outcome.INCONCLUSIVE, Blame.LAB, True)
    assert "did not repeat" in verdict.reason
    assert verdict.mechanism is None


def test_broken_twice_and_passed_once_is_inconclusive() -> None:
    assert settled(broken("a"), broken("b"), passes("c")).outcome is Outcome.INCONCLUSIVE


def test_a_suite_may_ask_for_more_guests_or_for_one() -> None:
    assert settled(broken("a"), broken("b"), confirm=3).outcome is Outcome.INCONCLUSIVE
    assert settled(broken("a"), confirm=1).outcome is Outcome.BROKEN


def test_a_build_fault_is_confirmed_by_its_controls() -> None:
    verdict = settled(fault("a"))
    assert (verdict.outcome, verdict.blame, verdict.confirmed, verdict.flaky) == (
        Outcome.BUILD_FAULT,
        Blame.BUILD,
        True,
        False,
    )


def test_a_build_fault_that_passes_beside_the_product_is_inconclusive() -> None:
    assert settled(fault("a"), passes("b")).outcome is Outcome.INCONCLUSIVE


def test_equal_suspicion_on_two_guests_is_broken_at_inspect() -> None:
    verdict = settled(changed("a"), changed("b"))
    assert (verdict.outcome, verdict.stage, verdict.mechanism) == (Outcome.BROKEN, "inspect", Mechanism.UNKNOWN)
    assert (verdict.blame, verdict.confirmed) == (Blame.PRODUCT, True)
    assert f"{COMM} (changed)" in verdict.reason
    assert "The same was seen on 2 fresh guests." in verdict.reason


def test_unequal_suspicions_prove_nothing() -> None:
    assert settled(changed("a"), changed("b", None)).outcome is Outcome.INCONCLUSIVE


def test_suspicion_and_a_good_attempt_are_inconclusive_and_flaky() -> None:
    verdict = settled(changed("a"), passes("b"))
    assert (verdict.outcome, verdict.flaky) == (Outcome.INCONCLUSIVE, True)


def test_two_suspicions_do_not_outweigh_a_good_attempt() -> None:
    assert settled(changed("a"), changed("b"), passes("c")).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("confirm", [1, 2])
def test_one_suspicion_is_never_enough(confirm: int) -> None:
    assert settled(changed("a"), confirm=confirm).outcome is Outcome.INCONCLUSIVE
    assert settled(crashed("a"), confirm=confirm).outcome is Outcome.INCONCLUSIVE


def test_a_crash_at_the_same_step_of_two_guests_is_broken_by_crash() -> None:
    verdict = settled(crashed("a"), crashed("b"))
    assert (verdict.outcome, verdict.stage, verdict.mechanism) == (Outcome.BROKEN, "launch", Mechanism.CRASH)


def test_crashes_at_different_steps_prove_nothing() -> None:
    assert settled(crashed("a", INSTALL), crashed("b")).outcome is Outcome.INCONCLUSIVE


def test_crashes_without_a_surviving_control_prove_nothing() -> None:
    dead = [lost(control(), step=LAUNCH, crashed=True)]
    facts = lost(good(), step=LAUNCH, crashed=True)
    assert settled(found(facts, "a", dead), found(facts, "b", dead)).outcome is Outcome.INCONCLUSIVE


def test_lab_trouble_then_good_is_good_and_not_flaky() -> None:
    verdict = settled(trouble("a"), passes("b"))
    assert (verdict.outcome, verdict.flaky, verdict.confirmed) == (Outcome.COMPATIBLE, False, True)
    assert verdict.decided_by == "b"


def test_an_alert_in_an_attempt_that_the_lab_lost_is_not_forgotten() -> None:
    alerted = found(lost(good(detections=[detection(CELL, step=INSTALL, action=Action.ALERTED)])), "a")
    verdict = settled(alerted, passes("b"))
    assert (verdict.outcome, verdict.stage, verdict.flaky) == (Outcome.DETECTED, "install", True)
    assert COMM in verdict.reason
    assert verdict.detections == alerted.detections


def test_an_act_under_another_set_says_nothing_about_the_scheduled_one() -> None:
    facts = good(detections=[detection(CELL)])
    drifted = replace(facts, samples=tuple(replace(s, label="2026-11-03") for s in facts.samples))
    verdict = settled(found(drifted, "a"), passes("b"))
    assert (verdict.outcome, verdict.flaky) == (Outcome.COMPATIBLE, False)


@pytest.mark.parametrize(
    ("against", "says"),
    [
        (failing(good(), failed_step(CELL, CONNECT)), "the step 'connect' failed"),
        (good(detections=[detection(CELL, owner=Owner.UNATTRIBUTED, target="/tmp/x")]), "recorded something about"),
        (replace(good(), files=FILES[:1]), f"{COMM} (gone) differs from the control"),
        (replace(good(), foreign_modules=(r"C:\av\hook.dll",)), r"module C:\av\hook.dll differs"),
        (
            replace(good(), exclusions=(ExclusionSeen(path="C:\\", declared=False, covers_tested=True),)),
            "an exclusion that nobody declared covered",
        ),
    ],
    ids=["a failed step", "a stranger", "a vanished file", "a module", "an exclusion"],
)
def test_what_speaks_against_the_build_in_an_attempt_without_proof_of_life_is_not_forgotten(
    against: Facts, says: str
) -> None:
    for lost_proof in (replace(against, canaries=()), replace(against, samples=()), replace(against, complete=False)):
        verdict = settled(found(lost_proof, "a"), passes("b"))
        assert (verdict.outcome, verdict.flaky, verdict.blame) == (Outcome.INCONCLUSIVE, True, Blame.LAB)
        assert says in verdict.reason


def test_an_act_under_an_unknown_set_never_leaves_good_news() -> None:
    facts = good(detections=[detection(CELL)])
    unknown = replace(facts, samples=tuple(replace(s, label=None) for s in facts.samples))
    verdict = settled(found(unknown, "a"), passes("b"))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert f"the product acted on {COMM}" in verdict.reason


def test_good_and_a_doubt_that_no_retry_removes_is_inconclusive() -> None:
    verdict = settled(stranger("a"), passes("b"))
    assert (verdict.outcome, verdict.flaky) == (Outcome.INCONCLUSIVE, True)
    assert "One attempt passed and another could not tell" in verdict.reason
    assert "/tmp/x" in verdict.reason


def test_detected_once_is_detected_and_flaky_beside_compatible() -> None:
    verdict = settled(detected("a"), passes("b"))
    assert (verdict.outcome, verdict.flaky) == (Outcome.DETECTED, True)
    assert not settled(detected("a"), detected("b")).flaky


def test_of_several_doubts_the_one_that_no_retry_removes_is_shown() -> None:
    assert settled(trouble("a"), stranger("b")).decided_by == "b"


def test_a_timeout_beside_other_guests_confirms_nothing() -> None:
    assert settled(late("a", alone=False), late("b", alone=False)).outcome is Outcome.INCONCLUSIVE
    assert settled(late("a", alone=False), late("b", alone=True)).outcome is Outcome.INCONCLUSIVE


def test_a_timeout_that_repeats_alone_convicts_and_the_first_one_does_not_make_it_flaky() -> None:
    verdict = settled(late("a", alone=False), late("b", alone=True), late("c", alone=True))
    assert (verdict.outcome, verdict.flaky, verdict.confirmed) == (Outcome.BROKEN, False, True)


def test_a_control_cell_settles_by_the_same_rules() -> None:
    step = failed_step(CELL.control(), CONNECT)
    fails = [control(attempt_id=c, failed=step) for c in ("c1", "c2")]
    assert settled(*(decide(f, [o for o in fails if o is not f]) for f in fails)).outcome is Outcome.BUILD_FAULT
    mixed = [fails[0], control(attempt_id="c3")]
    verdict = settled(*(decide(f, [o for o in mixed if o is not f]) for f in mixed))
    assert (verdict.outcome, verdict.flaky) == (Outcome.INCONCLUSIVE, True)
