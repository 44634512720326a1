"""What a run says while it goes: one plain line a cell in a log, a table on a terminal, colour where it is wanted."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli import table
from harness.cli.progress import LiveProgress, PlainProgress, progress
from harness.cli.run import Asked, say_result
from harness.plan import Plan
from harness.session import RunResult
from harness.stop_switch import StopSwitch
from harness.stores.memory import MemoryStore
from tests import fake_lab
from tests.fake_lab import CLEAN, INCIDENT, FakeLab
from tests.renderers.sample_run import sample_report

LINE = re.compile(r" *\d+\.\d s  (\[\d/\d\] )?\S+: [A-Z_]+( at \w+)?( \(from the store\))?")
COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|9[0-7]|38;5|38;2)[0-9;]*m")


def two_cells() -> Plan:
    return fake_lab.plan(fake_lab.cell(CLEAN), fake_lab.cell(CLEAN, INCIDENT))


def ran(plan: Plan, store: MemoryStore, run_id: str) -> RunResult:
    with progress(plan) as listener:
        return FakeLab().run(plan, store, run_id=run_id, listeners=[listener])


def test_a_log_gets_one_line_a_cell_and_no_escape_codes(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    plan, store = two_cells(), MemoryStore()
    ran(plan, store, "run-1")
    out, err = capfd.readouterr()
    assert out == ""
    assert "\x1b" not in err
    lines = err.splitlines()
    assert [line for line in lines if LINE.fullmatch(line) is None] == []
    for cell in (*plan.cells, *plan.controls()):
        assert sum(f"{cell.id}:" in line for line in lines) == 1
    assert len(lines) == len(plan.cells) + len(plan.controls())
    assert [m[1] for line in lines if (m := LINE.fullmatch(line)) and m[1]] == ["[1/2] ", "[2/2] "]


def test_answers_of_the_store_say_so(capfd: pytest.CaptureFixture[str]) -> None:
    plan, store = fake_lab.plan(fake_lab.cell(CLEAN)), MemoryStore()
    ran(plan, store, "run-1")
    capfd.readouterr()
    ran(plan, store, "run-2")
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "[1/1]" in line]
    assert line.endswith("COMPATIBLE (from the store)")


@pytest.mark.parametrize(
    ("is_terminal", "term", "kind"),
    [(True, "xterm", LiveProgress), (True, "dumb", PlainProgress), (False, "xterm", PlainProgress)],
)
def test_a_table_is_drawn_only_where_it_can_be_drawn_over_itself(
    is_terminal: bool, term: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Out(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setattr("sys.stdout", Out())
    monkeypatch.setenv("TERM", term)
    with progress(two_cells()) as listener:
        assert isinstance(listener, kind)


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_no_color_is_respected(no_color: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    shown = io.StringIO()
    monkeypatch.setattr("sys.stdout", shown)
    table.show(sample_report().matrix)
    with LiveProgress(two_cells(), Console()):
        pass
    assert (COLOUR.search(shown.getvalue()) is not None) is coloured


def test_json_is_all_that_standard_output_gets(capsys: pytest.CaptureFixture[str]) -> None:
    plan, store = two_cells(), MemoryStore()
    result = ran(plan, store, "run-1")
    say_result(Asked(suite=Path("suite.yaml"), as_json=True), result, plan, Path("reports/run-1/matrix.html"))
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["state"], said["report"]) == ("run-1", "complete", "reports/run-1/matrix.html")
    assert {name: cell["outcome"] for name, cell in said["cells"].items()} == {
        cell.id: result.judgements[cell.id].outcome.value for cell in plan.cells
    }


def test_a_stopped_run_s_json_lacks_the_cells_that_it_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    stop = StopSwitch()
    stop.request("interrupted")
    plan = two_cells()
    result = FakeLab().run(plan, MemoryStore(), stop=stop)
    say_result(Asked(suite=Path("suite.yaml"), as_json=True), result, plan, Path("m.html"))
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["cells"]) == ("interrupted", {})
