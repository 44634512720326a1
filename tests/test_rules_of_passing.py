"""Rules 4 to 6: all steps passed, and what must hold beside that for good news."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.facts import Facts, FileSeen, Owner, StepStatus
from harness.image import Folder
from harness.observation import Action, Mechanism
from harness.rules import RULES, changed_files, decide
from harness.scenario import Deliver, Run, Step
from harness.verdict import Need, Outcome
from tests.builders import make_cell, make_scenario
from tests.facts_builders import (
    COMM,
    FILES,
    control,
    detection,
    failed_step,
    failing,
    fresh_control,
    good,
)
from tests.rule_rows import (
    CELL,
    UPDATE,
    Row,
    alert,
    check,
    failing_control,
    inconclusive,
)
from tests.test_proof_of_life import LAB_ROWS
from tests.test_rules import ACTED_ROWS, FAILED_ROWS

# --- rules 4 and 5 ----------------------------------------------------------------------------------------------------


def with_file(facts: Facts, path: str, sha256: str | None) -> Facts:
    kept = tuple(f for f in facts.files or () if f.path.casefold() != path.casefold())
    return replace(facts, files=(*kept, FileSeen(path=path, size_bytes=1, sha256=sha256)))


def without_file(facts: Facts, path: str) -> Facts:
    return replace(facts, files=tuple(f for f in facts.files or () if f.path != path))


UNREAD_ROWS = {
    "evidence that could not be read": inconclusive(
        "evidence.unread", replace(good(), unread=("clamd.log: a piece was cut",)), "clamd.log: a piece was cut"
    ),
    "a record about nobody's file": inconclusive(
        "evidence.unread",
        good(detections=[detection(CELL, owner=Owner.UNATTRIBUTED, target="/tmp/x", action=Action.ALERTED)]),
        "/tmp/x",
        "neither the build's nor ours",
        need=None,
    ),
    "a denial of nobody's file": inconclusive(
        "evidence.unread",
        good(detections=[detection(CELL, owner=Owner.UNATTRIBUTED, action=Action.DENIED)]),
        "neither the build's nor ours",
        need=None,
    ),
    "files that were not inspected": inconclusive("evidence.unread", replace(good(), files=None), "not inspected"),
    "a step that never ran": inconclusive(
        "evidence.unread", replace(good(), steps=good().steps[:-1]), "Not every step ran"
    ),
    "only a control that fails beside a cell that passes": replace(
        inconclusive("evidence.unread", good(), "No control run passed", need=Need.CONTROL),
        controls=(failing_control("c1"),),
    ),
    "only a control whose files were not inspected": replace(
        inconclusive("evidence.unread", good(), "No control run passed", need=Need.CONTROL),
        controls=(replace(control(), files=None),),
    ),
}


@pytest.mark.parametrize("row", UNREAD_ROWS.values(), ids=UNREAD_ROWS.keys())
def test_rule_4_what_was_not_read_is_never_good_news(row: Row) -> None:
    check(row)


TWO = (control(), control(attempt_id="c2"))
CHANGED = {
    "a file that vanished": (without_file(good(), COMM), f"{COMM} (gone)"),
    "a file that was changed": (with_file(good(), COMM, "c" * 64), f"{COMM} (changed)"),
    "a file that cannot be opened any more": (with_file(good(), COMM, None), f"{COMM} (cannot be opened)"),
    "a module that is not the build's": (
        replace(good(), foreign_modules=(r"C:\av\hook.dll",)),
        r"module C:\av\hook.dll",
    ),
}


@pytest.mark.parametrize(("facts", "odd"), CHANGED.values(), ids=CHANGED.keys())
def test_rule_5_what_changed_behind_our_back_is_suspect(facts: Facts, odd: str) -> None:
    finding = decide(facts, TWO)
    assert (finding.rule, finding.outcome, finding.stage) == ("files.changed", Outcome.INCONCLUSIVE, "inspect")
    assert f"yet {odd} differs from the control" in finding.reason
    assert finding.needs == {Need.CONFIRM}
    assert finding.suspicion == ("changed", odd)


@pytest.mark.parametrize(("facts", "odd"), CHANGED.values(), ids=CHANGED.keys())
def test_rule_5_one_control_alone_makes_no_suspicion_but_asks_for_a_second(facts: Facts, odd: str) -> None:
    finding = decide(facts, [control()])
    assert odd in finding.reason
    assert (finding.outcome, finding.suspicion) == (Outcome.INCONCLUSIVE, ())
    assert finding.needs == {Need.CONTROL}


def test_rule_5_what_differs_between_controls_moves_by_itself() -> None:
    one, other = with_file(control(), COMM, "1" * 64), with_file(control(attempt_id="c2"), COMM, "2" * 64)
    assert decide(with_file(good(), COMM, "3" * 64), [one, other]).outcome is Outcome.COMPATIBLE
    assert changed_files(without_file(good(), COMM), [one, other]) == (f"{COMM} (gone)",)
    assert changed_files(with_file(good(), COMM, None), [one, other]) == (f"{COMM} (cannot be opened)",)


def test_rule_5_a_module_that_the_control_loads_as_well_is_no_product_doing() -> None:
    facts = replace(good(), foreign_modules=(r"C:\users\trader\plugin.dll",))
    assert decide(facts, [replace(control(), foreign_modules=facts.foreign_modules)]).outcome is Outcome.COMPATIBLE


@pytest.mark.parametrize("path", [r"C:\DemoHTS\log\today.log", r"c:\demohts\LOG\TODAY.LOG"])
def test_rule_5_declared_volatile_files_move_by_themselves(path: str) -> None:
    cell = make_cell(scenario=make_scenario().model_copy(update={"volatile": (r"log\*.LOG",)}))
    beside = with_file(control(cell), r"C:\DemoHTS\log\today.log", "1" * 64)
    assert changed_files(with_file(good(cell), path, "2" * 64), [beside]) == ()
    assert changed_files(good(cell), [beside]) == ()


def test_rule_5_paths_are_compared_as_windows_does() -> None:
    moved_case = replace(good(), files=tuple(replace(f, path=f.path.upper()) for f in FILES))
    assert changed_files(moved_case, [control()]) == ()


def test_rule_5_a_file_that_cannot_be_opened_in_the_control_either_is_no_change() -> None:
    assert changed_files(with_file(good(), COMM, None), [with_file(control(), COMM, None)]) == ()


# --- rule 6 -----------------------------------------------------------------------------------------------------------


def test_rule_6_everything_passed_and_proven_is_compatible() -> None:
    finding = decide(good(), [control()])
    assert (finding.rule, finding.outcome) == ("all.passed", Outcome.COMPATIBLE)
    assert "10 canaries reacted in this guest, and all 6 samples were as scheduled" in finding.reason
    assert (finding.blame, finding.stage, finding.needs) == (None, None, frozenset())
    assert finding.observed_s == 5.0


def test_rule_6_an_alert_about_the_build_is_detected() -> None:
    finding = decide(good(detections=[alert]), [control()])
    assert (finding.rule, finding.outcome, finding.stage) == ("all.passed", Outcome.DETECTED, "install")
    assert f"raised Win.Trojan.Comm about {COMM}" in finding.reason
    assert finding.mechanism is Mechanism.BEHAVIOUR


def test_rule_6_the_whole_update_schedule_can_pass() -> None:
    assert decide(good(UPDATE), [control(UPDATE)]).outcome is Outcome.COMPATIBLE


def test_a_much_slower_step_is_reported_beside_the_outcome() -> None:
    slow = replace(good(), steps=tuple(replace(s, duration_s=4.0) for s in good().steps))
    assert decide(slow, [control()]).slowdown == 4.0
    assert decide(good(), [control()]).slowdown is None


def test_a_scenario_of_one_step_has_no_install_folder_to_prove() -> None:
    cell = make_cell(scenario=make_scenario(steps=[Step(run=Run(command=("true",)))]))
    facts = replace(good(cell), canaries=tuple(c for c in good(cell).canaries if c.folder is not Folder.INSTALL))
    assert decide(facts, [control(cell)]).outcome is Outcome.COMPATIBLE


def test_every_rule_of_the_table_is_reached_by_a_case() -> None:
    rows = [*ACTED_ROWS.values(), *LAB_ROWS.values(), *FAILED_ROWS.values(), *UNREAD_ROWS.values()]
    elsewhere = {"lab.crash", "lab.machine", "older.build", "files.changed", "all.passed"}
    assert {r.rule for r in rows} | elsewhere == {name for name, _ in RULES}


def test_a_step_that_was_not_run_neither_fails_nor_passes() -> None:
    not_run = replace(good().steps[-1], status=StepStatus.NOT_RUN)
    facts = replace(good(), steps=(*good().steps[:-1], not_run))
    assert facts.failed is None
    assert not facts.passed


def test_the_only_step_of_a_scenario_may_be_the_first_that_fails() -> None:
    cell = make_cell(scenario=make_scenario(steps=[Step(deliver=Deliver())]))
    facts = failing(good(cell), failed_step(cell, 0))
    assert decide(facts, [control(cell), fresh_control(cell)]).outcome is Outcome.BROKEN
