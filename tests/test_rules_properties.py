"""What holds for ``decide`` and ``settle`` whatever was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from harness.facts import Facts, Owner, Trouble
from harness.rules import RULES, decide
from harness.settle import settle
from harness.verdict import BAD, GOOD, Finding, Outcome, Verdict
from tests.strategies import cases, control_attempts, detections, weakened, without_proof

Seen = tuple[list[Facts], list[Facts]]


def verdict_of(own: Sequence[Facts], controls: Sequence[Facts], *, confirm: int = 2) -> Verdict:
    stages = [step.kind for step in own[0].cell.scenario.steps]
    return settle([decide(f, controls) for f in own], stages=stages, confirm=confirm)


def product_spoke(own: Sequence[Facts]) -> bool:
    return any(f.of(Owner.BUILD) for f in own)


@given(cases())
def test_decide_is_total_and_names_its_rule_and_a_sentence(seen: Seen) -> None:
    [facts], controls = seen
    finding = decide(facts, controls)
    assert finding.rule in {name for name, _ in RULES}
    assert finding.reason.strip()
    assert finding.outcome is not Outcome.UNSUPPORTED
    assert (finding.blame is None) == (finding.outcome is Outcome.COMPATIBLE)


@given(cases(), st.randoms(use_true_random=False))
def test_decide_is_deterministic_and_the_order_of_controls_does_not_matter(seen: Seen, random: Random) -> None:
    [facts], controls = seen
    shuffled = list(controls)
    random.shuffle(shuffled)
    assert decide(facts, shuffled) == decide(facts, controls)


@given(cases(max_attempts=3), st.randoms(use_true_random=False), st.integers(1, 3))
def test_settle_is_deterministic_and_the_order_of_findings_does_not_matter(
    seen: Seen, random: Random, confirm: int
) -> None:
    own, controls = seen
    shuffled = list(own)
    random.shuffle(shuffled)
    assert verdict_of(shuffled, controls, confirm=confirm) == verdict_of(own, controls, confirm=confirm)


@given(cases())
def test_taking_evidence_of_life_away_never_introduces_good_news(seen: Seen) -> None:
    [facts], controls = seen
    before = decide(facts, controls).outcome
    for weaker in weakened(facts):
        after = decide(weaker, controls).outcome
        assert after not in GOOD or before is after


@given(cases())
def test_taking_a_control_away_or_ruining_it_never_introduces_good_news(seen: Seen) -> None:
    [facts], controls = seen
    before = decide(facts, controls).outcome
    for at, one in enumerate(controls):
        rest = [*controls[:at], *controls[at + 1 :]]
        for changed in (rest, *[[*rest, weaker] for weaker in weakened(one)]):
            after = decide(facts, changed).outcome
            assert after not in GOOD or before is after


@given(cases(max_attempts=3))
def test_taking_proof_of_life_away_from_one_attempt_never_introduces_good_news_about_the_cell(seen: Seen) -> None:
    own, controls = seen
    before = verdict_of(own, controls).outcome
    for weaker in without_proof(own[0]):
        after = verdict_of([weaker, *own[1:]], controls).outcome
        assert after not in GOOD or before is after


@given(cases(max_attempts=2))
def test_taking_a_control_away_never_introduces_good_news_about_the_cell(seen: Seen) -> None:
    own, controls = seen
    before = verdict_of(own, controls).outcome
    for at, one in enumerate(controls):
        rest = [*controls[:at], *controls[at + 1 :]]
        for changed in (rest, *[[*rest, weaker] for weaker in weakened(one)]):
            after = verdict_of(own, changed).outcome
            assert after not in GOOD or before is after


@given(cases(), st.data())
def test_a_detection_of_the_build_never_leaves_compatible(seen: Seen, data: st.DataObject) -> None:
    [facts], controls = seen
    more = data.draw(detections(facts.cell, Owner.BUILD))
    assert decide(replace(facts, detections=(*facts.detections, more)), controls).outcome is not Outcome.COMPATIBLE


@given(cases(max_attempts=3), st.data())
def test_a_detection_in_any_attempt_leaves_compatible_only_when_another_set_was_loaded(
    seen: Seen, data: st.DataObject
) -> None:
    own, controls = seen
    more = data.draw(detections(own[0].cell, Owner.BUILD))
    own[0] = replace(own[0], detections=(*own[0].detections, more))
    if verdict_of(own, controls).outcome is Outcome.COMPATIBLE:
        assert decide(own[0], controls).drifted_to is not None


@given(cases(), st.booleans(), st.integers(0, 4))
def test_our_trouble_is_never_bad_without_the_products_own_record(seen: Seen, crashed: bool, step: int) -> None:
    [facts], controls = seen
    trouble = Trouble(seq=901, step=step, summary="The guest is gone.", guest_crashed=crashed)
    finding = decide(replace(facts, troubles=(trouble,)), controls)
    assert finding.outcome is Outcome.INCONCLUSIVE or (finding.outcome in BAD and product_spoke([facts]))


@given(cases(max_attempts=3))
def test_bad_news_always_rests_on_a_record_or_on_controls(seen: Seen) -> None:
    own, controls = seen
    verdict = verdict_of(own, controls)
    if verdict.outcome in BAD and not product_spoke(own):
        assert any(c.complete and not c.troubles for c in controls)
    if verdict.outcome in {Outcome.QUARANTINED, Outcome.BLOCKED}:
        assert product_spoke(own)


@given(cases(max_attempts=3))
def test_good_news_rests_on_an_attempt_with_every_proof_of_life(seen: Seen) -> None:
    own, controls = seen
    verdict = verdict_of(own, controls)
    if verdict.outcome in GOOD:
        by = next(f for f in own if f.attempt_id == verdict.decided_by)
        assert by.passed
        assert not by.unread
        assert not by.of(Owner.UNATTRIBUTED)
        assert by.files is not None
        assert all(s.active for s in by.samples)
        assert {s.border for s in by.samples} == set(range(-1, len(by.steps)))
        assert any(c.passed for c in controls)


@given(st.data())
def test_a_control_cell_is_total_too_and_never_blames_a_product(data: st.DataObject) -> None:
    own, _ = data.draw(cases())
    controls = [data.draw(control_attempts(own[0].cell, attempt_id=f"c{n}")) for n in range(3)]
    findings: list[Finding] = [decide(c, [o for o in controls if o is not c]) for c in controls]
    assert {f.outcome for f in findings} <= {Outcome.COMPATIBLE, Outcome.BUILD_FAULT, Outcome.INCONCLUSIVE}
