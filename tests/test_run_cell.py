"""One attempt on a simulated guest: what is recorded in which order, and what is let go of whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from harness import look
from harness.attempt import Attempt, AttemptMeta, Event, Kind, Role
from harness.deadline import Deadline
from harness.errors import InputError, LabError
from harness.fake_guest import Called, FakeMachine, Mischief
from harness.frame import Frame
from harness.image import Image
from harness.judge import judge
from harness.plan import Cell
from harness.products.api import Tools
from harness.products.fake import GUARD, FakeProduct
from harness.providers.api import Endpoint, Lease, Rebooted
from harness.providers.fake import FakeProvider
from harness.recorder import Recorder
from harness.run_cell import Behind, CarriesOut, Hold, Rig, run_cell
from harness.scenario import Press, Reboot, Step
from harness.signature import Signature
from harness.transports.api import Transport
from harness.transports.fake import FakeTransport
from harness.verdict import Outcome
from tests.builders import NOON
from tests.fake_lab import (
    CLEAN,
    INCIDENT,
    FakeLab,
    cell,
    control,
    guarded_machine,
    hasty,
    in_every_guest,
    parsers,
    scenario,
)

STEPS = [step.kind for step in cell().scenario.steps]


def meta_of(asked: Cell) -> AttemptMeta:
    return AttemptMeta(
        id="a",
        cell=asked,
        role=Role.FIRST,
        ordinal=1,
        nonce="abcdef012345",
        provider="fake",
        tool_version="0",
        started_at=NOON,
    )


def attempt_of(asked: Cell, mischief: Mischief | None = None, *, rig: Rig | None = None) -> Attempt:
    rig = rig or FakeLab(in_every_guest(mischief or Mischief())).rig()
    return run_cell(meta_of(asked), rig, run_id="run-1")


def kinds(attempt: Attempt) -> list[str]:
    return [e.kind.value for e in attempt.events]


def ended_steps(attempt: Attempt) -> list[tuple[str, object]]:
    return [(e.subject, e.data["expectation"]) for e in attempt.of(Kind.STEP_END)]


# --- what is recorded -------------------------------------------------------------------------------------------------


def test_an_attempt_begins_with_who_and_ends_with_its_end() -> None:
    attempt = attempt_of(cell())
    assert (attempt.events[0].kind, attempt.events[0].data) == (Kind.BEGIN, {"role": "first", "alone": False})
    assert attempt.events[-1].kind is Kind.END
    assert attempt.complete
    assert [e.seq for e in attempt.events] == list(range(len(attempt.events)))
    assert attempt.of(Kind.TROUBLE) == []


def test_every_step_stands_between_its_borders_and_is_sampled_behind() -> None:
    attempt = attempt_of(cell())
    assert ended_steps(attempt) == [(kind, None) for kind in STEPS]
    assert attempt.of(Kind.SAMPLE)[-1].seq > attempt.of(Kind.INSPECTION)[0].seq, "our own last look is sampled behind"
    for index in range(len(STEPS)):
        during = [e.kind for e in attempt.events if e.step == index]
        assert during.index(Kind.STEP_BEGIN) < during.index(Kind.STEP_END) < during.index(Kind.SAMPLE)
    assert [e.data["border"] for e in attempt.of(Kind.SAMPLE)] == [-1, *range(len(STEPS)), len(STEPS)]


def test_canaries_are_tried_before_in_the_install_folder_and_after() -> None:
    tried = [
        (e.data["when"], len(_items(e)), {str(i["folder"]) for i in _items(e)})
        for e in attempt_of(cell()).of(Kind.CANARY)
    ]
    everywhere = {"downloads", "temp", "install_parent", "appdata"}
    assert tried == [("before", 4, everywhere), ("step", 1, {"install"}), ("after", 5, everywhere | {"install"})]


def _items(event: Event) -> list[Mapping[str, object]]:
    items = event.data["items"]
    assert isinstance(items, list)
    return [item for item in items if isinstance(item, Mapping)]


def test_every_planted_object_carries_the_nonce_and_is_written_down_before_it_is_there() -> None:
    attempt = attempt_of(cell())
    planted = {str(item["path"]) for e in attempt.of(Kind.PLANTED) for item in _items(e)}
    assert planted
    assert all("abcdef012345" in path for path in planted)
    first_use: dict[str, int] = {}
    for event in (*attempt.of(Kind.CANARY), *attempt.of(Kind.SAMPLE)):
        for item in _items(event):
            first_use.setdefault(str(item["path"]), event.seq)
    said = {str(item["path"]): e.seq for e in attempt.of(Kind.PLANTED) for item in _items(e)}
    assert all(said[path] < seq for path, seq in first_use.items())


def test_a_picture_is_taken_after_steps_that_show_something_and_after_a_failure() -> None:
    good = [STEPS[e.step or 0] for e in attempt_of(cell()).of(Kind.SCREENSHOT)]
    bad = [STEPS[e.step or 0] for e in attempt_of(hasty(), Mischief(hangs_at="install")).of(Kind.SCREENSHOT)]
    assert (good, bad) == (["launch", "connect", "dwell"], ["install"])


def shown(asked: Cell, screen: Callable[[str], Frame | None], mischief: Mischief | None = None) -> Attempt:
    """Make an attempt on a guest whose screen is seen from outside."""

    def machine(name: str) -> FakeMachine:
        made = guarded_machine(name)
        made.screen = screen
        return made

    script = in_every_guest(mischief or Mischief())
    return attempt_of(asked, rig=FakeLab(script, provider=FakeProvider(machine)).rig())


def test_a_screen_that_is_seen_from_outside_is_pictured_behind_every_step_and_kept_once_while_it_stays() -> None:
    def screen(moment: str) -> Frame:
        return Frame(width=1, height=1, pixels=b"on!" if moment == "connect" else b"off")

    attempt = shown(cell(), screen)
    pictures = attempt.of(Kind.SCREENSHOT)
    assert [STEPS[e.step or 0] for e in pictures] == STEPS
    assert {e.data["from"] for e in pictures} == {"outside"}
    moved = [STEPS[e.step or 0] for e in pictures if e.data["changed"]]
    assert moved[:2] == [STEPS[0], "connect"]
    assert len({e.blob for e in pictures}) == 2
    assert attempt.blobs.get(pictures[0].blob or "").startswith(b"\x89PNG")


@pytest.mark.parametrize("seen", [True, False])
def test_a_press_reaches_the_machine_where_its_lease_takes_input_and_is_the_labs_trouble_elsewhere(seen: bool) -> None:
    lab = FakeLab(provider=FakeProvider(guarded_machine))
    if seen:

        def machine(name: str) -> FakeMachine:
            made = guarded_machine(name)
            made.screen = lambda _moment: None
            return made

        lab = FakeLab(provider=FakeProvider(machine))
    given = cell()
    steps = (*given.scenario.steps[:1], Step(press=Press(keys=("enter",))))
    asked = given.model_copy(update={"scenario": given.scenario.model_copy(update={"steps": steps})})
    attempt = attempt_of(asked, rig=lab.rig())
    assert [machine.pressed for machine in lab.provider.machines.values()] == [["enter"] if seen else []]
    assert attempt.complete is seen
    assert [e.data["retryable"] for e in attempt.of(Kind.TROUBLE)] == ([] if seen else [False])


def test_a_screen_that_gives_no_picture_costs_the_attempt_nothing() -> None:
    attempt = shown(cell(), lambda _moment: None)
    assert attempt.complete
    assert attempt.of(Kind.SCREENSHOT) == []
    assert len([e for e in attempt.of(Kind.LOOK) if e.subject == "screen withheld"]) == len(STEPS)


# --- held -------------------------------------------------------------------------------------------------------------


def held(asked: Cell, stage: str, mischief: Mischief | None = None) -> tuple[Attempt, list[Behind]]:
    """Hold a guest behind a stage; give the attempt, and what was told while it was held."""
    seen: list[Behind] = []

    def at(behind: Behind) -> None:
        assert behind.lease.lost() is None, "the guest is there while it is held"
        seen.append(behind)

    rig = FakeLab(in_every_guest(mischief or Mischief())).rig()
    attempt = run_cell(meta_of(asked), rig, run_id="run-1", hold=Hold(stage=stage, at=at))
    return attempt, seen


def test_a_guest_is_held_behind_a_stage_and_its_attempt_ends_there_without_an_end() -> None:
    attempt, (behind,) = held(cell(), "launch")
    assert (behind.step.kind, behind.end.expectation) == ("launch", None)
    assert behind.lease.lost() is not None, "and gone afterwards"
    assert ended_steps(attempt)[-1] == ("launch", None)
    assert not attempt.complete
    assert [e.data["when"] for e in attempt.of(Kind.CANARY)] == ["before", "step"]
    assert attempt.of(Kind.TROUBLE) == []


def test_a_guest_is_held_behind_a_step_that_fails_before_its_stage() -> None:
    attempt, (behind,) = held(hasty(), "connect", Mischief(hangs_at="install"))
    assert (behind.step.kind, behind.end.expectation) == ("install", "exit_code")
    assert not attempt.complete


def test_nobody_is_connected_to_a_guest_that_is_held() -> None:
    closed: list[bool] = []

    class Closing(FakeTransport):
        def close(self) -> None:
            closed.append(True)
            super().close()

    lab = FakeLab()
    rig = replace(lab.rig(), connect=lambda endpoint: Closing(lab.provider.machines[endpoint.address]))
    at: list[int] = []
    run_cell(
        meta_of(cell()), rig, run_id="run-1", hold=Hold(stage="deliver", at=lambda _behind: at.append(len(closed)))
    )
    assert at == [1]


def test_the_steps_end_at_the_first_that_fails_and_protection_is_proven_all_the_same() -> None:
    attempt = attempt_of(cell(), Mischief(dies_at="self_update"))
    assert ended_steps(attempt) == [*[(kind, None) for kind in STEPS[:4]], ("self_update", "alive")]
    assert [e.data["when"] for e in attempt.of(Kind.CANARY)] == ["before", "step", "after"]
    assert len(attempt.of(Kind.INSPECTION)) == 1
    assert attempt.complete


def test_what_was_never_installed_is_not_inspected() -> None:
    attempt = attempt_of(hasty(), Mischief(hangs_at="install"))
    assert attempt.of(Kind.INSPECTION) == []
    assert [e.data["when"] for e in attempt.of(Kind.CANARY)] == ["before", "after"]
    assert "install" not in {item["folder"] for e in attempt.of(Kind.CANARY) for item in _items(e)}
    assert attempt.complete


def test_the_last_look_is_a_stage_of_its_own() -> None:
    attempt = attempt_of(cell())
    assert [e.step for e in attempt.of(Kind.INSPECTION)] == [len(STEPS)]
    assert attempt.events[-1].step == len(STEPS)


def test_a_control_plants_nothing_and_runs_the_same_steps() -> None:
    attempt = attempt_of(control())
    assert ended_steps(attempt) == [(kind, None) for kind in STEPS]
    assert not {Kind.PLANTED, Kind.CANARY, Kind.SAMPLE, Kind.LOG} & {e.kind for e in attempt.events}
    assert attempt.complete


def test_stages_are_told_as_they_begin() -> None:
    told: list[str] = []
    run_cell(meta_of(cell()), FakeLab().rig(), run_id="run-1", on_stage=told.append)
    assert told == ["lease", "protect", *STEPS, "prove", "inspect"]


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["ready", "deliver", "install", "launch", "connect", "inspect"])
@pytest.mark.parametrize("crashed", [True, False])
def test_a_lost_guest_is_told_with_whether_it_died_by_itself(moment: str, crashed: bool) -> None:
    mischief = Mischief(lost_at=moment) if crashed else Mischief(killed_at=moment)
    attempt = attempt_of(cell(), mischief)
    (trouble,) = attempt.of(Kind.TROUBLE)
    assert (trouble.data["retryable"], trouble.data["guest_crashed"]) == (True, crashed)
    assert f"ended at '{moment}'" in trouble.subject
    assert b"Traceback" in attempt.blobs.get(trouble.blob or "")
    assert not attempt.complete


def test_what_was_seen_before_the_guest_was_lost_is_kept() -> None:
    attempt = attempt_of(cell(INCIDENT), Mischief(acts_at="launch", lost_at="connect"))
    logs = b"".join(attempt.blobs.get(e.blob or "") for e in attempt.of(Kind.LOG))
    assert b"quarantined | Test.hts_comm.dll" in logs


@pytest.mark.parametrize("call", range(1, 70, 4))
def test_trouble_at_any_call_ends_in_an_attempt_and_a_released_guest(call: int) -> None:
    lab = FakeLab(in_every_guest(Mischief(fails_at_call=call)))
    attempt = attempt_of(cell(CLEAN), rig=lab.rig())
    assert lab.provider.running == []
    assert attempt.complete is (attempt.of(Kind.TROUBLE) == [])
    assert [e.data["guest_crashed"] for e in attempt.of(Kind.TROUBLE)] in ([], [False])


def test_nonsense_from_the_guest_is_trouble() -> None:
    (trouble,) = attempt_of(cell(), Mischief(garbled_from="launch")).of(Kind.TROUBLE)
    assert "no JSON" in trouble.subject


def test_a_guest_that_cannot_be_leased_is_trouble_and_no_crash() -> None:
    lab = FakeLab(provider=FakeProvider(guarded_machine, fails_at=frozenset({1})))
    attempt = attempt_of(cell(), rig=lab.rig())
    assert kinds(attempt) == ["attempt.begin", "trouble"]
    assert attempt.events[-1].data["guest_crashed"] is False


def test_a_guest_that_is_found_dead_at_the_end_is_not_complete() -> None:
    class Last(FakeProduct):
        def collect(self, *, deadline: Deadline) -> None:
            super().collect(deadline=deadline)
            machine = next(iter(lab.provider.machines.values()))
            machine.ended, machine.crashed = "it died at the very end", True

    lab = FakeLab(adapter=Last)
    attempt = attempt_of(cell(), rig=lab.rig())
    assert not attempt.complete
    assert attempt.events[-1].data["guest_crashed"] is True


# --- letting go -------------------------------------------------------------------------------------------------------


def _raising(error: Exception, at: str) -> Callable[[Tools], FakeProduct]:
    """Give an adapter with an error in one of its methods."""

    def fail(*_args: object, **_more: object) -> None:
        raise error

    return type("Raising", (FakeProduct,), {at: fail})


@pytest.mark.parametrize("at", ["arm", "canary", "sample", "collect"])
@pytest.mark.parametrize("error", [KeyError("a bug"), InputError("a typo"), LabError("no"), look.LookError("nonsense")])
def test_the_guest_is_let_go_whatever_an_adapter_raises(error: Exception, at: str) -> None:
    lab = FakeLab(adapter=_raising(error, at))
    recorder = Recorder(meta_of(cell()))
    escapes = isinstance(error, KeyError | InputError)
    try:
        run_cell(meta_of(cell()), lab.rig(), run_id="run-1", recorder=recorder)
    except (KeyError, InputError):
        assert escapes
    else:
        assert not escapes
    assert lab.guests == 1
    assert lab.provider.running == []
    # Whoever gave the recorder has what was seen until then.
    assert recorder.attempt().of(Kind.GUEST)


def test_the_way_in_is_closed_once_and_before_the_guest_ends() -> None:
    order: list[str] = []

    class Watched(FakeTransport):
        def close(self) -> None:
            order.append("closed")
            super().close()

    class Telling(FakeProvider):
        @contextmanager
        def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[object]:  # type: ignore[override]
            with super().lease(image, run_id=run_id, name=name, deadline=deadline) as lease:
                yield lease
                order.append("ends")

    lab = FakeLab(provider=Telling(guarded_machine))

    def connect(endpoint: Endpoint) -> Transport:
        return Watched(lab.provider.machines[endpoint.address])

    assert attempt_of(cell(), rig=replace(lab.rig(), connect=connect)).complete
    assert order == ["closed", "ends"]


def test_guests_are_named_by_run_and_nonce_so_that_they_are_found_again() -> None:
    lab = FakeLab()
    attempt_of(cell(), rig=lab.rig())
    assert list(lab.provider.machines) == ["run-1-abcdef012345"]


# --- a reboot of the machine ------------------------------------------------------------------------------------------

REBOOTED = scenario("rebooted", more=(Step(reboot=Reboot()),))


class Machine:
    """A lease that can start its guest's machine anew: what only ran in it is gone."""

    def __init__(self, lease: Lease, machine: FakeMachine, transports: list[FakeTransport]) -> None:
        self.endpoint, self.lost = lease.endpoint, lease.lost
        self._machine, self._transports = machine, transports
        self.connected: list[int] = []

    def reboot(self, *, deadline: Deadline) -> Rebooted:
        self.connected.append(len(self._transports))
        self._machine.happens("reboot")
        self._machine.programs[GUARD](Called(argv=(GUARD, "stop"), user="root", stdin=b"", deadline=deadline))
        return Rebooted(boot_before="one", boot_after="two")


class ComingUp(FakeProduct):
    """One that is started behind a reboot from what lies on the disk."""

    def come_up(self, signature: Signature, *, deadline: Deadline) -> None:
        self._admin.run([GUARD, "load"], deadline=deadline)
        self._prober.await_set(signature, deadline=deadline.sooner(2.0))


def attempt_with_reboot(
    product: Callable[[Tools], FakeProduct],
    *,
    asked: Cell | None = None,
    carry: CarriesOut | None = None,
    factory: Callable[[str], FakeMachine] = guarded_machine,
) -> tuple[Attempt, list[FakeTransport], FakeMachine]:
    transports: list[FakeTransport] = []

    class Rebooting(FakeProvider):
        @contextmanager
        def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[object]:  # type: ignore[override]
            with super().lease(image, run_id=run_id, name=name, deadline=deadline) as lease:
                yield Machine(lease, self.machines[name], transports)

    lab = FakeLab(provider=Rebooting(factory), adapter=product)
    inner = lab.rig()

    def connect(endpoint: Endpoint) -> Transport:
        transports.append(FakeTransport(lab.provider.machines[endpoint.address]))
        return transports[-1]

    rig = replace(inner, connect=connect, system=lambda cell, _way: inner.system(cell, transports[0]), carry=carry)
    attempt = attempt_of(asked or cell(of=REBOOTED), rig=rig)
    [machine] = lab.provider.machines.values()
    return attempt, transports, machine


def test_a_machine_reboots_and_what_a_cell_began_with_is_there_again() -> None:
    attempt, transports, machine = attempt_with_reboot(ComingUp)
    at = len(REBOOTED.steps) - 1
    told = [(e.subject, e.data) for e in attempt.of(Kind.GUEST) if e.step == at]
    anew = {"anew": "machine"}
    assert told == [("reboot", {**anew, "boot_before": "one", "boot_after": "two"}), ("session", anew)]
    assert attempt.complete
    assert len(transports) == 2, "who was connected is connected anew"
    assert machine.moments.count("ready") == 2
    [finding] = judge([attempt], [], parsers=parsers).findings
    assert finding.rule == "lab.control", "all else is proven"


def test_a_product_that_is_gone_behind_a_reboot_convicts_nobody_and_is_no_good_news() -> None:
    attempt, _, _ = attempt_with_reboot(FakeProduct)
    [finding] = judge([attempt], [], parsers=parsers).findings
    assert (finding.outcome, finding.rule) == (Outcome.INCONCLUSIVE, "lab.protection")
    assert "reboot" in finding.reason


def test_where_only_the_session_can_start_anew_the_evidence_says_so() -> None:
    attempt = attempt_of(cell(of=REBOOTED))
    told = [(e.subject, e.data) for e in attempt.of(Kind.GUEST) if e.step == len(REBOOTED.steps) - 1]
    assert told == [("session", {"anew": "session"})]


# --- what is delivered is what was asked about ------------------------------------------------------------------------


def test_an_installer_that_is_not_the_cell_s_is_never_delivered() -> None:
    lab = FakeLab()
    rig = replace(lab.rig(), installer=lambda _build: b"another build by now")
    with pytest.raises(InputError, match="not the one that the run began with"):
        run_cell(meta_of(cell()), rig, run_id="run-1")
    [machine] = lab.provider.machines.values()
    assert not any("setup" in path for path in machine.files)
