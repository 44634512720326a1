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

from harness.attempt import Attempt
from harness.plan import Cell
from harness.rig import ROOT
from harness.session import Options, run
from harness.stores.api import RunState
from harness.stores.memory import MemoryStore
from harness.stores.sqlite import SqliteStore
from harness.verdict import Outcome
from tests.fake_lab import CLEAN, INCIDENT, STRICT, FakeLab, cell, parsers, plan

RUN_ID = "killed"
CELLS = (
    cell(CLEAN),
    cell(INCIDENT),
    cell(STRICT),
    cell(CLEAN, INCIDENT),
    cell(CLEAN, version="1.1.0"),
    cell(CLEAN, version="1.2.0"),
)
OUTCOMES = [Outcome.COMPATIBLE, *[Outcome.QUARANTINED] * 3, Outcome.COMPATIBLE, Outcome.BUILD_FAULT]
FAULTS = {"1.2.0": "connect"}

#: Kills at these parts of a whole run's time, each a little earlier or later.
MOMENTS = (0.05, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 0.98)

#: Imports once, then lets a child of its own run for each line "seconds store", and kills it after so many seconds.
NURSERY = """
import os, signal, sys, time
from pathlib import Path
from harness.stores import migrate  # a quarter of a second, before any child is born
from tests import test_crash
print("ready", flush=True)
for line in sys.stdin:
    after_s, store = line.split()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        test_crash.run_all(Path(store))
        os._exit(0)
    if float(after_s):
        time.sleep(float(after_s))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(time.monotonic() - begun, flush=True)
"""


def run_all(store: Path) -> None:
    """Run all cells; called in a process that will be killed."""
    options = Options(run_id=RUN_ID, jobs=2, provider="fake")
    run(plan(*CELLS), rig=FakeLab(faults=FAULTS).rig(), store=SqliteStore(store), parsers=parsers, options=options)


class Nursery:
    """A process whose children run and are killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"
        self.whole_s = 0.0

    def run(self, store: Path, *, kill_after_s: float = 0.0) -> float:
        """Let a child run all cells into a store, at most so long; give how long it lived."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kill_after_s} {store}\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery()
    made.whole_s = min(made.run(tmp_path_factory.mktemp("whole") / "store") for _ in range(2))
    yield made
    made.close()


def every_cell() -> dict[str, Cell]:
    return {c.id: c for c in (*CELLS, *(c.control() for c in CELLS))}


def stored_attempts(store: SqliteStore) -> list[Attempt]:
    return [a for c in every_cell().values() for a in store.attempts(RUN_ID, c)]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_was_killed_is_finished_by_resuming_it(moment: float, nursery: Nursery, tmp_path: Path) -> None:
    after_s = nursery.whole_s * (moment + random.uniform(-0.05, 0.05))  # noqa: S311
    nursery.run(tmp_path / "store", kill_after_s=max(after_s, 0.001))
    store = SqliteStore(tmp_path / "store")
    known = {info.id: info.state for info in store.runs()}
    # An attempt counts only with all that it saw.
    for attempt in stored_attempts(store) if known else ():
        assert attempt.complete
        assert all(attempt.blobs.get(e.blob) is not None for e in attempt.events if e.blob is not None)
    # A busy moment while measuring, and a child is done before its end comes: then nothing is left to resume.
    if known.get(RUN_ID) is not RunState.COMPLETE:
        asked = store.plan_of(RUN_ID) if known else plan(*CELLS)
        result = FakeLab(faults=FAULTS).run(asked, store, run_id=RUN_ID, resume=bool(known))
        assert (result.state, result.trouble) == (RunState.COMPLETE, None), f"killed after {after_s:.3f} s"
    judgements = store.judgements(RUN_ID)
    assert [judgements[c.id].outcome for c in CELLS] == OUTCOMES
    assert set(judgements) == set(every_cell())
    assert store.find_run(RUN_ID).state is RunState.COMPLETE
    assert list(store.unfinished(RUN_ID)) == []
    assert len(stored_attempts(store)) == guests_of_a_whole_run()
    store.close()
    with closing(sqlite3.connect(tmp_path / "store" / "store.sqlite")) as db:
        counts = db.execute("SELECT count(*) FROM judgement GROUP BY cell_key").fetchall()
        open_claims = db.execute("SELECT count(*) FROM attempt WHERE state = 'open'").fetchone()
    assert counts == [(1,)] * len(every_cell())
    assert open_claims == (0,)


def guests_of_a_whole_run() -> int:
    lab = FakeLab(faults=FAULTS)
    return lab.run(plan(*CELLS), MemoryStore()).attempts_made


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
