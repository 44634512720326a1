import html
import re

import cmarkgfm
from hypothesis import given
from hypothesis import strategies as st

from harness.inert_text import visible
from harness.renderers.api import Report
from harness.renderers.markdown import MarkdownRenderer, escape
from tests.builders import cell_with_a_way_out
from tests.renderers.sample_run import hostile_report, run_info, sample_report


def text(report: Report) -> str:
    return MarkdownRenderer().render(report).decode()


def test_every_scenario_is_a_table_with_a_place_for_every_cell() -> None:
    lines = text(sample_report()).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert sum(line.startswith("| Build |") for line in table) == 2
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert widths == {5, 10}


def test_outcome_symbol_and_stage_stand_in_the_place() -> None:
    assert "⊟ QUARANTINED at connect" in text(sample_report())
    assert "◆ BUILD\\_FAULT at connect" in text(sample_report())


def test_it_says_which_lab_and_how_many_cells_were_expected() -> None:
    shown = text(sample_report())
    assert "**Reference lab**" in shown
    assert "33 of 33 expected cells: 11 ✓ COMPATIBLE" in shown


def test_cells_that_are_not_good_are_listed_with_their_reason() -> None:
    shown = text(sample_report())
    attention = shown.partition("## What needs attention")[2]
    assert attention.count("\n- **") == 19
    assert "removed C:\\\\Program Files\\\\DemoHTS\\\\hts\\_comm.dll at 'connect'" in attention


def test_a_run_without_cells_says_so() -> None:
    empty = sample_report().matrix.model_copy(update={"cells": (), "run": run_info(cells=0)})
    assert "0 of 0 expected cells: no cells" in text(Report(matrix=empty))


def test_hostile_text_stays_text() -> None:
    shown = text(hostile_report())
    assert "<script>" not in shown.replace("\\<", "")
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert escape("[x](javascript:alert(1))|`a`<b>") == "\\[x\\]\\(javascript:alert\\(1\\)\\)\\|\\`a\\`\\<b\\>"
    assert "\n" not in escape("a\nb")


#: Pieces that Markdown, or GitHub on top of it, makes something of.
MARKUP = st.lists(
    st.sampled_from(
        ["https://", "www.", "ftp://", "mailto:", "a@b.co", "@", "@team", "`", "``", "\\", "<img src=x>", "</td>",
         "[a](b)", "![x](y)", "**", "_", "~~", "|", "#1", "&amp;", "$x$", " ", ".", "-", "\n", "<!--", "-->", "xmpp:",
         "é", "한"]
    )
    | st.text(max_size=2),
    max_size=10,
).map("".join)  # fmt: skip


@given(MARKUP)
def test_github_s_own_parser_makes_nothing_of_escaped_text(text: str) -> None:
    shown = cmarkgfm.github_flavored_markdown_to_html(f"x {escape(text)} y")
    assert set(re.findall(r"<(/?\w+)", shown)) <= {"p", "/p", "code", "/code"}
    assert set(re.findall(r"<code>(.*?)</code>", shown)) <= {"@" * n for n in range(1, 30)}
    plain = html.unescape(re.sub(r"</?(?:p|code)>", "", shown))
    assert plain.split() == f"x {visible(text)} y".split()


@given(MARKUP)
def test_escaped_text_stays_in_its_place_of_a_table(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {escape(text)} | end |\n"
    shown = cmarkgfm.github_flavored_markdown_to_html(table)
    assert shown.count("<td>") == 2
    assert "<td>end</td>" in shown


def test_the_head_says_what_guests_could_reach_and_only_when_they_could() -> None:
    open_matrix = sample_report().matrix.model_copy(update={"cells": (cell_with_a_way_out(),)})
    shown = text(Report(matrix=open_matrix))
    assert "Guests could reach quotes.example.kr:443, test.internal:8443, cloud.example.com:443" in shown
    assert "Vendors' clouds were open: a\\-cloud \\(defender\\)." in shown
    assert "Guests could reach" not in text(sample_report())
