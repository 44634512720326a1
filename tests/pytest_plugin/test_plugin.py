"""The plugin as people use it: pytest in a folder of its own, over the simulated lab of ``fake_suite``."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.rig import ROOT
from tests.pytest_plugin.fake_suite import BAD, GREEN, GREEN_TOO, LEFT_OUT, SUITE, write_suite


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:timeout", "-rA", "suite.yaml", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write_suite(tmp_path)
    return tmp_path


def test_each_cell_is_an_item_and_ends_as_its_verdict_says(suite: Path) -> None:
    done = run_pytest(suite, "--junitxml", "junit.xml", "--alluredir", "allure")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"PASSED suite.yaml::{GREEN}" in done.stdout
    assert f"PASSED suite.yaml::{GREEN_TOO}" in done.stdout
    assert f"FAILED suite.yaml::{BAD}" in done.stdout
    assert "1 failed, 2 passed, 1 skipped" in done.stdout
    assert "1.1.0 came after that update." in done.stdout
    # A failure says where it is written, what was expected and seen, and where the proof lies.
    for words in ("released-then-updated", "expected: ", "observed: ", "reason: ", "hts-compat explain"):
        assert words in done.stdout
    cases = {case.get("name"): case for case in ET.parse(suite / "junit.xml").iter("testcase")}  # noqa: S314 - our own file
    assert set(cases) == {GREEN, GREEN_TOO, BAD, LEFT_OUT}
    assert cases[BAD].find("failure") is not None
    results = [json.loads(path.read_bytes()) for path in (suite / "allure").glob("*-result.json")]
    assert len({result["historyId"] for result in results}) == len(results) == 4
    assert {result["status"] for result in results} == {"passed", "failed", "skipped"}


def test_k_selects_cells_and_last_failed_runs_only_what_failed(suite: Path) -> None:
    chosen = run_pytest(suite, "-k", "fresh-install and 1.1.0")
    assert (chosen.returncode, "1 passed, 3 deselected" in chosen.stdout) == (0, True), chosen.stdout
    assert run_pytest(suite).returncode == 1
    again = run_pytest(suite, "--lf")
    assert "1 failed" in again.stdout
    assert "passed" not in again.stdout.splitlines()[-1]


def test_collecting_is_a_linter_that_names_every_problem_with_its_place(suite: Path) -> None:
    broken = SUITE.replace("confirm: 1", "confrim: 1").replace("reference]", "windoze]")
    (suite / "suite.yaml").write_text(broken, encoding="utf-8")
    done = run_pytest(suite, "--collect-only")
    assert done.returncode == 2
    assert "suite.yaml:5:" in done.stdout
    assert "did you mean 'confirm'" in done.stdout


def test_a_lab_that_could_not_tell_is_an_error_and_no_failure(tmp_path: Path) -> None:
    write_suite(tmp_path, script="lambda cell, _number: Mischief(stops_at=None if cell.is_control else 'connect')")
    done = run_pytest(tmp_path, "-k", "fresh-install and 1.0.0")
    assert done.returncode == 1, done.stdout
    assert f"ERROR suite.yaml::{GREEN}" in done.stdout
    assert "FAILED" not in done.stdout
    assert "Protection was not proven" in done.stdout


def test_a_waived_cell_is_expected_to_fail(suite: Path) -> None:
    policy = f"""\
schema: hts-compat/policy/1
name: waived
allow_reference_lab: true
waivers:
  - {{cell: "{BAD}", reason: The vendor promised a fix., until: 2099-01-01, owner: qa}}
"""
    (suite / "policy.yaml").write_text(policy, encoding="utf-8")
    done = run_pytest(suite, "--hts-policy", "policy.yaml", "-k", "released-then-updated and 1.0.0")
    assert done.returncode == 0, done.stdout
    assert f"XFAIL suite.yaml::{BAD}" in done.stdout
    assert "The vendor promised a fix." in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_xdist_is_refused_in_one_sentence(suite: Path) -> None:
    done = run_pytest(suite, "-n", "2")
    assert done.returncode != 0
    assert "xdist" in done.stdout + done.stderr


def test_other_yaml_files_are_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text("a: 1\n", encoding="utf-8")
    assert "no tests ran" in run_pytest(tmp_path).stdout
