"""A run that is killed at any moment goes on where it was: nothing counts twice, nothing durable is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.rig import ROOT
from harness.stores.sqlite import SqliteStore
from tests.builders import make_run
from tests.chaos import kill_runs
from tests.fake_lab import plan

#: Moments to kill at; ``make chaos`` takes a hundred, and other seeds.
SEED = 20261105


@pytest.fixture(scope="module")
def nursery() -> Iterator[kill_runs.Nursery]:
    made = kill_runs.Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole_s(nursery: kill_runs.Nursery, tmp_path_factory: pytest.TempPathFactory) -> float:
    return min(nursery.run(tmp_path_factory.mktemp("whole") / "store")[0] for _ in range(2))


@pytest.mark.parametrize("number", range(8))
def test_a_run_that_was_killed_is_finished_by_resuming_it(
    number: int, whole_s: float, nursery: kill_runs.Nursery, tmp_path: Path
) -> None:
    dice = random.Random(SEED + number)  # noqa: S311 - a moment to kill at
    tally = kill_runs.Tally()
    kill_runs.fake_round(tmp_path / "store", nursery, tally, dice, whole_s=whole_s)
    assert tally.lost == {}, f"seed {SEED + number}"


@pytest.mark.guest
@pytest.mark.table
@pytest.mark.timeout(1800)
def test_a_run_on_real_guests_that_was_killed_is_finished_by_resuming_it(tmp_path: Path) -> None:
    tally = kill_runs.docker_rounds(6, SEED, tmp_path)
    assert tally.lost == {}, f"seed {SEED}"
    assert tally.kills > 0


def test_a_guest_that_outlived_its_harness_is_ended_when_the_run_is_taken_up(
    nursery: kill_runs.Nursery, tmp_path: Path
) -> None:
    root = tmp_path / "store"
    guests = kill_runs.LivingGuests(root)
    store = SqliteStore(root)
    store.start_run(make_run(kill_runs.RUN_ID), plan(*kill_runs.CELLS))
    store.close()
    leases = [
        guests.lease(kill_runs.CELLS[0].image, run_id=run_id, name=run_id, deadline=Deadline.after(9))
        for run_id in (kill_runs.RUN_ID, "another")
    ]
    for lease in leases:
        lease.__enter__()
    assert len(guests.left()) == 2
    assert nursery.run(root)[1] is False
    assert (len(guests.left(kill_runs.RUN_ID)), len(guests.left("another"))) == (0, 1)
    for lease in leases:
        lease.__exit__(None, None, None)


# --- two processes, one run -------------------------------------------------------------------------------------------

#: A run here takes a second or two; a busy machine may need a minute for it.
LIMIT_S = 120

OWNER = """
import sys, time
from pathlib import Path
from tests.chaos.kill_runs import run_or_resume
print("ready", flush=True)
sys.stdin.readline()
from harness.errors import HarnessError
try:
    result = run_or_resume(Path(sys.argv[1]))
    trouble = result.trouble
except HarnessError as error:
    trouble = error
print("told: " + trouble.summary if trouble else "finished", flush=True)
"""


def owner(root: Path) -> subprocess.Popen[str]:
    """Start a process that takes the run of a store up when it is told to."""
    argv = [sys.executable, "-c", OWNER, str(root)]
    process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def begun_and_left(root: Path) -> None:
    store = SqliteStore(root)
    store.start_run(make_run(kill_runs.RUN_ID), plan(*kill_runs.CELLS))
    store.close()


@pytest.mark.timeout(3 * LIMIT_S)
def test_of_two_processes_that_resume_one_run_one_does_it_and_one_is_told(tmp_path: Path) -> None:
    root = tmp_path / "store"
    begun_and_left(root)
    first, second = owner(root), owner(root)
    go(first)
    stopped_in_the_middle(first, root)  # so that it cannot be done before the other one has tried
    go(second)
    assert second.communicate(timeout=LIMIT_S)[0] == f"told: Run 'killed' is being driven by process {first.pid}.\n"
    first.send_signal(signal.SIGCONT)
    assert first.communicate(timeout=LIMIT_S)[0] == "finished\n"
    tally = kill_runs.Tally()
    kill_runs.look_at_the_end(root, tally)
    assert tally.lost == {}


@pytest.mark.timeout(3 * LIMIT_S)
def test_an_owner_that_slept_while_its_run_was_finished_changes_nothing_when_it_wakes(tmp_path: Path) -> None:
    """Its lock is gone (a tidy-up, a folder seen from two machines): the fence alone must hold."""
    root = tmp_path / "store"
    begun_and_left(root)
    sleeper, worker = owner(root), owner(root)
    go(sleeper)
    stopped_in_the_middle(sleeper, root)
    (root / f"run-{kill_runs.RUN_ID}.lock").unlink()
    go(worker)
    assert worker.communicate(timeout=LIMIT_S)[0] == "finished\n"
    rows = _rows(root)
    sleeper.send_signal(signal.SIGCONT)
    said, _ = sleeper.communicate(timeout=LIMIT_S)
    assert said.startswith("told: Run 'killed' was taken up by another process;")
    assert _rows(root) == rows
    tally = kill_runs.Tally()
    kill_runs.look_at_the_end(root, tally)
    assert tally.lost == {}
    kill_runs.LivingGuests(root).sweep(None)


def stopped_in_the_middle(process: subprocess.Popen[str], root: Path) -> None:
    """Let a process sleep while it has a guest; not while it writes, for then everybody would wait for it."""
    for _ in Deadline.after(LIMIT_S).poll(0.002):
        process.send_signal(signal.SIGSTOP)
        if list(root.glob("*.lock")) and _in_the_middle(root):
            return
        process.send_signal(signal.SIGCONT)
    pytest.fail("the process was never met in the middle of its run")


def _in_the_middle(root: Path) -> bool:
    """Tell whether a guest runs, and nobody writes to the store at this moment."""
    with closing(sqlite3.connect(root / "store.sqlite", timeout=0.0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return db.execute("SELECT 1 FROM attempt WHERE state = 'open'").fetchone() is not None


def _rows(root: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(root / "store.sqlite")) as db:
        return [row for table in ("run", "attempt", "judgement") for row in db.execute(f"SELECT * FROM {table}")]  # noqa: S608


# --- interrupts of the command line -----------------------------------------------------------------------------------

WAITING = """
import time
from harness.cli.run import interruptible
with interruptible("no-such-run") as stop:
    print("waiting", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print("finishing", flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_interrupt_asks_for_the_end_and_the_second_ends_now(number: signal.Signals, code: int) -> None:
    """No engine answers here, so there is nothing to sweep, and that does not hold the end up."""
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"}
    with subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        assert process.stdout.readline() == "finishing\n"
        assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert "again to stop now" in said
    assert "stopping now" in said
    assert "Traceback" not in said


def test_the_process_s_own_handlers_are_back_after_a_run() -> None:
    from harness.cli.run import interruptible

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with interruptible("no-such-run") as stop:
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert stop.reason == "interrupted"
    assert {number: signal.getsignal(number) for number in before} == before
