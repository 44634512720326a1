"""Driver. The store on a local disk: one SQLite database for what is asked and decided, files for what was seen.

1. Threads of one process share a store; processes share its folder. Writers wait for each other, readers for nobody.
2. A run is driven by one store object: a lock says so at once, the run's fence makes it true.
3. Each method is one transaction. A process that is killed leaves nothing but blobs that no row names, and the file of
   its lock, which whoever opens the store next removes.

Layout: ``<root>/store.sqlite``, ``<root>/blobs/``, and a lock for each run that goes on.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from harness.attempt import Attempt, Blobs, Role
from harness.judgement import Judgement
from harness.plan import Cell, Plan
from harness.stores import as_json, promises, run_names, schema
from harness.stores.api import Claim, RunInfo, RunState
from harness.stores.blobs import BlobFolder, fsync, means_disk_full
from harness.stores.database import (
    BUSY_S,
    WRITES,
    disk_full,
    not_writable,
    open_database,
    read_as_written,
    said_plainly,
)
from harness.stores.run_lock import RunLock, remove_left

log = logging.getLogger(__name__)

DATABASE = "store.sqlite"

# States of a row of ``attempt``.
OPEN = "open"
FINISHED = "finished"
SUPERSEDED = "superseded"

_run, _cell, _run_cell = schema.run, schema.cell, schema.run_cell
_blob, _attempt, _judgement = schema.blob, schema.attempt, schema.judgement


class SqliteStore:
    """A ``Store`` in a folder, made when it is not there and migrated when it is old.

    Args:
        root: The folder, on a local disk.
        busy_s: How long a writer waits for a writer of another process.

    Raises:
        InputError: The folder cannot be made or written.
        UnusableStore: What lies in it is damaged, of a newer version, or of another program.
        StoreError: It is locked.
        DiskFull: There is no room for it.
    """

    def __init__(self, root: Path, *, busy_s: float = BUSY_S) -> None:
        self._root = root
        self._files = BlobFolder(root / "blobs")
        self._writing = threading.Lock()
        self._locks: dict[str, RunLock] = {}
        self._fences: dict[str, int] = {}
        had_blobs = not self._files.empty
        with self._room(opening=True):
            missing = [folder for folder in (root, *root.parents) if not folder.exists()]
            root.mkdir(parents=True, exist_ok=True)
            self._files.create()
            for folder in (root, *(made.parent for made in missing)):
                fsync(folder)
            remove_left(root)
        self._engine = open_database(root / DATABASE, must_exist=had_blobs, busy_s=busy_s)

    # --- runs -------------------------------------------------------------------------------------------------------

    def start_run(self, info: RunInfo, plan: Plan) -> None:
        """See ``RunStore``."""
        expected = [(e, as_json.write_cell(e.cell)) for e in promises.expected_of(plan)]
        with self._driving(info.id), self._write() as db:
            if db.scalar(sa.select(_run.c.id).where(_run.c.id == info.id)) is not None:
                raise promises.run_exists(info.id)
            db.execute(sa.insert(_run).values(**_columns_of(info), suite_document=as_json.write_suite(plan.suite)))
            if expected:
                _expect(db, info.id, expected)
        self._fences[info.id] = 1
        log.info("run %s started, %d cells expected", info.id, len(expected))

    def finish_run(self, run_id: str, *, at: datetime, state: RunState) -> None:
        """See ``RunStore``."""
        promises.refuse_open_end(state)
        with self._write() as db:
            self._refuse_stale(db, run_id)
            promises.refuse_complete(_run_of(db, run_id))
            if state is RunState.COMPLETE:
                promises.refuse_gaps(run_id, _without_judgement(db, run_id))
            db.execute(sa.update(_run).where(_run.c.id == run_id).values(state=state.value, finished_at=at))
        self._let_go(run_id)
        log.info("run %s is %s", run_id, state.value)

    def runs(self) -> Sequence[RunInfo]:
        """See ``RunStore``."""
        with self._read() as db:
            rows = db.execute(sa.select(_run).order_by(_run.c.started_at.desc(), _run.c.number.desc())).mappings()
            return [_info_of(row) for row in rows]

    def find_run(self, name: str) -> RunInfo:
        """See ``RunStore``."""
        return run_names.pick(self.runs(), name)

    def plan_of(self, run_id: str) -> Plan:
        """See ``RunStore``."""
        with self._read() as db:
            _run_of(db, run_id)
            suite = db.scalars(sa.select(_run.c.suite_document).where(_run.c.id == run_id)).one()
            cells = _cells(db, run_id, _run_cell.c.listed)
            return Plan(suite=as_json.read_suite(suite), cells=tuple(cells))

    def resume_run(self, run_id: str) -> RunInfo:
        """See ``ResumeStore``."""
        with self._driving(run_id), self._write() as db:
            promises.refuse_complete(_run_of(db, run_id))
            db.execute(
                sa.update(_run)
                .where(_run.c.id == run_id)
                .values(state=RunState.RUNNING.value, finished_at=None, fence=_run.c.fence + 1)
            )
            _supersede(db, _attempt.c.run_id == run_id)
            info = _run_of(db, run_id)
            fence = _fence_of(db, run_id)
        self._fences[run_id] = fence
        log.info("run %s resumed", run_id)
        return info

    def unfinished(self, run_id: str) -> Sequence[Cell]:
        """See ``ResumeStore``."""
        with self._read() as db:
            _run_of(db, run_id)
            return _without_judgement(db, run_id)

    # --- attempts ---------------------------------------------------------------------------------------------------

    def claim(self, run_id: str, cell: Cell, *, role: Role, ordinal: int) -> Claim:
        """See ``AttemptStore``."""
        key = cell.execution_key()
        slot = {"run_id": run_id, "cell_key": key, "role": role.value, "ordinal": ordinal}
        same_slot = sa.and_(*(_attempt.c[name] == value for name, value in slot.items()))
        attempt_id = secrets.token_hex(8)
        with self._write() as db:
            self._refuse_stale(db, run_id)
            _refuse_unexpected(db, run_id, cell, key)
            last = db.scalar(sa.select(sa.func.max(_attempt.c.fence)).where(same_slot)) or 0
            _supersede(db, same_slot)
            db.execute(sa.insert(_attempt).values(**slot, id=attempt_id, fence=last + 1, state=OPEN))
        return Claim(attempt_id=attempt_id, run_id=run_id, cell_key=key, role=role, ordinal=ordinal, fence=last + 1)

    def save(self, claim: Claim, attempt: Attempt) -> None:
        """See ``AttemptStore``."""
        promises.refuse_foreign(claim, attempt)
        events_sha256, blobs = as_json.write_evidence(attempt)
        with self._room():
            self._files.put(blobs)
        rows = [{"sha256": sha256, "size_bytes": len(data)} for sha256, data in blobs.items()]
        with self._write() as db:
            self._refuse_stale(db, claim.run_id)
            db.execute(insert(_blob).on_conflict_do_nothing(), rows)
            saved = db.execute(
                sa.update(_attempt)
                .where(_attempt.c.id == claim.attempt_id, _attempt.c.fence == claim.fence, _attempt.c.state == OPEN)
                .values(state=FINISHED, document=as_json.write_meta(attempt.meta), events_sha256=events_sha256)
            )
            if saved.rowcount != 1:
                raise promises.stale(claim)
        log.info("attempt %s (%s %d) of %s saved", claim.attempt_id, claim.role, claim.ordinal, attempt.cell.id)

    def attempts(self, run_id: str, cell: Cell) -> Sequence[Attempt]:
        """See ``AttemptStore``."""
        key = cell.execution_key()
        with self._read() as db:
            _refuse_unexpected(db, run_id, cell, key)
        found = self._finished(sa.and_(_attempt.c.run_id == run_id, _attempt.c.cell_key == key))
        return promises.newest_in_order(found)

    def attempts_by_id(self, attempt_ids: Sequence[str]) -> Sequence[Attempt]:
        """See ``AttemptStore``."""
        found = {attempt.meta.id: attempt for _, attempt in self._finished(_attempt.c.id.in_(attempt_ids))}
        promises.refuse_missing(set(attempt_ids) - found.keys())
        return [found[attempt_id] for attempt_id in attempt_ids]

    def blobs(self) -> Blobs:
        """See ``AttemptStore``."""
        return self._files

    # --- judgements -------------------------------------------------------------------------------------------------

    def add_judgement(self, run_id: str, cell: Cell, judgement: Judgement) -> None:
        """See ``JudgementStore``."""
        key = cell.execution_key()
        named = {*judgement.attempts, *judgement.controls}
        with self._write() as db:
            self._refuse_stale(db, run_id)
            _refuse_unexpected(db, run_id, cell, key)
            finished = sa.select(_attempt.c.id).where(_attempt.c.id.in_(named), _attempt.c.state == FINISHED)
            promises.refuse_missing(named - set(db.scalars(finished)))
            outdated = _made_anew(db, named)
            if outdated:
                raise promises.superseded(cell, outdated)
            db.execute(
                sa.insert(_judgement).values(
                    run_id=run_id,
                    cell_key=key,
                    outcome=judgement.outcome.value,
                    judged_at=judgement.judged_at,
                    seen_at=judgement.attempted_at or judgement.judged_at,
                    document=judgement.model_dump_json(),
                )
            )
        log.info("%s in run %s is %s (%s)", cell.id, run_id, judgement.outcome, judgement.rule)

    def judgements(self, run_id: str) -> dict[str, Judgement]:
        """See ``JudgementStore``."""
        newest = (
            sa.select(sa.func.max(_judgement.c.number))
            .where(_judgement.c.run_id == run_id)
            .group_by(_judgement.c.cell_key)
        )
        with self._read() as db:
            _run_of(db, run_id)
            rows = db.execute(
                sa.select(_cell.c.id, _judgement.c.document)
                .join(_cell, _cell.c.key == _judgement.c.cell_key)
                .where(_judgement.c.number.in_(newest))
                .order_by(_judgement.c.number)
            ).all()
            return {cell_id: Judgement.model_validate_json(document) for cell_id, document in rows}

    def latest_judgement(self, execution_key: str) -> Judgement | None:
        """See ``JudgementStore``."""
        with self._read() as db:
            document = db.scalar(
                sa.select(_judgement.c.document)
                .join(_run, _run.c.id == _judgement.c.run_id)
                .where(_judgement.c.cell_key == execution_key, ~_run.c.drill)
                .order_by(_judgement.c.seen_at.desc(), _judgement.c.number.desc())
                .limit(1)
            )
            return None if document is None else Judgement.model_validate_json(document)

    def close(self) -> None:
        """See ``Store``."""
        for run_id in list(self._locks):
            self._let_go(run_id)
        self._engine.dispose()

    # --- who drives a run -------------------------------------------------------------------------------------------

    @contextmanager
    def _driving(self, run_id: str) -> Iterator[None]:
        """Hold the run's lock from here on; give it back when what is done inside fails."""
        held = run_id in self._locks
        if not held:
            with self._room():
                self._locks[run_id] = RunLock(self._root, run_id)
        try:
            yield
        except BaseException:
            if not held:
                self._let_go(run_id)
            raise

    def _let_go(self, run_id: str) -> None:
        lock = self._locks.pop(run_id, None)
        if lock is not None:
            lock.release()

    def _refuse_stale(self, db: sa.Connection, run_id: str) -> None:
        """Refuse to write to a run that was taken from this store object; one that never drove it may add to it."""
        fence = self._fences.get(run_id)
        if fence is not None and _fence_of(db, run_id) != fence:
            raise promises.run_taken_over(run_id)

    # --- connections ------------------------------------------------------------------------------------------------

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        path = self._root / DATABASE
        with read_as_written(path), said_plainly(path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        # Threads queue here, fairly and without polling; only processes meet at SQLite's own lock.
        with (
            said_plainly(self._root / DATABASE),
            self._writing,
            self._engine.connect().execution_options(**{WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _room(self, *, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if means_disk_full(error):
                raise disk_full(self._root, str(error)) from error
            raise not_writable(self._root, str(error), opening=opening) from error

    def _finished(self, which: sa.ColumnElement[bool]) -> list[tuple[int, Attempt]]:
        """Read finished attempts, each with its fence."""
        local = (
            sa.select(_run_cell.c.local)
            .where(_run_cell.c.run_id == _attempt.c.run_id, _run_cell.c.cell_key == _attempt.c.cell_key)
            .order_by(_run_cell.c.position)
            .limit(1)
            .scalar_subquery()
        )
        with self._read() as db:
            rows = db.execute(
                sa.select(_attempt, _cell.c.document.label("question"), local.label("local"))
                .join(_cell, _cell.c.key == _attempt.c.cell_key)
                .where(which, _attempt.c.state == FINISHED)
            ).all()
            return [(row.fence, self._attempt_of(row)) for row in rows]

    def _attempt_of(self, row: sa.Row[Any]) -> Attempt:
        cell = as_json.read_cell(as_json.CellDocument(row.question, row.local))
        return Attempt(
            meta=as_json.read_meta(row.document, cell),
            events=as_json.read_events(row.id, row.events_sha256, self._files),
            blobs=self._files,
        )


# --- rows -----------------------------------------------------------------------------------------------------------


def _columns_of(info: RunInfo) -> dict[str, object]:
    return {**asdict(info), "state": info.state.value}


def _info_of(row: sa.RowMapping) -> RunInfo:
    values = {field.name: row[field.name] for field in fields(RunInfo)}
    return RunInfo(**{**values, "state": RunState(row["state"])})


def _run_of(db: sa.Connection, run_id: str) -> RunInfo:
    row = db.execute(sa.select(_run).where(_run.c.id == run_id)).mappings().one_or_none()
    if row is None:
        raise promises.no_such_run(run_id)
    return _info_of(row)


def _expect(db: sa.Connection, run_id: str, expected: list[tuple[promises.Expected, as_json.CellDocument]]) -> None:
    """Write down which cells a run expects."""
    db.execute(
        insert(_cell).on_conflict_do_nothing(),
        [{"key": e.key, "id": e.cell.id, "document": written.question} for e, written in expected],
    )
    db.execute(
        sa.insert(_run_cell),
        [
            {
                "run_id": run_id,
                "position": position,
                "cell_key": e.key,
                "listed": e.listed,
                "local": written.local,
            }
            for position, (e, written) in enumerate(expected)
        ],
    )


def _fence_of(db: sa.Connection, run_id: str) -> int:
    fence: int | None = db.scalar(sa.select(_run.c.fence).where(_run.c.id == run_id))
    if fence is None:
        raise promises.no_such_run(run_id)
    return fence


def _made_anew(db: sa.Connection, attempt_ids: set[str]) -> list[str]:
    """Name the attempts of which a later one is finished under the same run, cell, role and ordinal."""
    later = _attempt.alias("later")
    same = sa.and_(*(later.c[name] == _attempt.c[name] for name in ("run_id", "cell_key", "role", "ordinal")))
    query = (
        sa.select(_attempt.c.id)
        .join(later, sa.and_(same, later.c.fence > _attempt.c.fence, later.c.state == FINISHED))
        .where(_attempt.c.id.in_(attempt_ids))
    )
    return list(db.scalars(query))


def _cells(db: sa.Connection, run_id: str, which: sa.ColumnElement[bool]) -> list[Cell]:
    rows = db.execute(
        sa.select(_cell.c.document, _run_cell.c.local)
        .join(_cell, _cell.c.key == _run_cell.c.cell_key)
        .where(_run_cell.c.run_id == run_id, which)
        .order_by(_run_cell.c.position)
    )
    return [as_json.read_cell(as_json.CellDocument(*row)) for row in rows]


def _without_judgement(db: sa.Connection, run_id: str) -> list[Cell]:
    """Give each expected cell that has no judgement, once."""
    judged = sa.select(_judgement.c.cell_key).where(_judgement.c.run_id == run_id)
    first = (
        sa.select(sa.func.min(_run_cell.c.position)).where(_run_cell.c.run_id == run_id).group_by(_run_cell.c.cell_key)
    )
    return _cells(db, run_id, sa.and_(_run_cell.c.cell_key.not_in(judged), _run_cell.c.position.in_(first)))


def _refuse_unexpected(db: sa.Connection, run_id: str, cell: Cell, key: str) -> None:
    expected = sa.select(_run_cell.c.position).where(_run_cell.c.run_id == run_id, _run_cell.c.cell_key == key).limit(1)
    if db.scalar(expected) is None:
        _run_of(db, run_id)
        raise promises.not_expected(run_id, cell)


def _supersede(db: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Take the right to save away from every open claim that fits."""
    db.execute(sa.update(_attempt).where(which, _attempt.c.state == OPEN).values(state=SUPERSEDED))
