from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gate import decide_gate
from harness.renderers.job_summary import MAX_BYTES, RUN_CODES, fitted, of_gate, of_run
from harness.renderers.markdown import MarkdownRenderer
from harness.rig import ROOT
from harness.yaml_files import load_policy
from tests.renderers.sample_run import BEGAN, sample_report

MORE = "See report 1_2."


@pytest.mark.parametrize("code", RUN_CODES)
def test_a_run_says_first_what_its_exit_code_means_and_then_shows_the_matrix(code: int) -> None:
    shown = of_run(sample_report(), exit_code=code, room_bytes=MAX_BYTES, more=MORE)
    first, _, rest = shown.partition("\n\n")
    assert first == f"**hts\\-compat run: {RUN_CODES[code]}** \\(exit code {code}\\)"
    assert rest.encode() == MarkdownRenderer().render(sample_report())
    assert "Cut here" not in shown


def test_a_cut_run_keeps_what_needs_attention_and_says_how_much_is_missing() -> None:
    shown = of_run(sample_report(), exit_code=1, room_bytes=5000, more=MORE)
    assert len(shown.encode()) <= 5000
    assert "## What needs attention" in shown
    assert "**Cut here:** " in shown
    assert "lines did not fit into the summary. See report 1\\_2." in shown
    assert shown.index("## What needs attention") < shown.index("**Cut here:**")


@given(st.lists(st.text(alphabet="ab한 ", max_size=30), max_size=20), st.integers(0, 400))
def test_a_summary_never_takes_more_than_its_room_and_loses_no_line_silently(lines: list[str], room: int) -> None:
    shown = fitted(lines, room, MORE)
    assert len(shown.encode()) <= room
    whole = "\n".join(lines) + "\n"
    if shown and shown != whole:
        kept, _, said = shown.partition("\n**Cut here:** ")
        number = int(said.split(" ")[0])
        assert kept == "".join(f"{line}\n" for line in lines[: len(lines) - number])
        assert number > 0


def test_a_gate_s_summary_has_the_decision_first_and_what_blocks_before_what_passes() -> None:
    policy = load_policy(ROOT / "scenarios/policies/demo.yaml")
    matrix = sample_report().matrix
    decision = decide_gate(policy, matrix.run, matrix.cells, now=BEGAN)
    shown = of_gate(decision, matrix.run, room_bytes=MAX_BYTES, more=MORE)
    assert shown.startswith("# Gate: BLOCKED\n")
    assert "Exit code 1." in shown
    rows = [line.split(" | ")[0].removeprefix("| ") for line in shown.splitlines() if line.startswith("| ")][2:]
    assert rows == sorted(rows, key=["blocks", "unknown", "missing", "waived", "known", "passes", "neutral"].index)
    assert len(rows) == len(decision.cells)
