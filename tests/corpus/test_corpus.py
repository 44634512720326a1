"""The labelled corpus, judged again: today's parsers and rules say of every attempt what was labelled as right."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from harness.attempt import Attempt, Role
from harness.judge import Judged, judge
from harness.observation import ProductParser
from harness.products import parser_of
from harness.products.fake_log import NAME as FAKE
from harness.products.fake_log import PARSER as FAKE_PARSER
from harness.stores.bundle import load_bundle, write_bundle
from harness.verdict import Finding
from tests.corpus import labels, simulate
from tests.corpus import troubles as t
from tests.corpus.archive import pack, unpack
from tests.corpus.labels import (
    CELLS,
    CONSTRUCTED,
    NOT_ALONE,
    RECORDED,
    RECORDED_LATER,
    SIMULATED,
    CellLabel,
    Label,
    Right,
)

HERE = Path(__file__).parent

#: Which recorded attempt is changed: one in which all was well, of each product.
BASES = {
    "clamav": "1.0.0/reference/clamav-standard/2026-11-04/fresh-install",
    "fapolicyd": "1.0.0/reference/fapolicyd-standard/baseline/fresh-install",
    "none": "1.0.0/reference/none-standard/none/fresh-install",
    "guard": "1.0.0/reference/guard-standard/quiet/fresh-install",
    "clamav, update": "1.1.0/reference/clamav-standard/2026-11-04/lifecycle",
    "none, later": "1.0.0/reference/none-standard/none/fresh-install",
    "none, update": "1.1.0/reference/none-standard/none/lifecycle",
}


def parsers(name: str) -> ProductParser:
    return FAKE_PARSER if name == FAKE else parser_of(name)


@cache
def recorded_first() -> tuple[Attempt, ...]:
    """Attempts on real guests by the first collector, which did not sample behind its own last look."""
    return tuple(unpack((HERE / "recorded.jsonl.xz").read_bytes()))


@cache
def recorded_later() -> tuple[Attempt, ...]:
    """Attempts on real guests by today's collector."""
    return tuple(unpack((HERE / "recorded_later.jsonl.xz").read_bytes()))


def recorded() -> tuple[Attempt, ...]:
    """All attempts that were made on real guests."""
    return (*recorded_first(), *recorded_later())


@cache
def stories() -> dict[str, tuple[Attempt, ...]]:
    """All attempts that were made on simulated guests, by story."""
    found: dict[str, list[Attempt]] = {}
    for attempt in unpack((HERE / "simulated.jsonl.xz").read_bytes()):
        found.setdefault(attempt.meta.id.rpartition("/")[0].replace("-", " "), []).append(attempt)
    return {name: tuple(attempts) for name, attempts in found.items()}


@cache
def base(pack_name: str) -> Attempt:
    """Give the attempt that a pack's troubles are made of."""
    if pack_name == "fake":
        return next(a for a in stories()["all is well"] if not a.cell.is_control)
    where = recorded_later() if ", " in pack_name else recorded()
    return next(a for a in where if a.cell.id == BASES[pack_name])


def control_of(attempt: Attempt) -> Attempt:
    """Give a recorded control of an attempt's cell that passed."""
    key = attempt.cell.control().execution_key()
    every = [*recorded(), *(a for story in stories().values() for a in story)]
    return next(a for a in every if a.cell.is_control and a.cell.execution_key() == key)


@cache
def controls_of(pack_name: str, how: str) -> tuple[Attempt, ...]:
    """Give the controls of a constructed attempt, as its label names them."""
    passing = control_of(base(pack_name))
    one, two = (t.renamed(passing, f"control-{n}", role=Role.CONTROL) for n in (1, 2))
    after = t.renamed(passing, "after", role=Role.CONTROL_AFTER, later_s=7200.0)
    fails = t.failed(labels.CONNECT)
    gone = t.lost(labels.LAUNCH, crashed=False)
    match how:
        case "none" | "alone":
            return ()
        case "one":
            return (one,)
        case "two":
            return one, two
        case "lost":
            return (gone(one),)
        case "one lost":
            return one, gone(two)
        case "and after":
            return one, two, after
        case "and a failing one after":
            return one, two, fails(after)
        case "failing once":
            return (fails(one),)
        case "failing twice":
            return fails(one), fails(two)
        case "failing twice and after":
            return fails(one), fails(two), fails(after)
        case "one failing, one passing":
            return fails(one), two
        case _:
            raise AssertionError(how)


def construct(label: Label, name: str = "attempt") -> Attempt:
    made = label.trouble(base(label.of))
    return replace(made, meta=made.meta.model_copy(update={"id": name}))


def judged(attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> Judged:
    return judge(attempts, [*attempts, *controls] if attempts[0].cell.is_control else controls, parsers=parsers)


def meaning(finding: Finding) -> Right:
    return finding.outcome, finding.stage, finding.rule


# --- every attempt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell_id", sorted(RECORDED))
def test_every_attempt_on_a_real_guest_means_what_is_labelled(cell_id: str) -> None:
    for finding in findings_of(cell_id, recorded_first()):
        assert meaning(finding) == RECORDED[cell_id], finding.reason


@pytest.mark.parametrize("cell_id", sorted(RECORDED_LATER))
def test_every_attempt_on_a_real_guest_by_today_s_collector_means_what_is_labelled(cell_id: str) -> None:
    alone = {a.meta.id for a in recorded_later() if a.meta.alone}
    for finding in findings_of(cell_id, recorded_later()):
        right = RECORDED_LATER[cell_id]
        if finding.attempt_id not in alone:
            right = NOT_ALONE.get(cell_id, right)
        assert meaning(finding) == right, finding.reason


def findings_of(cell_id: str, archive: Sequence[Attempt]) -> Sequence[Finding]:
    """Judge an archive's attempts of a cell beside its controls."""
    own = [a for a in archive if a.cell.id == cell_id]
    assert own, "labelled, and not in the archive"
    assert len({a.cell.execution_key() for a in own}) == 1
    key = own[0].cell.control().execution_key()
    controls = [] if own[0].cell.is_control else [a for a in archive if a.cell.execution_key() == key]
    return judged(own, controls).findings


@pytest.mark.parametrize("story", sorted(SIMULATED))
def test_every_attempt_on_a_simulated_guest_means_what_is_labelled(story: str) -> None:
    own = [a for a in stories()[story] if not a.cell.is_control]
    controls = [a for a in stories()[story] if a.cell.is_control]
    assert tuple(meaning(f) for f in judged(own, controls).findings) == SIMULATED[story]


@pytest.mark.parametrize("label", CONSTRUCTED, ids=lambda label: label.name)
def test_every_constructed_attempt_means_what_is_labelled(label: Label) -> None:
    finding = judged([construct(label)], controls_of(label.of, label.controls)).findings[0]
    assert meaning(finding) == label.right, finding.reason


@pytest.mark.parametrize("label", CELLS, ids=lambda label: " + ".join(label.attempts))
def test_every_cell_means_what_is_labelled(label: CellLabel) -> None:
    by_name = {one.name: one for one in CONSTRUCTED}
    chosen = [by_name[name] for name in label.attempts]
    attempts = [construct(one, f"attempt-{n}") for n, one in enumerate(chosen)]
    verdict = judged(attempts, controls_of(chosen[0].of, label.controls)).verdict
    assert (verdict.outcome, verdict.stage, verdict.rule) == label.right, verdict.reason
    assert verdict.flaky is label.flaky


# --- the corpus itself ------------------------------------------------------------------------------------------------


def test_the_corpus_covers_every_product_every_outcome_and_every_rule() -> None:
    from harness.products import PARSERS
    from harness.rules import CONTROL_RULES, RULES
    from harness.verdict import Outcome

    real = [*RECORDED.values(), *RECORDED_LATER.values()]
    rights = [*real, *(r for rs in SIMULATED.values() for r in rs), *(c.right for c in CONSTRUCTED)]
    assert {outcome for outcome, _, _ in rights} == set(Outcome) - {Outcome.UNSUPPORTED}
    assert {rule for _, _, rule in rights} == {name for name, _ in (*RULES, *CONTROL_RULES)}
    assert {a.cell.product.name for a in recorded()} == {*PARSERS, "none"}


def test_every_recorded_attempt_has_a_label_and_there_are_enough() -> None:
    assert {a.cell.id for a in recorded_first()} == set(RECORDED)
    assert {a.cell.id for a in recorded_later()} == set(RECORDED_LATER)
    assert set(stories()) == set(SIMULATED)
    own = sum(not a.cell.is_control for story in stories().values() for a in story)
    assert len(recorded()) + own + len(CONSTRUCTED) >= 150
    assert max(Counter(label.name for label in CONSTRUCTED).values()) == 1


def test_the_simulated_part_is_what_the_simulation_makes_today() -> None:
    """When this fails, look at what changed, then write it anew: ``python -m tests.corpus.simulate FILE``."""
    made = [attempt for name in sorted(SIMULATED) for attempt in simulate.attempts_of(name)]
    kept = [a for name in sorted(SIMULATED) for a in stories()[name]]
    assert [(e.kind, e.subject, e.step) for a in unpack(pack(made)) for e in a.events] == [
        (e.kind, e.subject, e.step) for a in kept for e in a.events
    ]


def test_all_of_it_is_judged_again_in_seconds() -> None:
    begun = time.process_time()
    for label in CONSTRUCTED[:40]:
        judged([construct(label)], controls_of(label.of, label.controls))
    assert time.process_time() - begun < 8.0


def test_an_attempt_that_went_through_a_bundle_means_the_same(tmp_path: Path) -> None:
    whole = [label for label in CONSTRUCTED if "lost" not in label.name]  # a bundle without its bytes is refused
    for n, label in enumerate(whole[::25]):
        write_bundle(construct(label), tmp_path / str(n))
        read = load_bundle(tmp_path / str(n))
        finding = judged([read], controls_of(label.of, label.controls)).findings[0]
        assert meaning(finding) == label.right


def test_an_archive_gives_back_what_was_packed_and_refuses_altered_bytes() -> None:
    import lzma

    attempt = recorded()[0]
    [again] = unpack(pack([attempt]))
    assert (again.meta, again.events) == (attempt.meta, attempt.events)
    raw = lzma.decompress(pack([attempt])).replace(b"ClamAV 1.4.6", b"ClamAV 9.9.9")
    with pytest.raises(ValueError, match="not the bytes"):
        unpack(lzma.compress(raw))
