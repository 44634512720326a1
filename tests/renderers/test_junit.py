"""JUnit XML by the rules of Jenkins' schema, held here without the file (``junit_rules``)."""

from __future__ import annotations

import unicodedata
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import date

import pytest

from harness.gate import Waiver
from harness.renderers.api import Report
from harness.renderers.junit import JunitRenderer
from harness.verdict import Outcome
from tests.renderers.junit_rules import broken_rules
from tests.renderers.sample_run import hostile_report, sample_report


def parsed(report: Report) -> ET.Element:
    return ET.fromstring(JunitRenderer().render(report))  # noqa: S314 - our own bytes


def cases_of(report: Report) -> dict[str, ET.Element]:
    return {case.attrib["name"]: case for case in parsed(report).iter("testcase")}


def quarantined(report: Report) -> str:
    return next(cell.id for cell in report.matrix.cells if cell.outcome is Outcome.QUARANTINED)


@pytest.mark.parametrize("report", [sample_report(), hostile_report()], ids=["sample", "hostile"])
def test_no_rule_of_jenkins_schema_is_broken(report: Report) -> None:
    assert broken_rules(JunitRenderer().render(report)) == []


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"<testsuite name='a' tests='1' failures='0'/>", "<testsuite> lacks 'errors'"),
        (b"<testsuites disabled='0'/>", "<testsuites> may not have 'disabled'"),
        (b"<testsuites time='1e3'/>", "<testsuites> has the time '1e3'"),
        (b"<testsuites>text</testsuites>", "<testsuites> has text of its own"),
        (b"<testcase name='a'><properties/></testcase>", "<properties> may not stand in <testcase>"),
        (b"<report/>", "<report> is unknown"),
    ],
)
def test_the_rules_refuse_what_the_schema_refuses(raw: bytes, says: str) -> None:
    assert says in broken_rules(raw)


def test_counts_are_those_of_the_cases() -> None:
    root = parsed(sample_report())
    suite = root.find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == len(sample_report().matrix.cells)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[attribute]) == sum(case.find(tag) is not None for case in cases) > 0
        assert root.get(attribute, suite.attrib[attribute]) == suite.attrib[attribute]


def test_each_outcome_has_its_element() -> None:
    cases = cases_of(sample_report())
    elements = {
        Outcome.COMPATIBLE: set(),
        Outcome.DETECTED: set(),
        Outcome.INCONCLUSIVE: {"error"},
        Outcome.UNSUPPORTED: {"skipped"},
    }
    for cell in sample_report().matrix.cells:
        marks = {child.tag for child in cases[cell.id]} & {"failure", "error", "skipped"}
        assert marks == elements.get(cell.outcome, {"failure"}), cell.id


def test_a_failure_says_why_and_what_proves_it() -> None:
    failure = cases_of(sample_report())[quarantined(sample_report())].find("failure")
    assert failure is not None
    assert failure.attrib["type"] == "quarantined"
    assert failure.attrib["message"].startswith(
        "QUARANTINED at connect: clamav removed C:\\Program Files\\DemoHTS\\hts_comm"
    )
    text = failure.text or ""
    assert "observed  the product quarantined" in text
    assert "dialog: hts_comm.dll을(를) 불러올 수 없습니다. (오류 126)" in text
    assert "evidence  clamd.log at connect: sha256 " in text
    assert "evidence  picture at connect: sha256 " in text


def test_a_waived_cell_is_skipped_and_says_who_decided_it() -> None:
    report, name = sample_report(), quarantined(sample_report())
    waiver = Waiver(cell=name, reason="the vendor\x1b fixes it", owner="release-manager", until=date(2099, 1, 1))
    raw = JunitRenderer().render(replace(report, waivers={name: waiver}))
    assert broken_rules(raw) == []
    skipped = {c.attrib["name"]: c for c in ET.fromstring(raw).iter("testcase")}[name].find("skipped")  # noqa: S314
    assert skipped is not None
    assert skipped.attrib["message"].startswith("waived until 2099-01-01 by release-manager: the vendor\\x1b fixes it")


def test_a_detected_cell_fails_when_it_is_strict() -> None:
    cells = [cell.id for cell in sample_report().matrix.cells if cell.outcome is Outcome.DETECTED]
    cases = cases_of(replace(sample_report(), strict=True))
    assert cells
    assert all(cases[name].find("failure") is not None for name in cells)


def test_hostile_text_is_text_without_a_control_character() -> None:
    raw = JunitRenderer().render(hostile_report())
    text = "".join(parsed(hostile_report()).itertext())
    assert "\\x1b[31mred" in text
    assert "<script>" in text
    assert b"<script" not in raw
    assert {unicodedata.category(c) for c in raw.decode()} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} <= {"Cc"}
    assert {c for c in raw.decode() if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
