"""An engine that is down, and images whose guests are lost: waited for, given up, and never burning hours."""

from __future__ import annotations

import threading

import pytest

from harness.attempt import Kind
from harness.errors import Blame, HostDown
from harness.fake_guest import Mischief
from harness.happening import Happening
from harness.plan import Cell
from harness.providers.fake import FakeProvider
from harness.standing import IMAGE
from harness.stop_switch import StopSwitch
from harness.stores.api import RunState
from harness.stores.memory import MemoryStore
from harness.verdict import Outcome
from tests.builders import make_image
from tests.fake_lab import CLEAN, INCIDENT, STRICT, FakeLab, Heard, cell, guarded_machine, judged, plan, with_product

C, Q, UNKNOWN = Outcome.COMPATIBLE, Outcome.QUARANTINED, Outcome.INCONCLUSIVE


class SteppingClock:
    """A clock that stands still, and goes on when somebody waits."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._lock = threading.Lock()
        self.waits: list[float] = []

    def monotonic(self) -> float:
        with self._lock:
            self._now += 0.001
            return self._now

    def wait(self, seconds: float, stop: StopSwitch) -> None:
        del stop
        with self._lock:
            self.waits.append(round(seconds))
            self._now += seconds


def lab_whose_engine_is_down(*leases: int) -> FakeLab:
    return FakeLab(provider=FakeProvider(guarded_machine, down_at=leases))


# --- the engine -------------------------------------------------------------------------------------------------------


def test_an_engine_that_comes_back_costs_a_wait_and_no_attempt() -> None:
    clock, heard = SteppingClock(), Heard()
    lab = lab_whose_engine_is_down(2, 3, 4)
    result = lab.run(plan(cell(), cell(INCIDENT)), MemoryStore(), jobs=1, clock=clock, listeners=[heard])
    assert (result.state, result.trouble) == (RunState.COMPLETE, None)
    assert [judged(result, c).outcome for c in (cell(), cell(INCIDENT))] == [C, Q]
    assert clock.waits == [1, 2, 4]
    assert (
        lab.guests == result.attempts_made == FakeLab().run(plan(cell(), cell(INCIDENT)), MemoryStore()).attempts_made
    )
    told = [e.text for e in heard.events if e.what is Happening.WAITING]
    assert told[0] == "1 s: The simulated engine does not answer."
    begun = [e.attempt_id for e in heard.events if e.what is Happening.ATTEMPT_STARTED]
    ended = [e.attempt_id for e in heard.events if e.what is Happening.ATTEMPT_FINISHED]
    assert begun == ended


def test_an_engine_that_hiccups_now_and_then_is_not_waited_for_longer_each_time() -> None:
    clock = SteppingClock()
    result = lab_whose_engine_is_down(2, 4, 6).run(plan(cell(), cell(INCIDENT)), MemoryStore(), jobs=1, clock=clock)
    assert (result.trouble, clock.waits) == (None, [1, 1, 1])


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_an_engine_that_is_gone_ends_the_run_and_another_day_finishes_it(jobs: int) -> None:
    store, clock, asked = MemoryStore(), SteppingClock(), plan(cell(), cell(INCIDENT), cell(STRICT))
    lab = lab_whose_engine_is_down(*range(3, 999))
    result = lab.run(asked, store, jobs=jobs, clock=clock)
    assert isinstance(result.trouble, HostDown)
    assert result.trouble.exit_code == 5
    assert "--resume run-1" in result.trouble.hint
    assert result.state is store.find_run("run-1").state is RunState.INTERRUPTED
    assert sum(clock.waits) < 90 * jobs
    # Nothing is called inconclusive for want of an engine.
    assert UNKNOWN not in {j.outcome for j in store.judgements("run-1").values()}
    done = FakeLab().run(store.plan_of("run-1"), store, resume=True)
    assert [judged(done, c).outcome for c in asked.cells] == [C, Q, Q]
    assert done.state is RunState.COMPLETE


def test_whoever_waits_for_an_engine_is_not_held_back_from_an_interrupt() -> None:
    stop = StopSwitch()

    class Interrupted(SteppingClock):
        def wait(self, seconds: float, stop: StopSwitch) -> None:
            super().wait(seconds, stop)
            stop.request("interrupted")

    clock = Interrupted()
    lab = lab_whose_engine_is_down(*range(1, 999))
    result = lab.run(plan(cell()), MemoryStore(), jobs=1, clock=clock, stop=stop)
    assert (result.state, result.trouble, clock.waits) == (RunState.INTERRUPTED, None, [1])


# --- an image ---------------------------------------------------------------------------------------------------------

GOOD = make_image()
BAD = make_image(name="rotten", content="f" * 64)


def on(image_of: Cell, image: object) -> Cell:
    return image_of.model_copy(update={"image": image})


def loses_every_guest_of_the_bad_image(of: Cell, _number: int) -> Mischief:
    return Mischief(fails_at_call=2 if of.image.name == "rotten" else None)


def test_an_image_whose_guests_are_all_lost_is_set_aside_and_the_others_go_on() -> None:
    store, clock, heard = MemoryStore(), SteppingClock(), Heard()
    bad = [on(cell(label), BAD) for label in (CLEAN, INCIDENT, STRICT)] + [on(cell(version="1.1.0"), BAD)]
    good = [on(cell(), GOOD), on(cell(INCIDENT), GOOD)]
    lab = FakeLab(loses_every_guest_of_the_bad_image)
    result = lab.run(plan(*bad, *good), store, jobs=1, clock=clock, image_patience=IMAGE, listeners=[heard])
    assert clock.waits == [60, 120, 240]
    assert [judged(result, c).outcome for c in good] == [C, Q]
    assert {judged(result, c).outcome for c in bad} == {UNKNOWN}
    assert (result.state, result.trouble) == (RunState.COMPLETE, None)
    lost = sum(lab.guests_of(c) for c in {x.id: x for c in bad for x in (c, c.control())}.values())
    assert lost == IMAGE.failures + 3
    (why,) = result.set_aside.values()
    assert why.startswith("The image 'rotten' was set aside: 6 guests in a row were lost, the last one so: ")
    untried = [j for j in map(result.judgements.get, [c.id for c in bad]) if j is not None and not j.attempts]
    assert untried
    assert {(j.rule, j.reason, j.blame) for j in untried} == {("lab.set_aside", why, Blame.LAB)}
    shown = {(j.cell["rule"], j.cell["reason"], j.cell["outcome"]) for j in untried}
    assert shown == {("lab.set_aside", why, "INCONCLUSIVE")}
    assert [e.text for e in heard.events if e.what is Happening.SET_ASIDE] == [why]


def test_one_guest_that_lives_makes_all_good_again() -> None:
    asked = [cell(label, version=v) for v in ("1.0.0", "1.1.0", "1.2.0") for label in (CLEAN, INCIDENT, STRICT)]
    clock = SteppingClock()
    # Two of three guests are lost, for ever: never three in a row.
    provider = FakeProvider(guarded_machine, fails_at=[n for n in range(1, 999) if n % 3])
    result = FakeLab(provider=provider).run(plan(*asked), MemoryStore(), jobs=1, clock=clock, image_patience=IMAGE)
    assert (clock.waits, result.set_aside) == ([], {})


@pytest.mark.parametrize(
    "mischief", [Mischief(stops_at="arm"), Mischief(lost_at="connect")], ids=["never armed", "crashes"]
)
def test_what_may_be_the_product_s_doing_sets_no_image_aside(mischief: Mischief) -> None:
    asked = [cell(label, version=v) for v in ("1.0.0", "1.1.0") for label in (CLEAN, INCIDENT, STRICT)]
    clock = SteppingClock()
    lab = FakeLab(with_product(mischief))
    result = lab.run(plan(*asked), MemoryStore(), jobs=1, clock=clock, image_patience=IMAGE)
    assert (clock.waits, result.set_aside) == ([], {})


def test_a_conviction_before_the_image_was_set_aside_stands() -> None:
    """The first guest of the cell convicts; its confirmation is never made."""
    clock, store = SteppingClock(), MemoryStore()
    asked = cell(INCIDENT)
    patience = IMAGE.__class__(failures=1, first_s=1.0, cap_s=1.0, waits=0)
    lab = FakeLab(lambda c, n: Mischief(fails_at_call=2 if not c.is_control and n == 2 else None))
    result = lab.run(plan(asked, confirm=3), store, jobs=1, clock=clock, image_patience=patience)
    verdict = judged(result, asked)
    assert (verdict.outcome, verdict.confirmed, len(result.set_aside)) == (Q, False, 1)
    assert any(a.of(Kind.TROUBLE) for a in store.attempts("run-1", asked))
