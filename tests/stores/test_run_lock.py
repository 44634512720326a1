"""Who drives a run: one process at a time, said at once, and true even when the lock is not to be trusted."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.attempt import Role
from harness.stores.api import RunHeld, RunState, StaleRun
from harness.stores.run_lock import RunLock
from harness.stores.sqlite import SqliteStore
from tests.builders import NOON, attempt_for, make_cell, make_judgement, make_plan, make_run

processes = multiprocessing.get_context("fork")

CELL = make_cell()


def begun(root: Path) -> SqliteStore:
    store = SqliteStore(root)
    store.start_run(make_run("run-1"), make_plan(CELL))
    return store


def locks(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*.lock"))


def test_a_second_process_is_told_who_drives_the_run(tmp_path: Path) -> None:
    first, second = begun(tmp_path), SqliteStore(tmp_path)
    with pytest.raises(RunHeld, match=f"driven by process {os.getpid()}") as caught:
        second.resume_run("run-1")
    assert "--resume" in caught.value.hint
    assert caught.value.exit_code == 2
    with pytest.raises(RunHeld):
        second.start_run(make_run("run-1"), make_plan(CELL))
    assert first.claim("run-1", CELL, role=Role.FIRST, ordinal=1).fence == 1
    first.close()
    second.close()


@pytest.mark.parametrize("end", ["finish", "close"])
def test_a_run_may_be_taken_up_when_the_one_before_has_let_go(end: str, tmp_path: Path) -> None:
    first, second = begun(tmp_path), SqliteStore(tmp_path)
    assert locks(tmp_path) == ["run-run-1.lock"]
    if end == "finish":
        first.finish_run("run-1", at=NOON, state=RunState.INTERRUPTED)
    else:
        first.close()
    assert locks(tmp_path) == []
    assert second.resume_run("run-1").state is RunState.RUNNING
    first.close()
    second.close()


def test_a_start_that_fails_holds_nothing(tmp_path: Path) -> None:
    begun(tmp_path).close()
    store = SqliteStore(tmp_path)
    with pytest.raises(Exception, match="There is a run"):
        store.start_run(make_run("run-1"), make_plan(CELL))
    with pytest.raises(Exception, match="no run"):
        store.resume_run("never")
    assert locks(tmp_path) == []
    store.close()


def test_the_lock_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    ready = processes.Event()

    def work() -> None:
        begun(tmp_path)
        ready.set()
        signal.pause()

    child = processes.Process(target=work)
    child.start()
    assert ready.wait(10)
    store = SqliteStore(tmp_path)
    with pytest.raises(RunHeld, match=f"process {child.pid}"):
        store.resume_run("run-1")
    child.kill()
    child.join()
    assert locks(tmp_path) == ["run-run-1.lock"]
    store.resume_run("run-1")
    store.close()
    assert locks(tmp_path) == []


def test_the_lock_of_a_run_that_was_killed_before_it_was_written_is_removed_with_the_store_s_next_opening(
    tmp_path: Path,
) -> None:
    held = RunLock(tmp_path, "held")
    (tmp_path / "run-dead.lock").write_text("999999\n")
    store = SqliteStore(tmp_path)
    store.start_run(make_run("run-1"), make_plan(CELL))
    assert locks(tmp_path) == ["run-held.lock", "run-run-1.lock"]
    with pytest.raises(RunHeld):
        RunLock(tmp_path, "held")
    held.release()
    store.close()


def test_the_lock_of_a_run_whose_process_was_killed_behind_its_last_commit_is_removed_though_nobody_resumes_it(
    tmp_path: Path,
) -> None:
    """Of 100 killed runs one was: its run was complete, so that nothing was left to take up, or to remove the file."""

    def work() -> None:
        def killed(_path: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        store = begun(tmp_path)
        os.unlink = killed  # type: ignore[assignment]  # in this child alone
        store.finish_run("run-1", at=NOON, state=RunState.INTERRUPTED)

    child = processes.Process(target=work)
    child.start()
    child.join(20)
    assert child.exitcode == -signal.SIGKILL
    assert locks(tmp_path) == ["run-run-1.lock"]
    looked = SqliteStore(tmp_path)
    assert looked.find_run("run-1").state is RunState.INTERRUPTED
    assert locks(tmp_path) == []
    looked.close()


def test_whoever_tidies_up_holds_nobody_up(tmp_path: Path) -> None:
    """It has the lock for a moment; that is waited for."""
    (tmp_path / "run-a.lock").write_text("999999\n")
    descriptor = os.open(tmp_path / "run-a.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    timer = threading.Timer(0.05, os.close, [descriptor])
    timer.start()
    RunLock(tmp_path, "a").release()
    timer.join()


def test_of_many_processes_that_take_a_run_up_at_once_one_gets_it(tmp_path: Path) -> None:
    begun(tmp_path).close()
    start, over = processes.Barrier(6), processes.Barrier(6)
    results = processes.Queue()

    def work() -> None:
        store = SqliteStore(tmp_path)
        start.wait(10)
        try:
            store.resume_run("run-1")
        except RunHeld:
            results.put("told")
        else:
            results.put("drives")
        over.wait(10)  # nobody lets go before all have tried
        store.close()

    children = [processes.Process(target=work) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join(20)
    assert sorted(results.get() for _ in children) == ["drives"] + ["told"] * 5


def test_a_lock_that_was_let_go_between_our_open_and_our_lock_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    seen: list[int] = []

    def late(descriptor: int, how: int) -> None:
        if not seen:  # the one before us deletes its file now
            (tmp_path / "run-a.lock").unlink()
        seen.append(descriptor)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    mine = RunLock(tmp_path, "a")
    with pytest.raises(RunHeld):
        RunLock(tmp_path, "a")
    mine.release()
    assert locks(tmp_path) == []


def test_whoever_lost_its_lock_leaves_the_next_one_s_alone(tmp_path: Path) -> None:
    first = RunLock(tmp_path, "a/b")
    assert locks(tmp_path) == ["run-a%2Fb.lock"]
    (tmp_path / "run-a%2Fb.lock").unlink()
    second = RunLock(tmp_path, "a/b")
    first.release()  # leaves the second one's file alone
    with pytest.raises(RunHeld):
        RunLock(tmp_path, "a/b")
    second.release()
    assert locks(tmp_path) == []


WRITES: dict[str, Callable[[SqliteStore], object]] = {
    "claim": lambda store: store.claim("run-1", CELL, role=Role.CONFIRM, ordinal=1),
    "add_judgement": lambda store: store.add_judgement("run-1", CELL, make_judgement()),
    "finish_run": lambda store: store.finish_run("run-1", at=NOON, state=RunState.INTERRUPTED),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_owner_cannot_write_even_when_the_lock_was_lost(write: str, tmp_path: Path) -> None:
    stale = begun(tmp_path)
    (tmp_path / "run-run-1.lock").unlink()
    current = SqliteStore(tmp_path)
    current.resume_run("run-1")
    with pytest.raises(StaleRun, match="taken up by another process"):
        WRITES[write](stale)
    assert current.judgements("run-1") == {}
    assert current.find_run("run-1").state is RunState.RUNNING
    WRITES[write](current)
    stale.close()
    current.close()


def test_a_stale_owner_cannot_save_the_guest_that_it_still_had(tmp_path: Path) -> None:
    stale = begun(tmp_path)
    claim = stale.claim("run-1", CELL, role=Role.FIRST, ordinal=1)
    (tmp_path / "run-run-1.lock").unlink()
    current = SqliteStore(tmp_path)
    current.resume_run("run-1")
    with pytest.raises(StaleRun):
        stale.save(claim, attempt_for(claim, CELL))
    assert current.attempts("run-1", CELL) == []
    stale.close()
    current.close()
