"""Driver. A matrix on a terminal: for each scenario a table of product @ signature against builds."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.inert_text import visible
from harness.matrix import Matrix, MatrixCell
from harness.renderers.grid import GROUPS, SYMBOLS, Group, sections

#: Columns of a table in a log, where no terminal says how wide it is.
LOG_WIDTH = 140

_STYLES = {
    Group.GOOD: "green",
    Group.WARN: "yellow",
    Group.BAD: "red",
    Group.FAULT: "magenta",
    Group.UNKNOWN: "cyan",
    Group.NEUTRAL: "dim",
}


def show(matrix: Matrix) -> None:
    """Print a matrix; colour only where standard output is a terminal."""
    terminal = Console(highlight=False, markup=False)
    console = terminal if terminal.is_terminal else Console(highlight=False, markup=False, width=LOG_WIDTH)
    for section in sections(matrix):
        table = Table(title=Text(f"{section.scenario} ({matrix.run.lab} lab)"), title_justify="left", expand=False)
        table.add_column("product @ signature")
        for row in section.rows:
            table.add_column(
                Text(visible(row.version if len(section.images) == 1 else f"{row.version} on {row.image}"))
            )
        for at, column in enumerate(section.columns):
            table.add_row(Text(visible(column.title)), *(_place(row.cells[at]) for row in section.rows))
        console.print(table)


def _place(cell: MatrixCell | None) -> Text:
    if cell is None:
        return Text("")
    stage = f" at {cell.stage}" if cell.stage is not None else ""
    flaky = " (flaky)" if cell.flaky else ""
    return Text(f"{SYMBOLS[cell.outcome]} {cell.outcome.value}{stage}{flaky}", style=_STYLES[GROUPS[cell.outcome]])
