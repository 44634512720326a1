"""Driver. The store that forgets: everything in memory, for tests and for runs that nobody will look at again.

It keeps the promises of ``api.py`` like the others, and passes the same contract test.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from harness.attempt import Attempt, Blobs, MemoryBlobs, Role
from harness.judgement import Judgement
from harness.plan import Cell, Plan
from harness.stores import as_json, promises, run_names
from harness.stores.api import Claim, RunInfo, RunState
from harness.stores.blobs import checked

#: What is claimed again and again: (run, execution key, role, ordinal).
Slot = tuple[str, str, Role, int]


@dataclass(slots=True)
class _Run:
    """One run, with its judgements in order of writing."""

    info: RunInfo
    plan: Plan
    cells: Mapping[str, Cell]
    judgements: list[tuple[str, Judgement]] = field(default_factory=list)


def _slot(claim: Claim) -> Slot:
    return claim.run_id, claim.cell_key, claim.role, claim.ordinal


class MemoryStore:
    """A ``Store`` without files. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: dict[str, _Run] = {}
        self._fences: dict[Slot, int] = {}
        self._open: dict[Slot, Claim] = {}
        self._finished: dict[str, tuple[Claim, Attempt]] = {}
        self._bytes: dict[str, bytes] = {}
        self._judged: list[tuple[RunInfo, str, Judgement]] = []

    def start_run(self, info: RunInfo, plan: Plan) -> None:
        """See ``RunStore``."""
        cells: dict[str, Cell] = {}
        for e in promises.expected_of(plan):
            cells.setdefault(e.key, e.cell)
        with self._lock:
            if info.id in self._runs:
                raise promises.run_exists(info.id)
            self._runs[info.id] = _Run(info, plan, cells)

    def finish_run(self, run_id: str, *, at: datetime, state: RunState) -> None:
        """See ``RunStore``."""
        promises.refuse_open_end(state)
        with self._lock:
            run = self._run(run_id)
            promises.refuse_complete(run.info)
            if state is RunState.COMPLETE:
                promises.refuse_gaps(run_id, self.unfinished(run_id))
            run.info = replace(run.info, state=state, finished_at=at)

    def runs(self) -> Sequence[RunInfo]:
        """See ``RunStore``."""
        with self._lock:
            latest_written_first = [run.info for run in reversed(self._runs.values())]
        return sorted(latest_written_first, key=lambda info: info.started_at, reverse=True)

    def find_run(self, name: str) -> RunInfo:
        """See ``RunStore``."""
        return run_names.pick(self.runs(), name)

    def plan_of(self, run_id: str) -> Plan:
        """See ``RunStore``."""
        return self._run(run_id).plan

    def resume_run(self, run_id: str) -> RunInfo:
        """See ``ResumeStore``."""
        with self._lock:
            run = self._run(run_id)
            promises.refuse_complete(run.info)
            self._open = {slot: claim for slot, claim in self._open.items() if claim.run_id != run_id}
            run.info = replace(run.info, state=RunState.RUNNING, finished_at=None)
            return run.info

    def unfinished(self, run_id: str) -> Sequence[Cell]:
        """See ``ResumeStore``."""
        with self._lock:
            run = self._run(run_id)
            judged = {key for key, _ in run.judgements}
            return [cell for key, cell in run.cells.items() if key not in judged]

    def claim(self, run_id: str, cell: Cell, *, role: Role, ordinal: int) -> Claim:
        """See ``AttemptStore``."""
        with self._lock:
            key = self._expected(run_id, cell)
            slot = (run_id, key, role, ordinal)
            fence = self._fences.get(slot, 0) + 1
            claim = Claim(
                attempt_id=f"memory-{sum(self._fences.values()) + 1:08}",
                run_id=run_id,
                cell_key=key,
                role=role,
                ordinal=ordinal,
                fence=fence,
            )
            self._fences[slot] = fence
            self._open[slot] = claim
        return claim

    def save(self, claim: Claim, attempt: Attempt) -> None:
        """See ``AttemptStore``."""
        promises.refuse_foreign(claim, attempt)
        evidence = as_json.write_evidence(attempt)
        for sha256, data in evidence.blobs.items():
            checked(sha256, data)
        with self._lock:
            if self._open.get(_slot(claim)) != claim:
                raise promises.stale(claim)
            del self._open[_slot(claim)]
            self._bytes.update(evidence.blobs)
            self._finished[claim.attempt_id] = claim, replace(attempt, blobs=self.blobs())

    def attempts(self, run_id: str, cell: Cell) -> Sequence[Attempt]:
        """See ``AttemptStore``."""
        with self._lock:
            wanted = (run_id, self._expected(run_id, cell))
            found = [
                (claim.fence, attempt)
                for claim, attempt in self._finished.values()
                if (claim.run_id, claim.cell_key) == wanted
            ]
        return promises.newest_in_order(found)

    def attempts_by_id(self, attempt_ids: Sequence[str]) -> Sequence[Attempt]:
        """See ``AttemptStore``."""
        with self._lock:
            promises.refuse_missing(set(attempt_ids) - self._finished.keys())
            return [self._finished[attempt_id][1] for attempt_id in attempt_ids]

    def blobs(self) -> Blobs:
        """See ``AttemptStore``."""
        return MemoryBlobs(self._bytes)

    def add_judgement(self, run_id: str, cell: Cell, judgement: Judgement) -> None:
        """See ``JudgementStore``."""
        with self._lock:
            key = self._expected(run_id, cell)
            named = {*judgement.attempts, *judgement.controls}
            promises.refuse_missing(named - self._finished.keys())
            newest = {_slot(claim): claim.fence for claim, _ in self._by_fence()}
            outdated = {i for i in named if self._finished[i][0].fence < newest[_slot(self._finished[i][0])]}
            if outdated:
                raise promises.superseded(cell, outdated)
            run = self._run(run_id)
            run.judgements.append((key, judgement))
            self._judged.append((run.info, key, judgement))

    def judgements(self, run_id: str) -> dict[str, Judgement]:
        """See ``JudgementStore``."""
        with self._lock:
            run = self._run(run_id)
            return {run.cells[key].id: judgement for key, judgement in run.judgements}

    def latest_judgement(self, execution_key: str) -> Judgement | None:
        """See ``JudgementStore``."""
        with self._lock:
            known = [j for info, key, j in self._judged if key == execution_key and not info.drill]
        return max(reversed(known), key=lambda j: j.attempted_at or j.judged_at, default=None)

    def close(self) -> None:
        """See ``Store``."""

    def _run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise promises.no_such_run(run_id)
        return run

    def _by_fence(self) -> list[tuple[Claim, Attempt]]:
        return sorted(self._finished.values(), key=lambda pair: pair[0].fence)

    def _expected(self, run_id: str, cell: Cell) -> str:
        key = cell.execution_key()
        if key not in self._run(run_id).cells:
            raise promises.not_expected(run_id, cell)
        return key
