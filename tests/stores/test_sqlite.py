"""What the store on disk promises beyond the contract: migrations, damage, crashes, full disks, several processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from harness.attempt import Role, from_jsonl
from harness.deadline import Deadline
from harness.errors import DiskFull, InputError, StoreError
from harness.stores import migrate, schema
from harness.stores.api import RunState
from harness.stores.database import keep_a_log
from harness.stores.sqlite import DATABASE, SqliteStore
from tests.builders import (
    NOON,
    attempt_for,
    make_cell,
    make_judgement,
    make_plan,
    make_product,
    make_run,
    sha256_of,
)

processes = multiprocessing.get_context("fork")

CELL = make_cell()


def begun(root: Path, *, run_id: str = "run-1") -> SqliteStore:
    """Open a store in which one run has begun."""
    store = SqliteStore(root)
    store.start_run(make_run(run_id), make_plan(CELL))
    return store


def save(store: SqliteStore, *raws: bytes, run_id: str = "run-1", ordinal: int = 1) -> str:
    claim = store.claim(run_id, CELL, role=Role.FIRST, ordinal=ordinal)
    store.save(claim, attempt_for(claim, CELL, raws=raws or (b"log",)))
    return claim.attempt_id


def half_things(root: Path) -> list[str]:
    """Look at the files themselves: which rows name a blob that is not there, which blobs are not whole?"""
    found: list[str] = []
    with sqlite3.connect(root / DATABASE) as db:
        sizes = dict(db.execute("SELECT sha256, size_bytes FROM blob"))
        attempts = list(db.execute("SELECT id, events_sha256 FROM attempt WHERE state = 'finished'"))
        dangling = list(db.execute("PRAGMA foreign_key_check")) + [
            row for row in db.execute("PRAGMA integrity_check") if row != ("ok",)
        ]
    db.close()

    written = {path.name for path in (root / "blobs").glob("??/*")}

    def read(name: str) -> bytes | None:
        path = root / "blobs" / name[:2] / name
        data = path.read_bytes() if path.is_file() else None
        return (
            data if data is not None and sha256_of(data) == name and sizes.get(name, len(data)) == len(data) else None
        )

    found += [name for name in {*sizes, *written} if read(name) is None]
    for attempt_id, events in attempts:
        raw = read(events)
        named = [] if raw is None else [event.blob for event in from_jsonl(raw) if event.blob]
        if raw is None or any(read(name) is None for name in named):
            found.append(attempt_id)
    return found + [str(row) for row in dangling]


def in_child(work: Callable[[], None]) -> int:
    """Run work in a process of its own; give its exit code."""
    child = processes.Process(target=work)
    child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    return -1 if code is None else code


# --- opening --------------------------------------------------------------------------------------------------------


def test_a_store_is_made_once_and_opens_again_with_all_that_was_in_it(tmp_path: Path) -> None:
    store = begun(tmp_path / "deep" / "store")
    attempt_id = save(store)
    for cell in (CELL, CELL.control()):
        store.add_judgement("run-1", cell, make_judgement())
    store.finish_run("run-1", at=NOON, state=RunState.COMPLETE)
    before = (store.runs(), store.plan_of("run-1"), store.judgements("run-1"))
    store.close()
    again = SqliteStore(tmp_path / "deep" / "store")
    assert (again.runs(), again.plan_of("run-1"), again.judgements("run-1")) == before
    assert again.find_run("latest").id == "run-1"
    (attempt,) = again.attempts_by_id([attempt_id])
    assert attempt.blobs.get(sha256_of(b"log")) == b"log"
    again.close()


def test_the_migrations_make_the_tables_that_the_code_expects_and_may_run_twice(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'new.sqlite'}")
    with engine.begin() as connection:
        migrate.upgrade(connection)
        migrate.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert context.get_current_revision() == schema.REVISION
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()
    assert max(migrate.known_revisions()) == schema.REVISION


def test_a_migration_that_does_not_end_leaves_nothing(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    with sqlite3.connect(tmp_path / "store" / DATABASE) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            db.execute(f"DROP TABLE '{name}'") if not name.startswith("sqlite_") else None
    db.close()
    with pytest.raises(KeyboardInterrupt), store._write() as connection:  # noqa: PT012 - as a migration is run
        migrate.upgrade(connection)
        raise KeyboardInterrupt
    with store._read() as connection:
        assert sa.inspect(connection).get_table_names() == []
    store.close()
    begun(tmp_path / "store").close()


@pytest.mark.parametrize("name", ["with space", "50%25?mode=ro#x", "매매&증권", "it's"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = begun(tmp_path / name)
    save(store)
    store.close()
    assert {p.name for p in (tmp_path / name).iterdir()} == {DATABASE, "blobs"}


def test_a_store_that_vanishes_in_the_middle_is_the_labs_trouble(tmp_path: Path) -> None:
    store = begun(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "blobs")
    with pytest.raises(StoreError, match="cannot be written"):
        save(store)
    store.close()


def test_the_design_s_tables_are_there(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    db.close()
    assert {"run", "cell", "run_cell", "attempt", "blob", "judgement", "waiver", "case"} <= names


def test_commits_survive_a_power_cut_by_the_settings_of_every_connection(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    with store._read() as db:
        asked = [
            db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    store.close()
    assert asked == ["wal", 2, 1]


def test_a_store_of_a_newer_version_is_refused_and_not_touched(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(StoreError, match="newer version") as caught:
        SqliteStore(tmp_path)
    assert "Update hts-compat" in caught.value.hint
    assert (tmp_path / DATABASE).read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 50, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(StoreError, match="damaged or no database") as caught:
        SqliteStore(tmp_path)
    assert caught.value.hint
    assert (tmp_path / DATABASE).read_bytes() == content


def test_a_database_that_is_damaged_inside_is_reported_when_it_is_read(tmp_path: Path) -> None:
    store = begun(tmp_path)
    for ordinal in range(1, 40):
        save(store, ordinal=ordinal)
    store.close()
    with (tmp_path / DATABASE).open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(8192)
        file.write(b"\xa5" * (size - 8192))
    with pytest.raises(StoreError, match="damaged"):  # noqa: PT012 - opening may or may not touch the damage
        damaged = SqliteStore(tmp_path)
        try:
            damaged.attempts("run-1", CELL)
        finally:
            damaged.close()


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(StoreError, match="not one of hts-compat"):
        SqliteStore(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == before


@pytest.mark.parametrize("empty", [True, False])
def test_evidence_whose_database_is_gone_is_a_loss_and_not_a_new_store(tmp_path: Path, *, empty: bool) -> None:
    store = begun(tmp_path)
    save(store)
    store.close()
    (tmp_path / DATABASE).unlink()
    if empty:
        (tmp_path / DATABASE).touch()
    with pytest.raises(StoreError, match="empty or gone"):
        SqliteStore(tmp_path)


def test_a_folder_that_cannot_be_made_is_the_users_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "store", Path("/proc/store")):
        with pytest.raises(InputError, match="cannot be written") as caught:
            SqliteStore(root)
        assert caught.value.exit_code == 2


def test_a_read_only_disk_is_the_users_trouble(small_disk: Path) -> None:
    SqliteStore(small_disk / "old").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("old", "new"):
        with pytest.raises(InputError, match="cannot be written"):
            SqliteStore(small_disk / name)


def test_a_read_only_folder_is_the_users_trouble_for_those_who_are_not_root() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        root = Path(folder)
        SqliteStore(root / "store").close()
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)

        def work() -> None:
            if os.geteuid() == 0:
                os.setuid(65534)
            for name in ("store", "new"):
                with pytest.raises(InputError, match="cannot be written"):
                    SqliteStore(root / name)

        assert in_child(work) == 0
        for path in [root, *root.rglob("*")]:
            path.chmod(0o700)


def test_a_store_that_another_program_holds_is_reported_as_locked(tmp_path: Path) -> None:
    begun(tmp_path).close()
    store = SqliteStore(tmp_path, busy_s=0.05)
    holder = sqlite3.connect(tmp_path / DATABASE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        save(store)
    assert len(store.runs()) == 1
    holder.execute("ROLLBACK")
    holder.close()
    save(store)
    store.close()


def test_opening_waits_for_whoever_reads_a_store_that_is_not_yet_in_write_ahead_mode(tmp_path: Path) -> None:
    begun(tmp_path).close()
    reader = sqlite3.connect(tmp_path / DATABASE, isolation_level=None, check_same_thread=False)
    reader.execute("PRAGMA journal_mode = DELETE")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM run").fetchone()
    with pytest.raises(StoreError, match="locked"):
        SqliteStore(tmp_path, busy_s=0.05)
    impatient = sa.create_engine(f"sqlite:///{tmp_path / DATABASE}", connect_args={"timeout": 0})
    ending = threading.Timer(0.1, lambda: reader.execute("COMMIT"))
    ending.start()
    keep_a_log(impatient, Deadline.after(10))
    ending.join()
    with impatient.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    impatient.dispose()
    reader.close()


# --- blobs ----------------------------------------------------------------------------------------------------------


def test_equal_bytes_are_kept_once_and_damaged_ones_are_written_again(tmp_path: Path) -> None:
    store = begun(tmp_path)
    save(store, b"same")
    path = tmp_path / "blobs" / sha256_of(b"same")[:2] / sha256_of(b"same")
    inode = path.stat().st_ino
    save(store, b"same", ordinal=2)
    assert path.stat().st_ino == inode
    path.write_bytes(b"sane")
    with pytest.raises(ValueError, match="not the bytes"):
        store.blobs().get(sha256_of(b"same"))
    save(store, b"same", ordinal=3)
    assert store.blobs().get(sha256_of(b"same")) == b"same"
    store.close()


@pytest.mark.parametrize(
    "damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"{}\n"), lambda p: p.write_bytes(b"")]
)
def test_an_attempt_whose_events_are_damaged_is_not_read(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    store = begun(tmp_path)
    attempt_id = save(store)
    with sqlite3.connect(tmp_path / DATABASE) as db:
        (name,) = db.execute("SELECT events_sha256 FROM attempt WHERE state = 'finished'").fetchone()
    db.close()
    damage(tmp_path / "blobs" / name[:2] / name)
    with pytest.raises(StoreError, match=attempt_id):
        store.attempts("run-1", CELL)
    store.close()


def test_half_written_files_of_killed_processes_are_removed_after_a_day(tmp_path: Path) -> None:
    SqliteStore(tmp_path).close()
    old, fresh = tmp_path / "blobs" / "tmp" / "1-a", tmp_path / "blobs" / "tmp" / "1-b"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    SqliteStore(tmp_path).close()
    assert (old.exists(), fresh.exists()) == (False, True)


# --- full disk ------------------------------------------------------------------------------------------------------


def test_a_full_disk_stops_saving_and_keeps_what_is_durable(small_disk: Path) -> None:
    root = small_disk / "store"
    store = begun(root)
    saved: list[str] = []
    with pytest.raises(DiskFull) as caught:  # noqa: PT012 - it fills until it is full
        for ordinal in range(1, 100):
            saved.append(save(store, os.urandom(100), os.urandom(60_000), ordinal=ordinal))
    assert "--resume" in caught.value.hint
    assert len(saved) > 3
    assert [a.meta.id for a in store.attempts("run-1", CELL)] == saved
    assert half_things(root) == []
    assert list((root / "blobs" / "tmp").iterdir()) == []
    store.close()
    again = SqliteStore(root)
    assert [a.meta.id for a in again.attempts("run-1", CELL)] == saved
    again.close()


def test_blobs_that_do_not_all_fit_leave_nothing_half_written(small_disk: Path) -> None:
    store = begun(small_disk)
    with pytest.raises(DiskFull):
        save(store, b"small", os.urandom(2 * 1024**2))
    assert list((small_disk / "blobs" / "tmp").iterdir()) == []
    assert half_things(small_disk) == []
    store.close()


def test_a_disk_that_is_full_to_the_last_byte_is_said_by_the_database_too(small_disk: Path) -> None:
    root = small_disk / "store"
    store = begun(root)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):  # noqa: PT012 - as above
        while True:
            file.write(b"x" * 1024)
    with pytest.raises(DiskFull):  # noqa: PT012 - the log of the database has some room of its own
        for ordinal in range(1, 1000):
            store.claim("run-1", CELL, role=Role.FIRST, ordinal=ordinal)
    with pytest.raises(DiskFull):
        SqliteStore(small_disk / "another")
    filler.unlink()
    save(store)
    assert half_things(root) == []
    store.close()


# --- processes ------------------------------------------------------------------------------------------------------


def test_two_processes_open_a_new_store_and_run_in_it_at_the_same_time(tmp_path: Path) -> None:
    ready = processes.Barrier(2)

    def work(run_id: str) -> None:
        ready.wait(10)
        store = begun(tmp_path, run_id=run_id)
        for ordinal in range(1, 16):
            save(store, b"shared", run_id.encode(), str(ordinal).encode(), run_id=run_id, ordinal=ordinal)
        store.close()

    children = [processes.Process(target=work, args=(run_id,)) for run_id in ("a", "b")]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert [child.exitcode for child in children] == [0, 0]
    store = SqliteStore(tmp_path)
    assert {run.id for run in store.runs()} == {"a", "b"}
    assert [len(store.attempts(run_id, CELL)) for run_id in ("a", "b")] == [15, 15]
    store.close()
    assert half_things(tmp_path) == []


def test_a_process_killed_at_any_moment_leaves_no_row_without_its_evidence(tmp_path: Path) -> None:
    begun(tmp_path).close()
    dice = random.Random(20261105)  # noqa: S311 - moments to kill at
    finished = 0
    for turn in range(10):
        ready = processes.Event()

        def work(turn: int, ready: object) -> None:
            store = SqliteStore(tmp_path)
            for n in range(1000):
                save(store, f"{turn}.{n}".encode(), dice.randbytes(50_000), ordinal=1000 * turn + n + 1)
                ready.set()  # type: ignore[attr-defined]  # multiprocessing's events have no public type

        child = processes.Process(target=work, args=(turn, ready))
        child.start()
        assert ready.wait(10)
        time.sleep(dice.random() * 0.05)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert half_things(tmp_path) == []
        store = SqliteStore(tmp_path)
        now = len(store.attempts("run-1", CELL))
        assert now > finished
        finished = now
        store.resume_run("run-1")
        save(store, ordinal=1000 * turn + 999)
        finished += 1
        store.close()
    with sqlite3.connect(tmp_path / DATABASE) as db:
        assert db.execute("SELECT count(*) FROM attempt WHERE state = 'open'").fetchone() == (0,)
    db.close()


def test_a_copy_of_a_store_in_use_opens_and_is_consistent(tmp_path: Path) -> None:
    """As after a power cut between two syncs, as far as a test can see it: the worker stands still and the files go."""
    root = tmp_path / "store"
    begun(root).close()
    ready = processes.Event()

    def work() -> None:
        store = SqliteStore(root)
        for ordinal in range(1, 5000):
            save(store, os.urandom(2000), ordinal=ordinal)
            ready.set()

    child = processes.Process(target=work)
    child.start()
    try:
        assert ready.wait(10)
        for turn in range(3):
            copy = tmp_path / f"copy-{turn}"
            copy.mkdir()
            os.kill(child.pid or 0, signal.SIGSTOP)
            for name in (DATABASE, DATABASE + "-wal"):
                shutil.copy(root / name, copy / name)
            shutil.copytree(root / "blobs", copy / "blobs")
            os.kill(child.pid or 0, signal.SIGCONT)
            store = SqliteStore(copy)
            assert len(store.attempts("run-1", CELL)) > 0
            store.close()
            assert half_things(copy) == []
            time.sleep(0.02)
    finally:
        child.kill()
        child.join()


def test_cells_are_kept_once_for_all_runs(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    plan = make_plan(CELL, make_cell(product=make_product("clamav", "2026-11-05")))
    for run_id in ("a", "b", "c"):
        store.start_run(make_run(run_id), plan)
    store.close()
    with sqlite3.connect(tmp_path / DATABASE) as db:
        assert db.execute("SELECT count(*) FROM cell").fetchone() == (3,)
        assert db.execute("SELECT count(*) FROM run_cell").fetchone() == (9,)
    db.close()
