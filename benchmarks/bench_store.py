"""How fast attempts are made durable, and how fast a stored run is read: the store against plain files.

Usage: ``python benchmarks/bench_store.py [--quick] [--json] [--folder DIR]``. Baselines are measured in the same run,
interleaved. The plain files are written without any fsync and without a database, so they promise nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.attempt import Attempt, Kind, MemoryBlobs, Role, to_jsonl
from harness.judgement import Judgement
from harness.plan import Cell
from harness.stores.sqlite import SqliteStore
from tests.builders import (
    EventLog,
    make_attempt,
    make_build,
    make_cell,
    make_judgement,
    make_plan,
    make_product,
    make_run,
    make_scenario,
    make_suite,
)

#: A real attempt of the reference lab, roughly: two screenshots and a dozen short logs.
BLOB_BYTES = (60_000, 60_000, *(2_000,) * 12)

JUDGEMENTS = 1000


def evidence(cell: Cell, attempt_id: str, ordinal: int, dice: random.Random) -> Attempt:
    log = EventLog()
    log.add(Kind.BEGIN)
    for size in BLOB_BYTES:
        for _ in range(3):
            log.add(Kind.LOOK, "process", step=0, pid=ordinal, name="DemoHTS.exe", windows=["데모증권 HTS"])
        log.add(Kind.LOG, "scanner", step=0, raw=dice.randbytes(size))
    log.add(Kind.END)
    meta = make_attempt(cell, id=attempt_id, ordinal=ordinal).meta
    return Attempt(meta=meta, events=tuple(log.events), blobs=MemoryBlobs(log.blobs))


def save_plainly(folder: Path, attempt: Attempt) -> None:
    """Write the files of an attempt and nothing else: no fsync, no database, no check."""
    folder.mkdir(parents=True)
    for event in attempt.events:
        if event.blob is not None:
            (folder / event.blob).write_bytes(attempt.blobs.get(event.blob))
    (folder / "events.jsonl").write_bytes(to_jsonl(attempt.events))
    (folder / "attempt.json").write_text(attempt.meta.model_dump_json())


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def bench_saving(root: Path, *, rounds: int, batch: int) -> dict[str, object]:
    dice = random.Random(5)
    cell = make_cell()
    store = SqliteStore(root / "saving")
    store.start_run(make_run(), make_plan(cell))

    def attempts(first: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
        for ordinal in range(first, first + batch):
            claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=ordinal)
            attempt = evidence(cell, claim.attempt_id, ordinal, dice)
            plain = root / "plain" / str(ordinal)
            yield lambda c=claim, a=attempt: store.save(c, a), lambda p=plain, a=attempt: save_plainly(p, a)  # type: ignore[misc]  # bound early

    kept, plain, threaded = [], [], []
    with ThreadPoolExecutor(2) as two:
        for turn in range(rounds):
            work = list(attempts(1 + 2 * turn * batch))
            kept.append(seconds(lambda w=work: [save() for save, _ in w]) / batch)  # type: ignore[misc]  # bound early
            plain.append(seconds(lambda w=work: [write() for _, write in w]) / batch)  # type: ignore[misc]  # bound early
            work = list(attempts(1 + (2 * turn + 1) * batch))
            threaded.append(seconds(lambda w=work: list(two.map(lambda pair: pair[0](), w))) / batch)  # type: ignore[misc]  # bound early
    store.close()
    save_s, plain_s, threaded_s = map(statistics.median, (kept, plain, threaded))
    return {
        "attempts_saved_per_s": metric(1 / save_s, "1/s", 1 / plain_s),
        "save_attempt_ms": metric(save_s * 1000, "ms", plain_s * 1000, goal=100.0),
        "attempts_saved_per_s_by_two_threads": metric(1 / threaded_s, "1/s", 1 / save_s),
    }


def bench_reading(root: Path, *, rounds: int) -> dict[str, object]:
    suite = make_suite(
        builds=[make_build(f"1.{n}.0") for n in range(10)],
        products=[make_product("clamav", f"2026-{n:03}") for n in range(25)],
        scenarios=[make_scenario(f"scenario-{n}") for n in range(4)],
    )
    plan = make_plan(suite=suite)
    assert len(plan.cells) == JUDGEMENTS
    store = SqliteStore(root / "reading")
    begun = time.perf_counter()
    store.start_run(make_run(), plan)
    start_s = time.perf_counter() - begun
    judgement = make_judgement().model_copy(update={"cell": {f"field_{n}": "x" * 60 for n in range(30)}})
    begun = time.perf_counter()
    for cell in plan.cells:
        store.add_judgement("run-1", cell, judgement)
    judge_s = (time.perf_counter() - begun) / JUDGEMENTS
    store.close()
    lines = root / "judgements.jsonl"
    lines.write_text("".join(judgement.model_dump_json() + "\n" for _ in plan.cells))

    def open_and_read() -> None:
        opened = SqliteStore(root / "reading")
        assert len(opened.judgements("run-1")) == JUDGEMENTS
        opened.close()

    def read_plan() -> None:
        opened = SqliteStore(root / "reading")
        assert len(opened.plan_of("run-1").cells) == JUDGEMENTS
        opened.close()

    def read_plainly() -> None:
        assert len([Judgement.model_validate_json(line) for line in lines.read_bytes().splitlines()]) == JUDGEMENTS

    opened, read, plainly, plans = [], [], [], []
    for _ in range(rounds):
        opened.append(seconds(lambda: SqliteStore(root / "reading").close()))
        read.append(seconds(open_and_read))
        plainly.append(seconds(read_plainly))
        plans.append(seconds(read_plan))
    return {
        "open_store_ms": metric(statistics.median(opened) * 1000, "ms", goal=50.0),
        "open_and_read_1000_judgements_ms": metric(
            statistics.median(read) * 1000, "ms", statistics.median(plainly) * 1000, goal=500.0
        ),
        "open_and_read_plan_of_1000_cells_ms": metric(statistics.median(plans) * 1000, "ms"),
        "start_run_of_1000_cells_ms": metric(start_s * 1000, "ms"),
        "add_judgement_ms": metric(judge_s * 1000, "ms"),
    }


def metric(value: float, unit: str, baseline: float | None = None, *, goal: float | None = None) -> dict[str, object]:
    """Give one figure. A goal is an upper limit; every goal here is a time."""
    return {
        "value": round(value, 3),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 3),
        "ratio": None if baseline is None else round(value / baseline, 3),
        "goal": goal,
        "met": None if goal is None else value <= goal,
    }


@contextmanager
def folder_for(parent: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bench-store-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def fsync_ms(folder: Path) -> float:
    """Measure what one fsync of a small new file costs here; every figure about saving hangs on it."""
    taken = []
    for n in range(20):
        with (folder / f"probe-{n}").open("wb", buffering=0) as file:
            file.write(hashlib.sha256(str(n).encode()).digest())
            taken.append(seconds(lambda f=file: os.fsync(f.fileno())))  # type: ignore[misc]  # bound early
    return round(statistics.median(taken) * 1000, 3)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure")
    asked = parser.parse_args(arguments)
    rounds = 3 if asked.quick else 15
    with folder_for(asked.folder) as root:
        machine = {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "system": platform.platform(),
            "fsync_ms": fsync_ms(root),
            "cut": f"{rounds} rounds instead of 15" if asked.quick else None,
        }
        metrics = {**bench_saving(root, rounds=rounds, batch=20), **bench_reading(root, rounds=rounds)}
    if asked.json:
        print(json.dumps({"name": "bench_store", "machine": machine, "metrics": metrics}))
        return 0
    print(", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
    for name, figure in metrics.items():
        print(f"{name:40} {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
