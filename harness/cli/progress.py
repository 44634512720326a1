"""Driver. A run as it goes: a live table on a terminal, one plain line a cell elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from harness.cli import say
from harness.happening import Happening, Listener, SessionEvent
from harness.plan import Plan

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class PlainProgress:
    """One line on standard error for each cell that is judged; nothing in it but text, for the log of a CI server."""

    def __init__(self, plan: Plan) -> None:
        self._total = len(plan.cells)
        self._ids = {cell.id for cell in plan.cells}
        self._done: set[str] = set()
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def on(self, event: SessionEvent) -> None:
        """Print what matters to somebody who reads a log."""
        cell = event.cell.id if event.cell is not None else ""
        with self._lock:
            if event.what is Happening.CELL_JUDGED and event.judgement is not None:
                counted = cell in self._ids
                self._done |= {cell} if counted else set()
                place = f"[{len(self._done)}/{self._total}] " if counted else ""
                judged = event.judgement
                stage = f" at {judged.stage}" if judged.stage else ""
                stored = " (from the store)" if judged.cached_from else ""
                self._print(f"{place}{cell}: {judged.outcome}{stage}{stored}")
            elif event.what is Happening.WAITING:
                self._print(f"waiting: {event.text}")
            elif event.what in {Happening.SET_ASIDE, Happening.WARNED}:
                self._print(event.text)

    def _print(self, text: str) -> None:
        say.note(f"{time.monotonic() - self._begun:7.1f} s  {text}")


class LiveProgress:
    """A table that is drawn over itself: done, running, the stage of each guest, and when it will be over."""

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        from rich.live import Live

        self._total = len(plan.cells)
        self._ids = {cell.id for cell in plan.cells}
        self._done: dict[str, str] = {}
        self._running: dict[str, tuple[str, str, float]] = {}
        self._lab = ""
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the table away."""
        self._live.__exit__(kind, error, trace)

    def on(self, event: SessionEvent) -> None:
        """Take notice; the next drawing shows it."""
        with self._lock:
            key = event.attempt_id or ""
            cell = event.cell.id if event.cell is not None else ""
            match event.what:
                case Happening.WAITING | Happening.SET_ASIDE | Happening.WARNED:
                    self._lab = event.text
                case Happening.ATTEMPT_STARTED:
                    self._running[key] = (f"{cell} ({event.role})", "lease", time.monotonic())
                case Happening.STAGE if key in self._running:
                    name, _, since = self._running[key]
                    self._running[key] = (name, event.text, since)
                case Happening.ATTEMPT_FINISHED:
                    self._running.pop(key, None)
                case Happening.CELL_JUDGED if event.judgement is not None and cell in self._ids:
                    self._done[cell] = event.judgement.outcome.value
                case _:
                    pass

    def _table(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            spent = time.monotonic() - self._begun
            done = len(self._done)
            eta = f", about {spent / done * (self._total - done):.0f} s to go" if 0 < done < self._total else ""
            title = f"{done} of {self._total} cells, {spent:.0f} s{eta}"
            table = Table(title=Text(title), caption=Text(self._lab), expand=False)
            for name in ("cell", "stage", "seconds"):
                table.add_column(name)
            for name, stage, since in self._running.values():
                table.add_row(Text(name), Text(stage), f"{time.monotonic() - since:.0f}")
            return table


@contextmanager
def progress(plan: Plan) -> Iterator[Listener]:
    """Give the listener that fits where standard output goes: a table only where it can be drawn over itself."""
    if sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}:
        with LiveProgress(plan) as live:
            yield live
    else:
        yield PlainProgress(plan)
