"""The whole engine on simulated guests: every outcome of the design, and everything that a run promises."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.attempt import Attempt, Kind, Role
from harness.deadline import Deadline
from harness.errors import Blame, DiskFull, InputError
from harness.facts import When
from harness.fake_guest import Mischief
from harness.happening import Happening, SessionEvent
from harness.image import Folder
from harness.judge import judge
from harness.judgement import Judgement
from harness.observation import Mechanism
from harness.plan import Cell
from harness.products.fake import DATABASE, GUARD, FakeProduct, _set_of
from harness.providers.fake import FakeProvider
from harness.report import matrix_for
from harness.scenario import Scan, Step
from harness.session import new_run_id
from harness.stop_switch import StopSwitch
from harness.stores.api import Claim, RunState, Store
from harness.stores.memory import MemoryStore
from harness.stores.sqlite import SqliteStore
from harness.transports.api import OUTPUT_CAP_BYTES
from harness.verdict import Outcome
from tests.fake_lab import (
    CLEAN,
    INCIDENT,
    SETUP_KNOWN,
    STRICT,
    FakeLab,
    Heard,
    Script,
    cell,
    control,
    folder,
    guarded_machine,
    hasty,
    installed,
    judged,
    parsers,
    plan,
    scenario,
    signature,
    well,
    with_product,
)

C, D, Q, B = Outcome.COMPATIBLE, Outcome.DETECTED, Outcome.QUARANTINED, Outcome.BLOCKED
BROKEN, FAULT, UNKNOWN = Outcome.BROKEN, Outcome.BUILD_FAULT, Outcome.INCONCLUSIVE


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture
def memory() -> Iterator[Store]:
    made = MemoryStore()
    yield made
    made.close()


# --- every outcome arises from a guest --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Told:
    """One story: what is asked, what is scripted, and what the verdict must say."""

    of: Cell
    script: Script = well
    outcome: Outcome
    stage: str | None = None
    rule: str | None = None
    blame: Blame | None = None
    says: str = ""
    confirmed: bool = True
    guests: int = 2
    controls: int = 1
    jobs: int = 2
    faults: tuple[tuple[str, str], ...] = ()


def unproven(
    *,
    of: Cell,
    script: Script,
    rule: str | None = None,
    says: str = "",
    guests: int = 2,
    controls: int = 1,
) -> Told:
    """Tell a story that must end without a verdict, by trouble of ours."""
    return Told(
        of=of,
        script=script,
        outcome=UNKNOWN,
        rule=rule,
        blame=Blame.LAB,
        says=says,
        confirmed=False,
        guests=guests,
        controls=controls,
    )


STORIES = {
    "nothing happens": Told(of=cell(), outcome=C, rule="all.passed", guests=1),
    "the vendor withdraws": Told(of=cell(INCIDENT, CLEAN), outcome=C, guests=1),
    "the incident": Told(of=cell(CLEAN, INCIDENT), outcome=Q, stage="connect", blame=Blame.PRODUCT, says="hts_comm"),
    "the installer is known": Told(of=cell(SETUP_KNOWN, version="1.1.0"), outcome=Q, stage="install", says="setup.exe"),
    "the updater is denied": Told(
        of=cell(STRICT), script=with_product(Mischief(only_denies=True)), outcome=B, stage="self_update", says="denied"
    ),
    "an alert alone": Told(
        of=cell(INCIDENT), script=with_product(Mischief(only_alerts=True)), outcome=D, stage="connect", guests=1
    ),
    "an alert, and the step fails": Told(
        of=cell(INCIDENT),
        script=with_product(Mischief(only_alerts=True, dies_at="connect")),
        outcome=B,
        stage="connect",
        rule="step.failed",
        controls=3,
    ),
    "the product acts steps later": Told(
        of=cell(INCIDENT), script=with_product(Mischief(acts_at="self_update")), outcome=Q, stage="self_update"
    ),
    "the product acts at the last look": Told(
        of=cell(STRICT), script=with_product(Mischief(acts_at="inspect")), outcome=Q, stage="inspect"
    ),
    "taken, then the guest is lost": Told(
        of=cell(INCIDENT), script=with_product(Mischief(acts_at="launch", lost_at="connect")), outcome=Q, stage="launch"
    ),
    "the program dies beside the product": Told(
        of=cell(), script=with_product(Mischief(dies_at="connect")), outcome=BROKEN, stage="connect", controls=3
    ),
    "the program dies once": Told(
        of=cell(),
        script=with_product(Mischief(dies_at="launch"), guests=[1]),
        outcome=UNKNOWN,
        says="did not repeat",
        confirmed=False,
        controls=2,
    ),
    "the guest crashes beside the product": Told(
        of=cell(), script=with_product(Mischief(lost_at="connect")), outcome=BROKEN, stage="connect", rule="lab.crash"
    ),
    "the guest crashes once": unproven(
        of=cell(),
        script=with_product(Mischief(lost_at="connect"), guests=[1]),
        says="another could not tell",
    ),
    "the guest is killed from outside": unproven(
        of=cell(), script=with_product(Mischief(killed_at="connect")), rule="lab.trouble"
    ),
    "a file vanishes and nobody says so": Told(
        of=cell(),
        script=with_product(Mischief(vanishes=("connect", installed("hts_update.exe")))),
        outcome=BROKEN,
        stage="inspect",
        rule="files.changed",
        says="hts_update.exe",
        controls=2,
    ),
    "a file vanishes once": unproven(
        of=cell(),
        script=with_product(Mischief(vanishes=("connect", installed("hts_update.exe"))), guests=[1]),
        controls=2,
    ),
    "the build's own fault": Told(
        of=cell(version="1.2.0"),
        faults=(("1.2.0", "connect"),),
        outcome=FAULT,
        stage="connect",
        blame=Blame.BUILD,
        guests=1,
        controls=2,
    ),
    "the installer's own fault": Told(
        of=cell(version="1.2.0"), faults=(("1.2.0", "install"),), outcome=FAULT, stage="install", guests=1, controls=2
    ),
    "the launch's own fault": Told(
        of=cell(version="1.2.0"), faults=(("1.2.0", "launch"),), outcome=FAULT, stage="launch", guests=1, controls=2
    ),
    "the product's act stands against a faulty build": Told(
        of=cell(INCIDENT, version="1.2.0"), faults=(("1.2.0", "connect"),), outcome=Q, stage="connect", controls=2
    ),
    "a silent canary": unproven(
        of=cell(),
        script=with_product(Mischief(unwatched=folder(Folder.DOWNLOADS))),
        rule="lab.canary",
        says="downloads",
    ),
    "protection that was never armed": unproven(
        of=cell(), script=with_product(Mischief(stops_at="arm")), rule="lab.trouble", says="not proven"
    ),
    "protection that stops in the middle": unproven(
        of=cell(), script=with_product(Mischief(stops_at="launch")), rule="lab.protection", says="no marker"
    ),
    "an update that did not happen": unproven(
        of=cell(CLEAN, INCIDENT),
        script=with_product(Mischief(keeps_old_set=True)),
        rule="lab.trouble",
        says=f"the markers that fired: {CLEAN}",
    ),
    "a cut log": unproven(of=cell(), script=with_product(Mischief(log_cut_from="connect")), rule="evidence.unread"),
    "a stranger is detected": unproven(
        of=cell(), script=with_product(Mischief(stranger_at="launch")), says="stranger.so", guests=1
    ),
    "a guest that talks nonsense": unproven(
        of=cell(), script=with_product(Mischief(garbled_from="connect")), rule="lab.trouble", says="no JSON"
    ),
    "a way in that breaks every time": unproven(
        of=cell(), script=with_product(Mischief(fails_at_call=20)), rule="lab.trouble", says="reached"
    ),
    "a way in that breaks once": Told(
        of=cell(), script=with_product(Mischief(fails_at_call=20), guests=[1]), outcome=C
    ),
    "a control that breaks once": Told(
        of=cell(),
        script=lambda c, n: Mischief(fails_at_call=9 if c.is_control and n == 1 else None),
        outcome=C,
        guests=1,
        controls=2,
    ),
    "controls that always break": unproven(
        of=cell(),
        script=lambda c, _: Mischief(fails_at_call=9 if c.is_control else None),
        rule="lab.control",
        guests=1,
        controls=2,
    ),
    "a control that dies too, every second time": unproven(
        of=cell(),
        script=lambda c, n: Mischief(dies_at="connect" if not c.is_control or n % 2 else None),
        says="changes from run to run",
        guests=1,
        controls=2,
    ),
    "a fresh control that fails as well": unproven(
        of=cell(),
        script=lambda c, n: Mischief(dies_at="connect" if not c.is_control or n == 2 else None),
        says="changes from run to run",
        guests=1,
        controls=2,
    ),
    "an installer that hangs beside the product": Told(
        of=hasty(),
        script=with_product(Mischief(hangs_at="install")),
        outcome=BROKEN,
        stage="install",
        says="still ran",
        guests=3,
        controls=4,
    ),
    "a step that runs out of time beside the product": Told(
        of=hasty(),
        script=with_product(Mischief(hangs_at="connect")),
        outcome=BROKEN,
        stage="connect",
        guests=3,
        controls=4,
    ),
    "a step that runs out of time, one guest at a time": Told(
        of=hasty(),
        script=with_product(Mischief(hangs_at="connect")),
        outcome=BROKEN,
        stage="connect",
        jobs=1,
        controls=3,
    ),
    "a step that ran out of time among others, and not alone": unproven(
        of=hasty(), script=with_product(Mischief(hangs_at="connect"), guests=[1]), controls=2
    ),
    "a download that hangs beside the product": Told(
        of=hasty(),
        script=with_product(Mischief(hangs_at="deliver")),
        outcome=BROKEN,
        stage="deliver",
        jobs=1,
        controls=3,
    ),
    "a scan on demand takes what nobody opened": Told(
        of=cell(STRICT, of=scenario(more=(Step(scan=Scan()),))),
        script=with_product(Mischief(acts_at="scan")),
        outcome=Q,
        stage="scan",
    ),
    "a command that hangs": Told(
        of=hasty(command=("/bin/sleep", "60")), outcome=FAULT, stage="run", guests=1, controls=2
    ),
    "a command that fails": Told(
        of=cell(of=scenario(command=("/bin/false",))), outcome=FAULT, stage="run", guests=1, controls=2
    ),
    "a command that does not exist": Told(
        of=cell(of=scenario(command=("/bin/nonsense",))), outcome=FAULT, stage="run", guests=1, controls=2
    ),
    "a command that works": Told(of=cell(of=scenario(command=("/bin/true",))), outcome=C, guests=1),
    "a combination that makes no sense": Told(
        of=cell().model_copy(update={"unsupported": "never sold together"}),
        outcome=Outcome.UNSUPPORTED,
        rule="declared",
        says="never sold together",
        confirmed=False,
        guests=0,
        controls=0,
    ),
}


@pytest.mark.parametrize("told", [pytest.param(told, id=name) for name, told in STORIES.items()])
def test_a_guest_s_story_gives_its_verdict(told: Told, memory: Store) -> None:
    lab = FakeLab(told.script, faults=dict(told.faults))
    result = lab.run(plan(told.of), memory, jobs=told.jobs)
    verdict = judged(result, told.of)
    assert verdict.outcome is told.outcome, verdict.reason
    assert told.stage in {None, verdict.stage}, verdict.reason
    assert told.rule in {None, verdict.rule}, verdict.reason
    assert told.blame in {None, verdict.blame}
    assert told.says in verdict.reason
    assert verdict.confirmed is told.confirmed
    assert lab.guests_of(told.of) == told.guests
    assert lab.guests_of(told.of.control()) == told.controls
    assert (result.state, result.trouble) == (RunState.COMPLETE, None)
    assert result.attempts_made == lab.guests == told.guests + told.controls


def test_the_mechanism_of_a_repeated_crash_is_crash(memory: Store) -> None:
    result = FakeLab(with_product(Mischief(lost_at="connect"))).run(plan(cell()), memory)
    assert judged(result, cell()).mechanism is Mechanism.CRASH


def test_unproven_protection_is_no_crash_of_the_guest(memory: Store) -> None:
    """A lease that is over looks like a lost guest; whether the guest died is asked before."""
    FakeLab(with_product(Mischief(stops_at="arm"))).run(plan(cell()), memory)
    troubles = [e for a in memory.attempts("run-1", cell()) for e in a.of(Kind.TROUBLE)]
    assert [e.data["guest_crashed"] for e in troubles] == [False, False]


def test_a_dialog_s_text_and_a_picture_are_in_the_evidence(memory: Store) -> None:
    lab = FakeLab(with_product(Mischief(only_denies=True)))
    lab.run(plan(cell(INCIDENT)), memory)
    first = memory.attempts("run-1", cell(INCIDENT))[0]
    ends = [e for e in first.of(Kind.STEP_END) if e.data["expectation"] is not None]
    assert [e.subject for e in ends] == ["connect"]
    assert "접속할 수 없습니다: hts_comm.dll" in str(ends[0].data["dialog"])
    assert [e.step for e in first.of(Kind.SCREENSHOT)][-1] == ends[0].step


# --- controls ---------------------------------------------------------------------------------------------------------


def test_a_control_runs_once_and_is_shared(store: Store) -> None:
    cells = [cell(CLEAN), cell(INCIDENT), cell(STRICT)]
    lab = FakeLab()
    result = lab.run(plan(*cells), store)
    assert lab.guests_of(control()) == 1
    used = {judged(result, c).controls for c in cells}
    assert len(used) == 1
    assert judged(result, control()).outcome is C


def test_a_control_that_is_asked_for_is_a_cell_of_its_own(store: Store) -> None:
    lab = FakeLab()
    result = lab.run(plan(control(), cell()), store)
    assert (judged(result, control()).outcome, lab.guests_of(control())) == (C, 1)
    again = lab.run(plan(control(), cell()), store, run_id="run-2")
    assert (again.attempts_made, again.answered_from_store, again.state) == (0, 2, RunState.COMPLETE)


def test_a_faulty_build_s_control_is_answered_from_the_store_too(store: Store) -> None:
    asked = plan(control("1.2.0"))
    lab = FakeLab(faults={"1.2.0": "connect"})
    first = lab.run(asked, store)
    second = lab.run(asked, store, run_id="run-2")
    assert {judged(r, control("1.2.0")).outcome for r in (first, second)} == {FAULT}
    assert (first.attempts_made, second.attempts_made) == (2, 0)


def test_cells_of_an_image_that_is_not_there_say_so_and_the_others_are_run(store: Store) -> None:
    """One image of two: the run goes on, starts no guest for the missing one, and asks for its cells again later."""
    why = "The image 'reference-32' has not been built."
    there = cell()
    image = there.image.model_copy(update={"name": "reference-32", "content": "missing:0123", "missing": why})
    gone = there.model_copy(update={"image": image})
    lab = FakeLab()
    result = lab.run(plan(gone, there), store)
    assert (judged(result, there).outcome, result.state) == (C, RunState.COMPLETE)
    told = judged(result, gone)
    assert (told.outcome, told.rule, told.reason, told.blame) == (UNKNOWN, "lab.image", why, Blame.LAB)
    assert (told.attempts, told.confirmed) == ((), False)
    assert lab.guests == 2, "the other cell's, and its control's"
    shown = {c.id: c for c in matrix_for(store, store.find_run("run-1")).cells}
    assert (shown[gone.id].outcome, shown[gone.id].reason, shown[gone.id].blame) == (UNKNOWN, why, Blame.LAB)
    again = lab.run(plan(gone, there), store, run_id="run-2")
    assert again.answered_from_store == 1


def test_a_control_that_makes_no_sense_is_unsupported_and_the_run_complete(store: Store) -> None:
    left_out = control().model_copy(update={"unsupported": "not without a product"})
    result = FakeLab().run(plan(left_out), store)
    assert (judged(result, left_out).outcome, result.state) == (Outcome.UNSUPPORTED, RunState.COMPLETE)


def test_a_control_runs_afresh_after_each_failure_that_it_judges(memory: Store) -> None:
    FakeLab(with_product(Mischief(dies_at="connect"))).run(plan(cell()), memory)
    attempts = {a.meta.role: a for a in memory.attempts("run-1", cell())}
    after = [a for a in memory.attempts("run-1", control()) if a.meta.role is Role.CONTROL_AFTER]
    assert [a.meta.ordinal for a in after] == [1, 2]
    assert attempts[Role.FIRST].meta.started_at < after[0].meta.started_at < attempts[Role.CONFIRM].meta.started_at
    assert attempts[Role.CONFIRM].meta.started_at < after[1].meta.started_at


def test_a_control_that_fails_every_third_time_never_convicts_the_product(memory: Store) -> None:
    script: Script = lambda c, n: Mischief(dies_at="connect" if c.is_control and n % 3 == 0 else None)  # noqa: E731
    cells = [cell(label) for label in (CLEAN, INCIDENT, SETUP_KNOWN, STRICT)]
    result = FakeLab(script).run(plan(*cells), memory)
    assert [judged(result, c).outcome for c in cells] == [C, Q, Q, Q]


def test_cells_that_fail_together_share_controls_that_were_made_meanwhile(memory: Store) -> None:
    """Another cell may add a control between a cell's judging and its writing down."""
    cells = [cell(label) for label in ("a", "b", "c", "d", "e", "f")]
    result = FakeLab(with_product(Mischief(dies_at="launch"))).run(plan(*cells), memory, jobs=4)
    assert [judged(result, c).outcome for c in cells] == [BROKEN] * 6
    assert result.trouble is None


# --- one guest alone --------------------------------------------------------------------------------------------------


class _Beside:
    """A listener that notes which other attempts ran at any time beside one role's attempts."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._lock = threading.Lock()
        self._running: dict[str, Role | None] = {}
        self.counts: list[int] = []

    def on(self, event: SessionEvent) -> None:
        with self._lock:
            if event.what is Happening.ATTEMPT_STARTED:
                self._running[event.attempt_id or ""] = event.role
                if self._role in self._running.values():
                    self.counts.append(len(self._running))
            elif event.what is Happening.ATTEMPT_FINISHED:
                del self._running[event.attempt_id or ""]


def test_a_timeout_is_repeated_while_no_other_guest_runs(memory: Store) -> None:
    hanging, *others = hasty(), *[cell(label) for label in "abcdefg"]
    beside = _Beside(Role.CONFIRM)
    script: Script = lambda c, _: Mischief(hangs_at="connect" if c.id == hanging.id else None)  # noqa: E731
    result = FakeLab(script).run(plan(hanging, *others), memory, jobs=3, listeners=[beside])
    assert judged(result, hanging).outcome is BROKEN
    assert beside.counts == [1, 1]
    assert [a.meta.alone for a in memory.attempts("run-1", hanging)] == [False, True, True]


# --- answers from the store -------------------------------------------------------------------------------------------


ASKED = (cell(CLEAN), cell(INCIDENT), cell(CLEAN, INCIDENT), cell(CLEAN, version="1.2.0"))


def test_a_second_run_of_the_same_starts_no_guest_and_says_whence_it_knows(store: Store) -> None:
    lab = FakeLab(faults={"1.2.0": "connect"})
    first = lab.run(plan(*ASKED), store)
    guests = lab.guests
    second = lab.run(plan(*ASKED), store, run_id="run-2")
    third = lab.run(plan(*ASKED), store, run_id="run-3")
    assert lab.guests == guests
    for again in (second, third):
        assert (again.attempts_made, again.answered_from_store, again.state) == (0, len(ASKED), RunState.COMPLETE)
        assert {k: j.outcome for k, j in again.judgements.items()} == {
            k: j.outcome for k, j in first.judgements.items()
        }
        assert {j.cached_from for j in again.judgements.values()} == {"run-1"}
    assert {j.cached_from for j in first.judgements.values()} == {None}


def test_fresh_answers_nothing_from_the_store(store: Store) -> None:
    lab = FakeLab()
    lab.run(plan(cell()), store)
    again = lab.run(plan(cell()), store, run_id="run-2", fresh=True)
    assert (again.attempts_made, again.answered_from_store) == (2, 0)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (cell(version="1.1.0"), "another build"),
        (cell(SETUP_KNOWN), "another set"),
        (cell(of=scenario(command=("/bin/true",))), "another scenario"),
    ],
    ids=["build", "set", "scenario"],
)
def test_what_changed_is_run_again(changed: Cell, why: str, memory: Store) -> None:
    lab = FakeLab()
    lab.run(plan(cell()), memory)
    again = lab.run(plan(changed), memory, run_id="run-2")
    assert again.answered_from_store == 0, why
    assert again.attempts_made >= 1


def test_an_answer_that_is_too_old_is_run_again(memory: Store) -> None:
    lab = FakeLab()
    lab.run(plan(cell()), memory)
    assert lab.run(plan(cell(), max_age_s=0.0), memory, run_id="run-2").attempts_made == 2
    assert lab.run(plan(cell()), memory, run_id="run-3").attempts_made == 0


def test_a_share_is_run_again_all_the_same(memory: Store) -> None:
    lab = FakeLab()
    lab.run(plan(cell()), memory)
    assert lab.run(plan(cell(), recheck=1.0), memory, run_id="run-2").answered_from_store == 0


def test_an_answer_that_could_not_tell_is_run_again(memory: Store) -> None:
    assert (
        judged(FakeLab(with_product(Mischief(stops_at="launch"))).run(plan(cell()), memory), cell()).outcome is UNKNOWN
    )
    assert judged(FakeLab().run(plan(cell()), memory, run_id="run-2"), cell()).outcome is C


def test_an_unconfirmed_conviction_is_run_again(memory: Store) -> None:
    FakeLab().run(plan(cell(INCIDENT), confirm=1), memory)
    again = FakeLab().run(plan(cell(INCIDENT), confirm=2), memory, run_id="run-2")
    assert (again.answered_from_store, judged(again, cell(INCIDENT)).confirmed) == (0, True)


def test_an_answer_whose_evidence_is_damaged_is_run_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    FakeLab().run(plan(cell()), store)
    for blob in (tmp_path / "store" / "blobs").rglob("*"):
        if blob.is_file():
            blob.chmod(0o600)
            blob.write_bytes(b"damaged")
    again = FakeLab().run(plan(cell()), store, run_id="run-2")
    store.close()
    assert (again.attempts_made, again.answered_from_store, judged(again, cell()).outcome) == (2, 0, C)


def test_a_control_comes_along_with_the_cells_that_it_judged(memory: Store) -> None:
    """Its own judgement is the last thing that a run writes; a run that was killed before that has none."""
    lab = FakeLab()
    lab.run(plan(cell()), _forgetful(memory, control()))
    again = lab.run(plan(cell()), memory, run_id="run-2")
    assert (again.state, again.attempts_made, judged(again, control()).outcome) == (RunState.COMPLETE, 0, C)


def test_judging_the_stored_attempts_again_gives_the_same_verdicts(store: Store) -> None:
    result = FakeLab(faults={"1.2.0": "connect"}).run(plan(*ASKED), store)
    for asked in ASKED:
        known = judged(result, asked)
        attempts, controls = store.attempts_by_id(known.attempts), store.attempts_by_id(known.controls)
        again = judge(attempts, controls, parsers=parsers, confirm=2).verdict
        assert (again.outcome, again.stage, again.rule, again.reason) == (
            known.outcome,
            known.stage,
            known.rule,
            known.reason,
        )


# --- stopping and resuming --------------------------------------------------------------------------------------------


def _stop_at(number: int, stop: StopSwitch) -> Callable[[Cell, int], None]:
    seen: list[str] = []

    def before(cell: Cell, _number: int) -> None:
        seen.append(cell.id)
        if len(seen) == number:
            stop.request("interrupted")

    return before


@pytest.mark.parametrize(
    ("store", "at"), [("memory", 1), ("sqlite", 2), ("memory", 3), ("sqlite", 5), ("memory", 8)], indirect=["store"]
)
def test_an_interrupt_ends_cleanly_and_the_rest_is_run_on_resume(at: int, store: Store) -> None:
    stop = StopSwitch()
    first = FakeLab(faults={"1.2.0": "connect"}, before_guest=_stop_at(at, stop))
    stopped = first.run(plan(*ASKED), store, stop=stop)
    assert (stopped.state, stopped.trouble) == (RunState.INTERRUPTED, None)
    assert store.find_run("run-1").state is RunState.INTERRUPTED
    assert at <= first.guests <= at + 1
    assert _complete_attempts(store, ASKED) == first.guests

    second = FakeLab(faults={"1.2.0": "connect"})
    done = second.run(store.plan_of("run-1"), store, resume=True)
    assert (done.state, store.find_run("run-1").state) == (RunState.COMPLETE, RunState.COMPLETE)
    assert [judged(done, c).outcome for c in ASKED] == [C, Q, Q, FAULT]
    whole = FakeLab(faults={"1.2.0": "connect"})
    whole.run(plan(*ASKED), MemoryStore())
    assert first.guests + second.guests == whole.guests
    assert list(store.unfinished("run-1")) == []


def _complete_attempts(store: Store, cells: Sequence[Cell]) -> int:
    every = {c.execution_key(): c for c in [*cells, *(c.control() for c in cells)]}
    return sum(len(store.attempts("run-1", c)) for c in every.values())


def test_a_resumed_run_whose_cells_are_all_judged_still_judges_its_controls(store: Store) -> None:
    cut = FakeLab().run(plan(cell()), _forgetful(store, control()))
    assert cut.state is RunState.INTERRUPTED
    done = FakeLab().run(plan(cell()), store, resume=True)
    assert (done.state, done.attempts_made, judged(done, control()).outcome) == (RunState.COMPLETE, 0, C)


def test_a_stop_before_the_first_guest_starts_none(memory: Store) -> None:
    stop = StopSwitch()
    stop.request("seen enough")
    lab = FakeLab()
    result = lab.run(plan(*ASKED), memory, stop=stop)
    assert (result.state, lab.guests, result.judgements) == (RunState.INTERRUPTED, 0, {})


def test_input_that_turns_out_wrong_ends_the_run_and_is_told(memory: Store) -> None:
    class Wrong(FakeProduct):
        def arm(self, *args: object, **more: object) -> None:
            raise InputError("There is no such profile.")

    result = FakeLab(adapter=Wrong).run(plan(cell(), cell(INCIDENT)), memory)
    assert isinstance(result.trouble, InputError)
    assert result.state is RunState.INTERRUPTED


class Swapping(FakeProduct):
    """Another set is loaded behind the last canaries: what our own last look provokes is not the cell's product's."""

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        super().canary(folders, when=when, deadline=deadline)
        if when is When.AFTER:
            self._admin.push(json.dumps(_set_of(signature(INCIDENT))).encode(), DATABASE, deadline=deadline)
            self._admin.run([GUARD, "load"], deadline=deadline)


@pytest.mark.parametrize("faults", [{}, {"1.0.0": "connect"}], ids=["a good build", "a faulty build"])
def test_a_set_that_is_swapped_before_the_last_look_convicts_nobody(faults: dict[str, str], memory: Store) -> None:
    verdict = judged(FakeLab(faults=faults, adapter=Swapping).run(plan(cell()), memory), cell())
    assert verdict.outcome is UNKNOWN
    assert INCIDENT in verdict.reason


# --- trouble of ours --------------------------------------------------------------------------------------------------


class _Forgetful:
    """A store that another one stands behind, without the judgements of one cell."""

    def __init__(self, behind: Store, cell: Cell) -> None:
        self._behind = behind
        self._cell = cell

    def __getattr__(self, name: str) -> object:
        return getattr(self._behind, name)

    def add_judgement(self, run_id: str, cell: Cell, judgement: Judgement) -> None:
        if cell.id != self._cell.id:
            self._behind.add_judgement(run_id, cell, judgement)


def _forgetful(behind: Store, cell: Cell) -> Store:
    store: Store = _Forgetful(behind, cell)  # type: ignore[assignment]  # all but one method is handed on
    return store


class _SmallStore(MemoryStore):
    """A store with room for so many writes; then the disk is full, for good."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.claims = 0
        self.claims_when_full: int | None = None

    def claim(self, run_id: str, cell: Cell, *, role: Role, ordinal: int) -> Claim:
        self.claims += 1
        return super().claim(run_id, cell, role=role, ordinal=ordinal)

    def save(self, claim: Claim, attempt: Attempt) -> None:
        self._write()
        super().save(claim, attempt)

    def add_judgement(self, run_id: str, cell: Cell, judgement: Judgement) -> None:
        self._write()
        super().add_judgement(run_id, cell, judgement)

    def finish_run(self, run_id: str, *, at: datetime, state: RunState) -> None:
        self._write()
        super().finish_run(run_id, at=at, state=state)

    def _write(self) -> None:
        self.room -= 1
        if self.room < 0:
            self.claims_when_full = self.claims if self.claims_when_full is None else self.claims_when_full
            raise DiskFull("The disk is full.", detail=str(errno.ENOSPC))


@pytest.mark.parametrize("room", [0, 1, 2, 3, 5, 8, 11, 13])
def test_a_full_disk_stops_leasing_and_keeps_what_is_durable(room: int) -> None:
    store = _SmallStore(room)
    lab = FakeLab(faults={"1.2.0": "connect"})
    result = lab.run(plan(*ASKED), store)
    assert isinstance(result.trouble, DiskFull)
    assert result.state is RunState.INTERRUPTED
    assert store.claims_when_full is not None
    assert store.claims - store.claims_when_full <= 1

    store.room = 1000
    done = FakeLab(faults={"1.2.0": "connect"}).run(store.plan_of("run-1"), store, resume=True)
    assert (done.state, done.trouble) == (RunState.COMPLETE, None)
    assert [judged(done, c).outcome for c in ASKED] == [C, Q, Q, FAULT]


def test_a_bug_in_an_adapter_is_the_lab_s_and_what_was_seen_before_is_kept(memory: Store) -> None:
    class Buggy(FakeProduct):
        def collect(self, *, deadline: Deadline) -> None:
            msg = "no such key"
            raise KeyError(msg)

    result = FakeLab(adapter=Buggy).run(plan(cell()), memory)
    verdict = judged(result, cell())
    assert (verdict.outcome, verdict.blame, result.state) == (UNKNOWN, Blame.LAB, RunState.COMPLETE)
    assert "KeyError" in verdict.reason
    first = memory.attempts("run-1", cell())[0]
    trouble = first.of(Kind.TROUBLE)[0]
    assert b"no such key" in memory.blobs().get(trouble.blob or "")
    assert len(first.of(Kind.STEP_END)) == len(cell().scenario.steps)


def test_a_bug_behind_a_quarantine_does_not_hide_it(memory: Store) -> None:
    class Buggy(FakeProduct):
        def collect(self, *, deadline: Deadline) -> None:
            raise ZeroDivisionError

    assert judged(FakeLab(adapter=Buggy).run(plan(cell(INCIDENT)), memory), cell(INCIDENT)).outcome is Q


def test_a_bug_in_a_rule_ends_the_run_and_loses_no_attempt(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeLab()
    broken = _Broken()
    monkeypatch.setattr("tests.fake_lab.PARSER", broken)
    result = lab.run(plan(cell()), memory)
    assert result.state is RunState.INTERRUPTED
    assert result.trouble is not None
    assert "RuntimeError" in result.trouble.summary
    assert len(memory.attempts("run-1", cell())) == 1
    broken.whole = True
    done = lab.run(plan(cell()), memory, resume=True)
    assert (judged(done, cell()).outcome, done.state) == (C, RunState.COMPLETE)


class _Broken:
    """A parser with a bug, until it is repaired."""

    version = 1
    whole = False

    def __call__(self, attempt: Attempt) -> object:
        if not self.whole:
            msg = "a bug"
            raise RuntimeError(msg)
        from harness.products.fake_log import PARSER

        return PARSER(attempt)


def test_an_engine_that_fails_to_start_a_guest_is_tried_again(memory: Store) -> None:
    lab = FakeLab(provider=FakeProvider(guarded_machine, fails_at=frozenset({2})))
    result = lab.run(plan(cell()), memory, jobs=1)
    assert (judged(result, cell()).outcome, result.attempts_made) == (C, 3)
    roles = [a.meta.role for a in memory.attempts("run-1", cell())]
    assert roles == [Role.FIRST, Role.RETRY]


def test_retries_are_as_many_as_the_suite_says(memory: Store) -> None:
    for retries in (0, 1, 3):
        lab = FakeLab(with_product(Mischief(fails_at_call=20)))
        lab.run(plan(cell(), retries=retries), memory, run_id=f"run-{retries}")
        assert lab.guests_of(cell()) == 1 + retries


# --- listeners, and many at once --------------------------------------------------------------------------------------


def test_a_listener_hears_everything_in_order(memory: Store) -> None:
    heard = Heard()
    result = FakeLab().run(plan(cell(INCIDENT)), memory, jobs=1, listeners=[heard])
    whats = [e.what for e in heard.events]
    assert (whats[0], whats[-1]) == (Happening.RUN_STARTED, Happening.RUN_FINISHED)
    assert (
        whats.count(Happening.ATTEMPT_STARTED) == whats.count(Happening.ATTEMPT_FINISHED) == result.attempts_made == 3
    )
    stages = [e.text for e in heard.events if e.what is Happening.STAGE and e.role is Role.FIRST]
    kinds = [s.kind for s in cell().scenario.steps]
    assert stages == ["lease", "protect", *kinds[:6], "prove", "inspect"]
    told = {e.cell.id: e.judgement for e in heard.events if e.what is Happening.CELL_JUDGED and e.cell is not None}
    assert told == result.judgements
    assert {e.run_id for e in heard.events} == {"run-1"}


def test_a_listener_that_fails_costs_nothing(memory: Store) -> None:
    class Loud:
        def on(self, event: SessionEvent) -> None:
            raise ValueError(event.what)

    heard = Heard()
    result = FakeLab().run(plan(cell()), memory, listeners=[Loud(), heard])
    assert (judged(result, cell()).outcome, result.trouble) == (C, None)
    assert heard.events[-1].what is Happening.RUN_FINISHED


@pytest.mark.parametrize(
    ("store", "jobs"), [("memory", 1), ("memory", 2), ("sqlite", 4), ("memory", 16)], indirect=["store"]
)
def test_twelve_cells_of_all_kinds_end_with_any_number_of_guests_at_once(jobs: int, store: Store) -> None:
    versions = ("1.0.0", "1.1.0", "1.2.0")
    cells = [cell(label, version=version) for version in versions for label in (INCIDENT, STRICT)]
    cells += [cell(CLEAN, INCIDENT, version=version) for version in versions]
    cells += [hasty(), hasty(version="1.1.0"), cell(CLEAN, version="1.2.0")]
    slow = {hasty().id, hasty(version="1.1.0").id}

    def script(asked: Cell, number: int) -> Mischief:
        if asked.id in slow:
            return Mischief(hangs_at="connect")
        return Mischief(fails_at_call=30 if number == 1 and asked.product.schedule[0].label == STRICT else None)

    result = FakeLab(script, faults={"1.2.0": "connect"}).run(plan(*cells), store, jobs=jobs)
    assert (result.state, result.trouble) == (RunState.COMPLETE, None)
    got = {c.id: judged(result, c).outcome for c in cells}
    assert {got[name] for name in slow} == {BROKEN}
    assert got[cell(CLEAN, version="1.2.0").id] is FAULT
    assert [got[c.id] for c in cells if INCIDENT in c.id] == [Q] * 6
    expected = {c.id for c in [*cells, *(c.control() for c in cells)]}
    assert set(result.judgements) == expected


def test_two_runs_share_a_store(tmp_path: Path) -> None:
    results = {}

    def one(run_id: str, label: str) -> None:
        store = SqliteStore(tmp_path / "store")
        results[run_id] = FakeLab().run(plan(cell(label), cell(STRICT)), store, run_id=run_id)
        store.close()

    threads = [threading.Thread(target=one, args=pair) for pair in (("a", CLEAN), ("b", INCIDENT))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: r.state for name, r in results.items()} == {"a": RunState.COMPLETE, "b": RunState.COMPLETE}
    assert judged(results["a"], cell(STRICT)).outcome is judged(results["b"], cell(STRICT)).outcome is Q


def test_run_ids_of_one_second_differ() -> None:
    now = datetime.now(UTC)
    assert len({new_run_id("smoke", now) for _ in range(50)}) > 45


# --- floods -----------------------------------------------------------------------------------------------------------


def test_a_flood_of_output_is_inconclusive_and_the_other_cells_go_on(store: Store) -> None:
    """A control whose output was cut proves nothing either; who reads only the exit code would call both green."""
    zeros = ("/usr/bin/head", "-c", str(OUTPUT_CAP_BYTES + 1), "/dev/zero")
    flooded = cell(of=scenario("flood", command=zeros))
    result = FakeLab().run(plan(flooded, cell(), retries=0), store)
    assert result.state is RunState.COMPLETE
    assert judged(result, flooded).outcome is Outcome.INCONCLUSIVE
    assert judged(result, flooded.control()).outcome is Outcome.INCONCLUSIVE
    assert judged(result, cell()).outcome is Outcome.COMPATIBLE
