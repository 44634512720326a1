"""Effects. A stored run -> what people read: its matrix, the evidence of its cells, the files of its report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.attempt import Attempt
from harness.errors import InputError
from harness.evidence import CellEvidence, evidence_of
from harness.judge import Judged, Parsers, judge
from harness.judgement import Judgement
from harness.matrix import Matrix, MatrixRun
from harness.matrix_cell import matrix_of
from harness.plan import Cell, Plan
from harness.renderers.api import RENDERERS, Report, renderer
from harness.stores.api import RunInfo, Store
from harness.stores.run_names import mark_folder
from harness.written import tried


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCell:
    """One cell with its attempts read again by today's parsers and rules."""

    cell: Cell
    judgement: Judgement
    judged: Judged
    attempts: tuple[Attempt, ...]
    controls: tuple[Attempt, ...]


def read_cell(store: Store, cell: Cell, judgement: Judgement, plan: Plan, *, parsers: Parsers) -> ReadCell | None:
    """Read a judged cell again from its stored attempts; None when nothing ran for it (UNSUPPORTED)."""
    if not judgement.attempts:
        return None
    attempts = tuple(store.attempts_by_id(judgement.attempts))
    controls = tuple(store.attempts_by_id(judgement.controls))
    judged = judge(attempts, controls or attempts, parsers=parsers, confirm=plan.suite.confirm)
    if judgement.withdrawn_by is not None:
        taken_back = {name: getattr(judgement, name) for name in ("outcome", "rule", "reason", "stage", "blame")}
        verdict = replace(judged.verdict, **taken_back, mechanism=None, flaky=False, confirmed=False)
        judged = replace(judged, verdict=verdict)
    return ReadCell(cell=cell, judgement=judgement, judged=judged, attempts=attempts, controls=controls)


def evidence_for(read: ReadCell) -> CellEvidence:
    """Give everything that the page and ``explain`` show about a cell."""
    own, beside = tried(read.judged, read.attempts, read.controls)
    return evidence_of(read.cell, read.judged.verdict, own, beside)


def matrix_for(store: Store, info: RunInfo) -> Matrix:
    """Give a run's matrix from its judgements; no attempt is read."""
    return matrix_of(MatrixRun.of(info), store.plan_of(info.id), store.judgements(info.id))


def report_for(store: Store, info: RunInfo, *, parsers: Parsers) -> Report:
    """Give a run's matrix with the evidence of every cell that ran."""
    plan = store.plan_of(info.id)
    judgements = store.judgements(info.id)
    evidence: dict[str, CellEvidence] = {}
    for cell in plan.cells:
        judgement = judgements.get(cell.id)
        read = read_cell(store, cell, judgement, plan, parsers=parsers) if judgement is not None else None
        if read is not None:
            evidence[cell.id] = evidence_for(read)
    return Report(matrix=matrix_of(MatrixRun.of(info), plan, judgements), evidence=evidence)


def write_report(report: Report, folder: Path) -> Mapping[str, Path]:
    """Write a run's report in every format, and which run it shows.

    Raises:
        InputError: The folder cannot be written.
    """
    written = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in RENDERERS:
            drawn = renderer(name)
            path = folder / f"matrix{drawn.suffix}"
            path.write_bytes(drawn.render(report))
            written[name] = path
        mark_folder(folder, report.matrix.run.id)
    except OSError as error:
        raise InputError(f"The report cannot be written to '{folder}'.", detail=str(error)) from error
    return written
