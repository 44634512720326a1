"""The guard, a TEST product of ours, on real guests: each behaviour ends as documented, and no gate counts it."""

from __future__ import annotations

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from harness.expectation import Expectations, differences
from harness.matrix import Matrix
from harness.providers.docker import RUN_LABEL, DockerProvider
from harness.rig import ROOT
from harness.yaml_files import load_expectations

SUITES = ROOT / "scenarios" / "suites"

#: One of each: taken, lied about, denied, alerted. The rest takes minutes.
CUT = "takes-updater or claims-another or denies or alerts"


def hts_compat(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.guest
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("cut", [CUT, pytest.param(None, marks=pytest.mark.table)], ids=["cut", "whole"])
def test_each_behaviour_ends_as_documented_and_no_gate_counts_it(cut: str | None, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    chosen = ["-k", cut] if cut is not None else []
    done = hts_compat("run", str(SUITES / "guard.yaml"), "--fresh", "--json", *chosen, *out)
    assert done.returncode == 1, done.stderr[-3000:]
    shown = json.loads(done.stdout)
    matrix = Matrix.from_json((Path(shown["report"]).parent / "matrix.json").read_bytes())
    documented = load_expectations(SUITES / "guard.expected.yaml")
    asked = tuple(e for e in documented.cells if any(fnmatchcase(c.id, e.cell) for c in matrix.cells))
    assert differences(Expectations(cells=asked), matrix.cells) == ()
    assert cut is not None or asked == documented.cells
    assert {cell.test_product for cell in matrix.cells} == {True}

    left = DockerProvider().client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={shown['run']}"})
    assert left == [], "an open that is never answered ends with its guest"

    assert hts_compat("matrix", *out).returncode == 2, "a run of the guard is never the latest"
    policy = str(ROOT / "scenarios" / "policies" / "demo.yaml")
    decided = hts_compat("gate", shown["run"], "--policy", policy, "--json", *out)
    assert decided.returncode == 4, decided.stdout[-3000:]
    assert {cell["ruling"] for cell in json.loads(decided.stdout)["cells"]} == {"neutral"}
