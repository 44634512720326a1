"""Tries many inputs on every reader of hostile bytes: ``python -m tests.fuzz --inputs N [--seed N] [--only NAME]``.

Each target gets its share by what one of its inputs costs. Hypothesis draws the first of them, and makes what breaks a
promise small; Python's own dice throw the others, each from a seed of its own (``--number N`` tries that one again).
Ends with 1 when a promise was broken, and so with 0 only when every one held. ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.faults.report import count, end, result
from tests.fuzz.tasks import ENOUGH, Task, attempt, known, shares, tasks_for


def main() -> int:
    """Run the targets' tasks in a few processes, and print a line for each target."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs in all (20000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs (1)")
    parser.add_argument("--only", help="targets whose name holds this")
    parser.add_argument("--number", type=int, help="of the one target that --only names, this input alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    chosen = tuple(t for name, t in known().items() if asked.only is None or asked.only in name)
    share = shares(chosen, asked.inputs)
    tasks = [task for t in chosen for task in tasks_for(share[t.name], t.name, asked.seed)]
    if asked.number is not None:
        tasks = [Task(target=t.name, seed=asked.seed, first=asked.number, many=1) for t in chosen]
    begun = time.monotonic()
    rows = []
    with ProcessPoolExecutor(asked.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(attempt, tasks))
    for target in chosen:
        mine = [tried for tried in done if tried.task.target == target.name]
        inputs, took_s = sum(t.inputs for t in mine), sum(t.took_s for t in mine)
        problems = [problem for t in mine for problem in t.problems][:ENOUGH]
        rows.append({"target": target.name, "inputs": inputs, "seconds": round(took_s, 1), "problems": problems})
        print(f"{target.name:28} {inputs:8} inputs {took_s:7.1f} s  {'BROKEN' if problems else 'held'}", flush=True)
        print(*problems, sep="\n", end="\n" if problems else "")
    if asked.json:
        asked.json.write_text(json.dumps({"seed": asked.seed, "targets": rows}, indent=1) + "\n", encoding="utf-8")
    figures = {
        "inputs": count(sum(tried.inputs for tried in done)),
        "targets": count(len(chosen)),
        "targets_broken": count(sum(bool(row["problems"]) for row in rows), goal=0),
        **{f"inputs_{str(row['target']).replace(' ', '_')}": count(int(str(row["inputs"]))) for row in rows},
        "seconds": count(round(time.monotonic() - begun)),
    }
    return end(result("fuzz", figures, cut=None if asked.inputs >= 1_000_000 else "fewer inputs", seed=asked.seed))


if __name__ == "__main__":
    sys.exit(main())
