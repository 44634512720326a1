"""Pure. Annotations for GitHub Actions: a bad cell or ruling on the line of YAML that asked for it, worst first.

1. GitHub shows ten annotations of a level and a step; the last one counts what is left out.
2. Text from guests is data: it can begin no command and end none.

Source: GitHub documentation, "Workflow commands for GitHub Actions"; actions/toolkit, ``packages/core/src/command.ts``
(the escapes); actions/runner, ``ExecutionContext.cs`` (ten issues of a type and step).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.as_test import AsTest, Status, observed_lines
from harness.gate import CellRuling, GateDecision, Ruling
from harness.inert_text import visible
from harness.matrix import MatrixCell
from harness.renderers.grid import column_of
from harness.verdict import Outcome

#: Annotations of one level that a step may show.
MAX_OF_A_LEVEL = 10

#: Characters; GitHub's checks take titles of 255, and a message is read in a narrow box.
MAX_TITLE, MAX_MESSAGE = 255, 4000


class Level(StrEnum):
    """How loud an annotation is; the worst first."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """A line of a file, counted from 1. ``file`` is relative to the repository where it lies in it."""

    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One remark. ``at`` is None for what nobody wrote down in a file that we know."""

    level: Level
    title: str
    message: str
    at: At | None = None


#: A product's doing before the build's own fault, and what we know before what we could not tell.
_WORST = (
    Outcome.QUARANTINED,
    Outcome.BLOCKED,
    Outcome.BROKEN,
    Outcome.BUILD_FAULT,
    Outcome.INCONCLUSIVE,
    Outcome.DETECTED,
    Outcome.COMPATIBLE,
    Outcome.UNSUPPORTED,
)

_LEVELS = {Status.FAILED: Level.ERROR, Status.ERROR: Level.WARNING, Status.WAIVED: Level.NOTICE}


def command(annotation: Annotation) -> str:
    """Write an annotation as the one line that the runner obeys."""
    at = annotation.at
    found = {"title": _cut(visible(annotation.title), MAX_TITLE)}
    if at is not None:
        found = {"file": visible(at.file), "line": str(at.line), **found}
    properties = ",".join(f"{name}={_property(value)}" for name, value in found.items())
    message = _cut(visible(annotation.message, lines=True), MAX_MESSAGE)
    return f"::{annotation.level} {properties}::{_data(message)}"


def commands(annotations: Sequence[Annotation]) -> list[str]:
    """Write as many of each level as GitHub shows, in their order; the last says how many were left out."""
    lines: list[str] = []
    for level in Level:
        found = [a for a in annotations if a.level is level]
        shown = found if len(found) <= MAX_OF_A_LEVEL else found[: MAX_OF_A_LEVEL - 1]
        lines += map(command, shown)
        left = len(found) - len(shown)
        if left:
            text = f"{left} more like these are not shown here; the job's summary and the report have all."
            lines.append(command(Annotation(level=level, title=f"{left} more", message=text)))
    return lines


def of_cells(tests: Iterable[AsTest], where: Callable[[str], At | None]) -> list[Annotation]:
    """Annotate the cells of a run that are not good, worst first.

    What failed is an error, what could not be told a warning, an alert or a waived cell a notice.

    Args:
        tests: Every cell as a test, in the order of the plan.
        where: Gives the line that asked for a cell, by the cell's id.
    """
    told = [test for test in tests if test.status in _LEVELS or test.cell.outcome is Outcome.DETECTED]
    return [_of_cell(test, where(test.cell.id)) for test in sorted(told, key=lambda t: _WORST.index(t.cell.outcome))]


def of_gate(
    decision: GateDecision,
    where: Callable[[CellRuling], At | None],
    where_missing: Callable[[str], At | None],
) -> list[Annotation]:
    """Annotate what keeps a release from going out: what blocks, then what nobody knows, then what is waived.

    Args:
        decision: The gate's answer.
        where: Gives the line of the policy that speaks of a cell.
        where_missing: Gives the line of the policy that asks for what is missing.
    """
    levels = {Ruling.BLOCKS: Level.ERROR, Ruling.UNKNOWN: Level.WARNING, Ruling.WAIVED: Level.NOTICE}
    ruled = sorted(
        (r for r in decision.cells if r.ruling in levels), key=lambda r: (r.is_new is not True, _WORST.index(r.outcome))
    )
    cells = [
        Annotation(
            level=levels[r.ruling],
            title=f"{r.outcome.value} {r.ruling.value}: {r.id}",
            message=f"{'New since the baseline. ' if r.is_new else ''}{r.reason}",
            at=where(r),
        )
        for r in ruled
    ]
    missing = [
        Annotation(level=Level.WARNING, title="Required, and not there", message=text, at=where_missing(text))
        for text in decision.missing
    ]
    doubts = [Annotation(level=Level.WARNING, title="A doubt about the run", message=text) for text in decision.doubts]
    return [*missing, *doubts, *cells]


def _of_cell(test: AsTest, at: At | None) -> Annotation:
    cell = test.cell
    stage = f" at {cell.stage}" if cell.stage is not None else ""
    waived = "waived " if test.status is Status.WAIVED else ""
    return Annotation(
        level=_LEVELS.get(test.status, Level.NOTICE),
        title=f"{waived}{cell.outcome.value}{stage}: {_called(cell)}",
        message="\n".join([test.message, *observed_lines(cell), f"cell: {cell.id}"]),
        at=at,
    )


def _called(cell: MatrixCell) -> str:
    return f"build {cell.build.version}, {column_of(cell).title}, {cell.scenario}"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
