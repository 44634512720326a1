"""GitHub around ``run``, ``gate`` and ``matrix``: what is written where, and that nothing changes the exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.cli import decide, show
from harness.cli.github import GitHub, github
from harness.cli.run import Asked, Ran, load, open_store, run_suite, tell
from harness.errors import InputError
from harness.gate import decide_gate
from harness.plan import expand
from harness.products import parser_of
from harness.renderers.api import Report
from harness.renderers.github import Annotation, At, Level
from harness.renderers.job_summary import MAX_BYTES
from harness.rig import make_rig
from harness.session import Options, RunResult, run
from harness.stores.api import RunInfo, RunState
from harness.stores.sqlite import SqliteStore
from harness.verdict import Outcome
from harness.yaml_files import load_policy
from harness.yaml_source import Place
from tests.contributing import project_of_the_page, simulated_desktop
from tests.fake_project import Project
from tests.renderers.runner_rules import obeyed_in
from tests.renderers.sample_run import BEGAN, sample_report

ON = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/s/summary.md", "GITHUB_WORKSPACE": "/repo"}


@pytest.mark.parametrize(
    ("asked", "environ", "annotates", "has_summary"),
    [
        (None, {}, False, False),
        (None, ON, True, True),
        (None, {"GITHUB_ACTIONS": "false"}, False, False),
        (None, {"GITHUB_STEP_SUMMARY": "/s/summary.md"}, False, True),
        (None, {"GITHUB_STEP_SUMMARY": ""}, False, False),
        (True, {}, True, False),
        (False, ON, False, False),
    ],
)
def test_the_environment_asks_unless_the_command_line_does(
    asked: bool | None, environ: dict[str, str], annotates: bool, has_summary: bool
) -> None:
    told = github(asked, environ)
    assert (told.annotates, told.summary is not None) == (annotates, has_summary)
    assert told.is_heard is (annotates or has_summary)


def test_a_place_is_relative_to_the_workspace_where_it_lies_in_it(tmp_path: Path) -> None:
    told = GitHub(workspace=tmp_path)
    assert told.at(Place(str(tmp_path / "a" / "suite.yaml"), 7, 3)) == At(file="a/suite.yaml", line=7)
    assert told.at(Place("/elsewhere/suite.yaml", 2)) == At(file="/elsewhere/suite.yaml", line=2)
    assert GitHub().at(Place("/elsewhere/suite.yaml", 2)).file == "/elsewhere/suite.yaml"


def test_a_summary_is_added_to_what_the_step_has_already(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    rooms: list[int] = []

    def draw(room: int) -> str:
        rooms.append(room)
        return "한\n"

    GitHub(summary=file).summarise(draw)
    GitHub(summary=file).summarise(draw)
    assert file.read_text() == "before\n한\n한\n"
    assert rooms == [MAX_BYTES - 7, MAX_BYTES - 11]


def test_a_summary_that_cannot_be_written_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    GitHub(summary=tmp_path).summarise(lambda room: "x")
    GitHub(summary=tmp_path / "gone" / "summary.md").summarise(lambda room: "x")
    GitHub(summary=tmp_path / "full.md").summarise(lambda room: "")
    said = capsys.readouterr().err
    assert said.count("could not be written") == 2
    assert "is full; nothing was added" in said


def test_annotations_go_to_standard_error_and_only_where_they_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    annotation = Annotation(level=Level.ERROR, title="t", message="m")
    GitHub().annotate([annotation])
    assert capsys.readouterr() == ("", "")
    GitHub(annotates=True).annotate([annotation])
    assert capsys.readouterr() == ("", "::error title=t::m\n")


def test_a_run_annotates_the_lines_of_its_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project(tmp_path)
    loaded = project.load()
    cells = expand(loaded.suite).cells
    report = sample_report()
    shown = [
        cell.model_copy(update={"id": mine.id}) for cell, mine in zip(report.matrix.cells[:4], cells, strict=False)
    ]
    matrix = report.matrix.model_copy(update={"cells": tuple(shown)})
    told = GitHub(annotates=True, summary=tmp_path / "summary.md", workspace=tmp_path)
    result = RunResult(run_id="r", state=RunState.COMPLETE, judgements={}, attempts_made=0, answered_from_store=0)
    ran = Ran(result=result, folder=tmp_path / "reports", cells=cells, sources=loaded.sources)
    tell(told, ran, Report(matrix=matrix), 1)
    obeyed = obeyed_in(capsys.readouterr().err)
    lines = (tmp_path / "suite.yaml").read_text().splitlines()
    assert obeyed
    for command in obeyed:
        assert command.properties["file"] == "suite.yaml"
        assert "signatures: [" in lines[int(command.properties["line"]) - 1]
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("**hts\\-compat run: something is incompatible**")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Give a folder of reports with one run whose only cell has no judgement."""
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    plan = expand(project.load().suite)
    out = tmp_path / "reports"
    store = SqliteStore(out / "store")
    now = datetime.now(UTC)
    info = RunInfo(
        id="run-1",
        suite="nightly",
        lab="reference",
        provider="fake",
        tool_version="0.1.0",
        started_at=now,
        finished_at=None,
        state=RunState.RUNNING,
        drill=False,
        expected_cells=len(plan.cells),
    )
    store.start_run(info, plan)
    store.finish_run("run-1", at=now, state=RunState.INTERRUPTED)
    store.close()
    return out


def test_a_gate_annotates_the_lines_of_its_policy(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "schema: hts-compat/policy/1\nname: p\nallow_reference_lab: true\nrequire:\n"
        "  - {product: defender, scenario: fresh-install}\n  - {product: clamav, scenario: fresh-install}\n"
    )
    for name, value in {**ON, "GITHUB_STEP_SUMMARY": str(tmp_path / "s.md"), "GITHUB_WORKSPACE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    asked = {"policy": policy, "baseline": None, "out": stored, "store": None}
    code = decide.gate("run-1", as_json=False, told=None, **asked)  # type: ignore[arg-type]
    loud = capsys.readouterr()
    assert decide.gate("run-1", as_json=False, told=False, **asked) == code == 3  # type: ignore[arg-type]
    quiet = capsys.readouterr()
    assert (loud.out, quiet.err) == (quiet.out, "")
    found = {(c.properties["title"].partition(":")[0], c.properties.get("line")) for c in obeyed_in(loud.err)}
    assert ("Required, and not there", "5") in found
    assert ("INCONCLUSIVE unknown", "6") in found
    assert (tmp_path / "s.md").read_text().startswith("# Gate: COULD NOT TELL\n")


def test_a_waived_cell_is_annotated_at_its_waiver(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = sample_report().matrix
    bad = next(cell for cell in matrix.cells if cell.outcome is Outcome.QUARANTINED)
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "schema: hts-compat/policy/1\nname: p\nallow_reference_lab: true\nmax_age: 30d\nwaivers:\n"
        f"  - cell: {bad.id}\n    reason: known\n    owner: qa\n    until: 2999-01-01\n"
    )
    rules = load_policy(policy)
    decision = decide_gate(rules, matrix.run, matrix.cells, now=BEGAN)
    decide.tell(GitHub(annotates=True, workspace=tmp_path), decision, rules, policy, matrix)
    waived = [c for c in obeyed_in(capsys.readouterr().err) if c.name == "notice"]
    assert [(c.properties["file"], c.properties["line"]) for c in waived] == [("policy.yaml", "6")]


def test_a_rendered_run_is_told_without_a_place(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "s.md"))
    assert show.matrix("run-1", form="csv", file=None, out=stored, store=None, told=True) == 0
    out, err = capfdbinary.readouterr()
    assert out.count(b"\n") > 4
    assert {c.name for c in obeyed_in(err.decode())} == {"warning"}
    assert not any("file" in c.properties for c in obeyed_in(err.decode()))
    assert "# Compatibility matrix: nightly" in (tmp_path / "s.md").read_text()


def test_a_guest_s_command_in_a_rendered_run_is_not_printed_for_a_runner(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    content = b'{"reason": "gone ##[add-mask]secret"}\n'
    with pytest.raises(InputError, match="runner would obey"):
        show.write_out(content, runner_reads=True)
    assert capsysbinary.readouterr()[0] == b""
    show.write_out(content, runner_reads=False)
    show.write_out(b'{"reason": "gone"}\n', runner_reads=True)
    assert capsysbinary.readouterr()[0] == content + b'{"reason": "gone"}\n'


def test_json_on_standard_output_means_the_same_and_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli import say

    say.data({"reason": "##[add-mask]x\n::add-mask::y", "##[debug]": 1})
    out = capsys.readouterr().out
    assert obeyed_in(out) == []
    assert json.loads(out) == {"reason": "##[add-mask]x\n::add-mask::y", "##[debug]": 1}


def test_no_line_that_the_tool_prints_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli import say

    say.line("the dialog said\n::stop-commands::x")
    say.note("##[add-mask]y")
    assert obeyed_in("".join(capsys.readouterr())) == []


# --- a whole command --------------------------------------------------------------------------------------------------


@pytest.fixture
def night(example_plug_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Give a run that the store answers whole: its cells ran on simulated guests, one good and one bad."""
    project = project_of_the_page(tmp_path)
    asked = Asked(
        suite=project.root / "suite.yaml",
        out=tmp_path / "reports",
        images=example_plug_ins / "vm_images",
        junitxml=tmp_path / "reports" / "junit.xml",
        github=None,
    )
    loaded = load(asked)
    rig = replace(make_rig("auto", loaded), system=simulated_desktop)
    with open_store(asked.out, None) as store:
        options = Options(run_id="before", jobs=2, provider=rig.provider.name)
        run(expand(loaded.suite), rig=rig, store=store, parsers=parser_of, options=options)
    for name, value in {**ON, "GITHUB_STEP_SUMMARY": str(tmp_path / "s.md"), "GITHUB_WORKSPACE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    return asked


def test_a_run_on_github_annotates_the_bad_cell_and_keeps_its_exit_code(
    night: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_suite(replace(night, as_json=True)) == 1
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (said["state"], said["attempts_made"], said["answered_from_store"]) == ("complete", 0, 2)
    (obeyed,) = obeyed_in(err)
    assert (obeyed.name, obeyed.properties["file"]) == ("error", "suite.yaml")
    line = (tmp_path / "suite.yaml").read_text().splitlines()[int(obeyed.properties["line"]) - 1]
    assert "2026-11-05" in line
    assert obeyed.properties["title"].startswith("QUARANTINED at connect: build 1.0.0, example-guard standard")
    assert "hts_comm.dll" in obeyed.data
    summary = (tmp_path / "s.md").read_text()
    assert "something is incompatible** \\(exit code 1\\)" in summary
    assert "| ✓ COMPATIBLE | ⊟ QUARANTINED at connect |" in summary


def test_a_run_that_github_is_not_to_hear_of_says_nothing_to_it(
    night: Asked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_suite(replace(night, github=False)) == 1
    assert obeyed_in("".join(capsys.readouterr())) == []
    assert not (tmp_path / "s.md").exists()


def test_a_run_of_nothing_says_so_in_its_summary(night: Asked, tmp_path: Path) -> None:
    assert run_suite(replace(night, keep="nothing-like-this")) == 4
    assert (tmp_path / "s.md").read_text().startswith("**hts\\-compat run: nothing ran**")
