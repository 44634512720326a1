"""What drills print: one result in the shape of a benchmark, and a table for people."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence

Metric = dict[str, object]


def count(value: int, *, goal: int | None = None, at_least: bool = False) -> Metric:
    """Make a metric of a count; with a goal of 0, any more is a miss."""
    met = None if goal is None else (value >= goal if at_least else value <= goal)
    return {"value": value, "unit": "", "baseline": None, "ratio": None, "goal": goal, "met": met}


def result(name: str, metrics: Mapping[str, Metric], *, cut: str | None, **about: object) -> dict[str, object]:
    """Make a drill's result, with the machine that it was made on."""
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        **about,
        "cut": cut,
    }
    return {"name": name, "machine": machine, "metrics": dict(metrics)}


def unmet(made: Mapping[str, object]) -> list[str]:
    """Name the metrics that miss their goal."""
    metrics = made["metrics"]
    assert isinstance(metrics, dict)
    return [name for name, metric in metrics.items() if metric["met"] is False]


def table(rows: Iterable[Sequence[object]]) -> str:
    """Lay rows out in columns."""
    texts = [[str(value) for value in row] for row in rows]
    widths = [max(len(row[at]) for row in texts) for at in range(len(texts[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in texts)


def end(made: Mapping[str, object]) -> int:
    """Print a result as its last line; give 1 when a goal is missed."""
    print(json.dumps(made, ensure_ascii=False))
    missed = unmet(made)
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0
