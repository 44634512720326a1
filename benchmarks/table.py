"""Write the figures of benchmarks and drills as a Markdown table.

Usage: ``python benchmarks/bench_cells.py --json | python benchmarks/table.py``, or ``table.py FILE...``. Of each input,
every line that is a result in JSON counts; all else (progress, the lines of ``make``) is passed over.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

HEAD = ("metric", "value", "baseline", "ratio", "goal", "met")

#: Members of ``machine`` that belong under one benchmark's table in words of their own.
CUT = "cut"

Json = Mapping[str, object]


def results_in(lines: Iterable[str]) -> list[Json]:
    """Give the results in some lines, in their order; of two with the same name the later one counts."""
    found: dict[str, Json] = {}
    for line in lines:
        if not line.startswith("{"):
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict) and {"name", "machine", "metrics"} <= value.keys():
            found[str(value["name"])] = value
    return list(found.values())


def tables(results: Sequence[Json]) -> str:
    """Write one table for each result, and the machine below it."""
    return "\n".join(_table(result) for result in results)


def _table(result: Json) -> str:
    metrics, machine = result["metrics"], result["machine"]
    if not (isinstance(metrics, dict) and isinstance(machine, dict)):
        msg = f"'{result['name']}' is no result of a benchmark: metrics and machine must be objects"
        raise SystemExit(msg)
    rows = [HEAD, ("---", *("---:",) * 4, "---"), *(_row(name, figure) for name, figure in metrics.items())]
    lines = [f"### {result['name']}", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    about = "; ".join(f"{key} {_plain(value)}" for key, value in machine.items() if value is not None and key != CUT)
    lines += [f"Machine: {about}."]
    if machine.get(CUT):
        lines += [f"**Cut short**: {machine[CUT]}."]
    return "\n".join([*lines, ""])


def _row(name: str, figure: Json) -> tuple[str, ...]:
    unit, goal, met = figure["unit"], figure["goal"], figure["met"]
    value, baseline = (_with_unit(figure[key], unit) for key in ("value", "baseline"))
    judged = "" if met is None else "yes" if met else "**no**"
    return f"`{name}`", value, baseline, _number(figure["ratio"]), _with_unit(goal, unit), judged


def _with_unit(value: object, unit: object) -> str:
    return "" if value is None else f"{_number(value)} {unit}"


def _number(value: object) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value).replace("|", r"\|")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="what benchmarks printed; else from stdin")
    asked = parser.parse_args(arguments)
    try:
        texts = [file.read_text(encoding="utf-8") for file in asked.files] or [sys.stdin.read()]
    except OSError as error:
        print(f"error: {error.filename} cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    results = results_in(line for text in texts for line in text.splitlines())
    if not results:
        print("error: there is no result in what was read; run the benchmarks with --json", file=sys.stderr)
        return 2
    print(tables(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
