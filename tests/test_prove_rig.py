"""Each promise of the rig, kept by simulated guests and then broken on purpose: it is named, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from harness.errors import InputError
from harness.expectation import Expectations, Kept, promises
from harness.fake_guest import Mischief
from harness.image import Folder
from harness.plan import Cell, Plan, ProductChoice
from harness.products.fake_log import NAME
from harness.prove_rig import Proven, prove_rig
from harness.rig import ROOT
from harness.session import Options
from harness.stop_switch import StopSwitch
from harness.stores.memory import MemoryStore
from harness.verdict import Outcome
from harness.yaml_files import load_expectations
from tests.builders import make_build, make_cell, make_matrix_cell, make_signature
from tests.fake_lab import FakeLab, cell, installed, parsers, plan, scenario

#: What the real lab must show. A simulated product's late act comes at the last look, and is not dated.
SHIPPED = load_expectations(ROOT / "scenarios" / "suites" / "rig.expected.yaml")
ANY_TIME = {"stage": (), "component": (), "mechanism": None, "after_s": None}
EXPECTED = Expectations(
    cells=tuple(e.model_copy(update=ANY_TIME) if e.promise == "late-acting" else e for e in SHIPPED.cells)
)

LABELS = ("known-good", "known-bad", "protection-killed", "path-excluded", "not-reloaded", "quiet", "acts-late")
SHORT = scenario("broken-inside")
UPDATED = scenario("released-then-updated").model_copy(update={"name": "then-updated"})


def product(*labels: str) -> ProductChoice:
    module = next(f for f in make_build().files if f.path == "hts_comm.dll")
    known = {"known-bad": [module], "acts-late": [module]}
    every = {label: make_signature(label, known=known.get(label, [])) for label in LABELS}
    return ProductChoice(name=NAME, schedule=tuple(every[label] for label in labels), known=tuple(every.values()))


def rig_cell(*labels: str) -> Cell:
    return make_cell(build=make_build(), product=product(*labels), scenario=UPDATED if len(labels) > 1 else SHORT)


CELLS: Mapping[str, Cell] = {
    "known-good": rig_cell("known-good"),
    "known-bad": rig_cell("known-bad"),
    "dead-protection": rig_cell("protection-killed"),
    "excluded-path": rig_cell("path-excluded"),
    "stale-signature": rig_cell("known-good", "not-reloaded"),
    "late-acting": rig_cell("quiet", "acts-late"),
}
INSTALL = installed("DemoHTS.exe").rpartition("/")[0]

#: What a lab does that keeps each promise.
HONEST: Mapping[str, Mischief] = {
    "dead-protection": Mischief(stops_at="connect"),
    "excluded-path": Mischief(unwatched=INSTALL),
    "stale-signature": Mischief(keeps_old_set=True),
    "late-acting": Mischief(acts_at="inspect"),
}

#: And what one does that does not.
BROKEN: Mapping[str, Mischief] = {
    "known-good": Mischief(stranger_at="connect"),
    "known-bad": Mischief(only_alerts=True),
    "dead-protection": Mischief(),
    "excluded-path": Mischief(),
    "stale-signature": Mischief(),
    "late-acting": Mischief(acts_at="never"),
}


@dataclass
class Lab:
    """A lab that keeps its promises, but for those that a test breaks."""

    broken: Mapping[str, Mischief]
    everywhere: Mischief | None = None

    def script(self, given: Cell, _number: int) -> Mischief:
        if self.everywhere is not None:
            return self.everywhere
        name = next((n for n, c in CELLS.items() if c.id == given.id), "control")
        return self.broken.get(name, HONEST.get(name, Mischief()))

    def prove(self, *, drill: bool = True, stop: StopSwitch | None = None) -> tuple[Proven, MemoryStore]:
        asked = plan(*CELLS.values(), confirm=1, retries=0)
        asked = Plan(suite=asked.suite.model_copy(update={"name": "rig", "drill": drill}), cells=asked.cells)
        store = MemoryStore()
        options = Options(run_id="rig-1", jobs=2, provider="fake", fresh=True)
        rig = FakeLab(self.script).rig()
        proven = prove_rig(asked, EXPECTED, rig=rig, store=store, parsers=parsers, options=options, stop=stop)
        return proven, store


def not_kept(proven: Proven) -> list[str]:
    return [p.promise for p in proven.promises if not p.kept]


def test_every_promise_of_the_shipped_suite_is_tried_here() -> None:
    assert [e.promise for e in SHIPPED.cells] == list(CELLS)
    assert all(e.words.endswith(".") for e in SHIPPED.cells)


def test_a_lab_that_keeps_its_promises_is_told_so() -> None:
    proven, _ = Lab({}).prove()
    assert [(p.promise, p.why_not) for p in proven.promises] == [(name, ()) for name in CELLS]
    assert (proven.kept, proven.whole) == (True, True)


@pytest.mark.parametrize("name", BROKEN)
def test_each_promise_that_is_broken_on_purpose_is_named_and_no_other(name: str) -> None:
    proven, _ = Lab({name: BROKEN[name]}).prove()
    assert not_kept(proven) == [name]
    assert not proven.kept
    [broken] = [p for p in proven.promises if not p.kept]
    assert all(CELLS[name].id in sentence for sentence in broken.why_not)


def test_a_lab_in_which_nothing_runs_keeps_no_promise() -> None:
    """Its cells could not tell either; that is no proof that a dead protection would be noticed."""
    proven, _ = Lab({}, everywhere=Mischief(killed_at="ready")).prove()
    assert not_kept(proven) == list(CELLS)


def test_a_lab_whose_every_canary_is_silent_keeps_the_one_promise_that_it_shows() -> None:
    downloads = cell().image.guest_path(cell().image.folders[Folder.DOWNLOADS])
    proven, _ = Lab({}, everywhere=Mischief(unwatched=downloads)).prove()
    assert "known-good" in not_kept(proven)
    assert not proven.kept


def test_its_run_is_a_drill_and_never_the_latest() -> None:
    _, store = Lab({}).prove()
    assert [run.drill for run in store.runs()] == [True]
    with pytest.raises(InputError, match="no complete run"):
        store.find_run("latest")
    assert store.latest_judgement(CELLS["known-good"].execution_key()) is None


def test_a_suite_that_is_no_drill_is_refused_before_a_guest_is_leased() -> None:
    with pytest.raises(InputError, match="is no drill"):
        Lab({}).prove(drill=False)


def test_a_test_that_was_stopped_keeps_nothing() -> None:
    stop = StopSwitch()
    stop.request("interrupted")
    proven, _ = Lab({}).prove(stop=stop)
    assert (proven.whole, proven.kept) == (False, False)
    assert not_kept(proven) == list(CELLS)


def test_without_promises_and_without_its_end_nothing_is_kept() -> None:
    fine = Kept(promise="known-good", words="It works.", cells=("a",), why_not=())
    assert Proven(run_id="r", whole=True, promises=(fine,)).kept
    assert not Proven(run_id="r", whole=True, promises=()).kept
    assert not Proven(run_id="r", whole=False, promises=(fine,)).kept


def test_a_promise_that_no_cell_is_about_is_not_kept() -> None:
    seen = promises(EXPECTED, [make_matrix_cell(Outcome.COMPATIBLE)])
    assert [p.kept for p in seen] == [False] * len(CELLS)
    assert all("no cell" in p.why_not[0] for p in seen)
