"""Pure. A cell as test reports know it: passed, failed, error, skipped or waived, with the text that they show.

1. A failure is the product's or the build's. What we could not tell is an error, whoever is to blame: never good news,
   and never held against a product.
2. A waived cell stays visible as waived, with who decided it and until when.
3. Text here is inert: no terminal and no report obeys what a guest wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from harness.evidence import CellEvidence
from harness.gate import Policy, Waiver, waiver_for
from harness.inert_text import visible
from harness.matrix import MatrixCell, MatrixDetection
from harness.verdict import Outcome

#: Evidence that one text names; the page has the rest.
MAX_EVIDENCE = 6

#: Longest line; what is cut says so. The page and ``explain`` have all of it.
MAX_LINE = 600


class Status(StrEnum):
    """What a test report calls an outcome."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    WAIVED = "waived"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsTest:
    """One cell as a test. ``message`` is one line that begins with the outcome."""

    cell: MatrixCell
    status: Status
    message: str
    waiver: Waiver | None = None


def as_test(cell: MatrixCell, *, waiver: Waiver | None = None, strict: bool = False) -> AsTest:
    """Give a cell as a test.

    Args:
        cell: The cell, as matrix.json has it.
        waiver: What ``gate.waiver_for`` found for it; one that does not cover the outcome changes nothing.
        strict: DETECTED counts as incompatible.
    """
    status = _status(cell.outcome, strict=strict)
    if status is Status.FAILED and waiver is not None and waiver.covers(cell):
        told = f"waived until {waiver.until} by {visible(waiver.owner)}: {visible(waiver.reason)} [{_message(cell)}]"
        return AsTest(cell=cell, status=Status.WAIVED, message=told, waiver=waiver)
    return AsTest(cell=cell, status=status, message=_message(cell))


def waivers_for(policy: Policy | None, cells: Iterable[MatrixCell], *, now: datetime) -> Mapping[str, Waiver]:
    """Give the waiver that holds today for each cell that has one, by cell id."""
    if policy is None:
        return {}
    found = ((cell.id, waiver_for(policy, cell, now=now)) for cell in cells)
    return {name: waiver for name, waiver in found if waiver is not None}


def observed_lines(cell: MatrixCell) -> Iterator[str]:
    """Say what was seen, for a cell that failed: the product's records, then the step, its code and its dialog."""
    for found in cell.detections:
        yield _detection(found)
    step = cell.failed_step
    if step is None:
        return
    code = "" if step.code is None else f", code {step.code}{f' {visible(step.code_text)}' if step.code_text else ''}"
    late = ", out of time" if step.timed_out else ""
    yield f"step {step.index + 1} '{visible(step.kind)}' failed: {visible(step.expectation or 'unknown')}{code}{late}"
    if step.detail:
        yield _short(step.detail)
    if step.dialog:
        yield from (f"dialog: {_short(line)}" for line in step.dialog.splitlines()[:8])


def evidence_lines(
    evidence: CellEvidence | None, where: Callable[[str], str] = lambda sha256: f"sha256 {sha256}"
) -> Iterator[str]:
    """Name the raw bytes that decided: what the finding refers to, then pictures.

    Args:
        evidence: The cell's; None gives nothing.
        where: Turns a blob's digest into what a person can open.
    """
    decider = evidence.decider if evidence is not None else None
    if decider is None:
        return
    named = [(f"{x.name or x.kind.value} at {x.stage}", x.sha256) for x in decider.excerpts if x.decisive]
    named += [(f"picture at {p.stage}", p.sha256) for p in reversed(decider.pictures)]
    once = {sha256: what for what, sha256 in reversed(named)}
    for sha256, what in list(reversed(once.items()))[:MAX_EVIDENCE]:
        yield f"{visible(what)}: {where(sha256)}"


def _status(outcome: Outcome, *, strict: bool) -> Status:
    match outcome:
        case Outcome.COMPATIBLE:
            return Status.PASSED
        case Outcome.DETECTED:
            return Status.FAILED if strict else Status.PASSED
        case Outcome.QUARANTINED | Outcome.BLOCKED | Outcome.BROKEN | Outcome.BUILD_FAULT:
            return Status.FAILED
        case Outcome.INCONCLUSIVE:
            return Status.ERROR
        case Outcome.UNSUPPORTED:
            return Status.SKIPPED
        case _:
            assert_never(outcome)


def _message(cell: MatrixCell) -> str:
    stage = f" at {visible(cell.stage)}" if cell.stage is not None else ""
    return f"{cell.outcome.value}{stage}: {_short(cell.reason)}"


def _detection(found: MatrixDetection) -> str:
    part = f" ({found.component.value})" if found.component is not None else ""
    after = f", {found.after_s:g} s into '{found.stage}'" if found.after_s is not None else f" at '{found.stage}'"
    loaded = found.signature or "unknown"
    told = f"{found.action.value} {found.target or 'no target recorded'}{part} as {found.threat or 'no name recorded'}"
    return _short(f"the product {told}{after}, with the set {loaded}")


def _short(text: str) -> str:
    shown = visible(text)
    return shown if len(shown) <= MAX_LINE else f"{shown[: MAX_LINE - 1]}…"
