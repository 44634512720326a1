"""``hts-compat run`` beside the engine: the files for CI servers, and input that is refused before anything starts."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date
from pathlib import Path

import pytest

from harness.cli.run import Asked, run_suite, write_test_reports
from harness.errors import InputError
from harness.gate import Policy, Waiver
from harness.verdict import Outcome
from tests.renderers.junit_rules import broken_rules
from tests.renderers.sample_run import sample_report


def test_both_files_are_written_where_they_were_asked_for(tmp_path: Path) -> None:
    bad = next(cell.id for cell in sample_report().matrix.cells if cell.outcome is Outcome.QUARANTINED)
    waiver = Waiver(cell=bad, reason="fixed on Friday", owner="qa", until=date(2999, 1, 1))
    asked = Asked(suite=Path("suite.yaml"), junitxml=tmp_path / "junit.xml", alluredir=tmp_path / "allure")
    write_test_reports(asked, sample_report(), Policy(name="p", waivers=(waiver,)))
    raw = (tmp_path / "junit.xml").read_bytes()
    assert broken_rules(raw) == []
    cases = {case.attrib["name"]: case for case in ET.fromstring(raw).iter("testcase")}  # noqa: S314 - our own bytes
    assert cases[bad].find("skipped") is not None
    assert len(list((tmp_path / "allure").glob("*-result.json"))) == len(cases)


def test_nothing_is_written_where_nothing_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_test_reports(Asked(suite=Path("suite.yaml")), sample_report(), None)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_test_reports(Asked(suite=Path("suite.yaml"), junitxml=tmp_path), sample_report(), None)


def test_a_policy_that_is_not_there_is_refused_before_the_suite_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"policy\.yaml has 1 problem"):
        run_suite(Asked(suite=tmp_path / "gone.yaml", policy=tmp_path / "policy.yaml"))
