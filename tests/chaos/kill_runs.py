"""The harness is killed with SIGKILL at random moments of a run and taken up again: is anything lost, doubled or left?

Usage: ``python -m tests.chaos.kill_runs [--rounds 100] [--seed N] [--guests fake|docker] [--json]``. Ends with 1 on any
loss. A round is one run: killed, in one of three rounds killed again while it is resumed, then resumed to its end.

Fake guests are simulated, and each has a real process of its own that outlives the harness, as a container does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.attempt import from_jsonl
from harness.deadline import Deadline
from harness.image import Image
from harness.judgement import Judgement
from harness.plan import Cell
from harness.providers.fake import FakeProvider, _FakeLease
from harness.rig import ROOT
from harness.session import Options, RunResult, run
from harness.stores.api import RunState
from harness.stores.memory import MemoryStore
from harness.stores.promises import expected_of
from harness.stores.sqlite import DATABASE, SqliteStore
from harness.verdict import Outcome
from tests.fake_lab import CLEAN, INCIDENT, STRICT, FakeLab, cell, guarded_machine, parsers, plan
from tests.faults.report import count, result

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

#: What a tally counts that may be more than none.
HARMLESS = frozenset({"rounds", "kills", "guests_left_by_kills"})

#: One of so many rounds is killed again while it is being resumed.
KILLED_AGAIN = 3

#: How long a simulated guest takes to start: without it hardly any kill would meet a living one.
BOOT_S = 0.02

#: The suite of the rounds on real guests, and what its cells come to.
REAL_SUITE = ROOT / "scenarios" / "suites" / "smoke.yaml"
REAL_OUTCOMES = ["COMPATIBLE", "QUARANTINED"]

#: Imports once, then lets a child of its own run for each line "seconds store", and kills it after so many seconds.
NURSERY = """
import os, signal, sys, time
from pathlib import Path
from harness.stores import migrate  # a quarter of a second, before any child is born
from tests.chaos import kill_runs
print("ready", flush=True)
for line in sys.stdin:
    after_s, store = line.split()
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        kill_runs.run_or_resume(Path(store))
        os._exit(0)
    if float(after_s):
        time.sleep(float(after_s))
        os.kill(child, signal.SIGKILL)
    _, how = os.waitpid(child, 0)
    print(time.monotonic() - begun, os.waitstatus_to_exitcode(how), flush=True)
"""


# --- simulated guests that outlive the harness ------------------------------------------------------------------------


class LivingGuests(FakeProvider):
    """Leases simulated guests, each with a real process that only the lease's end or a sweep ends."""

    def __init__(self, store: Path) -> None:
        super().__init__(guarded_machine)
        self._mark = f"hts-guest-{hashlib.sha256(str(store).encode()).hexdigest()[:12]}"

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[_FakeLease]:
        """See ``Provider.lease``."""
        argv = [f"{self._mark}-{run_id}", "600"]
        with super().lease(image, run_id=run_id, name=name, deadline=deadline) as lease:
            body = subprocess.Popen(argv, executable="/bin/sleep", start_new_session=True)
            try:
                time.sleep(BOOT_S)
                yield lease
            finally:
                body.kill()
                body.wait()

    def sweep(self, run_id: str | None) -> int:
        """See ``Provider.sweep``."""
        left = self.left(run_id)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return len(left) + super().sweep(run_id)

    def left(self, run_id: str | None = None) -> list[int]:
        """Give the processes of guests that still live."""
        wanted = f"{self._mark}-{run_id or ''}".encode()
        return [pid for pid, argv in _processes() if argv.startswith(wanted)]


def _processes() -> Iterator[tuple[int, bytes]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_bytes()
            except OSError:
                continue  # it has ended meanwhile


def run_or_resume(root: Path) -> RunResult:
    """Run all cells, or go on where the last process was killed; called in a process that will be killed."""
    store = SqliteStore(root)
    begun = bool(store.runs())
    options = Options(run_id=RUN_ID, jobs=2, provider="fake", resume=begun)
    asked = store.plan_of(RUN_ID) if begun else plan(*CELLS)
    lab = FakeLab(faults=FAULTS, provider=LivingGuests(root))
    try:
        return run(asked, rig=lab.rig(), store=store, parsers=parsers, options=options)
    finally:
        store.close()


class Nursery:
    """A process whose children run and are killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._line() == "ready"

    def run(self, store: Path, *, kill_after_s: float = 0.0) -> tuple[float, bool]:
        """Let a child run into a store, at most so long; give how long it lived, and whether it was killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kill_after_s} {store}\n")
        self._process.stdin.flush()
        lived_s, code = self._line().split()
        assert int(code) in {0, -signal.SIGKILL}, f"the harness ended with {code}"
        return float(lived_s), int(code) != 0

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


# --- one round --------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What was counted; from ``rows_without_evidence`` on all must stay 0. Locks: once the store was opened again."""

    rounds: int = 0
    kills: int = 0
    guests_left_by_kills: int = 0
    rows_without_evidence: int = 0
    cells_without_one_verdict: int = 0
    wrong_verdicts: int = 0
    attempts_too_many: int = 0
    runs_not_finished: int = 0
    open_claims: int = 0
    locks_left: int = 0
    guests_left_after_resume: int = 0

    @property
    def lost(self) -> dict[str, int]:
        """Give what must be 0 and is not."""
        return {name: number for name, number in asdict(self).items() if number and name not in HARMLESS}


def every_cell() -> dict[str, Cell]:
    """Give the cells and their controls."""
    return {c.id: c for c in (*CELLS, *(c.control() for c in CELLS))}


def guests_of_a_whole_run() -> int:
    """Count the guests of a run that nobody disturbs."""
    return FakeLab(faults=FAULTS).run(plan(*CELLS), MemoryStore()).attempts_made


def fake_round(root: Path, nursery: Nursery, tally: Tally, dice: random.Random, *, whole_s: float) -> None:
    """Kill a run once or twice, look at what is there, let it be finished, and look again."""
    guests = LivingGuests(root)
    tally.rounds += 1
    for turn in range(2 if dice.random() * KILLED_AGAIN < 1 else 1):
        _, killed = nursery.run(root, kill_after_s=max(dice.random() * whole_s / (1 + turn), 0.001))
        tally.kills += killed
        tally.guests_left_by_kills += len(guests.left())
        tally.rows_without_evidence += len(rows_without_evidence(root))
        if _complete(root):
            break
    # A busy moment while measuring, and a child is done before its end comes: then nothing is left to resume.
    if not _complete(root):
        nursery.run(root)
    look_at_the_end(root, tally)
    tally.guests_left_after_resume += len(guests.left())
    guests.sweep(None)


def _complete(root: Path) -> bool:
    store = SqliteStore(root)
    try:
        return any(info.state is RunState.COMPLETE for info in store.runs())
    finally:
        store.close()


def look_at_the_end(root: Path, tally: Tally) -> None:
    """Count what is wrong with a run that should be finished."""
    store = SqliteStore(root)
    judgements = store.judgements(RUN_ID)
    tally.runs_not_finished += store.find_run(RUN_ID).state is not RunState.COMPLETE or bool(store.unfinished(RUN_ID))
    tally.wrong_verdicts += sum(_outcome(judgements, c) is not o for c, o in zip(CELLS, OUTCOMES, strict=True))
    made = sum(len(store.attempts(RUN_ID, c)) for c in every_cell().values())
    tally.attempts_too_many += made != guests_of_a_whole_run()
    store.close()
    tally.rows_without_evidence += len(rows_without_evidence(root))
    tally.locks_left += len(list(root.glob("*.lock")))
    with closing(sqlite3.connect(root / DATABASE)) as db:
        counts = [n for (n,) in db.execute("SELECT count(*) FROM judgement GROUP BY cell_key")]
        (still_open,) = db.execute("SELECT count(*) FROM attempt WHERE state = 'open'").fetchone()
    tally.cells_without_one_verdict += abs(len(every_cell()) - len(counts)) + sum(n != 1 for n in counts)
    tally.open_claims += still_open


def _outcome(judgements: dict[str, Judgement], cell: Cell) -> Outcome | None:
    found = judgements.get(cell.id)
    return None if found is None else found.outcome


def rows_without_evidence(root: Path) -> list[str]:
    """Name the finished attempts that lack a byte of what they saw, read without the store."""
    if not (root / DATABASE).is_file():
        return []

    def read(name: str) -> bytes | None:
        path = root / "blobs" / name[:2] / name
        data = path.read_bytes() if path.is_file() else b""
        return data if hashlib.sha256(data).hexdigest() == name else None

    with closing(sqlite3.connect(root / DATABASE)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'attempt'").fetchall():
            return []
        rows = db.execute("SELECT id, events_sha256 FROM attempt WHERE state = 'finished'").fetchall()
    lacking = []
    for attempt_id, events in rows:
        raw = read(events)
        named = [] if raw is None else [event.blob for event in from_jsonl(raw) if event.blob]
        if raw is None or any(read(name) is None for name in named):
            lacking.append(attempt_id)
    return lacking


# --- real guests ------------------------------------------------------------------------------------------------------


def docker_round(out: Path, tally: Tally, dice: random.Random, *, whole_s: float) -> None:
    """The same with the command line and real guests."""
    tally.rounds += 1
    process = subprocess.Popen(_command(out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(dice.random() * whole_s)
    tally.kills += process.poll() is None
    process.kill()
    process.wait()
    store = SqliteStore(out / "store")
    runs = store.runs()
    store.close()
    run_id = runs[0].id if runs else None
    tally.guests_left_by_kills += len(_containers(run_id)) if run_id else 0
    tally.rows_without_evidence += len(rows_without_evidence(out / "store"))
    if not runs or runs[0].state is not RunState.COMPLETE:
        subprocess.run(_command(out, resume=run_id), cwd=ROOT, check=False, capture_output=True)
    store = SqliteStore(out / "store")
    info = store.runs()[0]
    judgements = store.judgements(info.id)
    found = [judgements[c.id].outcome.value for c in store.plan_of(info.id).cells if c.id in judgements]
    expected = len(expected_of(store.plan_of(info.id)))
    store.close()
    tally.runs_not_finished += info.state is not RunState.COMPLETE
    tally.wrong_verdicts += found != REAL_OUTCOMES
    tally.cells_without_one_verdict += abs(expected - len(judgements))
    tally.rows_without_evidence += len(rows_without_evidence(out / "store"))
    tally.guests_left_after_resume += len(_containers(info.id))
    tally.locks_left += len(list((out / "store").glob("*.lock")))


def _command(out: Path, *, resume: str | None = None) -> list[str]:
    more = ["--resume", resume] if resume else []
    return [sys.executable, "-m", "harness.cli", "run", str(REAL_SUITE), "--fresh", "--out", str(out), *more]


def _containers(run_id: str) -> list[str]:
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=org.hts-compat.run={run_id}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()


# --- all rounds -------------------------------------------------------------------------------------------------------


def fake_rounds(rounds: int, seed: int, folder: Path) -> Tally:
    """Make so many rounds on simulated guests."""
    dice, tally = random.Random(seed), Tally()  # noqa: S311 - moments to kill at
    nursery = Nursery()
    whole_s = min(nursery.run(folder / f"whole-{n}")[0] for n in range(2))
    for number in range(rounds):
        root = folder / f"round-{number}"
        before = tally.lost
        fake_round(root, nursery, tally, dice, whole_s=whole_s)
        if tally.lost == before:
            shutil.rmtree(root)
        else:
            sys.stderr.write(f"round {number} of seed {seed} lost something: {tally.lost}; kept in {root}\n")
    nursery.close()
    return tally


def docker_rounds(rounds: int, seed: int, folder: Path) -> Tally:
    """Make so many rounds on real guests."""
    dice, tally = random.Random(seed), Tally()  # noqa: S311 - moments to kill at
    begun = time.monotonic()
    subprocess.run(_command(folder / "whole"), cwd=ROOT, check=False, capture_output=True)
    whole_s = time.monotonic() - begun
    for number in range(rounds):
        docker_round(folder / f"round-{number}", tally, dice, whole_s=whole_s)
        sys.stderr.write(f"round {number}: {asdict(tally)}\n")
    return tally


def main() -> int:
    """Make the rounds and say what was counted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261105)
    parser.add_argument("--guests", choices=["fake", "docker"], default="fake")
    parser.add_argument("--json", action="store_true", help="print one object on the last line")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hts-kill-"))
    tally = (fake_rounds if asked.guests == "fake" else docker_rounds)(asked.rounds, asked.seed, folder)
    if not tally.lost:
        shutil.rmtree(folder)
    if asked.json:
        metrics = {n: count(v, goal=None if n in HARMLESS else 0) for n, v in asdict(tally).items()}
        cut = None if asked.rounds >= (100 if asked.guests == "fake" else 6) else f"{asked.rounds} rounds"
        made = result("kill_runs", metrics, cut=cut, guests=asked.guests, seed=asked.seed)
        sys.stdout.write(json.dumps(made) + "\n")
    else:
        sys.stdout.write("".join(f"{number:6} {name.replace('_', ' ')}\n" for name, number in asdict(tally).items()))
    return 1 if tally.lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
