"""Facts of one attempt, as ``judge.read`` would give them: all is well unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from harness.attempt import Role
from harness.build import Component
from harness.facts import (
    AttributedDetection,
    CanarySeen,
    Facts,
    FileSeen,
    Owner,
    SampleSeen,
    StepSeen,
    StepStatus,
    Trouble,
    When,
)
from harness.image import Folder
from harness.observation import Action, Detection, Layer, Mechanism
from harness.plan import Cell
from tests.builders import make_cell

COMM = r"C:\DemoHTS\hts_comm.dll"
FILES = (
    FileSeen(path=r"C:\DemoHTS\DemoHTS.exe", size_bytes=10, sha256="a" * 64),
    FileSeen(path=COMM, size_bytes=20, sha256="b" * 64),
)
OUTSIDE = tuple(folder for folder in Folder if folder is not Folder.INSTALL)


def passed_step(cell: Cell, index: int, *, duration_s: float = 1.0) -> StepSeen:
    """A step that passed."""
    kind = cell.scenario.steps[index].kind
    return StepSeen(index=index, kind=kind, status=StepStatus.PASSED, seq=100 + index, duration_s=duration_s)


def failed_step(
    cell: Cell,
    index: int,
    *,
    expectation: str = "window",
    code: int | None = None,
    timed_out: bool = False,
    duration_s: float = 1.0,
    detail: str = "No window was shown.",
) -> StepSeen:
    """A step that failed; not by time alone, unless asked."""
    return StepSeen(
        index=index,
        kind=cell.scenario.steps[index].kind,
        status=StepStatus.FAILED,
        seq=100 + index,
        expectation=expectation,
        code=code,
        timed_out=timed_out,
        duration_s=duration_s,
        detail=detail,
    )


def canary(folder: Folder, when: When, *, reacted: bool = True, excluded: bool = False) -> CanarySeen:
    """One try of the file layer."""
    return CanarySeen(
        seq=10 + list(Folder).index(folder),
        layer=Layer.FILE,
        folder=folder,
        when=when,
        reacted=reacted,
        excluded=excluded,
        why_not="" if reacted else "it was not refused",
    )


def sample(cell: Cell, border: int) -> SampleSeen:
    """The protection as scheduled."""
    label = cell.product.schedule[0].label if border < 0 else cell.scheduled(border, after=True).label
    return SampleSeen(seq=200 + border, border=border, active=True, label=label)


def detection(
    cell: Cell,
    *,
    step: int | None = 3,
    action: Action = Action.QUARANTINED,
    owner: Owner = Owner.BUILD,
    target: str = COMM,
    threat: str | None = "Win.Trojan.Comm",
    mechanism: Mechanism = Mechanism.SIGNATURE,
    seq: int = 300,
) -> AttributedDetection:
    """The product's record about the module of the incident, at the launch."""
    kinds = [s.kind for s in cell.scenario.steps]
    at = 0 if step is None else step
    return AttributedDetection(
        detection=Detection(seq=seq, step=step, threat=threat, action=action, target=target, mechanism=mechanism),
        owner=owner,
        stage=kinds[at] if at < len(kinds) else "inspect",
        windows=target,
        component=Component.MODULE if owner is Owner.BUILD else None,
    )


def good(
    cell: Cell | None = None,
    *,
    attempt_id: str = "attempt-1",
    role: Role = Role.FIRST,
    started: float = 100.0,
    detections: Iterable[AttributedDetection] = (),
    alone: bool = False,
) -> Facts:
    """An attempt in which everything passed and everything was proven."""
    cell = cell or make_cell()
    count = len(cell.scenario.steps)
    protected = not cell.is_control
    before = [canary(folder, When.BEFORE) for folder in OUTSIDE]
    after = [canary(folder, When.AFTER) for folder in Folder]
    return Facts(
        attempt_id=attempt_id,
        cell=cell,
        role=role,
        ordinal=1,
        complete=True,
        alone=alone,
        started_order=started,
        steps=tuple(passed_step(cell, index) for index in range(count)),
        detections=tuple(detections),
        canaries=(*before, canary(Folder.INSTALL, When.STEP), *after) if protected else (),
        samples=tuple(sample(cell, border) for border in range(-1, count)) if protected else (),
        files=FILES,
        observed_s=5.0,
    )


def failing(facts: Facts, step: StepSeen) -> Facts:
    """The same attempt, ended by a step that failed."""
    return replace(
        facts,
        steps=(*facts.steps[: step.index], step),
        samples=tuple(s for s in facts.samples if s.border <= step.index),
    )


def control(
    cell: Cell | None = None,
    *,
    attempt_id: str = "control-1",
    role: Role = Role.CONTROL,
    started: float = 50.0,
    failed: StepSeen | None = None,
) -> Facts:
    """A control of a cell: passed, unless a step failed."""
    facts = good((cell or make_cell()).control(), attempt_id=attempt_id, role=role, started=started)
    return facts if failed is None else failing(facts, failed)


def fresh_control(cell: Cell | None = None, *, attempt_id: str = "control-after", started: float = 500.0) -> Facts:
    """A passing control that was begun after the attempt."""
    return control(cell, attempt_id=attempt_id, role=Role.CONTROL_AFTER, started=started)


def lost(facts: Facts, *, step: int | None = 3, crashed: bool = False, summary: str = "The guest is gone.") -> Facts:
    """The same attempt, ended at a step by trouble of ours or by the death of the guest."""
    at = -1 if step is None else step
    return replace(
        facts,
        complete=False,
        steps=tuple(s for s in facts.steps if s.index < at),
        samples=tuple(s for s in facts.samples if s.border < max(at, 0)),
        canaries=tuple(c for c in facts.canaries if c.when is When.BEFORE),
        troubles=(Trouble(seq=900, step=step, summary=summary, guest_crashed=crashed),),
        files=None,
    )
