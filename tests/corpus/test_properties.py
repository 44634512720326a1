"""What holds of every attempt, whatever is wrong with it: several troubles of the corpus at once, in events and bytes.

``tests/test_rules_properties.py`` holds the same of the rules alone; here parsers and reading are between.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.attempt import Attempt, Kind
from harness.judge import Judged
from harness.observation import Action
from harness.rules import CONTROL_RULES, RULES
from harness.verdict import GOOD, Outcome
from tests.corpus import troubles as t
from tests.corpus.labels import CONSTRUCTED, Label
from tests.corpus.test_corpus import base, controls_of, judged

PACKS = ("clamav", "fapolicyd", "fake")
TROUBLES: dict[str, list[Label]] = {pack: [label for label in CONSTRUCTED if label.of == pack] for pack in PACKS}
CONTROLS = sorted({label.controls for label in CONSTRUCTED if label.of in PACKS})

#: Each example reads whole attempts, parsers included: a fifth of the profile's are enough for a run, and a minute's.
few = settings(max_examples=settings().max_examples // 5, deadline=None)

Seen = tuple[str, list[Attempt], str]


@st.composite
def attempts(draw: st.DrawFn, pack: str, name: str) -> Attempt:
    """An attempt with up to three troubles; one that finds nothing to spoil any more is no case."""
    made = base(pack)
    for label in draw(st.lists(st.sampled_from(TROUBLES[pack]), max_size=3)):
        try:
            made = label.trouble(made)
        except (AssertionError, StopIteration, KeyError, IndexError, ValueError):
            assume(False)
    return t.renamed(made, name)


@st.composite
def cells(draw: st.DrawFn, most: int = 2) -> Seen:
    """Attempts of one cell, and how its controls are."""
    pack = draw(st.sampled_from(PACKS))
    own = [draw(attempts(pack, f"attempt-{n}")) for n in range(draw(st.integers(1, most)))]
    return pack, own, draw(st.sampled_from(CONTROLS))


def judge_of(seen: Seen, own: Sequence[Attempt] | None = None) -> Judged:
    pack, attempts_, controls = seen
    return judged(own or attempts_, controls_of(pack, controls))


@few
@given(cells())
def test_judging_is_total_and_names_rules_and_a_sentence(seen: Seen) -> None:
    result = judge_of(seen)
    names = {name for name, _ in (*RULES, *CONTROL_RULES)}
    assert all(finding.rule in names and finding.reason.strip() for finding in result.findings)
    assert result.verdict.reason.strip()
    assert result.verdict.outcome is not Outcome.UNSUPPORTED


@few
@given(cells(most=3), st.randoms(use_true_random=False))
def test_judging_is_deterministic_and_the_order_of_attempts_and_controls_does_not_matter(
    seen: Seen, dice: Random
) -> None:
    pack, own, how = seen
    before = judge_of(seen).verdict
    assert judge_of(seen).verdict == before
    controls = list(controls_of(pack, how))
    dice.shuffle(own)
    dice.shuffle(controls)
    assert judged(own, controls).verdict == before


def is_proof(attempt: Attempt, at: int) -> bool:
    """Tell whether an event is evidence that protection was alive or that something was looked at, or of our own end.

    The last piece of a log is not: nothing planted lies behind it, so that its absence is not seen.
    """
    event = attempt.events[at]
    if event.kind is Kind.LOG:
        return any(later.kind is Kind.LOG and later.subject == event.subject for later in attempt.events[at + 1 :])
    return event.kind in {Kind.CANARY, Kind.SAMPLE, Kind.INSPECTION, Kind.END}


@few
@given(cells(), st.data())
def test_an_attempt_without_one_of_its_proofs_is_no_good_news_and_introduces_none(
    seen: Seen, data: st.DataObject
) -> None:
    _, own, _ = seen
    before = judge_of(seen).verdict.outcome
    proofs = [at for at in range(len(own[0].events)) if is_proof(own[0], at)]
    assume(proofs)
    at = data.draw(st.sampled_from(proofs))
    # The log's offsets stay as they were: what is taken away leaves a gap, as it would.
    events = [e.model_copy(update={"seq": n}) for n, e in enumerate(e for e in own[0].events if e.seq != at)]
    weaker = t.rebuilt(own[0], events, {}, offsets=False)
    result = judge_of(seen, [weaker, *own[1:]])
    assert result.findings[0].outcome not in GOOD
    assert result.verdict.outcome not in GOOD or before is result.verdict.outcome


@few
@given(cells(), st.data())
def test_bytes_that_cannot_be_read_never_introduce_good_news(seen: Seen, data: st.DataObject) -> None:
    _, own, _ = seen
    before = judge_of(seen).verdict.outcome
    named = [e.seq for e in own[0].events if e.blob is not None and e.kind is not Kind.TROUBLE]
    assume(named)
    at = data.draw(st.sampled_from(named))
    spoil = data.draw(st.sampled_from([t.bytes_missing, t.nonsense]))
    after = judge_of(seen, [spoil(lambda e: e.seq == at)(own[0]), *own[1:]]).verdict.outcome
    assert after not in GOOD or before is after


@few
@given(cells(), st.sampled_from(list(Action)), st.integers(0, 6))
def test_a_record_about_the_build_never_leaves_compatible(seen: Seen, action: Action, step: int) -> None:
    _, own, _ = seen
    assume(any(e.kind is Kind.LOG and e.step == step for e in own[0].events))
    accused = t.recorded(action, step)(own[0])
    result = judge_of(seen, [accused, *own[1:]])
    assert result.findings[0].outcome is not Outcome.COMPATIBLE
    if result.verdict.outcome is Outcome.COMPATIBLE:
        assert result.findings[0].drifted_to is not None, "only under a set that was not asked about"
