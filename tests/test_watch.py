"""Known cells in a run: an image is admitted by them, and a wrong one takes verdicts back, visibly."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.attempt import Role
from harness.errors import Blame
from harness.fake_guest import Mischief
from harness.happening import Happening
from harness.image import Folder
from harness.plan import Cell, CellFilter, Plan, Sentinels
from harness.probes import is_probe, probes_of
from harness.renderers.api import Report, renderer
from harness.renderers.explain import explain
from harness.report import evidence_for, matrix_for, read_cell, report_for
from harness.session import RunResult
from harness.standing import Patience
from harness.stop_switch import StopSwitch
from harness.stores.api import RunState, Store
from harness.stores.memory import MemoryStore
from harness.stores.sqlite import SqliteStore
from harness.verdict import Outcome
from tests.builders import make_image
from tests.fake_lab import CLEAN, INCIDENT, STRICT, FakeLab, Heard, cell, folder, judged, parsers, plan

C, Q, FAULT, UNKNOWN = Outcome.COMPATIBLE, Outcome.QUARANTINED, Outcome.BUILD_FAULT, Outcome.INCONCLUSIVE

ASKED = (cell(), cell(INCIDENT), cell(CLEAN, INCIDENT), cell(version="1.1.0"), cell(STRICT))
PLAIN = [C, Q, Q, C, Q]


def watched(*cells: Cell, sentinels: Sentinels | None = None, admission: bool = True) -> Plan:
    asked = plan(*cells)
    suite = asked.suite.model_copy(update={"admission": admission, "sentinels": sentinels})
    return asked.model_copy(update={"suite": suite})


def outcomes(result: RunResult, cells: tuple[Cell, ...] = ASKED) -> list[Outcome]:
    return [judged(result, c).outcome for c in cells]


# --- admission --------------------------------------------------------------------------------------------------------


def test_an_image_is_admitted_once_and_the_record_serves_all_later_runs() -> None:
    store, lab = MemoryStore(), FakeLab()
    first = lab.run(watched(*ASKED), store)
    (probe,) = probes_of(watched(*ASKED))
    assert (first.state, outcomes(first)) == (RunState.COMPLETE, PLAIN)
    assert (judged(first, probe.good.cell).outcome, judged(first, probe.bad.cell).outcome) == (C, Q)
    plain = FakeLab().run(plan(*ASKED), MemoryStore()).attempts_made
    assert first.attempts_made == plain + 3  # one good, its control, one bad
    assert [lab.guests_of(c) for c in (probe.good.cell, probe.good.cell.control(), probe.bad.cell)] == [1, 1, 1]
    again = FakeLab().run(watched(*ASKED), store, run_id="run-2", fresh=True)
    assert (again.state, again.attempts_made, outcomes(again)) == (RunState.COMPLETE, plain, PLAIN)
    assert judged(again, probe.bad.cell).cached_from == "run-1"
    # Another image content is another image.
    moved = tuple(c.model_copy(update={"image": make_image(content="e" * 64)}) for c in ASKED)
    assert FakeLab().run(watched(*moved), store, run_id="run-3").attempts_made == plain + 3


def test_known_cells_go_before_all_others_and_are_in_no_matrix() -> None:
    store, heard = MemoryStore(), Heard()
    FakeLab().run(watched(*ASKED), store, listeners=[heard])
    begun = [e.cell for e in heard.events if e.what is Happening.ATTEMPT_STARTED and e.cell is not None]
    assert all(is_probe(c) for c in begun[:3])
    assert not any(is_probe(c) for c in begun[3:])
    assert [c.id for c in matrix_for(store, store.find_run("run-1")).cells] == [c.id for c in ASKED]


def blind_to_the_probe(of: Cell, _number: int) -> Mischief:
    return Mischief(only_alerts=is_probe(of))


def test_a_lab_that_lets_the_known_bad_pass_tries_no_cell() -> None:
    store, heard = MemoryStore(), Heard()
    lab = FakeLab(blind_to_the_probe)
    result = lab.run(watched(*ASKED), store, listeners=[heard])
    assert result.state is RunState.COMPLETE
    assert not any(lab.guests_of(c) for c in ASKED)
    verdicts = [judged(result, c) for c in ASKED]
    assert {(v.outcome, v.rule, v.blame, v.attempts) for v in verdicts} == {
        (UNKNOWN, "image.not_admitted", Blame.LAB, ())
    }
    assert "was not admitted on the image 'reference': the known bad cell came out DETECTED" in verdicts[0].reason
    assert [e.text for e in heard.events if e.what is Happening.WARNED] == [verdicts[0].reason]
    shown = matrix_for(store, store.find_run("run-1")).cells[0]
    assert (shown.rule, shown.reason) == ("image.not_admitted", verdicts[0].reason)
    assert verdicts[0].reason in explain(shown).replace("\n", " ")
    # It is asked again by the next run, and admitted when it is repaired.
    repaired = FakeLab().run(watched(*ASKED), store, run_id="run-2")
    assert outcomes(repaired) == PLAIN


def test_a_lab_that_takes_the_known_good_tries_no_cell() -> None:
    """A product that is not alive proves nothing: the canaries of the good cell say so."""
    lab = FakeLab(lambda c, _: Mischief(unwatched=folder(Folder.DOWNLOADS) if is_probe(c) else None))
    result = lab.run(watched(cell()), MemoryStore())
    verdict = judged(result, cell())
    assert (verdict.rule, lab.guests_of(cell())) == ("image.not_admitted", 0)
    assert "the known good cell came out INCONCLUSIVE: The canary" in verdict.reason


def test_a_known_cell_that_the_lab_lost_is_tried_again() -> None:
    lab = FakeLab(lambda c, n: Mischief(fails_at_call=9 if is_probe(c) and n == 1 else None))
    assert outcomes(lab.run(watched(*ASKED), MemoryStore())) == PLAIN


def test_an_image_that_is_not_admitted_takes_no_other_down() -> None:
    other = tuple(c.model_copy(update={"image": make_image(name="other", content="e" * 64)}) for c in ASKED[:2])
    lab = FakeLab(lambda c, _: Mischief(only_alerts=is_probe(c) and c.image.name == "other"))
    result = lab.run(watched(*ASKED[:2], *other), MemoryStore())
    assert outcomes(result, (*ASKED[:2], *other)) == [C, Q, UNKNOWN, UNKNOWN]


def test_cells_that_the_store_answers_need_no_admission() -> None:
    store = MemoryStore()
    FakeLab().run(plan(*ASKED), store)
    again = FakeLab().run(watched(*ASKED), store, run_id="run-2")
    assert (again.state, again.attempts_made, again.answered_from_store) == (RunState.COMPLETE, 0, 5)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 6])
def test_an_interrupted_run_is_resumed_with_its_known_cells(at: int) -> None:
    store, stop, seen = MemoryStore(), StopSwitch(), []

    def before(of: Cell, _number: int) -> None:
        seen.append(of.id)
        if len(seen) == at:
            stop.request("interrupted")

    asked = watched(*ASKED, sentinels=Sentinels(every=2))
    first = FakeLab(before_guest=before).run(asked, store, stop=stop)
    assert first.state is RunState.INTERRUPTED
    done = FakeLab().run(store.plan_of("run-1"), store, resume=True)
    assert (done.state, outcomes(done)) == (RunState.COMPLETE, PLAIN)


CHOSEN = Sentinels(every=2, good=CellFilter(build="1.1.0"), bad=CellFilter(signature=INCIDENT))


@pytest.mark.parametrize("at", range(1, 16))
def test_a_run_whose_sentinels_are_its_own_cells_keeps_them_apart_when_it_is_resumed(at: int) -> None:
    store, stop, seen = MemoryStore(), StopSwitch(), []

    def before(of: Cell, _number: int) -> None:
        seen.append(of.id)
        if len(seen) == at:
            stop.request("interrupted")

    asked = watched(*ASKED, admission=False, sentinels=CHOSEN)
    FakeLab(before_guest=before).run(asked, store, stop=stop, jobs=1)
    done = FakeLab().run(store.plan_of("run-1"), store, resume=True)
    assert (done.state, outcomes(done)) == (RunState.COMPLETE, PLAIN)
    for asked_cell in ASKED:
        kept = store.attempts_by_id(judged(done, asked_cell).attempts)
        assert Role.SENTINEL not in {a.meta.role for a in kept}


# --- sentinels --------------------------------------------------------------------------------------------------------


class Failing:
    """A lab in which, from the so many-th guest of a sentinel on, that sentinel comes out wrong."""

    def __init__(self, sentinel: Cell, guests: range) -> None:
        self._sentinel, self._guests = sentinel, guests
        self._lock = threading.Lock()

    def __call__(self, of: Cell, number: int) -> Mischief:
        wrong = of.id == self._sentinel.id and number in self._guests
        return Mischief(only_alerts=wrong)


def bad_probe() -> Cell:
    (probe,) = probes_of(watched(cell()))
    return probe.bad.cell


@pytest.mark.parametrize("every", [1, 2, 5, 50])
def test_right_sentinels_change_nothing_and_are_made_every_so_many_cells_and_at_the_end(every: int) -> None:
    store, lab = MemoryStore(), FakeLab()
    result = lab.run(watched(*ASKED, sentinels=Sentinels(every=every)), store, jobs=1)
    assert (result.state, outcomes(result)) == (RunState.COMPLETE, PLAIN)
    assert lab.guests_of(bad_probe()) == 1 + -(-len(ASKED) // every)


def test_a_wrong_sentinel_takes_back_what_was_judged_since_the_last_right_one() -> None:
    # Guest 1 admits, guest 2 is right after two cells, guest 3 is wrong after four, guest 4 is right at the end.
    store, heard = MemoryStore(), Heard()
    lab = FakeLab(Failing(bad_probe(), range(3, 4)))
    result = lab.run(watched(*ASKED, sentinels=Sentinels(every=2)), store, jobs=1, listeners=[heard])
    assert outcomes(result) == [C, Q, UNKNOWN, UNKNOWN, Q]
    assert result.state is RunState.COMPLETE
    taken = judged(result, ASKED[2])
    assert (taken.rule, taken.blame, taken.confirmed, taken.stage) == ("sentinel.wrong", Blame.LAB, False, None)
    assert "Withdrawn: the known bad sentinel" in taken.reason
    assert "came out DETECTED" in taken.reason
    assert "It was QUARANTINED at 'connect'" in taken.reason
    # Raw attempts stay, and the one that took it back is named.
    assert taken.attempts == tuple(a.meta.id for a in store.attempts("run-1", ASKED[2]))
    assert store.attempts_by_id([taken.withdrawn_by or ""])[0].meta.role is Role.SENTINEL
    warned = [e.text for e in heard.events if e.what is Happening.WARNED]
    assert len(warned) == 1
    # No later run is answered by it.
    later = FakeLab().run(watched(*ASKED), store, run_id="run-2")
    assert (outcomes(later), later.answered_from_store) == (PLAIN, 3)


def test_without_any_right_one_everything_is_taken_back() -> None:
    lab = FakeLab(Failing(bad_probe(), range(1, 99)))
    result = lab.run(watched(*ASKED, admission=False, sentinels=Sentinels(every=3)), MemoryStore())
    assert set(outcomes(result)) == {UNKNOWN}
    assert {judged(result, c).rule for c in ASKED} == {"sentinel.wrong"}
    assert judged(result, ASKED[0].control()).rule == "sentinel.wrong"


def test_a_wrong_last_sentinel_takes_back_the_end_of_a_run() -> None:
    lab = FakeLab(Failing(bad_probe(), range(4, 99)))
    result = lab.run(watched(*ASKED, sentinels=Sentinels(every=2)), MemoryStore(), jobs=1)
    assert outcomes(result) == [C, Q, Q, C, UNKNOWN]


@pytest.mark.parametrize("jobs", [2, 4])
def test_beside_other_guests_no_doubtful_verdict_stays(jobs: int) -> None:
    """Whoever ran while the sentinel was wrong is in doubt, too; what may stay depends on who was how far."""
    lab = FakeLab(Failing(bad_probe(), range(2, 99)))
    result = lab.run(watched(*ASKED, sentinels=Sentinels(every=2)), MemoryStore(), jobs=jobs)
    assert set(outcomes(result)) == {UNKNOWN}


def test_the_suite_s_own_cells_may_keep_watch() -> None:
    store, lab = MemoryStore(), FakeLab()
    right = lab.run(watched(*ASKED, admission=False, sentinels=CHOSEN), store, jobs=1)
    assert outcomes(right) == PLAIN
    assert judged(right, ASKED[1]).attempts == tuple(
        a.meta.id for a in store.attempts("run-1", ASKED[1]) if a.meta.role is not Role.SENTINEL
    )
    # A good one that is not: build 1.1.0 has a fault of its own now.
    wrong = FakeLab(faults={"1.1.0": "connect"}).run(
        watched(*ASKED, admission=False, sentinels=CHOSEN), MemoryStore(), jobs=1
    )
    assert set(outcomes(wrong)) == {UNKNOWN}


def test_a_verdict_is_taken_back_also_when_the_process_died_before_it_could(tmp_path: Path) -> None:
    """The wrong sentinel is durable, the withdrawal is not: who takes the run up does it."""

    class Dies(SqliteStore):
        def add_judgement(self, run_id: str, cell: Cell, judgement: object) -> None:
            if getattr(judgement, "withdrawn_by", None) is not None:
                raise SystemExit
            super().add_judgement(run_id, cell, judgement)  # type: ignore[arg-type]

    asked = watched(*ASKED, sentinels=Sentinels(every=2))
    dying = Dies(tmp_path / "store")
    with pytest.raises(SystemExit):
        FakeLab(Failing(bad_probe(), range(3, 99))).run(asked, dying, jobs=1)
    dying.close()
    store = SqliteStore(tmp_path / "store")
    done = FakeLab().run(store.plan_of("run-1"), store, jobs=1, resume=True)
    assert outcomes(done) == [C, Q, UNKNOWN, UNKNOWN, Q]
    store.close()


def test_a_run_is_not_complete_before_its_last_sentinels_were_seen() -> None:
    """Interrupted while they ran: whoever takes the run up sees them, and takes back what they do not vouch for."""
    store, stop = MemoryStore(), StopSwitch()
    chosen = CHOSEN.model_copy(update={"every": 50})
    asked = watched(*ASKED, admission=False, sentinels=chosen)

    def before(of: Cell, number: int) -> None:
        if of.id == ASKED[3].id and number == 2:
            stop.request("interrupted")

    first = FakeLab(before_guest=before).run(asked, store, stop=stop, jobs=1)
    assert first.state is RunState.INTERRUPTED
    assert outcomes(first) == PLAIN
    done = FakeLab(Failing(ASKED[1], range(1, 99))).run(store.plan_of("run-1"), store, resume=True)
    assert (done.state, set(outcomes(done))) == (RunState.COMPLETE, {UNKNOWN})


def test_a_run_whose_sentinels_could_not_be_seen_can_be_resumed_until_they_are() -> None:
    store = MemoryStore()
    asked = watched(*ASKED, admission=False, sentinels=CHOSEN.model_copy(update={"every": 50}))
    lab = FakeLab(lambda c, n: Mischief(fails_at_call=2 if c.id == ASKED[1].id and n == 3 else None))
    impatient = Patience(failures=1, first_s=0.0, cap_s=0.0, waits=0)
    first = lab.run(asked, store, jobs=1, image_patience=impatient)
    assert (first.state, list(first.set_aside)) == (RunState.INTERRUPTED, ["reference"])
    done = FakeLab().run(store.plan_of("run-1"), store, resume=True)
    assert (done.state, outcomes(done)) == (RunState.COMPLETE, PLAIN)


# --- shown ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken_back() -> Store:
    store = MemoryStore()
    FakeLab(Failing(bad_probe(), range(3, 4))).run(watched(*ASKED, sentinels=Sentinels(every=2)), store, jobs=1)
    return store


def report_of(store: Store) -> Report:
    return report_for(store, store.find_run("run-1"), parsers=parsers)


@pytest.mark.parametrize("name", ["html", "json", "csv", "md", "junit"])
def test_every_report_says_that_a_verdict_was_withdrawn(name: str, taken_back: Store) -> None:
    drawn = renderer(name).render(report_of(taken_back)).decode()
    assert "Withdrawn" in drawn or "sentinel.wrong" in drawn


def test_explain_says_so_and_still_shows_what_was_seen(taken_back: Store) -> None:
    shown = matrix_for(taken_back, taken_back.find_run("run-1")).cells[2]
    judgement = taken_back.judgements("run-1")[ASKED[2].id]
    read = read_cell(taken_back, ASKED[2], judgement, taken_back.plan_of("run-1"), parsers=parsers)
    assert read is not None
    assert (read.judged.verdict.outcome, read.judged.verdict.rule) == (UNKNOWN, "sentinel.wrong")
    told = explain(shown, evidence_for(read))
    assert "INCONCLUSIVE" in told.splitlines()[0]
    assert "rule sentinel.wrong" in told
    assert "QUARANTINED" in told  # what its attempts say is still there
