"""Driver. ``matrix``, ``explain`` and ``rejudge``: what a stored run says."""

from __future__ import annotations

import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from harness.as_test import as_test
from harness.cli import say
from harness.cli.github import github
from harness.cli.run import stored
from harness.errors import InputError
from harness.inert_text import is_obeyed
from harness.plan import Cell, Plan
from harness.products import parser_of
from harness.renderers import job_summary
from harness.renderers.api import renderer
from harness.renderers.explain import explain as explained
from harness.renderers.github import of_cells
from harness.report import evidence_for, matrix_for, read_cell, report_for
from harness.selection import find
from harness.stores.api import RunInfo, Store
from harness.written import written


def matrix(run: str, *, form: str, file: Path | None, out: Path, store: Path | None, told: bool | None = False) -> int:
    """Render a stored run. ``told`` is what ``cli.github.github`` is asked."""
    drawn = renderer(form)
    with stored(out, store) as opened:
        report = report_for(opened, opened.find_run(run), parsers=parser_of)
    content = drawn.render(report)
    listener = github(told)
    more = "'hts-compat matrix -o FILE' writes everything."
    listener.summarise(lambda room: job_summary.of_run(report, exit_code=None, room_bytes=room, more=more))
    listener.annotate(of_cells(map(as_test, report.matrix.cells), lambda _: None))
    if file is None:
        write_out(content, runner_reads=listener.annotates and not _is_file(sys.stdout))
        return 0
    try:
        file.write_bytes(content)
    except OSError as error:
        raise InputError(f"The file '{file}' cannot be written.", detail=str(error)) from error
    return 0


def write_out(content: bytes, *, runner_reads: bool) -> None:
    """Print a rendered file's bytes as they are.

    Raises:
        InputError: A CI server's runner reads them and would take a part, that a guest wrote, for a command.
    """
    if runner_reads and is_obeyed(content.decode("utf-8", "replace")):
        raise InputError(
            "The runner would obey a part of this text that was written in a guest.",
            hint="Write it to a file with -o FILE.",
        )
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _is_file(stream: TextIO) -> bool:
    """Tell whether a stream goes into a file, where no runner reads it."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return False


def explain(cell: str, run: str, *, out: Path, store: Path | None, as_json: bool) -> int:
    """Show one verdict's proof chain."""
    with stored(out, store) as opened:
        info = opened.find_run(run)
        plan = opened.plan_of(info.id)
        wanted = one_cell(plan, cell)
        shown = next(c for c in matrix_for(opened, info).cells if c.id == wanted.id)
        judgement = opened.judgements(info.id).get(wanted.id)
        read = read_cell(opened, wanted, judgement, plan, parsers=parser_of) if judgement is not None else None
        evidence = evidence_for(read) if read is not None else None
        if as_json:
            value = evidence.model_dump(mode="json") if evidence is not None else None
            say.data({"cell": shown.to_value(), "evidence": value})
        else:
            say.line(explained(shown, evidence))
    return 0


def one_cell(plan: Plan, name: str) -> Cell:
    """Find the one cell that a person means.

    Raises:
        InputError: None fits, or several do.
    """
    found = find((*plan.cells, *plan.controls()), name)
    if not found:
        raise InputError(f"The run has no cell '{name}'.", hint="'hts-compat matrix' lists them.")
    if len({cell.id for cell in found}) > 1:
        listed = "\n".join(cell.id for cell in found)
        raise InputError(f"'{name}' fits {len(found)} cells.", detail=listed, hint="Write more of the name.")
    return found[0]


def rejudge(run: str, *, out: Path, store: Path | None, as_json: bool) -> int:
    """Judge a stored run again; add what differs as new judgements, and say it."""
    changes = []
    with stored(out, store) as opened:
        info = opened.find_run(run)
        counted = 0
        for cell in _judged_cells(opened, info):
            plan = opened.plan_of(info.id)
            judgement = opened.judgements(info.id)[cell.id]
            read = read_cell(opened, cell, judgement, plan, parsers=parser_of)
            if read is None or judgement.withdrawn_by is not None:
                continue
            counted += 1
            now = written(
                cell,
                read.judged,
                read.attempts,
                read.controls,
                parser_version=parser_of(cell.product.name).version,
                now=datetime.now(UTC),
                cached_from=judgement.cached_from,
            )
            before = (judgement.outcome, judgement.stage, judgement.rule, judgement.reason)
            if before != (now.outcome, now.stage, now.rule, now.reason):
                opened.add_judgement(info.id, cell, now.model_copy(update={"run_id": info.id}))
                changes.append(
                    {
                        "cell": cell.id,
                        "before": _brief(*before[:3]),
                        "after": _brief(now.outcome, now.stage, now.rule),
                        "reason": now.reason,
                    }
                )
    if as_json:
        say.data({"run": info.id, "judged": counted, "changed": changes})
    else:
        for change in changes:
            say.line(f"{change['cell']}: {change['before']} -> {change['after']}: {change['reason']}")
        say.line(f"{counted} cells judged again, {len(changes)} differ")
    return 1 if changes else 0


def _judged_cells(store: Store, info: RunInfo) -> list[Cell]:
    plan = store.plan_of(info.id)
    known = store.judgements(info.id)
    return [cell for cell in {c.id: c for c in (*plan.cells, *plan.controls())}.values() if cell.id in known]


def _brief(outcome: object, stage: str | None, rule: str) -> str:
    return f"{outcome}{f' at {stage}' if stage else ''} ({rule})"
