import pytest

from harness.matrix import MatrixBuild
from harness.renderers.explain import explain
from tests.builders import make_matrix_cell
from tests.renderers.sample_run import hostile_report, sample_report

INCIDENT = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"
GREEN = "1.0.0/reference/clamav-standard/2026-11-04/fresh-install"
SILENT = "1.1.0/reference/clamav-standard/2026-11-08/fresh-install"


def told(name: str, *, evidence: bool = True) -> str:
    report = sample_report()
    cell = next(c for c in report.matrix.cells if c.id == name)
    return explain(cell, report.evidence.get(name) if evidence else None)


def test_a_red_cell_tells_product_signature_file_mechanism_stage_code_and_dialog() -> None:
    text = told(INCIDENT)
    for fact in (
        "QUARANTINED at connect",
        "clamav 1.4.6",
        "2026-11-04 → 2026-11-05",
        "C:\\Program Files\\DemoHTS\\hts_comm.dll (module)",
        "HtsDemo.FalsePositive.Comm",
        "mechanism signature",
        "0.342 s into the step",
        "code 126 ERROR_MOD_NOT_FOUND",
        "hts_comm.dll을(를) 불러올 수 없습니다. (오류 126)",
        "gone: hts_comm.dll",
        "10 of 10 canaries reacted",
        "control, 2 attempts: COMPATIBLE",
    ):
        assert fact in text, fact


def test_a_green_cell_tells_why_it_can_be_believed() -> None:
    text = told(GREEN)
    for fact in ("COMPATIBLE", "assurance reported", "observed 10.2 s", "10 of 10 canaries", "8 of 8 samples"):
        assert fact in text, fact


def test_a_silent_canary_is_named_with_its_folder_and_why() -> None:
    assert "silent in appdata (after): the product recorded nothing" in told(SILENT)


@pytest.mark.parametrize("name", [INCIDENT, GREEN, SILENT])
def test_it_fits_on_one_screen(name: str) -> None:
    lines = told(name).splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 420


def test_without_evidence_it_says_so_and_still_tells_the_verdict() -> None:
    text = told(GREEN, evidence=False)
    assert "no timeline" in text
    assert "10 of 10 canaries" in text


def test_every_cell_of_the_run_can_be_explained() -> None:
    report = sample_report()
    for cell in report.matrix.cells:
        text = explain(cell, report.evidence.get(cell.id))
        assert cell.outcome.value in text
        assert text.endswith("\n")
        assert "None" not in text


def test_nothing_in_it_acts_on_a_terminal() -> None:
    report = hostile_report()
    text = explain(report.matrix.cells[0], report.evidence[report.matrix.cells[0].id])
    assert not any(ord(c) < 0x20 and c != "\n" for c in text)
    assert "\u202e" not in text
    assert len(text) < 6000


def test_a_cell_over_an_older_build_names_it() -> None:
    older = MatrixBuild(name="DemoHTS", version="0.9.0", sha256="9" * 64)
    cell = make_matrix_cell(older=older)
    assert f"installed over build 0.9.0 {'9' * 12}" in explain(cell, None)
    assert "installed over" not in explain(make_matrix_cell(), None)
