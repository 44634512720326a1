"""Rows of the rules' tables: facts and controls, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.facts import Facts, FileSeen
from harness.machine import Machine
from harness.observation import Action, Mechanism
from harness.rules import decide
from harness.verdict import Finding, Need, Outcome
from tests.builders import make_cell, make_product, make_update_scenario
from tests.facts_builders import control, detection, failed_step, failing

CELL = make_cell()
UPDATE = make_cell(product=make_product("clamav", "2026-11-04", "2026-11-05"), scenario=make_update_scenario())
NONE = CELL.control()
UPDATE_STEP = 3
DELIVER, INSTALL, LAUNCH, CONNECT, INSPECT = 0, 1, 3, 4, 5
alert = detection(CELL, action=Action.ALERTED, step=INSTALL, mechanism=Mechanism.BEHAVIOUR)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case. ``says``: parts of the sentence that a reader needs."""

    facts: Facts
    controls: Sequence[Facts] = field(default_factory=lambda: (control(),))
    rule: str
    outcome: Outcome
    says: tuple[str, ...]
    stage: str | None = None
    needs: frozenset[Need] = frozenset()


def check(row: Row) -> Finding:
    finding = decide(row.facts, row.controls)
    assert (finding.rule, finding.outcome, finding.stage) == (row.rule, row.outcome, row.stage), finding.reason
    for part in row.says:
        assert part in finding.reason
    assert finding.needs == row.needs
    assert finding == decide(row.facts, list(reversed(row.controls)))
    return finding


def inconclusive(rule: str, facts: Facts, *says: str, need: Need | None = Need.RETRY, stage: str | None = None) -> Row:
    needs = frozenset({need}) if need is not None else frozenset()
    return Row(facts=facts, rule=rule, outcome=Outcome.INCONCLUSIVE, says=says, needs=needs, stage=stage)


def not_run_here(facts: Facts, *, made_for: Machine = Machine.X86) -> Facts:
    """Give the facts of a launch that fails on an image for 64-bit programs, and what the program is made for."""
    image = facts.cell.image.model_copy(update={"machines": (Machine.X64,)})
    cell = facts.cell.model_copy(update={"image": image})
    program = FileSeen(path=r"c:\demohts\DEMOHTS.EXE", size_bytes=10, sha256="a" * 64, machine=made_for)
    return replace(failing(facts, failed_step(facts.cell, LAUNCH)), cell=cell, files=(program,))


def with_label(facts: Facts, border: int, label: str | None) -> Facts:
    samples = tuple(replace(s, label=label) if s.border == border else s for s in facts.samples)
    return replace(facts, samples=samples)


def without_sample(facts: Facts, *borders: int) -> Facts:
    return replace(facts, samples=tuple(s for s in facts.samples if s.border not in borders))


def failing_control(
    attempt_id: str, step: int = CONNECT, *, code: int | None = 5, expectation: str = "window"
) -> Facts:
    return control(
        attempt_id=attempt_id,
        failed=failed_step(NONE, step, code=code, expectation=expectation, detail="Other words.", duration_s=44.0),
    )
