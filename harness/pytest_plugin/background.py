"""Effects. One run of a suite in a thread of its own; whoever asks for a cell waits for that cell alone.

1. The run begins when the first cell is asked for, with all cells that were selected.
2. A cell is answered by its ``CELL_JUDGED`` event, one from the store too; a run that ends without one says why.
3. ``finish`` leaves nothing running: it asks the run to stop, waits for the guests that run, and writes the report.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError, LabError
from harness.evidence import CellEvidence
from harness.happening import Happening, SessionEvent
from harness.judgement import Judgement
from harness.lab_choice import Choice
from harness.load import LoadedSuite
from harness.matrix import MatrixCell, MatrixRun
from harness.matrix_cell import matrix_of
from harness.plan import Cell, Plan
from harness.pytest_plugin.parts import Parts
from harness.report import evidence_for, read_cell, report_for, write_report
from harness.session import Options, RunResult, new_run_id, run
from harness.stop_switch import StopSwitch
from harness.stores.sqlite import SqliteStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a run is made, as the options say."""

    out: Path
    provider: str = "auto"
    jobs: int | None = None
    fresh: bool = False


class BackgroundRun:
    """One run of the selected cells of one suite. It is a session's ``Listener``."""

    def __init__(
        self, loaded: LoadedSuite, cells: Sequence[Cell], *, parts: Parts, wishes: Wishes, lab: Choice | None = None
    ) -> None:
        self._loaded = loaded
        self._parts = parts
        self._wishes = wishes
        self._lab = lab
        self._plan = Plan(suite=loaded.suite, cells=tuple(cells))
        self._id = new_run_id(loaded.suite.name, datetime.now(UTC))
        self._stop = StopSwitch()
        self._changed = threading.Condition()
        self._judgements: dict[str, Judgement] = {}
        self._result: RunResult | None = None
        self._trouble: HarnessError | None = None
        self._page: Path | None = None
        self._ended = False
        self._store = SqliteStore(wishes.out / "store")
        self._thread = threading.Thread(target=self._run, name=f"hts-compat {self._id}")
        self._thread.start()

    def judgement(self, cell: Cell) -> Judgement:
        """Wait for a cell.

        Raises:
            HarnessError: The run ended before the cell was judged.
        """
        with self._changed:
            while not self._ended and (self._watched or cell.id not in self._judgements):
                self._changed.wait()
            if cell.id not in self._judgements:
                raise self._why_not()
            return self._judgements[cell.id]

    @property
    def _watched(self) -> bool:
        """Tell whether a verdict may still be taken back: then none is told before the run's end."""
        return self._plan.suite.sentinels is not None

    def shown(self, cell: Cell) -> tuple[MatrixRun, MatrixCell, CellEvidence | None]:
        """Give a judged cell as reports show it, and the evidence for it."""
        judgement = self._judgements.get(cell.id)
        info = MatrixRun.of(self._store.find_run(self._id))
        judged = {cell.id: judgement} if judgement is not None else {}
        shown = matrix_of(info, self._plan.model_copy(update={"cells": (cell,)}), judged).cells[0]
        read = None
        if judgement is not None:
            read = read_cell(self._store, cell, judgement, self._plan, parsers=self._parts.parsers)
        return info, shown, evidence_for(read) if read is not None else None

    def blob_path(self, sha256: str) -> Path:
        """Give where the store keeps a blob, for a person to open."""
        return self._wishes.out / "store" / "blobs" / sha256[:2] / sha256

    @property
    def id(self) -> str:
        """Give the run's id."""
        return self._id

    def on(self, event: SessionEvent) -> None:
        """Take notice of a judgement and wake who waits for it; see ``Listener``."""
        if event.what is Happening.CELL_JUDGED and event.cell is not None and event.judgement is not None:
            with self._changed:
                self._judgements[event.cell.id] = event.judgement
                self._changed.notify_all()

    def finish(self, tell: Callable[[str], None]) -> None:
        """End the run, if it goes on, and write its report. A second interrupt ends the guests that still run."""
        try:
            if not all(cell.id in self._judgements for cell in self._plan.cells) and not self._ended:
                self._stop.request("pytest has ended the session")
                tell("hts-compat: running guests are finished and kept; interrupt again to end them now")
            self._thread.join()
        except KeyboardInterrupt:
            self._parts.sweep(self._id)
            self._thread.join()
        try:
            if self._result is not None and self._result.trouble is None:
                report = report_for(self._store, self._store.find_run(self._id), parsers=self._parts.parsers)
                self._page = write_report(report, self._wishes.out / self._id)["html"]
        except HarnessError as error:
            self._trouble = self._trouble or error
        finally:
            self._store.close()

    def summary(self) -> Iterator[str]:
        """Say in a few lines what the run came to."""
        if self._lab is not None:
            yield f"hts-compat: {self._lab.sentence()}"
        if self._result is not None:
            made, known = self._result.attempts_made, self._result.answered_from_store
            state = self._result.state.value
            yield f"hts-compat: run {self._id} {state}: {made} guests, {known} cells from the store"
        if self._page is not None:
            yield f"hts-compat: report: {self._page}"
        if self._trouble is not None:
            yield f"hts-compat: {self._trouble.summary} {self._trouble.hint}".rstrip()

    def _run(self) -> None:
        try:
            wishes = self._wishes
            rig = self._parts.rig(wishes.provider, self._loaded)
            options = Options(
                run_id=self._id,
                jobs=wishes.jobs or self._plan.suite.jobs,
                provider=rig.provider.name,
                fresh=wishes.fresh,
            )
            self._result = run(
                self._plan,
                rig=rig,
                store=self._store,
                parsers=self._parts.parsers,
                options=options,
                listeners=[self],
                stop=self._stop,
            )
            self._trouble = self._result.trouble
        except HarnessError as error:
            self._trouble = error
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach the cells that wait, not end in a thread
            self._trouble = LabError(f"The run itself failed ({type(error).__name__}: {error}).")
            self._trouble.__cause__ = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _why_not(self) -> HarnessError:
        if self._trouble is not None:
            return self._trouble
        why = self._stop.reason or "it ended early"
        return LabError(f"The run {self._id} has not judged this cell: {why}.")
