"""Seeded faults at every seam of simulated guests: ``python -m tests.faults.chaos_fakes [--cells 500] [--seed 0]``.

Ends with 1 when a verdict is wrong, one is missing, or something leaks. ``--only SEED`` makes one cell again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from harness.verdict import Outcome
from tests.faults.fake_runs import Ran, run_seed
from tests.faults.report import count, end, result, table
from tests.faults.wrap import Fault

#: The full drill; what is asked for below it is a cut.
CELLS = 500


def verdict_of(ran: Ran) -> str:
    """Name what came of a cell, in the words of the report."""
    if ran.outcome is None:
        return "lost"
    if ran.wrong_green:
        return "wrong green"
    if ran.wrong_red:
        return "wrong red"
    return "inconclusive" if ran.outcome is Outcome.INCONCLUSIVE else "right"


def summary(rans: Sequence[Ran], *, seed: int, took_s: float) -> dict[str, object]:
    """Count what came of all cells."""
    verdicts = Counter(map(verdict_of, rans))
    return result(
        "chaos_fakes",
        {
            "faulted_cells": count(len(rans)),
            "faults_injected": count(sum(len(ran.struck) for ran in rans)),
            "guests": count(sum(ran.leased for ran in rans)),
            "verdicts_right": count(verdicts["right"]),
            "verdicts_inconclusive": count(verdicts["inconclusive"]),
            "wrong_greens": count(verdicts["wrong green"], goal=0),
            "wrong_reds": count(verdicts["wrong red"], goal=0),
            "verdicts_lost": count(verdicts["lost"], goal=0),
            "leaks": count(sum(len(ran.leaks) for ran in rans), goal=0),
            "seconds": count(round(took_s)),
        },
        cut=None if len(rans) >= CELLS else f"{len(rans)} cells instead of {CELLS}",
        seed=seed,
    )


def by_seam(rans: Iterable[Ran]) -> str:
    """Lay out how many faults of each kind struck each seam."""
    struck = Counter(tuple(text.split("#")[0].split(" at ")) for ran in rans for text in ran.struck)
    seams = sorted({seam for _, seam in struck})
    rows: list[list[object]] = [["seam", *Fault]]
    rows += [[seam, *(struck[fault.value, seam] for fault in Fault)] for seam in seams]
    return table(rows)


def _quiet() -> None:
    """Log nothing: injected faults are reported, each with its seed."""
    logging.disable(logging.CRITICAL)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--seed", type=int, default=0, help="the first cell's; each cell has one of its own")
    parser.add_argument("--only", type=int, metavar="SEED", help="make one cell again, and say what struck it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.only is not None:
        ran = run_seed(asked.only)
        print(ran.line, *ran.struck, sep="\n  ")
        return 0 if verdict_of(ran) in {"right", "inconclusive"} and not ran.leaks else 1
    begun = time.monotonic()
    seeds = range(asked.seed, asked.seed + asked.cells)
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn"), initializer=_quiet) as pool:
        rans = list(pool.map(run_seed, seeds, chunksize=10))
    for ran in rans:
        if verdict_of(ran) not in {"right", "inconclusive"} or ran.leaks:
            print(f"{verdict_of(ran)}: {ran.line}")
    print(by_seam(rans))
    return end(summary(rans, seed=asked.seed, took_s=time.monotonic() - begun))


if __name__ == "__main__":
    _quiet()
    sys.exit(main())
