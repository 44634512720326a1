"""Annotations: their escapes, their order and number, and that no guest writes one."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.as_test import as_test
from harness.gate import CellRuling, GateDecision, Ruling, State, Waiver
from harness.renderers.github import MAX_OF_A_LEVEL, Annotation, At, Level, command, commands, of_cells, of_gate
from harness.verdict import Outcome
from tests.renderers.runner_rules import obeyed_in
from tests.renderers.sample_run import hostile_report, sample_report
from tests.test_inert_text import PIECES


def one(
    message: str = "it broke", *, title: str = "BROKEN", level: Level = Level.ERROR, at: At | None = None
) -> Annotation:
    return Annotation(level=level, title=title, message=message, at=at)


@pytest.mark.parametrize(
    ("annotation", "line"),
    [
        (one(), "::error title=BROKEN::it broke"),
        (one(at=At(file="suites/a.yaml", line=7)), "::error file=suites/a.yaml,line=7,title=BROKEN::it broke"),
        (one("50 %\nof, it: all"), "::error title=BROKEN::50 %25%0Aof, it: all"),
        (one(title="a: b, 5 %\nc"), r"::error title=a%3A b%2C 5 %25\x0ac::it broke"),
        (one(at=At(file="a,b:c.yaml", line=1)), "::error file=a%2Cb%3Ac.yaml,line=1,title=BROKEN::it broke"),
        (one("a\r\nb\rc", level=Level.WARNING), r"::warning title=BROKEN::a%0Ab\x0dc"),
        (one("x\n::add-mask::y", level=Level.NOTICE), r"::notice title=BROKEN::x%0A\x3a:add-mask::y"),
    ],
)
def test_a_command_is_written_with_the_documented_escapes(annotation: Annotation, line: str) -> None:
    assert command(annotation) == line


@given(PIECES | st.text(max_size=40), PIECES, PIECES)
def test_one_annotation_is_one_command_whatever_is_in_it(title: str, message: str, file: str) -> None:
    (line,) = commands([one(message, title=title, at=At(file=file, line=3))])
    (obeyed,) = obeyed_in(line)
    assert obeyed.name == "error"
    assert set(obeyed.properties) <= {"file", "line", "title"}
    assert obeyed.properties["line"] == "3"


@given(st.text(max_size=80))
def test_the_runner_reads_back_what_was_meant(text: str) -> None:
    from harness.inert_text import visible

    (obeyed,) = obeyed_in(command(one(text, title=text or "-")))
    assert obeyed.data == visible(text, lines=True)
    assert obeyed.properties.get("title", "").strip() == visible(text or "-").strip()


def test_long_text_is_cut_and_shows_it() -> None:
    (obeyed,) = obeyed_in(command(one("m" * 9000, title="t" * 900)))
    assert (len(obeyed.data), obeyed.data[-1]) == (4000, "…")
    assert (len(obeyed.properties["title"]), obeyed.properties["title"][-1]) == (255, "…")


@pytest.mark.parametrize(
    ("count", "shown", "last"), [(0, 0, None), (10, 10, "10"), (11, 10, "2 more"), (99, 10, "90 more")]
)
def test_the_last_of_a_level_counts_what_is_left_out(count: int, shown: int, last: str | None) -> None:
    many = [one(title=str(number + 1)) for number in range(count)]
    obeyed = obeyed_in("\n".join(commands([*many, one(level=Level.WARNING)])))
    errors = [o for o in obeyed if o.name == "error"]
    assert len(errors) == shown <= MAX_OF_A_LEVEL
    assert last is None or errors[-1].properties["title"] == last
    assert [o.name for o in obeyed][-1] == "warning"


def test_cells_are_annotated_where_they_were_asked_for_and_the_worst_comes_first() -> None:
    cells = sample_report().matrix.cells
    found = of_cells(map(as_test, cells), lambda name: At(file=name, line=4))
    outcomes = [annotation.title.partition(" ")[0].rstrip(":") for annotation in found]
    order = ["QUARANTINED", "BLOCKED", "BROKEN", "BUILD_FAULT", "INCONCLUSIVE", "DETECTED"]
    assert outcomes == sorted(outcomes, key=order.index)
    assert set(outcomes) == set(order)
    assert len(found) == sum(cell.outcome.value in order for cell in cells)
    assert {a.at.file for a in found if a.at} == {cell.id for cell in cells if cell.outcome.value in order}
    levels = {a.title.partition(" ")[0].rstrip(":"): a.level for a in found}
    assert (levels["BROKEN"], levels["INCONCLUSIVE"], levels["DETECTED"]) == (Level.ERROR, Level.WARNING, Level.NOTICE)
    first = found[0]
    assert first.title.startswith("QUARANTINED at connect: build 1.0.0, clamav standard @ 2026-11-")
    assert "hts_comm.dll" in first.message


def test_a_waived_cell_is_a_notice_and_a_strict_alert_an_error() -> None:
    cells = sample_report().matrix.cells
    bad = next(c for c in cells if c.outcome is Outcome.QUARANTINED)
    alert = next(c for c in cells if c.outcome is Outcome.DETECTED)
    waiver = Waiver(cell=bad.id, reason="known", owner="qa", until=date(2999, 1, 1))
    waived, strict = of_cells([as_test(bad, waiver=waiver), as_test(alert, strict=True)], lambda _: None)
    assert (waived.level, waived.title.partition(":")[0]) == (Level.NOTICE, f"waived QUARANTINED at {bad.stage}")
    assert strict.level is Level.ERROR


def test_a_hostile_guest_writes_no_command() -> None:
    lines = commands(of_cells(map(as_test, hostile_report().matrix.cells), lambda _: None))
    assert len(lines) == 1
    (obeyed,) = obeyed_in("\n".join(lines))
    assert obeyed.name == "error"
    assert "\x1b" not in lines[0]


def test_a_gate_annotates_what_is_missing_and_what_blocks_new_first() -> None:
    def ruled(name: str, ruling: Ruling, outcome: Outcome, *, is_new: bool | None = None) -> CellRuling:
        return CellRuling(id=name, outcome=outcome, ruling=ruling, reason=f"because of {name}", is_new=is_new)

    decision = GateDecision(
        policy="release",
        run="r",
        state=State.BLOCKED,
        reason="2 cells bad.",
        cells=(
            ruled("passes", Ruling.PASSES, Outcome.COMPATIBLE),
            ruled("old", Ruling.BLOCKS, Outcome.QUARANTINED, is_new=False),
            ruled("new", Ruling.BLOCKS, Outcome.BROKEN, is_new=True),
            ruled("dark", Ruling.UNKNOWN, Outcome.INCONCLUSIVE),
            ruled("stale", Ruling.UNKNOWN, Outcome.COMPATIBLE),
        ),
        missing=("build 1.0.0: defender",),
        doubts=("the run is a drill",),
    )
    found = of_gate(decision, lambda r: At(file=r.id, line=2), lambda _: At(file="policy", line=9))
    assert [(a.level.value, a.title, a.at and a.at.file) for a in found] == [
        ("warning", "Required, and not there", "policy"),
        ("warning", "A doubt about the run", None),
        ("error", "BROKEN blocks: new", "new"),
        ("error", "QUARANTINED blocks: old", "old"),
        ("warning", "INCONCLUSIVE unknown: dark", "dark"),
        ("warning", "COMPATIBLE unknown: stale", "stale"),
    ]
    assert found[2].message == "New since the baseline. because of new"
