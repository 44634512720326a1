"""Driver. ``hts-compat demo``: the incident on the reference lab, compared with what is documented, and the drills."""

from __future__ import annotations

import time
from pathlib import Path

from harness.cli import say
from harness.cli.run import Asked, open_store, run_and_report
from harness.cli.table import show
from harness.errors import LabError
from harness.expectation import differences
from harness.matrix import Matrix
from harness.report import matrix_for
from harness.rig import ROOT
from harness.verdict import BAD, GOOD, Outcome
from harness.yaml_files import load_expectations

SUITES = ROOT / "scenarios" / "suites"


def demo(*, quick: bool, provider: str, out: Path) -> int:
    """Run the demo and its drills; 0 when all is as documented, 1 when not."""
    begun = time.monotonic()
    say.note("the incident, on real parts" if not quick else "the incident and one green cell, on real parts")
    matrix, wrong, page = _documented("smoke" if quick else "demo", provider=provider, out=out, folder="demo")
    drills: Matrix | None = None
    if not quick:
        say.note("the drills: protection that is broken on purpose")
        drills, drill_wrong, _ = _documented("drills", provider=provider, out=out, folder="demo-drills")
        wrong += drill_wrong
    say.line()
    show(matrix)
    say.line()
    for sentence in _meaning(matrix, drills):
        say.line(sentence)
    say.line()
    for sentence in wrong:
        say.line(f"NOT AS DOCUMENTED: {sentence}")
    say.line(f"page: {page} ({time.monotonic() - begun:.0f} s in all)")
    return 1 if wrong else 0


def _documented(name: str, *, provider: str, out: Path, folder: str) -> tuple[Matrix, tuple[str, ...], Path]:
    """Run a suite afresh and compare it with its documentation."""
    expectations = load_expectations(SUITES / f"{name}.expected.yaml")
    asked = Asked(suite=SUITES / f"{name}.yaml", provider=provider, fresh=True, out=out, folder=folder, quiet=True)
    ran = run_and_report(asked)
    result = ran.result
    if result is None:
        raise LabError(f"The suite '{name}' has no cell.")
    if result.trouble is not None:
        raise result.trouble
    with open_store(out, None) as store:
        matrix = matrix_for(store, store.find_run(result.run_id))
    return matrix, differences(expectations, matrix.cells), ran.folder / "matrix.html"


def _meaning(matrix: Matrix, drills: Matrix | None) -> tuple[str, str, str]:
    """Say in three sentences what a matrix means: what is bad and why, what is good and how sure, what is unknown."""
    bad = [c for c in matrix.cells if c.outcome in BAD]
    ours = [c for c in bad if c.outcome is Outcome.BUILD_FAULT]
    good = [c for c in matrix.cells if c.outcome in GOOD]
    moved = [c for c in bad if c.signature_from is not None]
    canaries = sum(canary.reacted for c in good for canary in c.protection.canaries)
    incident = moved[0] if moved else None
    first = (
        f"Build {incident.build.version} worked until {incident.product} moved from {incident.signature_from} to"
        f" {incident.signature}; then it failed at '{incident.stage}': {incident.reason}"
        if incident is not None
        else f"{len(bad)} of {len(matrix.cells)} cells are bad."
    )
    second = (
        f"{len(bad)} of {len(matrix.cells)} cells are bad ({len(ours)} by the build's own fault), and {len(good)} are"
        f" good, each with protection proven alive in its own guest ({canaries} canaries reacted)."
    )
    unknown = [
        c for c in (*matrix.cells, *(drills.cells if drills is not None else ())) if c.outcome is Outcome.INCONCLUSIVE
    ]
    third = f"{len(unknown)} cells could not tell, and none of them is called good" + (
        f", among them {len(drills.cells)} drills with broken protection." if drills is not None else "."
    )
    return first, second, third
