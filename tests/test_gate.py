from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.gate import EXIT_CODES, GateDecision, Policy, Requirement, Ruling, State, Waiver, decide_gate
from harness.image import Lab
from harness.matrix import Assurance, MatrixCell, MatrixRun
from harness.verdict import BAD, Outcome
from tests.builders import NOON
from tests.builders import make_matrix_cell as cell

POLICY = Policy(name="release", max_age=86400.0)
DAY = timedelta(days=1)


def run(cells: list[MatrixCell], **changes: object) -> MatrixRun:
    known: dict[str, object] = {
        "id": "run-1",
        "started_at": NOON,
        "finished_at": NOON + timedelta(minutes=5),
        "suite": "nightly",
        "tool_version": "0.1",
        "lab": Lab.WINDOWS,
        "expected_cells": len(cells),
        "state": "complete",
    }
    return MatrixRun.model_validate({**known, **changes})


def decide(
    cells: list[MatrixCell],
    policy: Policy = POLICY,
    *,
    baseline: list[MatrixCell] | None = None,
    now: datetime = NOON + timedelta(hours=1),
    **run_changes: object,
) -> GateDecision:
    return decide_gate(policy, run(cells, **run_changes), cells, now=now, baseline=baseline)


def waiver(pattern: str = "1.0.0/*", until: date = date(2026, 11, 30), **changes: object) -> Waiver:
    known: dict[str, object] = {"cell": pattern, "reason": "vendor said so", "owner": "kim", "until": until}
    return Waiver.model_validate({**known, **changes})


def with_policy(**changes: object) -> Policy:
    return Policy.model_validate({"name": "release", "max_age": 86400.0, **changes})


# --- states ----------------------------------------------------------------------------------------------------------


def test_the_exit_codes_are_the_contracts() -> None:
    assert {state.value: code for state, code in EXIT_CODES.items()} == {
        "pass": 0, "blocked": 1, "could_not_tell": 3, "nothing": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ([Outcome.COMPATIBLE], State.PASS),
        ([Outcome.COMPATIBLE, Outcome.DETECTED], State.PASS),
        ([Outcome.COMPATIBLE, Outcome.UNSUPPORTED], State.PASS),
        ([Outcome.COMPATIBLE, Outcome.QUARANTINED], State.BLOCKED),
        ([Outcome.COMPATIBLE, Outcome.BLOCKED], State.BLOCKED),
        ([Outcome.COMPATIBLE, Outcome.BROKEN], State.BLOCKED),
        ([Outcome.COMPATIBLE, Outcome.BUILD_FAULT], State.BLOCKED),
        ([Outcome.COMPATIBLE, Outcome.INCONCLUSIVE], State.COULD_NOT_TELL),
        ([Outcome.INCONCLUSIVE, Outcome.BROKEN], State.BLOCKED),
        ([Outcome.INCONCLUSIVE], State.COULD_NOT_TELL),
        ([Outcome.UNSUPPORTED], State.NOTHING),
        ([], State.NOTHING),
    ],
)
def test_outcomes_decide_the_state(outcomes: list[Outcome], state: State) -> None:
    cells = [cell(outcome, signature=f"s{index}") for index, outcome in enumerate(outcomes)]
    decision = decide(cells)
    assert decision.state is state
    assert decision.exit_code == EXIT_CODES[state]
    assert [ruling.id for ruling in decision.cells] == sorted(c.id for c in cells)


def test_cells_of_the_reference_lab_count_as_missing() -> None:
    reference = cell(lab=Lab.REFERENCE, signature="s1")
    assert decide([reference]).state is State.NOTHING
    assert decide([reference, cell()]).state is State.COULD_NOT_TELL
    assert decide([cell(Outcome.BROKEN, lab=Lab.REFERENCE, signature="s1"), cell()]).state is State.COULD_NOT_TELL
    assert decide([reference, cell()], with_policy(allow_reference_lab=True)).state is State.PASS


@pytest.mark.parametrize("outcome", [Outcome.COMPATIBLE, Outcome.QUARANTINED])
def test_a_test_product_is_never_counted_whatever_the_policy_says(outcome: Outcome) -> None:
    ours = cell(outcome, product="guard", test_product=True)
    alone = decide([ours], with_policy(allow_reference_lab=True))
    assert (alone.state, [r.ruling for r in alone.cells]) == (State.NOTHING, [Ruling.NEUTRAL])
    assert "TEST guard is no real security product" in alone.cells[0].reason
    beside = decide([ours, cell()])
    assert (beside.state, beside.reason) == (State.PASS, "1 cell passed.")
    unmarked = decide([cell(outcome, product="guard")])
    assert unmarked.state is State.NOTHING


def test_nothing_can_be_required_of_a_test_product() -> None:
    with pytest.raises(ValidationError, match="test product of ours"):
        Requirement(product="guard", scenario="fresh-install")


def test_a_control_is_not_decided_about_and_is_no_pass() -> None:
    assert decide([cell(product="none")]).state is State.NOTHING
    assert decide([cell(product="none", outcome=Outcome.BUILD_FAULT), cell()]).state is State.PASS


def test_builds_outside_the_policy_are_not_decided_about() -> None:
    cells = [cell(), cell(Outcome.BUILD_FAULT, version="1.2.0")]
    assert decide(cells).state is State.BLOCKED
    assert decide(cells, with_policy(builds=("1.0.*",))).state is State.PASS


def test_a_build_that_the_policy_names_must_be_in_the_run() -> None:
    decision = decide([cell()], with_policy(builds=("1.0.0", "1.1.0")))
    assert decision.state is State.COULD_NOT_TELL
    assert decision.missing == ("build 1.1.0: no cell at all",)


def test_a_stricter_policy_does_not_pass_a_detection() -> None:
    assert decide([cell(), cell(Outcome.DETECTED, signature="s1")], with_policy(allow=("COMPATIBLE",))).state is (
        State.BLOCKED
    )


# --- missing and doubtful --------------------------------------------------------------------------------------------


def test_a_required_cell_must_be_there_for_every_build() -> None:
    policy = with_policy(require=({"product": "defender", "scenario": "fresh-install", "signature": "2026-*"},))
    assert decide([cell()], policy).state is State.PASS
    decision = decide([cell(), cell(version="1.1.0", product="v3")], policy)
    assert decision.state is State.COULD_NOT_TELL
    assert decision.missing == ("build 1.1.0: defender-standard@2026-* in fresh-install on image *",)


@pytest.mark.parametrize("changes", [{"outcome": Outcome.UNSUPPORTED}, {"lab": Lab.REFERENCE}])
def test_a_required_cell_that_does_not_count_is_missing(changes: dict[str, object]) -> None:
    policy = with_policy(require=({"product": "v3", "scenario": "fresh-install"},))
    assert decide([cell(), cell(product="v3", **changes)], policy).missing != ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"drill": True}, "the run is a drill"),
        ({"finished_at": None}, "the run is not finished"),
        ({"state": "interrupted"}, "the run is interrupted"),
        ({"expected_cells": 2}, "the run expected 2 cells and has 1"),
    ],
)
def test_a_run_that_is_not_whole_decides_nothing(changes: dict[str, object], said: str) -> None:
    decision = decide([cell()], **changes)  # type: ignore[arg-type]
    assert decision.state is State.COULD_NOT_TELL
    assert said in decision.reason


@pytest.mark.parametrize(
    ("changes", "policy", "said"),
    [
        ({"started_at": NOON - 2 * DAY}, {}, "It ran 2.0 days ago; the policy asks for at most 1.0 days."),
        ({"started_at": NOON + 2 * DAY}, {}, "It ran in the future; a clock is wrong."),
        ({"started_at": None}, {}, "Nobody knows when it ran."),
        ({"assurance": None}, {}, "It does not say what it rests on."),
        ({"assurance": "excluded"}, {"pass_on_observed": ("defender",)}, "The product was told not to watch"),
        ({"assurance": "observed"}, {}, "The records of defender cannot be read"),
        ({"observed_s": 30.0}, {"min_observed_s": 60}, "watched for 30 s; the policy asks for 60 s."),
        ({"observed_s": None}, {"min_observed_s": 60}, "watched for an unknown time"),
    ],
)
def test_a_good_cell_with_thin_evidence_does_not_pass(
    changes: dict[str, object], policy: dict[str, object], said: str
) -> None:
    decision = decide([cell(**changes)], with_policy(**policy))  # type: ignore[arg-type]
    assert decision.state is State.COULD_NOT_TELL
    assert said in decision.cells[0].reason


def test_a_product_without_records_passes_where_the_policy_says_so() -> None:
    assert decide([cell(assurance="observed")], with_policy(pass_on_observed=("defender",))).state is State.PASS


def test_flaky_passes_are_counted() -> None:
    cells = [cell(flaky=True), cell(signature="s1")]
    assert decide(cells).state is State.COULD_NOT_TELL
    assert decide(cells, with_policy(max_flaky=1)).state is State.PASS


# --- waivers ---------------------------------------------------------------------------------------------------------


def test_a_waived_cell_does_not_block_and_is_shown() -> None:
    decision = decide([cell(Outcome.QUARANTINED), cell(version="1.1.0")], with_policy(waivers=(waiver(),)))
    assert decision.state is State.PASS
    assert decision.reason == "1 cell passed, 1 waived."
    assert decision.cells[0].ruling is Ruling.WAIVED
    assert decision.cells[0].reason == "Waived until 2026-11-30 by kim: vendor said so"


def test_a_waiver_holds_through_its_last_day_and_not_longer() -> None:
    cells = [cell(Outcome.QUARANTINED), cell(version="1.1.0")]
    policy = with_policy(max_age=10 * 86400.0, waivers=(waiver(until=date(2026, 11, 6)),))
    assert decide(cells, policy, now=datetime.fromisoformat("2026-11-06T23:59:00+00:00")).state is State.PASS
    decision = decide(cells, policy, now=datetime.fromisoformat("2026-11-07T00:00:00+00:00"))
    assert decision.state is State.BLOCKED
    assert "its waiver by kim ended on 2026-11-06" in decision.cells[0].reason
    assert decision.notes == ("The waiver for '1.0.0/*' by kim ended on 2026-11-06.",)


def test_a_run_of_waivers_alone_is_no_pass() -> None:
    decision = decide([cell(Outcome.QUARANTINED)], with_policy(waivers=(waiver(),)))
    assert decision.state is State.COULD_NOT_TELL
    assert "no cell passed without a waiver" in decision.reason


def test_a_waiver_covers_no_unknown_no_stale_and_no_other_outcome() -> None:
    policy = with_policy(waivers=(waiver(outcomes=("QUARANTINED",)),))
    good = cell(version="1.1.0")
    assert decide([cell(Outcome.INCONCLUSIVE), good], policy).state is State.COULD_NOT_TELL
    assert decide([cell(Outcome.QUARANTINED, started_at=NOON - 3 * DAY), good], policy).state is State.COULD_NOT_TELL
    assert decide([cell(Outcome.BROKEN), good], policy).state is State.BLOCKED


def test_a_waiver_that_covers_nothing_is_told() -> None:
    assert decide([cell()], with_policy(waivers=(waiver("9.9.9/*"),))).notes == (
        "The waiver for '9.9.9/*' by kim covers no cell of this run.",
    )


@pytest.mark.parametrize(
    "changes", [{"cell": "*"}, {"cell": "*/*/?"}, {"reason": ""}, {"owner": ""}, {"outcomes": ["INCONCLUSIVE"]}]
)
def test_a_waiver_without_a_subject_a_reason_or_an_owner_is_refused(changes: dict[str, object]) -> None:
    known: dict[str, object] = {"cell": "1.0.0/*", "reason": "r", "owner": "kim", "until": "2026-11-30"}
    assert Waiver.model_validate(known).owner == "kim"
    with pytest.raises(ValidationError):
        Waiver.model_validate({**known, **changes})


def test_a_waiver_without_a_last_day_is_refused() -> None:
    with pytest.raises(ValidationError):
        Waiver.model_validate({"cell": "1.0.0/*", "reason": "r", "owner": "kim"})


@pytest.mark.parametrize("allowed", ["INCONCLUSIVE", "QUARANTINED", "UNSUPPORTED"])
def test_a_policy_cannot_call_a_bad_or_unknown_outcome_good(allowed: str) -> None:
    with pytest.raises(ValidationError):
        with_policy(allow=(allowed,))


# --- baseline --------------------------------------------------------------------------------------------------------


def test_a_bad_cell_is_new_when_the_baseline_was_not_as_bad() -> None:
    bad = cell(Outcome.QUARANTINED, version="1.1.0")
    assert decide([bad], baseline=[cell(version="1.0.0")]).cells[0].is_new is True
    assert decide([bad], baseline=[cell(Outcome.QUARANTINED, version="1.0.0")]).cells[0].is_new is False
    assert decide([bad], baseline=[cell(Outcome.QUARANTINED, version="1.0.0", stage="install")]).cells[0].is_new is True
    assert decide([bad], baseline=[]).cells[0].is_new is True
    assert decide([bad]).cells[0].is_new is None


def test_the_baselines_own_cell_of_the_build_comes_first() -> None:
    bad = cell(Outcome.QUARANTINED, version="1.1.0")
    baseline = [cell(Outcome.QUARANTINED, version="1.0.0"), cell(version="1.1.0")]
    assert decide([bad], baseline=baseline).cells[0].is_new is True


def test_what_was_bad_before_passes_only_where_the_policy_says_so() -> None:
    cells = [cell(Outcome.QUARANTINED), cell(version="1.1.0")]
    baseline = [cell(Outcome.QUARANTINED)]
    assert decide(cells, baseline=baseline).state is State.BLOCKED
    tolerant = with_policy(known_bad_passes=True)
    assert decide(cells, tolerant, baseline=baseline).state is State.PASS
    assert decide(cells, tolerant, baseline=[cell()]).state is State.BLOCKED
    assert decide(cells, tolerant).state is State.BLOCKED


# --- what always holds -----------------------------------------------------------------------------------------------

cells_of_a_run = st.lists(
    st.builds(
        cell,
        outcome=st.sampled_from(Outcome),
        version=st.sampled_from(["1.0.0", "1.1.0"]),
        product=st.sampled_from(["defender", "v3", "none"]),
        signature=st.sampled_from(["s1", "s2", "s3"]),
        lab=st.sampled_from(Lab),
        assurance=st.sampled_from([None, *Assurance]),
        flaky=st.booleans(),
        observed_s=st.sampled_from([None, 10.0, 100.0]),
        started_at=st.sampled_from([None, NOON, NOON - 2 * DAY]),
    ),
    max_size=6,
    unique_by=lambda c: c.id,
)
policies = st.builds(
    Policy,
    name=st.just("any"),
    builds=st.sampled_from([("*",), ("1.0.0",)]),
    allow_reference_lab=st.booleans(),
    require=st.sampled_from([(), (Requirement(product="defender", scenario="fresh-install"),)]),
    allow=st.sampled_from([(Outcome.COMPATIBLE,), (Outcome.COMPATIBLE, Outcome.DETECTED)]),
    min_observed_s=st.sampled_from([0.0, 50.0]),
    max_age=st.just(86400.0),
    pass_on_observed=st.sampled_from([(), ("v3",)]),
    max_flaky=st.integers(0, 2),
    known_bad_passes=st.booleans(),
    waivers=st.sampled_from([(), (waiver(),), (waiver("1.1.0/*", until=date(2026, 11, 1)),)]),
)
baselines = st.none() | cells_of_a_run


@given(cells_of_a_run, policies, baselines)
def test_the_order_of_the_cells_does_not_matter(
    cells: list[MatrixCell], policy: Policy, baseline: list[MatrixCell] | None
) -> None:
    turned = None if baseline is None else baseline[::-1]
    assert decide(cells, policy, baseline=baseline) == decide(cells[::-1], policy, baseline=turned)


@given(policies, baselines)
def test_an_empty_matrix_never_passes(policy: Policy, baseline: list[MatrixCell] | None) -> None:
    assert decide([], policy, baseline=baseline).state is State.NOTHING


@given(cells_of_a_run, policies, baselines)
def test_a_pass_has_a_good_cell_and_nothing_bad_unknown_or_missing(
    cells: list[MatrixCell], policy: Policy, baseline: list[MatrixCell] | None
) -> None:
    decision = decide(cells, policy, baseline=baseline)
    rulings = {ruling.ruling for ruling in decision.cells}
    if decision.state is State.PASS:
        assert Ruling.PASSES in rulings
        assert not rulings & {Ruling.BLOCKS, Ruling.UNKNOWN, Ruling.MISSING}
        assert not decision.missing
        assert not decision.doubts
    assert all(r.outcome in policy.allow for r in decision.cells if r.ruling is Ruling.PASSES)
    assert (decision.state is State.BLOCKED) == (Ruling.BLOCKS in rulings)


@given(cells_of_a_run, policies, baselines, st.sampled_from(sorted({*BAD, Outcome.INCONCLUSIVE})))
def test_with_a_bad_or_unknown_cell_nothing_passes_unless_a_person_decided_so(
    cells: list[MatrixCell], policy: Policy, baseline: list[MatrixCell] | None, outcome: Outcome
) -> None:
    one_more = [*cells, cell(outcome, signature="another")]
    strict = policy.model_copy(update={"waivers": (), "known_bad_passes": False})
    expected = {State.COULD_NOT_TELL, State.BLOCKED} if outcome is Outcome.INCONCLUSIVE else {State.BLOCKED}
    assert decide(one_more, strict, baseline=baseline).state in expected
    if outcome is Outcome.INCONCLUSIVE:
        assert decide(one_more, policy, baseline=baseline).state in expected


@given(cells_of_a_run, policies, baselines, st.data())
def test_a_cell_that_is_lost_never_makes_a_pass_and_never_unblocks_but_by_being_lost(
    cells: list[MatrixCell], policy: Policy, baseline: list[MatrixCell] | None, data: st.DataObject
) -> None:
    if not cells:
        return
    lost = data.draw(st.sampled_from(cells))
    rest = [c for c in cells if c is not lost]
    decision = decide(rest, policy, baseline=baseline, expected_cells=len(cells))
    assert decision.state is not State.PASS
    if decide(rest, policy, baseline=baseline).state is State.BLOCKED:
        assert decision.state is State.BLOCKED


@given(cells_of_a_run, policies, baselines, st.data())
def test_evidence_that_is_taken_away_never_makes_a_pass(
    cells: list[MatrixCell], policy: Policy, baseline: list[MatrixCell] | None, data: st.DataObject
) -> None:
    ways: list[dict[str, object]] = [
        {"assurance": None},
        {"assurance": Assurance.EXCLUDED},
        {"observed_s": None},
        {"started_at": None},
    ]
    poorer = data.draw(st.sampled_from(ways))
    thin = [c.model_copy(update=poorer) for c in cells]
    if decide(cells, policy, baseline=baseline).state is not State.PASS:
        assert decide(thin, policy, baseline=baseline).state is not State.PASS


@given(cells_of_a_run, policies, baselines)
def test_a_baseline_changes_nothing_unless_the_policy_says_so(
    cells: list[MatrixCell], policy: Policy, baseline: list[MatrixCell] | None
) -> None:
    strict = policy.model_copy(update={"known_bad_passes": False})
    assert decide(cells, strict, baseline=baseline).state is decide(cells, strict).state
