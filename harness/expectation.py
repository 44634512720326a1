"""Pure. What a run is known to show (the demo's documented table), and where a real run differs from it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pydantic import Field

from harness.build import Component
from harness.frozen import Frozen
from harness.matrix import MatrixCell
from harness.observation import Mechanism
from harness.verdict import Outcome


class Expected(Frozen):
    """What the cells that a pattern names must show. What is left out is not looked at."""

    promise: str | None = Field(default=None, min_length=1, description="Name of what the cell is the test of.")
    words: str = Field(default="", description="The promise in plain words.")
    cell: str = Field(min_length=1, description="A cell's id; * and ? are wild.")
    outcome: Outcome
    stage: tuple[str, ...] = Field(default=(), description="One of these stages.")
    target: str | None = Field(default=None, description="The end of the path of a detected object; * and ? are wild.")
    rule: tuple[str, ...] = Field(default=(), description="One of these rules decided.")
    reason: str | None = Field(default=None, description="Text that the reason contains.")
    component: tuple[Component, ...] = Field(default=(), description="The first detection is about one of these.")
    mechanism: Mechanism | None = Field(default=None, description="What made the product act.")
    after_s: tuple[float, float] | None = Field(
        default=None, description="Seconds from the step's beginning to the first detection: at least, at most."
    )
    slower: float | None = Field(default=None, gt=1, description="A step takes at least so many times the control's.")
    dialog: str | None = Field(default=None, description="Text that the dialog of the failed step contains.")


class Expectations(Frozen):
    """All of them. Every cell of the run must be named by one, and every one must name a cell."""

    description: str = ""
    cells: tuple[Expected, ...]


class Kept(Frozen):
    """One promise, and whether the run kept it: ``why_not`` is empty then, else it has a sentence for each cell."""

    promise: str
    words: str
    cells: tuple[str, ...]
    why_not: tuple[str, ...]

    @property
    def kept(self) -> bool:
        """Tell whether nothing speaks against it."""
        return not self.why_not


def promises(expectations: Expectations, cells: Sequence[MatrixCell]) -> tuple[Kept, ...]:
    """Say of each promise whether a run kept it, in the order in which they are written.

    Args:
        expectations: Those that name a promise are looked at. One that names no cell of the run is not kept.
        cells: The run's cells.
    """
    found = []
    for expected in (e for e in expectations.cells if e.promise is not None):
        own = [c for c in cells if fnmatchcase(c.id, expected.cell)]
        why = [f"{c.id}: {wrong}" for c in own for wrong in _wrong(expected, c)]
        found.append(
            Kept(
                promise=expected.promise or "",
                words=expected.words,
                cells=tuple(c.id for c in own),
                why_not=tuple(why) if own else (f"{expected.cell}: no cell of the run has this id",),
            )
        )
    return tuple(found)


def differences(expectations: Expectations, cells: Sequence[MatrixCell]) -> tuple[str, ...]:
    """Give one sentence for each way in which a run is not as documented; empty when it is.

    Args:
        expectations: The first whose pattern fits a cell counts for it.
        cells: The run's cells.
    """
    found: list[str] = []
    unused = list(expectations.cells)
    for cell in cells:
        expected = next((e for e in expectations.cells if fnmatchcase(cell.id, e.cell)), None)
        if expected is None:
            found.append(f"{cell.id}: nothing is documented about this cell")
            continue
        unused = [e for e in unused if e is not expected]
        found += [f"{cell.id}: {wrong}" for wrong in _wrong(expected, cell)]
    found += [f"{e.cell}: no cell of the run has this id" for e in unused]
    return tuple(found)


def _wrong(expected: Expected, cell: MatrixCell) -> list[str]:
    if cell.outcome is not expected.outcome:
        return [f"{cell.outcome} instead of {expected.outcome} ({cell.reason})"]
    wrong = []
    if expected.stage and cell.stage not in expected.stage:
        wrong.append(f"at '{cell.stage}' instead of {' or '.join(expected.stage)}")
    if expected.rule and cell.rule not in expected.rule:
        wrong.append(f"by the rule {cell.rule} instead of {' or '.join(expected.rule)} ({cell.reason})")
    if expected.reason is not None and expected.reason not in cell.reason:
        wrong.append(f"the reason does not say '{expected.reason}' ({cell.reason})")
    wrong += _wrong_detection(expected, cell)
    if expected.slower is not None and (cell.slowdown or 0.0) < expected.slower:
        ratio = "no step is slower" if cell.slowdown is None else f"{cell.slowdown:g} times"
        wrong.append(f"{ratio} instead of at least {expected.slower:g} times the control's time")
    if expected.dialog is not None:
        shown = (cell.failed_step.dialog if cell.failed_step is not None else None) or ""
        if expected.dialog not in shown:
            wrong.append(f"the dialog does not say '{expected.dialog}'")
    return wrong


def _wrong_detection(expected: Expected, cell: MatrixCell) -> list[str]:
    wrong = []
    if expected.target is not None:
        pattern = "*" + expected.target.casefold()
        if not any(fnmatchcase((d.target or "").casefold(), pattern) for d in cell.detections):
            wrong.append(f"no detection of {expected.target}")
    found = next(iter(cell.detections), None)
    if expected.component and (found is None or found.component not in expected.component):
        shown = "nothing" if found is None or found.component is None else found.component.value
        wrong.append(f"about {shown} instead of {' or '.join(expected.component)}")
    if expected.mechanism is not None and cell.mechanism is not expected.mechanism:
        wrong.append(f"by {cell.mechanism or 'no mechanism'} instead of {expected.mechanism}")
    if expected.after_s is not None:
        least, most = expected.after_s
        seen = None if found is None else found.after_s
        if seen is None or not least <= seen <= most:
            wrong.append(f"after {'unknown' if seen is None else seen} s instead of {least:g} to {most:g} s")
    return wrong
