"""Suites beside the demo, on real guests, as each is documented in the ``.expected.yaml`` beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.expectation import differences
from harness.images import Images
from harness.matrix import Matrix
from harness.rig import ROOT
from harness.yaml_files import load_expectations

SUITES = ROOT / "scenarios" / "suites"


@pytest.mark.guest
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["lifecycle", "profiles", pytest.param("full", marks=pytest.mark.table)])
def test_a_suite_shows_what_is_documented(name: str, tmp_path: Path) -> None:
    _run_and_compare(name, tmp_path)


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_a_32_bit_build_is_green_and_in_the_incident_on_an_image_that_runs_it(tmp_path: Path) -> None:
    """Asked for on its own (``make setup ARGS=--x86``): its image takes minutes to build, which CI does not do."""
    missing = Images(ROOT / "vm_images")["reference-32"].missing
    if missing is not None:
        pytest.skip(missing)
    if shutil.which("i686-w64-mingw32-gcc") is None:
        pytest.skip("the compiler for 32-bit programs is not installed: make setup ARGS=--x86")
    _run_and_compare("x86", tmp_path)


def _run_and_compare(name: str, tmp_path: Path) -> None:
    arguments = ["run", str(SUITES / f"{name}.yaml"), "--fresh", "--json", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1, done.stderr[-3000:]
    report = Path(json.loads(done.stdout)["report"]).parent
    matrix = Matrix.from_json((report / "matrix.json").read_bytes())
    assert differences(load_expectations(SUITES / f"{name}.expected.yaml"), matrix.cells) == ()
