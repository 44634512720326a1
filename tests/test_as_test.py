"""A cell as test reports know it: the mapping of outcomes, waivers, and text in which nothing acts."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from harness.as_test import MAX_EVIDENCE, MAX_LINE, Status, as_test, evidence_lines, observed_lines, waivers_for
from harness.gate import Policy, Waiver
from harness.verdict import BAD, Outcome
from tests.builders import make_matrix_cell
from tests.renderers.sample_run import hostile_report, sample_report

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WAIVER = Waiver(cell="1.0.0/*", reason="known", owner="qa", until=date(2026, 11, 24))


@pytest.mark.parametrize(
    ("outcome", "strict", "status"),
    [
        (Outcome.COMPATIBLE, True, Status.PASSED),
        (Outcome.DETECTED, False, Status.PASSED),
        (Outcome.DETECTED, True, Status.FAILED),
        (Outcome.INCONCLUSIVE, False, Status.ERROR),
        (Outcome.UNSUPPORTED, False, Status.SKIPPED),
        *((outcome, False, Status.FAILED) for outcome in sorted(BAD)),
    ],
)
def test_each_outcome_has_one_status(outcome: Outcome, strict: bool, status: Status) -> None:
    test = as_test(make_matrix_cell(outcome), strict=strict)
    assert test.status is status
    assert test.message.startswith(outcome.value)


@pytest.mark.parametrize("outcome", sorted(Outcome))
def test_a_waiver_covers_what_is_bad_and_nothing_else(outcome: Outcome) -> None:
    plain, waived = as_test(make_matrix_cell(outcome)), as_test(make_matrix_cell(outcome), waiver=WAIVER)
    assert waived.status is (Status.WAIVED if outcome in BAD else plain.status)
    assert (waived.waiver is WAIVER) == (outcome in BAD)


def test_a_waiver_holds_through_its_last_day() -> None:
    policy = Policy(name="p", waivers=(WAIVER,))
    cells = [make_matrix_cell(Outcome.BLOCKED), make_matrix_cell(Outcome.BLOCKED, version="1.1.0")]
    assert list(waivers_for(policy, cells, now=NOW)) == [cells[0].id]
    assert waivers_for(policy, cells, now=NOW.replace(day=25)) == {}
    assert waivers_for(None, cells, now=NOW) == {}


def test_what_was_seen_and_what_proves_it_is_inert_and_has_an_end() -> None:
    report = hostile_report()
    (cell,) = report.matrix.cells
    lines = [as_test(cell).message, *observed_lines(cell), *evidence_lines(report.evidence[cell.id])]
    assert len(lines) > 3
    assert all(line.isprintable() for line in lines)
    assert all(len(line) < MAX_LINE + 80 for line in lines)


def test_evidence_is_what_decided_then_pictures_and_names_where_it_is() -> None:
    cell = next(c for c in sample_report().matrix.cells if c.outcome is Outcome.QUARANTINED)
    evidence = sample_report().evidence[cell.id]
    lines = list(evidence_lines(evidence, lambda sha256: f"blobs/{sha256[:4]}"))
    assert lines[0].startswith("clamd.log at connect: blobs/")
    assert lines[1].startswith("picture at connect: blobs/")
    assert len(lines) <= MAX_EVIDENCE
    assert list(evidence_lines(None)) == []
    assert list(evidence_lines(evidence.model_copy(update={"attempts": ()}))) == []


def test_a_cell_that_passed_has_nothing_to_tell() -> None:
    assert list(observed_lines(make_matrix_cell())) == []
