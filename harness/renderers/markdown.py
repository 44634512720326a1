"""Pure. The matrix as Markdown: for a CI job's summary, a merge request, a mail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from harness.image import Lab
from harness.inert_text import visible
from harness.matrix import Matrix, MatrixCell
from harness.renderers.api import Report
from harness.renderers.grid import GROUPS, SYMBOLS, Group, Section, column_of, sections, way_out_of
from harness.verdict import Outcome

#: Every ASCII mark that CommonMark allows to be escaped and that can mean something (CommonMark 0.31, 2.4).
_MARKS = re.compile(r"([\\`*_{}\[\]()<>#+!|~&$^-])")

#: What GitHub makes links of by itself: addresses of the web and of mail, people's names. A backslash breaks the first;
#: ``@`` before a word links even when it is escaped, but never in code. The tests ask cmark-gfm itself.
#: Source: GitHub Flavored Markdown 0.29, 6.9 "Autolinks (extension)".
_WEB = re.compile(r"(www)(\.)|(:)(//)", re.IGNORECASE)
_AT = re.compile(r"@+(?=\S)")

_LAB = {
    Lab.REFERENCE: "**Reference lab** (wine guests): it proves the tool and the story, not a customer's Windows PC.",
    Lab.WINDOWS: "**Windows**: guests of real Windows.",
}


class MarkdownRenderer:
    """Writes a table for each scenario, then a sentence for every cell that is not good."""

    suffix = ".md"

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        return ("\n".join(matrix_lines(report.matrix)) + "\n").encode()


def matrix_lines(matrix: Matrix, *, attention_first: bool = False) -> list[str]:
    """Give the lines of a matrix: its head, a table for each scenario, what needs attention behind or before."""
    tables = [line for section in sections(matrix) for line in ("", *_table(section))]
    attention = _attention(matrix)
    return [*_head(matrix), *(attention + tables if attention_first else tables + attention)]


def line_of(fields: Sequence[str]) -> str:
    """Write one line of a table; the fields are Markdown already."""
    return f"| {' | '.join(fields)} |"


def escape(text: str) -> str:
    """Give text that Markdown shows as it is, on one line: no markup, no picture, no link."""
    unlinked = _WEB.sub(r"\1\3\\\2\4", _MARKS.sub(r"\\\1", visible(text)))
    return _AT.sub(r"`\g<0>`", unlinked)


def _head(matrix: Matrix) -> list[str]:
    run = matrix.run
    counts = Counter(cell.outcome for cell in matrix.cells)
    summary = ", ".join(f"{counts[o]} {SYMBOLS[o]} {o.value}" for o in Outcome if counts[o]) or "no cells"
    finished = "not finished" if run.finished_at is None else f"finished {run.finished_at:%Y-%m-%d %H:%M} UTC"
    return [
        f"# Compatibility matrix: {escape(run.suite)}",
        "",
        _LAB[run.lab],
        "",
        f"Run {escape(run.id)}, {finished}, hts\\-compat {escape(run.tool_version)}.",
        "",
        f"{len(matrix.cells)} of {run.expected_cells} expected cells: {escape(summary)}.",
        *_way_out(matrix),
    ]


def _way_out(matrix: Matrix) -> list[str]:
    """Say what was open to the guests; nothing when nothing was."""
    opened = way_out_of(matrix)
    if not opened["hosts"]:
        return []
    clouds = f" Vendors' clouds were open: {escape(opened['names'])}." if opened["names"] else ""
    return ["", f"Guests could reach {escape(opened['hosts'])}, through a recording proxy and nothing else.{clouds}"]


def _table(section: Section) -> list[str]:
    heads = ["Build", *(escape(column.title) for column in section.columns)]
    lines = [f"## {escape(section.scenario)}", "", line_of(heads), line_of(["---"] * len(heads))]
    for row in section.rows:
        name = escape(row.version if len(section.images) == 1 else f"{row.version} on {row.image}")
        lines.append(line_of([name, *(_place(cell) for cell in row.cells)]))
    return lines


def _place(cell: MatrixCell | None) -> str:
    if cell is None:
        return ""
    at = f" at {cell.stage}" if cell.stage is not None else ""
    flaky = " (flaky)" if cell.flaky else ""
    return escape(f"{SYMBOLS[cell.outcome]} {cell.outcome.value}{at}{flaky}")


def _attention(matrix: Matrix) -> list[str]:
    quiet = {Group.GOOD, Group.NEUTRAL}
    noted = [cell for cell in matrix.cells if GROUPS[cell.outcome] not in quiet]
    if not noted:
        return []
    lines = ["", "## What needs attention", ""]
    for cell in noted:
        where = f"{cell.build.version}, {column_of(cell).title}, {cell.scenario}"
        lines.append(f"- **{cell.outcome.value.replace('_', ' ')}** {escape(where)}: {escape(cell.reason)}")
    return lines
