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

    cell: str = Field(min_length=1, description="A cell's id; * and ? are wild.")
    outcome: Outcome
    stage: tuple[str, ...] = Field(default=(), description="One of these stages.")
    target: str | None = Field(default=None, description="The end of the path of a detected object; * and ? are wild.")
    component: tuple[Component, ...] = Field(default=(), description="The first detection is about one of these.")
    mechanism: Mechanism | None = Field(default=None, description="What made the product act.")
    after_s: tuple[float, float] | None = Field(
        default=None, description="Seconds from the step's beginning to the first detection: at least, at most."
    )
    dialog: str | None = Field(default=None, description="Text that the dialog of the failed step contains.")


class Expectations(Frozen):
    """All of them. Every cell of the run must be named by one, and every one must name a cell."""

    description: str = ""
    cells: tuple[Expected, ...]


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
    if expected.dialog is not None:
        shown = (cell.failed_step.dialog if cell.failed_step is not None else None) or ""
        if expected.dialog not in shown:
            wrong.append(f"the dialog does not say '{expected.dialog}'")
    return wrong
