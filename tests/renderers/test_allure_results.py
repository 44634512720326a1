"""Allure results: true times, a history of its own for each cell, and nothing of a guest's that acts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.gate import Waiver
from harness.matrix import MatrixRun
from harness.renderers.allure_results import MAX_LINE, Lanes, write_allure
from harness.renderers.api import Report
from harness.verdict import BAD, Outcome
from tests.renderers.sample_run import hostile_report, judged_cell, sample_report

INCIDENT = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"


def written(report: Report, folder: Path) -> dict[str, Any]:
    """Write a report and give its results by cell id."""
    write_allure(report, folder)
    return results_in(folder)


def results_in(folder: Path) -> dict[str, Any]:
    """Give the results in a folder by cell id."""
    found = [json.loads(path.read_bytes()) for path in folder.glob("*-result.json")]
    return {result["fullName"].removeprefix("hts-compat/"): result for result in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("allure")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    return written(sample_report(), folder)


def steps_of(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for step in item.get("steps", ()):
        yield step
        yield from steps_of(step)


def attachments_of(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from item.get("attachments", ())
    for step in item.get("steps", ()):
        yield from attachments_of(step)


def label(result: dict[str, Any], name: str) -> str:
    return next(str(found["value"]) for found in result["labels"] if found["name"] == name)


def test_every_cell_is_a_result_with_the_status_of_its_outcome(results: dict[str, Any]) -> None:
    assert set(results) == {cell.id for cell in sample_report().matrix.cells}
    for cell in sample_report().matrix.cells:
        expected = {Outcome.INCONCLUSIVE: "broken", Outcome.UNSUPPORTED: "skipped"}.get(
            cell.outcome, "failed" if cell.outcome in BAD else "passed"
        )
        assert results[cell.id]["status"] == expected
        if expected != "passed":
            assert results[cell.id]["statusDetails"]["message"].startswith(cell.outcome.value)


def test_the_steps_stand_at_the_times_of_the_attempt(results: dict[str, Any]) -> None:
    decider = next(t.attempt for t in judged_cell(INCIDENT).attempts if t.facts.role == "first")
    started_ms = decider.meta.started_at.timestamp() * 1000
    began = [e.host_mono_s for e in decider.events if e.kind == "step.begin"]
    steps = results[INCIDENT]["steps"][: len(began)]
    assert [step["name"].split()[1] for step in steps] == [
        "deliver", "install", "verify_files", "vendor_update", "launch", "self_update", "connect",
    ]  # fmt: skip
    assert [step["start"] for step in steps] == pytest.approx([started_ms + 1000 * s for s in began], abs=2)
    assert [step["stop"] - step["start"] for step in steps] == pytest.approx(
        [310, 920, 50, 1000, 1840, 1120, 8210], abs=2
    )
    assert results[INCIDENT]["start"] == pytest.approx(started_ms, abs=1)


def test_what_the_product_did_is_a_step_at_its_own_moment(results: dict[str, Any]) -> None:
    connect = results[INCIDENT]["steps"][6]
    [reaction] = connect["steps"]
    assert reaction["name"] == (
        "the product quarantined C:\\Program Files\\DemoHTS\\hts_comm.dll (module): HtsDemo.FalsePositive.Comm"
    )
    assert reaction["start"] - connect["start"] == pytest.approx(342, abs=2)


def test_the_other_attempts_and_the_controls_are_there_with_their_own_steps(results: dict[str, Any]) -> None:
    names = [step["name"] for step in results[INCIDENT]["steps"][7:]]
    assert names == [
        "not reached: dwell",
        "confirm 1, another guest: QUARANTINED at connect",
        "control 1, without the product: COMPATIBLE",
        "control_after 1, without the product: COMPATIBLE",
    ]
    assert [step["name"] for step in results[INCIDENT]["steps"][9]["steps"]][-1] == "8 dwell"


def test_history_differs_with_every_axis_and_stays_from_run_to_run(results: dict[str, Any], tmp_path: Path) -> None:
    assert len({result["historyId"] for result in results.values()}) == len(results)
    assert {result["testCaseId"] for result in results.values()} == {r["historyId"] for r in results.values()}
    run = sample_report().matrix.run.model_copy(update={"id": "another", "suite": "nightly"})
    later = written(replace(sample_report(), matrix=sample_report().matrix.model_copy(update={"run": run})), tmp_path)
    assert {name: r["historyId"] for name, r in later.items()} == {name: r["historyId"] for name, r in results.items()}


def test_labels_say_where_a_cell_belongs(results: dict[str, Any]) -> None:
    names = ("parentSuite", "suite", "subSuite", "feature", "story", "severity", "lab")
    assert [label(results[INCIDENT], name) for name in names] == [
        "full",
        "DemoHTS 1.0.0",
        "released-then-updated",
        "clamav-standard",
        "2026-11-04 → 2026-11-05",
        "critical",
        "reference",
    ]
    tags = {found["value"] for found in results[INCIDENT]["labels"] if found["name"] == "tag"}
    assert tags == {"reference-lab", "QUARANTINED", "connect", "signature"}


def test_parameters_name_the_axes_and_only_they_make_the_identity(results: dict[str, Any]) -> None:
    parameters = results[INCIDENT]["parameters"]
    assert [p["name"] for p in parameters if not p.get("excluded")] == [
        "build", "image", "product", "signatures", "scenario",
    ]  # fmt: skip
    assert {p["name"]: p["value"] for p in parameters}["product version"] == "1.4.6"


def test_every_attachment_is_a_file_and_shared_ones_are_there_once(results: dict[str, Any], folder: Path) -> None:
    named = [a["source"] for result in results.values() for a in attachments_of(result)]
    there = {path.name for path in folder.glob("*-attachment.*")}
    assert set(named) == there
    assert len(named) > len(there)
    kinds = {a["name"]: a["type"] for a in attachments_of(results[INCIDENT]["steps"][6])}
    assert kinds == {
        "dialog": "text/plain",
        "screen at connect": "image/png",
        "clamd.log (product:clamav)": "text/plain",
    }
    dialog = next(a for a in attachments_of(results[INCIDENT]["steps"][6]) if a["name"] == "dialog")
    assert "hts_comm.dll을(를) 불러올 수 없습니다" in (folder / dialog["source"]).read_text(encoding="utf-8")


def test_the_proof_is_attached_to_green_cells_too(results: dict[str, Any], folder: Path) -> None:
    green = next(cell for cell in sample_report().matrix.cells if cell.outcome is Outcome.COMPATIBLE)
    proof = next(a for a in results[green.id]["attachments"] if a["name"] == "the proof, step by step")
    assert (folder / proof["source"]).read_text(encoding="utf-8").startswith("✓ COMPATIBLE")


def test_a_waived_cell_is_skipped_as_known(tmp_path: Path) -> None:
    waiver = Waiver(cell=INCIDENT, reason="A fix was promised.", owner="qa", until=date(2026, 12, 1))
    told = written(replace(sample_report(), waivers={INCIDENT: waiver}), tmp_path)[INCIDENT]
    assert (told["status"], told["statusDetails"]["known"]) == ("skipped", True)
    assert told["statusDetails"]["message"].startswith("waived until 2026-12-01 by qa: A fix was promised.")


def test_an_answer_from_the_store_says_so(tmp_path: Path) -> None:
    report = sample_report()
    cells = tuple(c.model_copy(update={"cached": True, "cached_from": "run-0"}) for c in report.matrix.cells[:2])
    for told in written(replace(report, matrix=report.matrix.model_copy(update={"cells": cells})), tmp_path).values():
        assert "from-store" in {found["value"] for found in told["labels"] if found["name"] == "tag"}
        assert {"name": "from", "value": "run-0", "excluded": True} in told["parameters"]
        assert "answered from the store by an earlier run" in told["description"]


def test_hostile_text_acts_nowhere_and_no_name_is_endless(tmp_path: Path) -> None:
    [told] = written(hostile_report(), tmp_path).values()
    texts = [told["name"], told["fullName"], *told["titlePath"], *(found["value"] for found in told["labels"])]
    texts += [step["name"] for step in steps_of(told)] + [p["value"] for p in told["parameters"]]
    assert all(len(text) <= MAX_LINE for text in texts)
    for path in [*tmp_path.glob("*.json"), *tmp_path.glob("*.txt"), *tmp_path.glob("*.properties")]:
        assert not {"\x1b", "\x00", "\u202e"} & set(path.read_text(encoding="utf-8")), path
    assert "<" not in told["description"]


def test_the_run_and_its_lab_are_the_environment_and_outcomes_are_categories(
    results: dict[str, Any], folder: Path
) -> None:
    assert results
    lines = (folder / "environment.properties").read_text(encoding="utf-8").splitlines()
    assert {"run=20261124-0600-full", "lab=reference", "suite=full"} <= set(lines)
    categories = json.loads((folder / "categories.json").read_bytes())
    assert {outcome.value for outcome in BAD} <= {category["name"] for category in categories}


def test_results_that_overlap_stand_in_different_lanes() -> None:
    lanes = Lanes()
    assert [lanes.of(*span) for span in ((0, 10), (5, 15), (10, 20), (15, 16))] == [
        "guest 1", "guest 2", "guest 1", "guest 2",
    ]  # fmt: skip


def test_a_cell_without_evidence_is_still_a_result(tmp_path: Path) -> None:
    report = replace(sample_report(), evidence={})
    run: MatrixRun = report.matrix.run
    for told in written(report, tmp_path).values():
        assert told.get("steps", []) == []
        assert told["start"] >= run.started_at.timestamp() * 1000


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Allure results cannot be written"):
        write_allure(sample_report(), tmp_path / "file" / "below")
