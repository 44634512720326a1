"""Hypothesis strategies: facts of attempts, from perfect to ruined, in few shapes, so that rules collide often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from harness.attempt import Role
from harness.facts import (
    AttributedDetection,
    ExclusionSeen,
    Facts,
    FileSeen,
    Owner,
    StepSeen,
    StepStatus,
    Trouble,
)
from harness.observation import Action, Mechanism
from harness.plan import Cell
from tests.builders import make_cell, make_product, make_update_scenario
from tests.facts_builders import COMM, FILES, control, detection, failed_step, good

CELLS = (
    make_cell(),
    make_cell(product=make_product("clamav", "2026-11-04", "2026-11-05"), scenario=make_update_scenario()),
)
LABELS = ("2026-11-03", "2026-11-04", "2026-11-05", None)

cells = st.sampled_from(CELLS)


@st.composite
def detections(draw: st.DrawFn, cell: Cell, owner: Owner | None = None) -> AttributedDetection:
    """A record of the product, at any step, about anybody's object."""
    return detection(
        cell,
        step=draw(st.sampled_from([None, *range(len(cell.scenario.steps) + 1)])),
        action=draw(st.sampled_from(Action)),
        owner=owner or draw(st.sampled_from(Owner)),
        target=draw(st.sampled_from([COMM, r"C:\DemoHTS\DemoHTS.exe", "/tmp/x"])),
        threat=draw(st.sampled_from(["Win.Trojan.Comm", None])),
        mechanism=draw(st.sampled_from(Mechanism)),
        seq=draw(st.integers(300, 310)),
    )


@st.composite
def failures(draw: st.DrawFn, cell: Cell) -> StepSeen:
    """A step that failed, in one of few ways, so that two failures are often equal."""
    return failed_step(
        cell,
        draw(st.integers(0, len(cell.scenario.steps) - 1)),
        expectation=draw(st.sampled_from(["window", "exit_code"])),
        code=draw(st.sampled_from([None, 5])),
        timed_out=draw(st.booleans()),
        duration_s=draw(st.sampled_from([0.0, 1.0, 3.0, 60.0])),
    )


def _ruin_steps(draw: st.DrawFn, facts: Facts) -> Facts:
    step = draw(failures(facts.cell))
    kept = facts.steps[: step.index]
    match draw(st.sampled_from(["fail", "fail", "cut", "not_run"])):
        case "fail":
            return replace(facts, steps=(*kept, step))
        case "cut":
            return replace(facts, steps=kept)
        case _:
            return replace(facts, steps=(*kept, replace(step, status=StepStatus.NOT_RUN, expectation=None)))


def _ruin_samples(draw: st.DrawFn, facts: Facts) -> Facts:
    if not facts.samples:
        return facts
    at = draw(st.integers(0, len(facts.samples) - 1))
    one = facts.samples[at]
    other = draw(
        st.sampled_from([None, replace(one, active=False, label=None), *[replace(one, label=x) for x in LABELS]])
    )
    rest = [*facts.samples[:at], *facts.samples[at + 1 :]]
    return replace(facts, samples=tuple(rest) if other is None else (*rest, other))


def _ruin_canaries(draw: st.DrawFn, facts: Facts) -> Facts:
    if not facts.canaries:
        return facts
    at = draw(st.integers(0, len(facts.canaries) - 1))
    one = facts.canaries[at]
    other = draw(st.sampled_from([None, replace(one, reacted=False), replace(one, reacted=False, excluded=True)]))
    rest = [*facts.canaries[:at], *facts.canaries[at + 1 :]]
    return replace(facts, canaries=tuple(rest) if other is None else (*rest, other))


def _ruin_files(draw: st.DrawFn, facts: Facts) -> Facts:
    choices = (
        None,
        FILES[:1],
        (FILES[0], FileSeen(path=COMM, size_bytes=1, sha256=draw(st.sampled_from(["c", None])))),
    )
    return replace(facts, files=draw(st.sampled_from(choices)))


def _trouble(draw: st.DrawFn, facts: Facts) -> Facts:
    step = draw(st.sampled_from([None, *range(len(facts.cell.scenario.steps) + 1)]))
    trouble = Trouble(seq=900, step=step, summary="The guest is gone.", guest_crashed=draw(st.booleans()))
    return replace(facts, troubles=(trouble,), complete=draw(st.booleans()))


def _unfinished(draw: st.DrawFn, facts: Facts) -> Facts:
    del draw
    return replace(facts, complete=False)


def _unread(draw: st.DrawFn, facts: Facts) -> Facts:
    del draw
    return replace(facts, unread=("clamd.log: a piece was cut",))


def _scan_failure(draw: st.DrawFn, facts: Facts) -> Facts:
    del draw
    return replace(facts, scan_failures=("/a (failed to scan)",))


def _modules(draw: st.DrawFn, facts: Facts) -> Facts:
    del draw
    return replace(facts, foreign_modules=(r"C:\av\hook.dll",))


def _exclusion(draw: st.DrawFn, facts: Facts) -> Facts:
    hole = ExclusionSeen(path="C:\\", declared=draw(st.booleans()), covers_tested=draw(st.booleans()))
    return replace(facts, exclusions=(hole,))


def _detection(draw: st.DrawFn, facts: Facts) -> Facts:
    return replace(facts, detections=(*facts.detections, draw(detections(facts.cell))))


Ruin = Callable[[st.DrawFn, Facts], Facts]
IN_BOTH: tuple[Ruin, ...] = (_ruin_steps, _ruin_steps, _ruin_files, _trouble, _unfinished, _unread, _modules)
RUINS: tuple[Ruin, ...] = (
    *IN_BOTH,
    _ruin_samples,
    _ruin_samples,
    _ruin_canaries,
    _scan_failure,
    _exclusion,
    _detection,
    _detection,
)


@st.composite
def attempts(draw: st.DrawFn, cell: Cell, *, attempt_id: str = "attempt-1") -> Facts:
    """An attempt of a product's cell: everything well, then up to three things not."""
    facts = good(cell, attempt_id=attempt_id, started=draw(st.sampled_from([100.0, 600.0])), alone=draw(st.booleans()))
    for ruin in draw(st.lists(st.sampled_from(RUINS), max_size=3)):
        facts = ruin(draw, facts)
    return facts


@st.composite
def control_attempts(draw: st.DrawFn, cell: Cell, *, attempt_id: str = "control-1") -> Facts:
    """An attempt of its control, of any role: well, or up to two things not."""
    facts = replace(
        control(cell, attempt_id=attempt_id, started=draw(st.sampled_from([50.0, 500.0]))),
        role=draw(st.sampled_from([Role.CONTROL, Role.CONTROL, Role.CONTROL_AFTER])),
    )
    for ruin in draw(st.lists(st.sampled_from(IN_BOTH), max_size=2)):
        facts = ruin(draw, facts)
    return facts


@st.composite
def cases(draw: st.DrawFn, *, max_attempts: int = 1) -> tuple[list[Facts], list[Facts]]:
    """Attempts of one cell, and its controls."""
    cell = draw(cells)
    count = draw(st.integers(1, max_attempts))
    own = [draw(attempts(cell, attempt_id=f"attempt-{n}")) for n in range(count)]
    controls = [draw(control_attempts(cell, attempt_id=f"control-{n}")) for n in range(draw(st.integers(0, 3)))]
    return own, controls


def weakened(facts: Facts) -> Sequence[Facts]:
    """Give the same attempt with each single piece of evidence of life taken away, or made unread."""
    return [*without_proof(facts), replace(facts, files=None), replace(facts, steps=facts.steps[:-1])]


def without_proof(facts: Facts) -> Sequence[Facts]:
    """Give the same attempt with each single proof of life taken away or unread; what happened to the build stays."""
    samples, canaries = facts.samples, facts.canaries
    return [
        *[replace(facts, samples=(*samples[:n], *samples[n + 1 :])) for n in range(len(samples))],
        *[
            replace(facts, samples=(*samples[:n], replace(s, active=False, label=None), *samples[n + 1 :]))
            for n, s in enumerate(samples)
        ],
        *[
            replace(facts, samples=(*samples[:n], replace(s, label=None), *samples[n + 1 :]))
            for n, s in enumerate(samples)
        ],
        *[replace(facts, canaries=(*canaries[:n], *canaries[n + 1 :])) for n in range(len(canaries))],
        *[
            replace(facts, canaries=(*canaries[:n], replace(c, reacted=False), *canaries[n + 1 :]))
            for n, c in enumerate(canaries)
        ],
        replace(facts, unread=(*facts.unread, "one more")),
        replace(facts, complete=False),
    ]
