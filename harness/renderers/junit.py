"""Pure. JUnit XML, as Jenkins, GitLab and GitHub's report actions read it.

1. It validates against Jenkins' schema ``junit-10.xsd``; ``tests/renderers/test_junit.py`` holds us to its rules.
2. One ``testsuite`` a run, one ``testcase`` a cell; the name is the cell's id, so that a server's history follows it.
3. Text from guests is made visible before it is XML: no control character is left that XML 1.0 forbids.

Source: jenkinsci/xunit-plugin, ``types/model/xsd/junit-10.xsd``; XML 1.0 (fifth edition), 2.2 "Characters".
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.as_test import AsTest, Status, as_test, evidence_lines, observed_lines
from harness.behaviour import shown_product
from harness.evidence import CellEvidence
from harness.inert_text import visible
from harness.matrix import MatrixRun
from harness.renderers.api import Report
from harness.renderers.explain import explain

#: What ``visible`` leaves and XML does not allow: the two noncharacters of the basic plane.
_NO_XML = {code: f"\\u{code:04x}" for code in (0xFFFE, 0xFFFF)}

_ELEMENTS = {
    Status.FAILED: "failure",
    Status.ERROR: "error",
    Status.SKIPPED: "skipped",
    Status.WAIVED: "skipped",
}


class JunitRenderer:
    """Writes the run as one file of JUnit XML."""

    suffix = ".xml"

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        run = report.matrix.run
        tests = [
            as_test(cell, waiver=report.waivers.get(cell.id), strict=report.strict) for cell in report.matrix.cells
        ]
        counts = _counts(tests)
        root = ET.Element("testsuites", {"name": "hts-compat", **counts, "time": _seconds(_total(run, tests))})
        suite = ET.SubElement(
            root,
            "testsuite",
            {
                "name": _text(run.suite),
                **counts,
                "skipped": str(sum(test.status in {Status.SKIPPED, Status.WAIVED} for test in tests)),
                "time": _seconds(_total(run, tests)),
                "timestamp": run.started_at.isoformat(timespec="seconds"),
                "id": _text(run.id),
            },
        )
        properties = ET.SubElement(suite, "properties")
        for name, value in _facts(run).items():
            ET.SubElement(properties, "property", {"name": name, "value": _text(value)})
        for test in tests:
            _add(suite, run, test, report.evidence.get(test.cell.id))
        ET.indent(root)
        text: str = ET.tostring(root, encoding="unicode")
        return b'<?xml version="1.0" encoding="utf-8"?>\n' + text.encode() + b"\n"


def _add(suite: ET.Element, run: MatrixRun, test: AsTest, evidence: CellEvidence | None) -> None:
    cell = test.cell
    added = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": _text(f"{run.suite}.{shown_product(cell.product)}-{cell.profile}"),
            "name": _text(cell.id),
            "time": _seconds(_spent(test)),
        },
    )
    element = _ELEMENTS.get(test.status)
    if element is not None:
        outcome = cell.outcome.value.lower()
        told = ET.SubElement(added, element, {"type": outcome, "message": _text(test.message)})
        if test.status in {Status.FAILED, Status.ERROR}:
            told.text = _text("\n".join(_lines(test, evidence)), lines=True)
    if test.status is not Status.SKIPPED:
        ET.SubElement(added, "system-out").text = _text(explain(cell, evidence), lines=True)


def _lines(test: AsTest, evidence: CellEvidence | None) -> list[str]:
    return [
        test.message,
        *(f"observed  {line}" for line in observed_lines(test.cell)),
        *(f"evidence  {line}" for line in evidence_lines(evidence)),
    ]


def _facts(run: MatrixRun) -> dict[str, str]:
    return {
        "run": run.id,
        "lab": run.lab.value,
        "provider": run.provider or "unknown",
        "tool_version": run.tool_version,
        "state": run.state or "unknown",
        "drill": str(run.drill).lower(),
    }


def _counts(tests: list[AsTest]) -> dict[str, str]:
    return {
        "tests": str(len(tests)),
        "failures": str(sum(test.status is Status.FAILED for test in tests)),
        "errors": str(sum(test.status is Status.ERROR for test in tests)),
    }


def _total(run: MatrixRun, tests: list[AsTest]) -> float:
    if run.finished_at is not None:
        return (run.finished_at - run.started_at).total_seconds()
    return sum(map(_spent, tests))


def _spent(test: AsTest) -> float:
    """Give the seconds that the cell's own guests took, all together."""
    return sum(attempt.duration_s or 0.0 for attempt in test.cell.attempts)


def _seconds(value: float) -> str:
    return f"{max(value, 0.0):.3f}"


def _text(text: str, *, lines: bool = False) -> str:
    return visible(text, lines=lines).translate(_NO_XML)
