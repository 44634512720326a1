"""A power cut: only what was synced is sure, all else is there, half there or gone; the store opens and is whole.

The disk is simulated from the real calls: a file's bytes are sure as of its last fsync, a folder's entries as of the
folder's. The database's log is sure up to the last commit that returned (SQLite syncs it there); what the next commit
wrote may be cut anywhere or be rubbish. Every commit of a store's work is a moment at which the power goes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.attempt import Role
from harness.stores.api import RunState
from harness.stores.sqlite import DATABASE, SqliteStore
from tests.builders import NOON, attempt_for, make_cell, make_judgement, make_plan, make_run
from tests.stores.test_sqlite import half_things

CELL = make_cell()
WAL = DATABASE + "-wal"

#: Another seed gives other cuts; ``make chaos`` takes many.
SEED = int(os.environ.get("HTS_CHAOS_SEED", "20261105"))
CUTS = int(os.environ.get("HTS_CHAOS_CUTS", "12"))


@dataclass
class Disk:
    """What of a folder would survive, as the calls of the process say.

    Attributes:
        sure_bytes: Inode -> the bytes of its last fsync.
        sure_names: Folder -> its entries (name and inode) at its last fsync.
    """

    root: Path
    sure_bytes: dict[int, bytes] = field(default_factory=dict)
    sure_names: dict[Path, dict[str, int]] = field(default_factory=dict)

    def synced(self, descriptor: int) -> None:
        """Take notice of an fsync."""
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not path.is_relative_to(self.root):
            return
        if path.is_dir():
            self.sure_names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self.sure_bytes[os.fstat(descriptor).st_ino] = path.read_bytes()

    def after_the_cut(self, blobs: Path, to: Path, dice: random.Random) -> None:
        """Write down what is left of the blobs; of what was never synced, chance leaves all, a part or nothing."""
        for folder in (blobs, *(path for path in blobs.iterdir() if path.is_dir())):
            names = {entry.name: entry.inode() for entry in os.scandir(folder) if entry.is_file()}
            sure = self.sure_names.get(folder, {})
            folder_is_sure = folder == blobs or folder.name in self.sure_names.get(blobs, {})
            for name, inode in names.items():
                is_sure = folder_is_sure and sure.get(name) == inode
                if not is_sure and dice.random() < 0.5:
                    continue
                whole = (folder / name).read_bytes()
                data = self.sure_bytes.get(inode)
                if data is None:
                    data = dice.choice([b"", whole[: len(whole) // 2], bytes(len(whole))])
                place = to / folder.relative_to(blobs)
                place.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)


@dataclass
class Cut:
    """The store's files before a commit, and what had been promised by then; ``started``: the run was."""

    folder: Path
    started: bool
    saved: int
    judged: int
    wal_bytes: int


def worked_on(root: Path, *, attempts: int, before_commit: Callable[[bool, int, int], None]) -> None:
    """Do what a run does to its store; tell how many attempts and judgements had been promised before each commit."""
    saved = judged = 0
    started = False

    def told(_connection: sa.Connection) -> None:
        before_commit(started, saved, judged)

    sa.event.listen(sa.Engine, "commit", told)
    try:
        store = SqliteStore(root)
        store.start_run(make_run("run-1"), make_plan(CELL))
        started = True
        for ordinal in range(1, attempts + 1):
            claim = store.claim("run-1", CELL, role=Role.FIRST, ordinal=ordinal)
            attempt = attempt_for(claim, CELL, raws=[b"shared", f"log of {ordinal}".encode() * 999])
            store.save(claim, attempt)
            saved += 1
            store.add_judgement("run-1", CELL, make_judgement(attempts=(attempt.meta.id,)))
            judged += 1
        store.finish_run("run-1", at=NOON, state=RunState.INTERRUPTED)
        before_commit(started, saved, judged)
        store.close()
    finally:
        sa.event.remove(sa.Engine, "commit", told)


def test_a_power_cut_between_any_two_syncs_leaves_a_whole_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, dice = tmp_path / "store", random.Random(SEED)  # noqa: S311 - where the power goes
    disk = Disk(root)
    fsync = os.fsync

    def noticed(descriptor: int) -> None:
        fsync(descriptor)
        disk.synced(descriptor)

    monkeypatch.setattr(os, "fsync", noticed)
    waiting: list[Cut] = []
    cuts: list[Cut] = []

    def before_commit(started: bool, saved: int, judged: int) -> None:
        """Finish the cut of the last commit by the log that it wrote, and begin one here."""
        wal = (root / WAL).read_bytes() if (root / WAL).exists() else b""
        for cut in waiting:
            # Up to where the log was before the commit all is sure; behind that it may end anywhere, or be rubbish.
            at = dice.randint(cut.wal_bytes, len(wal)) if len(wal) > cut.wal_bytes else len(wal)
            rest = dice.choice([b"", bytes(len(wal) - at), dice.randbytes(len(wal) - at)])
            (cut.folder / WAL).write_bytes(wal[:at] + rest)
            cuts.append(cut)
        waiting.clear()
        if (root / WAL).exists() and (root / "blobs").is_dir():
            folder = tmp_path / f"cut-{len(cuts)}"
            (folder / "blobs").mkdir(parents=True)
            shutil.copy(root / DATABASE, folder / DATABASE)
            disk.after_the_cut(root / "blobs", folder / "blobs", dice)
            waiting.append(Cut(folder, started, saved, judged, len(wal)))

    worked_on(root, attempts=max(CUTS // 3, 2), before_commit=before_commit)
    assert len(cuts) >= CUTS
    for cut in cuts:
        where = f"seed {SEED}, {cut.folder.name}"
        store = SqliteStore(cut.folder)
        if not cut.started and not store.runs():
            store.close()
            continue
        assert store.find_run("run-1").state in {RunState.RUNNING, RunState.INTERRUPTED}, where
        attempts = store.attempts("run-1", CELL)
        # What was promised is there, and of the rest only what is whole.
        assert cut.saved <= len(attempts) <= cut.saved + 1, where
        assert all(a.complete and a.blobs.get(e.blob) for a in attempts for e in a.events if e.blob), where
        assert bool(store.judgements("run-1")) or cut.judged == 0, where
        store.resume_run("run-1")
        claim = store.claim("run-1", CELL, role=Role.FIRST, ordinal=len(attempts) + 1)
        store.save(claim, attempt_for(claim, CELL, raws=[b"shared", b"after the cut"]))
        assert len(store.attempts("run-1", CELL)) == len(attempts) + 1, where
        store.close()
        rows_without_evidence = [name for name in half_things(cut.folder) if len(name) != 64]
        assert rows_without_evidence == [], where
