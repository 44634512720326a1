import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attempt import Event, Kind
from harness.facts import ExclusionSeen
from harness.image import Lab
from harness.inert_text import visible
from harness.matrix import Assurance, Matrix, MatrixCell, matrix_schema
from harness.matrix_cell import NOT_FINISHED, cell_of, matrix_of, product_seen, without_evidence
from harness.renderers.api import Report
from harness.settle import settle
from harness.verdict import Outcome
from tests.builders import make_build, make_cell, make_over_older_scenario, make_plan, make_product
from tests.renderers.sample_run import (
    HOSTILE,
    TAKEN,
    Maker,
    control_runs,
    hostile_report,
    judge,
    judged_cell,
    judged_run,
    plan,
    run_info,
    sample_report,
)

SCHEMA_FILE = Path(__file__).parent.parent / "harness" / "schemas" / "matrix.schema.json"
INCIDENT = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"
GREEN = "1.0.0/reference/clamav-standard/2026-11-04/fresh-install"

#: The contract (architecture.md, "matrix.json").
RUN_FIELDS = {"id", "started_at", "finished_at", "suite", "tool_version", "lab", "expected_cells"}
CELL_FIELDS = {
    "key", "build", "image", "image_content", "provider", "lab", "product", "profile", "product_version",
    "signature", "signature_from", "signature_components", "scenario", "outcome", "stage", "rule", "reason",
    "assurance", "flaky", "slowdown", "attempts", "control", "cached", "observed_s", "cause", "detections",
    "protection", "evidence", "started_at", "duration_s",
}  # fmt: skip
DETECTION_FIELDS = {
    "threat", "action", "target", "sha256", "component", "mechanism", "signature", "at", "after_s",
}  # fmt: skip
PROTECTION_FIELDS = {
    "canaries", "active_before", "active_after", "signature_before", "signature_after", "exclusions",
}  # fmt: skip


def cell(name: str) -> MatrixCell:
    return next(c for c in sample_report().matrix.cells if c.id == name)


def test_the_matrix_has_every_field_of_the_contract() -> None:
    value = json.loads(sample_report().matrix.to_json())
    assert value["schema"] == "hts-compat/matrix/1"
    assert set(value["run"]) >= RUN_FIELDS
    for each in value["cells"]:
        assert set(each) >= CELL_FIELDS
        assert set(each["build"]) == {"name", "version", "sha256"}
        assert set(each["protection"]) >= PROTECTION_FIELDS
        assert all(set(d) >= DETECTION_FIELDS for d in each["detections"])
        assert all(set(e) == {"kind", "path", "sha256"} for e in each["evidence"])
        assert all(set(c) >= {"layer", "folder", "when", "reacted", "after_s"} for c in each["protection"]["canaries"])


def test_a_cell_names_the_older_build_that_its_update_starts_from_and_no_other_does() -> None:
    older = make_build("0.9.0")
    over = make_cell(older=older, scenario=make_over_older_scenario())
    shown = without_evidence(over, Outcome.INCONCLUSIVE, "Nothing ran.").older
    assert shown is not None
    assert (shown.version, shown.sha256) == ("0.9.0", older.installer.sha256)
    assert without_evidence(make_cell(), Outcome.INCONCLUSIVE, "Nothing ran.").older is None


def test_the_schema_file_is_what_the_types_say() -> None:
    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(matrix_schema())), "run: python -m tests.test_matrix"


@pytest.mark.parametrize("report", [sample_report, hostile_report])
def test_the_schema_accepts_real_output(report: Callable[[], Report]) -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(report().matrix.to_json()))


def test_the_schema_refuses_an_empty_string_an_unknown_field_and_local_time() -> None:
    check = jsonschema.Draft202012Validator(matrix_schema())
    good = json.loads(sample_report().matrix.to_json())
    spoils: tuple[Callable[[dict[str, Any]], object], ...] = (
        lambda v: v["cells"][0].update(stage=""),
        lambda v: v["cells"][0].update(surprise=1),
        lambda v: v["run"].update(started_at="2026-11-24T15:00:00+09:00"),
        lambda v: v["cells"][0].pop("reason"),
    )
    for spoil in spoils:
        value = json.loads(json.dumps(good))
        spoil(value)
        assert not check.is_valid(value)


def test_two_renders_give_the_same_bytes_and_reading_gives_the_same_matrix() -> None:
    planned, judged = judged_run()
    judgements = {j.cell.id: j.judgement for j in judged}
    backwards = dict(reversed(judgements.items()))
    first = matrix_of(run_info(), planned, judgements)
    assert first.to_json() == matrix_of(run_info(), planned, backwards).to_json()
    assert Matrix.from_json(first.to_json()) == first


def test_the_order_of_attempts_and_controls_does_not_matter() -> None:
    j = judged_cell(INCIDENT)
    forth = cell_of(j.cell, j.verdict, attempts=j.attempts, controls=j.controls)
    back = cell_of(j.cell, j.verdict, attempts=j.attempts[::-1], controls=j.controls[::-1])
    assert forth == back


def test_cells_stand_in_the_order_of_the_plan_and_none_is_missing() -> None:
    assert [c.id for c in sample_report().matrix.cells] == [c.id for c in plan().cells]


def test_an_expected_cell_without_a_judgement_is_inconclusive_not_finished() -> None:
    missing = cell("1.2.0/reference/clamav-strict/2026-11-08/fresh-install")
    assert (missing.outcome, missing.reason) == (Outcome.INCONCLUSIVE, NOT_FINISHED)
    assert missing.rule is None
    assert missing.attempts == ()


def test_a_run_without_any_judgement_says_nothing_good() -> None:
    outcomes = {c.outcome for c in matrix_of(run_info(), plan(), {}).cells}
    assert outcomes == {Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED}


def test_an_unsupported_cell_keeps_its_reason() -> None:
    left = cell("1.2.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated")
    assert left.outcome is Outcome.UNSUPPORTED
    assert "never released" in left.reason


def test_a_stored_cell_that_cannot_be_read_is_inconclusive_and_says_what_to_do() -> None:
    planned, judged = judged_run()
    old = judged[0].judgement.model_copy(update={"cell": {"shape": "of another day"}})
    first = matrix_of(run_info(), planned, {judged[0].cell.id: old}).cells[0]
    assert first.outcome is Outcome.INCONCLUSIVE
    assert "rejudge" in first.reason


def test_a_cell_answered_from_the_store_says_from_which_run() -> None:
    planned, judged = judged_run()
    again = judged[0].judgement.model_copy(update={"cached_from": "20261123-0600-full"})
    first = matrix_of(run_info(), planned, {judged[0].cell.id: again}).cells[0]
    assert (first.cached, first.cached_from) == (True, "20261123-0600-full")


def test_the_incident_names_all_that_a_bad_verdict_must_say() -> None:
    bad = cell(INCIDENT)
    found = bad.detections[0]
    assert (bad.outcome, bad.stage, bad.confirmed) == (Outcome.QUARANTINED, "connect", True)
    assert (bad.signature_from, bad.signature) == ("2026-11-04", "2026-11-05")
    assert (bad.product_version, bad.signature_components) == ("1.4.6", {"engine": "1.4.6"})
    assert found.target == "C:\\Program Files\\DemoHTS\\hts_comm.dll"
    assert (found.threat, found.component, found.mechanism) == ("HtsDemo.FalsePositive.Comm", "module", "signature")
    assert (found.signature, found.after_s) == ("2026-11-05", 0.342)
    assert bad.failed_step is not None
    assert (bad.failed_step.code, bad.failed_step.code_text) == (126, "ERROR_MOD_NOT_FOUND (a module cannot be found)")
    assert "hts_comm.dll을(를) 불러올 수 없습니다. (오류 126)" in (bad.failed_step.dialog or "")
    assert {e.kind for e in bad.evidence} >= {"log", "screenshot"}


def test_a_green_cell_carries_its_proof_of_life() -> None:
    green = cell(GREEN)
    proof = green.protection
    assert (proof.active_before, proof.active_after) == (True, True)
    assert (proof.signature_before, proof.signature_after) == ("2026-11-04", "2026-11-04")
    assert len(proof.canaries) == 10
    assert all(c.reacted for c in proof.canaries)
    assert green.observed_s == pytest.approx(10.25)
    assert green.control is not None
    assert (green.control.outcome, len(green.control.attempts)) == (Outcome.COMPATIBLE, 2)


def test_a_control_cell_has_no_assurance_and_no_control_of_its_own() -> None:
    control = cell("1.0.0/reference/none-standard/none/fresh-install")
    assert (control.product, control.assurance, control.control) == ("none", None, None)


def test_a_declared_exclusion_over_the_tested_paths_makes_the_assurance_excluded() -> None:
    maker, asked = Maker(), judged_cell(GREEN).cell
    hole = ExclusionSeen(path="C:\\Program Files", declared=True, covers_tested=True)
    tried = maker.tried(asked, TAKEN, change=lambda f: replace(f, exclusions=(hole,)))
    verdict = settle([tried.finding], stages=[])
    assert cell_of(asked, verdict, attempts=[tried], controls=()).assurance is Assurance.EXCLUDED


def test_a_cell_without_any_attempt_has_nulls_and_no_proof() -> None:
    asked = judged_cell(GREEN).cell
    empty = cell_of(asked, settle([], stages=[]), attempts=(), controls=())
    assert empty.outcome is Outcome.INCONCLUSIVE
    assert (empty.started_at, empty.duration_s, empty.observed_s, empty.assurance) == (None, None, None, None)
    assert empty.protection.active_before is None


def test_what_only_the_first_sample_saw_is_unknown_afterwards() -> None:
    maker, asked = Maker(), judged_cell(GREEN).cell
    tried = maker.tried(asked, TAKEN, change=lambda f: replace(f, samples=f.samples[:1]))
    proof = cell_of(asked, settle([tried.finding], stages=[]), attempts=[tried], controls=()).protection
    assert (proof.active_before, proof.active_after, proof.signature_after) == (True, None, None)


def test_every_time_is_utc_with_z() -> None:
    text = sample_report().matrix.to_json().decode()
    times = re.findall(r'"(?:started_at|finished_at)": "([^"]+)"', text)
    assert times
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)


def test_hostile_text_is_kept_in_the_json_and_never_breaks_it_or_acts_where_it_is_printed() -> None:
    raw = hostile_report().matrix.to_json()
    value = json.loads(raw)
    assert all(c.isprintable() or c == "\n" for c in raw.decode())
    assert value["cells"][0]["build"]["name"] == HOSTILE


@given(st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE010), max_size=8))
def test_text_that_utf8_cannot_hold_is_replaced(name: str) -> None:
    maker, asked = Maker(), judged_cell(GREEN).cell
    tried = maker.tried(asked, replace(TAKEN, threat="x" + name))
    made = cell_of(asked, settle([tried.finding], stages=[]), attempts=[tried], controls=())
    assert json.dumps(made.to_value(), ensure_ascii=False).encode()
    assert visible("x" + name).encode()


def test_the_product_is_what_it_said_last() -> None:
    attempt = judged_cell(GREEN).attempts[0].attempt
    later = Event(seq=99, host_mono_s=9, kind=Kind.SAMPLE, data={"version": "1.4.7", "components": {"engine": None}})
    assert product_seen(replace(attempt, events=(*attempt.events, later))) == ("1.4.7", {"engine": None})


@pytest.mark.parametrize(("name", "is_ours"), [("guard", True), ("clamav", False)])
def test_a_cell_says_whether_its_product_is_a_test_of_ours(name: str, is_ours: bool) -> None:
    asked = make_plan(make_cell(product=make_product(name)))
    assert [c.test_product for c in matrix_of(run_info(), asked, {}).cells] == [is_ours]


def test_the_lab_of_every_cell_is_said() -> None:
    assert {c.lab for c in sample_report().matrix.cells} == {Lab.REFERENCE}


def test_a_control_that_changes_makes_its_summary_inconclusive() -> None:
    maker, asked = Maker(), judged_cell(GREEN).cell
    passed = control_runs(maker, asked)
    failing = maker.tried(asked.control(), replace(TAKEN, acted=None), controls=[t.facts for t in passed])
    judged = judge(maker, asked, TAKEN, (*passed, failing))
    made = cell_of(asked, judged.verdict, attempts=judged.attempts, controls=judged.controls)
    assert made.control is not None
    assert made.control.outcome is Outcome.INCONCLUSIVE


if __name__ == "__main__":
    SCHEMA_FILE.write_text(json.dumps(matrix_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
