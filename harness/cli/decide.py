"""Driver. ``hts-compat gate``: decide a release from a stored run, and say why, cell by cell."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.cli import say
from harness.cli.run import open_store
from harness.gate import decide_gate
from harness.report import matrix_for
from harness.yaml_files import load_policy


def gate(run: str, *, policy: Path, baseline: str | None, out: Path, store: Path | None, as_json: bool) -> int:
    """Decide; give the contract's exit code."""
    rules = load_policy(policy)
    with open_store(out, store) as opened:
        matrix = matrix_for(opened, opened.find_run(run))
        earlier = matrix_for(opened, opened.find_run(baseline)).cells if baseline is not None else None
    decision = decide_gate(rules, matrix.run, matrix.cells, now=datetime.now(UTC), baseline=earlier)
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
