"""The whole table of the reference lab, as it is documented in ``scenarios/suites/full.expected.yaml``."""

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
@pytest.mark.table
@pytest.mark.timeout(1800)
def test_the_whole_table_is_as_documented(tmp_path: Path) -> None:
    arguments = ["run", str(SUITES / "full.yaml"), "--fresh", "--json", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1, done.stderr[-3000:]
    said = json.loads(done.stdout)
    matrix = Matrix.from_json((Path(said["report"]).parent / "matrix.json").read_bytes())
    assert differences(load_expectations(SUITES / "full.expected.yaml"), matrix.cells) == ()
    assert len(matrix.cells) == 22
