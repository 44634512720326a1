"""Tries many inputs on every reader of hostile bytes: ``python -m tests.fuzz --inputs N [--seed N] [--only NAME]``.

Each target gets its share by what one of its inputs costs. A broken promise is printed with its smallest input, and the
command ends with 1; so it ends with 0 only when every promise held. ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import Target, targets


def shares(chosen: tuple[Target, ...], inputs: int) -> dict[str, int]:
    """Part the inputs so that every target runs about equally long; none gets fewer than ten."""
    weight = sum(1 / target.cost for target in chosen)
    return {target.name: max(10, round(inputs / target.cost / weight)) for target in chosen}


def try_target(target: Target, inputs: int, number: int) -> tuple[int, str | None]:
    """Try so many inputs; give how many were tried, and the smallest one that broke a promise with the reason."""
    tried = 0

    def counted(given_input: object) -> None:
        nonlocal tried
        tried += 1
        target.check(given_input)

    quick = settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(number)(quick(given(target.inputs)(counted)))()
    except Exception as error:  # noqa: BLE001 - whatever a reader raises is the finding
        notes = "\n".join(getattr(error, "__notes__", ()))
        return tried, f"{type(error).__name__}: {error}\n{notes:.2000}"
    return tried, None


def main() -> int:
    """Run the targets one after the other and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="inputs in all (20000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs (1)")
    parser.add_argument("--only", help="targets whose name holds this")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    chosen = tuple(t for t in targets() if asked.only is None or asked.only in t.name)
    rows, broken = [], 0
    for target in chosen:
        began = time.monotonic()
        tried, problem = try_target(target, shares(chosen, asked.inputs)[target.name], asked.seed)
        took = time.monotonic() - began
        broken += problem is not None
        rows.append({"target": target.name, "inputs": tried, "seconds": round(took, 1), "problem": problem})
        print(f"{target.name:28} {tried:8} inputs {took:7.1f} s  {'BROKEN' if problem else 'held'}", flush=True)
        if problem:
            print(problem, flush=True)
    print(
        f"{sum(int(str(r['inputs'])) for r in rows)} inputs, {broken} of {len(rows)} targets broken, seed {asked.seed}"
    )
    if asked.json:
        asked.json.write_text(json.dumps({"seed": asked.seed, "targets": rows}, indent=1) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
