"""Suites beside the demo, on real guests, as each is documented in the ``.expected.yaml`` beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.expectation import differences
from harness.matrix import Matrix
from harness.rig import ROOT
from harness.yaml_files import load_expectations

SUITES = ROOT / "scenarios" / "suites"


@pytest.mark.guest
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["lifecycle", "profiles", pytest.param("full", marks=pytest.mark.table)])
def test_a_suite_shows_what_is_documented(name: str, tmp_path: Path) -> None:
    arguments = ["run", str(SUITES / f"{name}.yaml"), "--fresh", "--json", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1, done.stderr[-3000:]
    report = Path(json.loads(done.stdout)["report"]).parent
    matrix = Matrix.from_json((report / "matrix.json").read_bytes())
    assert differences(load_expectations(SUITES / f"{name}.expected.yaml"), matrix.cells) == ()
