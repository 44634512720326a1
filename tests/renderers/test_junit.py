"""JUnit XML by the rules of Jenkins' schema ``junit-10.xsd``, held here without the file."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from harness.renderers.api import Report
from harness.renderers.junit import JunitRenderer
from harness.verdict import Outcome
from tests.renderers.sample_run import hostile_report, sample_report

#: Element -> (attributes that it may have, attributes that it must have, elements that may stand in it).
GRAMMAR = {
    "testsuites": ({"name", "time", "tests", "failures", "errors", "disabled"}, set(), {"testsuite"}),
    "testsuite": (
        {
            "name", "tests", "failures", "errors", "time", "disabled", "skipped", "skips", "timestamp", "hostname",
            "id", "package", "file", "log", "url", "version", "group", "assertions",
        },
        {"name", "tests"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": (
        {"name", "assertions", "time", "classname", "status", "group", "file", "line", "timestamp"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err", "properties"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "error": ({"type", "message"}, set(), set()),
    "skipped": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
    "system-err": (set(), set(), set()),
}  # fmt: skip


def parsed(report: Report) -> ET.Element:
    return ET.fromstring(JunitRenderer().render(report))  # noqa: S314 - our own bytes


@pytest.mark.parametrize("report", [sample_report(), hostile_report()], ids=["sample", "hostile"])
def test_every_element_is_one_that_the_schema_knows_with_attributes_that_it_allows(report: Report) -> None:
    for element in parsed(report).iter():
        allowed, needed, inside = GRAMMAR[element.tag]
        assert set(element.attrib) <= allowed, element.tag
        assert set(element.attrib) >= needed, element.tag
        assert {child.tag for child in element} <= inside, element.tag


def test_counts_are_those_of_the_cases() -> None:
    suite = parsed(sample_report()).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == len(sample_report().matrix.cells)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[attribute]) == sum(case.find(tag) is not None for case in cases)


def test_each_outcome_has_its_element() -> None:
    cases = {case.attrib["name"]: case for case in parsed(sample_report()).iter("testcase")}
    for cell in sample_report().matrix.cells:
        marks = {child.tag for child in cases[cell.id]} & {"failure", "error", "skipped"}
        match cell.outcome:
            case Outcome.COMPATIBLE | Outcome.DETECTED:
                assert marks == set()
            case Outcome.INCONCLUSIVE:
                assert marks == {"error"}
            case Outcome.UNSUPPORTED:
                assert marks == {"skipped"}
            case _:
                assert marks == {"failure"}


def test_hostile_text_is_xml_and_nothing_but_text() -> None:
    raw = JunitRenderer().render(hostile_report())
    assert raw.decode("utf-8").isprintable() or b"\x1b" not in raw
    assert b"\x00" not in raw
    assert b"<script" not in raw


def test_the_same_report_gives_the_same_bytes() -> None:
    assert JunitRenderer().render(sample_report()) == JunitRenderer().render(sample_report())
