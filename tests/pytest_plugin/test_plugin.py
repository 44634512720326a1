"""The plugin as people use it: pytest in a folder of its own, over the simulated lab of ``fake_suite``."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

import harness.pytest_plugin.allure_link  # noqa: F401 - loaded once here, not anew by each pytest in pytest
from harness.matrix import Matrix
from harness.renderers.allure_results import write_allure
from harness.renderers.api import RENDERERS, renderer
from harness.report import report_for
from harness.rig import ROOT
from harness.stores.sqlite import SqliteStore
from tests.fake_lab import parsers
from tests.pytest_plugin.fake_suite import BAD, GREEN, GREEN_TOO, LEFT_OUT, SUITE, UPDATED, write_suite
from tests.renderers.junit_rules import broken_rules


@pytest.fixture(scope="module")
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported on use is imported here: pytester forgets all that is imported below it."""
    SqliteStore(tmp_path_factory.mktemp("loaded") / "store").close()
    for name in RENDERERS:
        renderer(name)


@pytest.fixture(autouse=True)
def _cache(_loaded: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Builds are made once for all tests of this module, and not in the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "plugin-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.syspath_prepend(str(ROOT))  # pytester forgets what was added to it
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    write_suite(pytester.path)
    return pytester


def run(folder: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return folder.runpytest_inprocess("-p", "no:timeout", "-p", "no:hypothesispytest", "-rA", *arguments)


def result_lines(done: pytest.RunResult) -> dict[str, str]:
    """Give the word that the summary has for each cell, by the cell's id."""
    split = (line.split() for line in done.outlines if " suite.yaml::" in line)
    return {words[1].removeprefix("suite.yaml::"): words[0] for words in split}


def matrices(folder: pytest.Pytester) -> list[Matrix]:
    """Give the matrix of each run that has a report, oldest first."""
    files = sorted(folder.path.glob("reports/*/matrix.json"), key=lambda path: path.stat().st_mtime_ns)
    return [Matrix.from_json(path.read_bytes()) for path in files]


def allure_results(folder: Path) -> dict[str, Any]:
    """Read Allure results, by their full name; for a cell it is the cell's id."""
    read = [json.loads(path.read_bytes()) for path in folder.glob("*-result.json")]
    return {result["fullName"].removeprefix("hts-compat/"): result for result in read}


def policy(folder: pytest.Pytester, until: str) -> None:
    text = f"""\
schema: hts-compat/policy/1
name: waived
allow_reference_lab: true
waivers:
  - {{cell: "{BAD}", reason: The vendor promised a fix., until: {until}, owner: qa}}
"""
    (folder.path / "policy.yaml").write_text(text, encoding="utf-8")


# --- outcomes ---------------------------------------------------------------------------------------------------------


def test_each_cell_is_an_item_and_ends_as_its_verdict_says(suite: pytest.Pytester) -> None:
    done = run(suite)
    assert result_lines(done) == {GREEN: "PASSED", GREEN_TOO: "PASSED", BAD: "FAILED"}
    done.assert_outcomes(passed=2, failed=1, skipped=1)
    assert done.ret is pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(["SKIPPED * UNSUPPORTED: 1.1.0 came after that update."])


def test_a_failure_shows_where_it_is_written_what_was_seen_and_where_the_proof_lies(suite: pytest.Pytester) -> None:
    done = run(suite, "-k", "released-then-updated")
    done.stdout.fnmatch_lines(
        [
            f"*{BAD}*",
            "QUARANTINED at connect: fake removed C:\\DemoHTS\\hts_comm.dll*",
            "suite.yaml:14:9",
            "   14 |       - 2026-11-04 -> 2026-11-05",
            "updated.yaml:8:5",
            "    8 |   - connect:",
            "    9 |       click: {window: 데모증권 HTS, button: 로그인}",
            "expected: every step passes*",
            "observed: the product quarantined C:\\DemoHTS\\hts_comm.dll (module) as Test.Comm*set 2026-11-05",
            "observed: step 5 'connect' failed: no_error_window",
            "observed: dialog: 서버에 접속할 수 없습니다: hts_comm.dll*",
            "reason: fake removed * [[]product.acted[]]",
            "evidence: * at connect: reports/store/blobs/*",
            f"more: hts-compat explain {BAD} * --out reports",
        ]
    )
    shown = [line.rpartition(" ")[2] for line in done.outlines if line.startswith("evidence: ")]
    assert shown
    assert all((suite.path / path).is_file() for path in shown)
    assert "Traceback" not in done.stdout.str()


def test_a_lab_that_could_not_tell_is_an_error_of_the_set_up_and_no_failure(pytester: pytest.Pytester) -> None:
    script = "lambda cell, _: Mischief(stops_at=None if cell.is_control else 'connect')"
    write_suite(pytester.path, script=script)
    done = run(pytester, "-k", "fresh-install and 1.0.0")
    done.assert_outcomes(errors=1)
    assert result_lines(done) == {GREEN: "ERROR"}
    done.stdout.fnmatch_lines(["*ERROR at setup of*", "INCONCLUSIVE*: Protection was not proven*"])


def test_a_lab_that_cannot_be_used_says_why_in_each_cell(pytester: pytest.Pytester) -> None:
    trouble = "trouble=LabError('There is no engine.', hint='Start it.')"
    write_suite(pytester.path, script=trouble)
    done = run(pytester)
    done.assert_outcomes(errors=3, skipped=1)
    done.stdout.fnmatch_lines(["There is no engine.", "hint: Start it."])
    assert matrices(pytester) == []


def test_a_waived_cell_is_expected_to_fail(suite: pytest.Pytester) -> None:
    policy(suite, "2099-01-01")
    done = run(suite, "--hts-policy", "policy.yaml", "-k", "released-then-updated and 1.0.0")
    done.assert_outcomes(xfailed=1)
    assert done.ret is pytest.ExitCode.OK
    done.stdout.fnmatch_lines([f"XFAIL suite.yaml::{BAD} - waived until 2099-01-01 by qa: The vendor promised a fix.*"])
    run(suite, "--hts-policy", "policy.yaml", "-k", "released-then-updated", "--runxfail").assert_outcomes(
        failed=1, skipped=1
    )


def test_a_waiver_that_is_over_changes_nothing(suite: pytest.Pytester) -> None:
    policy(suite, "2020-01-01")
    run(suite, "--hts-policy", "policy.yaml", "-k", "released-then-updated and 1.0.0").assert_outcomes(failed=1)


def test_an_alert_passes_and_fails_when_it_is_strict(pytester: pytest.Pytester) -> None:
    write_suite(pytester.path, script="lambda cell, _: Mischief(only_alerts=not cell.is_control)")
    run(pytester, "-k", "released-then-updated and 1.0.0").assert_outcomes(passed=1)
    done = run(pytester, "-k", "released-then-updated and 1.0.0", "--hts-strict")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["DETECTED at connect*"])


def test_no_verdict_is_told_that_a_sentinel_still_takes_back(pytester: pytest.Pytester) -> None:
    """The sentinels come last, when all cells have long been judged; this one comes out wrong."""
    write_suite(pytester.path, script="lambda cell, _: Mischief(only_alerts='known-bad' in cell.id)")
    suite = pytester.path / "suite.yaml"
    suite.write_text(suite.read_text() + "sentinels: {every: 50}\n")
    done = run(pytester)
    done.assert_outcomes(errors=3, skipped=1)
    done.stdout.fnmatch_lines(["*Withdrawn: the known bad sentinel*"])


# --- selection --------------------------------------------------------------------------------------------------------


def test_only_what_was_selected_is_run(suite: pytest.Pytester) -> None:
    done = run(suite, "-k", "fresh-install and 1.1.0")
    done.assert_outcomes(passed=1, deselected=3)
    done.stdout.fnmatch_lines(["hts-compat: run * complete: 2 guests, 0 cells from the store"])
    assert [cell.id for cell in matrices(suite)[0].cells] == [GREEN_TOO]


@pytest.mark.parametrize(
    ("expression", "cells"),
    [
        ("hts_cell(build='1.1.0')", [GREEN_TOO, LEFT_OUT]),
        ("hts_cell(scenario='fresh-install') and not hts_cell(build='1.0.0')", [GREEN_TOO]),
        ("hts_cell(product='fake', profile='standard', signatures='2026-11-04+2026-11-05')", [BAD, LEFT_OUT]),
        ("hts_cell(image='other')", []),
        ("hts_cell", [GREEN, GREEN_TOO, BAD, LEFT_OUT]),
    ],
)
def test_markers_are_the_axes(suite: pytest.Pytester, expression: str, cells: list[str]) -> None:
    done = run(suite, "--collect-only", "-q", "--strict-markers", "-m", expression)
    assert [line.removeprefix("suite.yaml::") for line in done.outlines if "::" in line] == cells


def test_one_cell_is_named_by_its_node_id(suite: pytest.Pytester) -> None:
    run(suite, f"suite.yaml::{GREEN_TOO}").assert_outcomes(passed=1)


def test_last_failed_runs_only_what_failed(suite: pytest.Pytester) -> None:
    run(suite).assert_outcomes(passed=2, failed=1, skipped=1)
    run(suite, "--lf").assert_outcomes(failed=1)
    assert [cell.id for cell in matrices(suite)[-1].cells] == [BAD]


def test_the_first_failure_cancels_what_has_not_started(pytester: pytest.Pytester) -> None:
    """The second cell's guest waits until the run was asked to stop; the third never gets one."""
    script = """\
lambda cell, _: Mischief(dies_at='connect') if cell.build.version == '1.0.0' and not cell.is_control else (
    wait_for_stop() if cell.build.version == '1.1.0' and not cell.is_control else Mischief())

def wait_for_stop():
    import time
    from harness.pytest_plugin.plugin import RUNS
    end = time.monotonic() + 10
    while time.monotonic() < end and not CONFIGS[0].stash[RUNS][0]._stop.requested:
        time.sleep(0.01)
    return Mischief()

LAB = parts(SCRIPT"""
    write_suite(pytester.path)
    conftest = (pytester.path / "conftest.py").read_text(encoding="utf-8").replace("LAB = parts(", f"SCRIPT = {script}")
    (pytester.path / "conftest.py").write_text(conftest, encoding="utf-8")
    done = run(pytester, "-x", "--hts-jobs", "1")
    done.assert_outcomes(failed=1)
    assert result_lines(done) == {GREEN: "FAILED"}
    done.stdout.fnmatch_lines(["hts-compat: running guests are finished and kept*", "hts-compat: run * interrupted: *"])
    outcomes = {cell.id: cell.reason for cell in matrices(pytester)[0].cells}
    assert outcomes[BAD] == "not finished"
    assert outcomes[GREEN_TOO] != "not finished"


# --- collection -------------------------------------------------------------------------------------------------------


def test_collecting_names_the_cells_and_starts_nothing(suite: pytest.Pytester) -> None:
    done = run(suite, "--collect-only", "-q")
    assert done.ret is pytest.ExitCode.OK
    assert [line for line in done.outlines if "::" in line] == [
        f"suite.yaml::{name}" for name in (GREEN, GREEN_TOO, BAD, LEFT_OUT)
    ]
    assert not (suite.path / "reports").exists()


def test_collecting_is_a_linter_that_names_every_problem_with_its_place(suite: pytest.Pytester) -> None:
    broken = SUITE.replace("confirm: 1", "confrim: 1").replace("[reference]", "[windoze]")
    (suite.path / "suite.yaml").write_text(broken, encoding="utf-8")
    (suite.path / "updated.yaml").write_text(UPDATED.replace("button:", "buton:"), encoding="utf-8")
    done = run(suite, "--collect-only")
    assert done.ret is pytest.ExitCode.INTERRUPTED
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        [
            "suite.yaml or a file that it refers to has 4 problems.",
            "suite.yaml:5:10: *windoze*",
            "suite.yaml:*: *confrim*did you mean 'confirm'*",
            "updated.yaml:9:*: *buton*",
        ]
    )
    assert "Traceback" not in done.stdout.str()
    assert not (suite.path / "reports").exists()


def test_a_policy_that_cannot_be_read_is_a_collection_error(suite: pytest.Pytester) -> None:
    done = run(suite, "--hts-policy", "nowhere.yaml")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*nowhere.yaml:1:1: the file does not exist"])


def test_a_number_of_guests_that_makes_no_sense_is_refused(suite: pytest.Pytester) -> None:
    done = run(suite, "--hts-jobs", "0")
    assert done.ret is pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["*--hts-jobs: 0 is not between 1 and 256"])


def test_other_yaml_files_are_left_to_others(suite: pytest.Pytester) -> None:
    """A scenario is no suite, neither is a file that mentions one, nor what cannot be read at all."""
    (suite.path / "suite.yaml").unlink()
    (suite.path / "notes.yaml").write_text("text: |\n  schema: hts-compat/suite/1\n", encoding="utf-8")
    (suite.path / "binary.yaml").write_bytes(b"\xff\xfe\x00schema")
    (suite.path / "gone.yml").symlink_to("nowhere")
    assert run(suite).ret is pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_xdist_is_refused_in_one_sentence(suite: pytest.Pytester) -> None:
    done = suite.runpytest_subprocess("-n", "1", "-p", "no:hypothesispytest")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["A suite cannot be run under pytest-xdist: hts-compat runs cells side by side itself*"])


def test_a_project_without_suites_loads_nothing_of_the_engine() -> None:
    code = "import sys, harness.pytest_plugin.plugin, harness.pytest_plugin.hooks; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name for name in done.stdout.split() if name.startswith("harness.")}
    assert loaded == {"harness.pytest_plugin", "harness.pytest_plugin.hooks", "harness.pytest_plugin.plugin"}
    assert not {"pydantic", "sqlalchemy", "yaml", "allure_commons"} & set(done.stdout.split())


# --- what is answered from the store, and what other tools read -------------------------------------------------------


def test_a_cell_is_answered_from_the_store_unless_fresh_is_asked_for(suite: pytest.Pytester) -> None:
    run(suite).assert_outcomes(passed=2, failed=1, skipped=1)
    again = run(suite)
    again.assert_outcomes(passed=2, failed=1, skipped=1)
    again.stdout.fnmatch_lines(
        ["*QUARANTINED at connect*", "hts-compat: run * complete: 0 guests, 3 cells from the store"]
    )
    fresh = run(suite, "--hts-fresh", "--hts-out", "elsewhere")
    fresh.stdout.fnmatch_lines(["hts-compat: run * complete: 6 guests, 0 cells from the store"])
    assert (suite.path / "elsewhere" / "store").is_dir()


def test_junit_has_each_cell_by_its_id_and_keeps_jenkins_rules(suite: pytest.Pytester) -> None:
    run(suite, "--junitxml", "junit.xml")
    raw = (suite.path / "junit.xml").read_bytes()
    assert broken_rules(raw) == []
    cases = {case.attrib["name"]: {child.tag for child in case} for case in ET.fromstring(raw).iter("testcase")}  # noqa: S314
    assert cases[BAD] == {"failure"}
    assert cases[LEFT_OUT] == {"skipped"}
    assert set(cases) == {GREEN, GREEN_TOO, BAD, LEFT_OUT}


def test_allure_results_are_those_that_run_itself_writes(suite: pytest.Pytester) -> None:
    """Status, history, labels, parameters, attachments and every step at its true time; only ids and rows differ."""
    begun = time.time()
    run(suite, "--alluredir", "allure")
    shown = allure_results(suite.path / "allure")
    assert {name: result["status"] for name, result in shown.items()} == {
        GREEN: "passed", GREEN_TOO: "passed", BAD: "failed", LEFT_OUT: "skipped",
    }  # fmt: skip
    store = SqliteStore(suite.path / "reports" / "store")
    report = report_for(store, store.runs()[0], parsers=parsers)
    store.close()
    write_allure(report, suite.path / "by-run")
    expected = allure_results(suite.path / "by-run")
    assert {n: told(r) for n, r in shown.items()} == {n: told(r) for n, r in expected.items()}
    # Once more from the store: the steps stand at the times at which they were really made.
    run(suite, "--alluredir", "again")
    again = allure_results(suite.path / "again")
    assert [s["start"] for s in again[BAD]["steps"]] == [s["start"] for s in shown[BAD]["steps"]]
    assert begun * 1000 - 1 <= again[BAD]["start"] <= again[BAD]["stop"] <= time.time() * 1000
    assert {a.name for a in (suite.path / "allure").glob("*-attachment.*")} == {
        a.name for a in (suite.path / "by-run").glob("*-attachment.*")
    }


def told(result: dict[str, Any]) -> dict[str, Any]:
    labels = sorted((label["name"], label["value"]) for label in result["labels"] if label["name"] != "thread")
    return {**result, "uuid": None, "labels": labels}


def test_allure_shows_a_lab_that_could_not_tell_as_broken(pytester: pytest.Pytester) -> None:
    script = "lambda cell, _: Mischief(stops_at=None if cell.is_control else 'connect')"
    write_suite(pytester.path, script=script)
    (pytester.path / "test_other.py").write_text("def test_other(): pass\n", encoding="utf-8")
    run(pytester, "--alluredir", "allure").assert_outcomes(passed=1, errors=3, skipped=1)
    statuses = {name: result["status"] for name, result in allure_results(pytester.path / "allure").items()}
    assert statuses[GREEN] == "broken"
    assert statuses["test_other#test_other"] == "passed"  # other tests stay as allure-pytest has them
