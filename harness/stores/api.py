"""Pure. What a store keeps, and the promises that every store makes.

1. A blob is durable before the row that names it; an attempt is complete before a judgement names it.
2. An attempt counts only under the fence of the latest claim of (run, cell, role, ordinal): a late or doubled worker
   cannot overwrite (compare and set).
3. A run knows which cells it expects; it is complete only when each of them has a judgement.
4. A run is driven by one store object, from ``start_run`` or ``resume_run`` to ``finish_run``: when another takes it
   up, the first one's claims, attempts, judgements and end are refused (``StaleRun``).
5. A judgement counts only by current attempts: one that rests on an attempt that was made anew since is refused.
6. Nothing is ever changed in place but a run's and an attempt's state; judgements are added, the newest one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from harness.attempt import Attempt, Blobs, Role
from harness.errors import Blame, LabError, StoreError
from harness.judgement import Judgement
from harness.plan import Cell, Plan


class StaleClaim(LabError):
    """Another worker has claimed this attempt since; what the late one saw is thrown away."""


class StaleRun(LabError):
    """Another process has taken the run up since; this one may not write to it any more."""


class RunHeld(StoreError):
    """Another process drives the run. Who asked for it asked too early."""

    blame = Blame.INPUT


class RunState(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run. ``finished_at`` is None while it goes on. ``drill`` runs are never the latest run."""

    id: str
    suite: str
    lab: str
    provider: str
    tool_version: str
    started_at: datetime
    finished_at: datetime | None
    state: RunState
    drill: bool
    expected_cells: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to record one attempt. ``fence`` grows with every claim of the same (run, cell, role, ordinal)."""

    attempt_id: str
    run_id: str
    cell_key: str
    role: Role
    ordinal: int
    fence: int


class RunStore(Protocol):
    """Runs and the cells that they expect.

    Expected are the cells of the plan (those that are unsupported too: they need their UNSUPPORTED judgement) and the
    plan's controls. One execution key in a run is one expected cell, however often the plan lists it.
    """

    def start_run(self, info: RunInfo, plan: Plan) -> None:
        """Write a run and every cell that it expects, controls included, in one transaction.

        Raises:
            StoreError: There is a run with this id.
            InputError: Two different cells of the plan have the same id, so that nobody could tell them apart.
            RunHeld: Another process drives a run of this id.
        """
        ...

    def finish_run(self, run_id: str, *, at: datetime, state: RunState) -> None:
        """Set a run's final state.

        Raises:
            StoreError: COMPLETE while an expected cell has no judgement; the run is complete already; no such run.
            StaleRun: Another process has taken the run up.
            ValueError: RUNNING is no final state.
        """
        ...

    def runs(self) -> Sequence[RunInfo]:
        """Give all runs, newest first."""
        ...

    def find_run(self, name: str) -> RunInfo:
        """Find a run by id, unique prefix of one, its folder, or ``latest`` (newest complete run that is no drill).

        A folder names its run in ``run.json`` (``stores/run_names.py``).

        Raises:
            InputError: There is none, or the prefix is not unique.
        """
        ...

    def plan_of(self, run_id: str) -> Plan:
        """Give the plan with which a run was started, cells in their order."""
        ...


class ResumeStore(Protocol):
    """Runs that were left in the middle."""

    def resume_run(self, run_id: str) -> RunInfo:
        """Set a run that is not complete to RUNNING again, and supersede the claims that are still open in it.

        A worker of the run's first process that still lives gets ``StaleClaim`` when it saves.

        Raises:
            StoreError: The run is complete, or there is none.
            RunHeld: Another process drives it.
        """
        ...

    def unfinished(self, run_id: str) -> Sequence[Cell]:
        """Give the expected cells without a judgement: those of the plan in its order, then controls."""
        ...


class AttemptStore(Protocol):
    """Attempts, fenced."""

    def claim(self, run_id: str, cell: Cell, *, role: Role, ordinal: int) -> Claim:
        """Claim an attempt, taking it from whoever claimed it before.

        An attempt that was finished under an earlier claim stays, and counts until the new one is saved.

        Raises:
            StoreError: The run does not expect this cell, or there is no such run.
            StaleRun: Another process has taken the run up.
        """
        ...

    def save(self, claim: Claim, attempt: Attempt) -> None:
        """Make blobs and events durable, then the row.

        Raises:
            StaleClaim: The attempt was claimed again, or is saved already. Nothing is changed.
            StaleRun: Another process has taken the run up. Nothing is changed.
            DiskFull: There is no room. Nothing counts.
            ValueError: The attempt is not the one of the claim, or lacks a blob that its events name.
        """
        ...

    def attempts(self, run_id: str, cell: Cell) -> Sequence[Attempt]:
        """Give the finished attempts of one cell in one run, in order of role and ordinal."""
        ...

    def attempts_by_id(self, attempt_ids: Sequence[str]) -> Sequence[Attempt]:
        """Give finished attempts by id, of whatever run, in the order asked; ``StoreError`` for a missing one."""
        ...

    def blobs(self) -> Blobs:
        """Give access to raw bytes by digest."""
        ...


class JudgementStore(Protocol):
    """Judgements: what attempts meant, when they were last read."""

    def add_judgement(self, run_id: str, cell: Cell, judgement: Judgement) -> None:
        """Add a judgement of an expected cell of a run.

        Raises:
            StoreError: The run does not expect the cell, or an attempt or control that it names is not in the store.
            StaleClaim: An attempt that it names was made anew since.
            StaleRun: Another process has taken the run up.
        """
        ...

    def judgements(self, run_id: str) -> dict[str, Judgement]:
        """Give the newest judgement of each cell of a run, by cell id (controls included)."""
        ...

    def latest_judgement(self, execution_key: str) -> Judgement | None:
        """Give the newest judgement with this key over all runs but drills, for answering a cell from the store.

        Newest by when the guest was seen (``attempted_at``, else ``judged_at``), then by order of writing: an old run
        judged again is no news. It may be inconclusive; the caller decides.
        """
        ...


class Store(RunStore, ResumeStore, AttemptStore, JudgementStore, Protocol):
    """All of it, in one place."""

    def close(self) -> None:
        """Let go of files and connections."""
        ...
