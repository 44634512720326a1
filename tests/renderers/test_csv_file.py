import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.renderers.api import Report
from harness.renderers.csv_file import COLUMNS, CsvRenderer, inert
from tests.builders import cell_with_a_way_out, make_matrix_cell
from tests.renderers.sample_run import hostile_report, sample_report


def rows(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline="")))


def test_there_is_one_line_for_each_cell_with_a_byte_order_mark_for_spreadsheets() -> None:
    raw = CsvRenderer().render(sample_report())
    assert raw.startswith(b"\xef\xbb\xbf")
    read = rows(raw)
    assert [r["cell"] for r in read] == [c.id for c in sample_report().matrix.cells]
    assert list(read[0]) == list(COLUMNS)


def test_the_incident_is_on_its_line() -> None:
    bad = next(r for r in rows(CsvRenderer().render(sample_report())) if r["signature_from"] and r["target"])
    assert (bad["outcome"], bad["stage"], bad["failed_code"]) == ("QUARANTINED", "connect", "126")
    assert bad["target"].endswith("hts_comm.dll")
    assert "오류 126" in bad["dialog"]
    assert (bad["canaries_reacted"], bad["canaries_tried"], bad["confirmed"]) == ("10", "10", "true")


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "＝1", "=HYPERLINK(1)"]
)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert str(inert(text)).startswith("'")


@given(st.text(max_size=40))
def test_no_text_begins_a_formula(text: str) -> None:
    shown = str(inert(text))
    assert not shown.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_numbers_stay_numbers_and_unknown_is_empty() -> None:
    assert inert(-2147024671) == -2147024671
    assert inert(None) == ""


def test_hostile_text_neither_breaks_the_table_nor_acts() -> None:
    raw = CsvRenderer().render(hostile_report())
    assert len(rows(raw)) == 1
    assert b"\x1b" not in raw
    assert b"\x00" not in raw


def test_two_renders_give_the_same_bytes() -> None:
    assert CsvRenderer().render(sample_report()) == CsvRenderer().render(sample_report())


def test_what_was_open_stands_on_the_line() -> None:
    matrix = sample_report().matrix.model_copy(update={"cells": (cell_with_a_way_out(), make_matrix_cell())})
    first, second = rows(CsvRenderer().render(Report(matrix=matrix)))
    assert first["egress"] == "quotes.example.kr:443 test.internal:8443 cloud.example.com:443"
    assert (first["cloud"], second["egress"], second["cloud"]) == ("true", "", "false")
