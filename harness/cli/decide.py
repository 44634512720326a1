"""Driver. ``hts-compat gate``: decide a release from a stored run, and say why, cell by cell."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.cli import say
from harness.cli.github import GitHub, github
from harness.cli.run import stored
from harness.errors import InputError
from harness.gate import CellRuling, GateDecision, Policy, decide_gate
from harness.matrix import Matrix
from harness.renderers import job_summary
from harness.renderers.github import At, of_gate
from harness.report import matrix_for
from harness.stores.api import RunInfo, RunState
from harness.yaml_files import load_policy
from harness.yaml_source import Problems, read_source


def gate(
    run: str,
    *,
    policy: Path,
    baseline: str | None,
    out: Path,
    store: Path | None,
    as_json: bool,
    told: bool | None = False,
) -> int:
    """Decide; give the contract's exit code. ``told`` is what ``cli.github.github`` is asked."""
    rules = load_policy(policy)
    with stored(out, store) as opened:
        matrix = matrix_for(opened, opened.find_run(run))
        earlier = None if baseline is None else matrix_for(opened, _accepted(opened.find_run(baseline))).cells
    decision = decide_gate(rules, matrix.run, matrix.cells, now=datetime.now(UTC), baseline=earlier)
    tell(github(told), decision, rules, policy, matrix)
    if as_json:
        say.data({"exit_code": decision.exit_code, **decision.model_dump(mode="json")})
        return decision.exit_code
    for ruling in decision.cells:
        new = " [new]" if ruling.is_new else ""
        say.line(f"{ruling.ruling.value:8} {ruling.outcome.value:13} {ruling.id}{new}: {ruling.reason}")
    for label, lines in (("missing", decision.missing), ("doubt", decision.doubts), ("note", decision.notes)):
        for text in lines:
            say.line(f"{label:8} {text}")
    say.line(f"lab: {matrix.run.lab}, run {decision.run}, policy {decision.policy}")
    say.line(f"{decision.state.value.replace('_', ' ').upper()}: {decision.reason}")
    return decision.exit_code


def _accepted(info: RunInfo) -> RunInfo:
    """A run without its last cells would make each of them look new."""
    if info.state is not RunState.COMPLETE:
        raise InputError(
            f"The run '{info.id}' is {info.state.value}, not complete, and is no baseline.",
            hint=f"Name a complete run, or finish it with 'hts-compat run SUITE.yaml --resume {info.id}'.",
        )
    return info


def tell(told: GitHub, decision: GateDecision, rules: Policy, file: Path, matrix: Matrix) -> None:
    """Tell GitHub what was decided, each ruling at the line of the policy that asks for the cell or waives it."""
    if not told.is_heard:
        return
    more = "'hts-compat gate' prints everything."
    told.summarise(lambda room: job_summary.of_gate(decision, matrix.run, room_bytes=room, more=more))
    source = read_source(file, Problems())
    cells = {cell.id: cell for cell in matrix.cells}

    def at(*location: str | int) -> At | None:
        return None if source is None else told.at(source.at(*location))

    def where(ruling: CellRuling) -> At | None:
        if ruling.waiver is not None:
            return at("waivers", rules.waivers.index(ruling.waiver))
        cell = cells[ruling.id]
        return next((at("require", n) for n, asked in enumerate(rules.require) if asked.covers(cell)), at())

    def where_missing(text: str) -> At | None:
        return next((at("require", n) for n, asked in enumerate(rules.require) if text.endswith(f": {asked}")), at())

    told.annotate(of_gate(decision, where, where_missing))
