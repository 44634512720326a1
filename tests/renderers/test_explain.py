import pytest

from harness.matrix import MatrixBuild
from harness.renderers.explain import explain
from tests.builders import cell_with_a_way_out, make_matrix_cell
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


def test_the_way_out_is_told_program_and_cloud_apart_with_what_was_used_and_refused() -> None:
    text = explain(cell_with_a_way_out())
    for fact in (
        "Way out of the guests, a vendor's cloud among it: never answered from the store",
        "open for the program's hosts: quotes.example.kr:443",
        "open for the program's hosts here: test.internal:8443",
        "open for cloud 'a-cloud' of defender: cloud.example.com:443",
        "refusing was seen to work, before and after",
        "used quotes.example.kr:443: 2 connections, 1200 bytes out, 34567 in, 1 failed: Connection refused",
        "used cloud.example.com:443 (cloud 'a-cloud'): 1 connection, 10 bytes out, 20 in",
        "refused evil.example:80, 3x: it is not open",
        "and 7 further tries that were let nowhere",
    ):
        assert fact in text, fact
    assert "Way out" not in explain(make_matrix_cell())
    egress = cell_with_a_way_out().egress
    assert egress is not None
    unseen = explain(make_matrix_cell(egress=egress.model_copy(update={"seen": None})))
    assert "no guest's connections were recorded" in unseen
