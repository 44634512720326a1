"""All attacks: ``python -m tests.chaos [--quick] [--seed N] [--only WORDS]`` (``make chaos``).

Every part runs whatever came of the ones before. Ends with 1 when a part found a wrong verdict, a loss or a leak, or
did not end by itself. Prints a table, in Markdown; ``--out`` keeps it, with each part's figures and what it printed.
``--quick`` is the cut that takes five minutes.

Two parts run at once, one on real guests, which mostly wait, and one without.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from harness.rig import ROOT

SEED = 20261105

#: What is no count of an attack.
ASIDE = ("seconds",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One attack.

    Attributes:
        asked: What Python is given; ``{many}`` and ``{seed}`` are filled in.
        many, few: How much of it, and how much of it in the cut.
        real: It needs real guests.
        env: Environment, filled in too.
        counts: What is counted, of a part that prints no figures.
    """

    name: str
    asked: str
    many: int
    few: int
    real: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    counts: str | None = None

    def command(self, *, many: int, seed: int) -> str:
        """Give what a person types to have the same."""
        words = [f"{name}={value.format(many=many, seed=seed)}" for name, value in self.env.items()]
        return " ".join([*words, "python", self.asked.format(many=many, seed=seed)])


PARTS = (
    Part(
        name="faults on simulated guests",
        asked="-m tests.faults.chaos_fakes --cells {many} --seed {seed}",
        many=2500,
        few=250,
    ),
    Part(
        name="kills of the harness",
        asked="-m tests.chaos.kill_runs --json --rounds {many} --seed {seed}",
        many=100,
        few=10,
    ),
    Part(
        name="power cuts under the store",
        asked="-m pytest -q -p no:cacheprovider --timeout 900 tests/stores/test_power_cut.py",
        many=300,
        few=30,
        env={"HTS_CHAOS_SEED": "{seed}", "HTS_CHAOS_CUTS": "{many}"},
        counts="cuts",
    ),
    Part(
        name="kills of the harness, real guests",
        asked="-m tests.chaos.kill_runs --json --rounds {many} --guests docker --seed {seed}",
        many=6,
        few=1,
        real=True,
    ),
    Part(
        name="blows at real guests",
        asked="-m tests.faults.chaos_guests --cells {many} --seed {seed}",
        many=62,
        few=4,
        real=True,
    ),
    Part(name="hostile inputs", asked="-m tests.fuzz --inputs {many} --seed {seed}", many=1_000_000, few=20_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a part ended. ``figures``: name -> number; ``missed``: those that must be 0 and are not."""

    part: Part
    command: str
    exit_code: int
    took_s: float
    figures: Mapping[str, object]
    missed: Mapping[str, object]

    @property
    def held(self) -> bool:
        """Tell whether nothing was wrong."""
        return self.exit_code == 0 and not self.missed


def ended(part: Part, *, command: str, exit_code: int, took_s: float, printed: Sequence[str], many: int) -> Ended:
    """Read what a part printed: its figures are an object on the last line that is one."""
    figures: dict[str, object] = {part.counts: many} if part.counts else {}
    missed: dict[str, object] = {}
    for line in reversed(printed):
        if line.startswith('{"name"'):
            metrics = json.loads(line)["metrics"]
            figures = {name: metric["value"] for name, metric in metrics.items()}
            missed = {name: metric["value"] for name, metric in metrics.items() if metric.get("met") is False}
            break
    else:
        if not part.counts and exit_code == 0:
            missed = {"figures": "none printed"}
    return Ended(part=part, command=command, exit_code=exit_code, took_s=took_s, figures=figures, missed=missed)


def summary(done: Iterable[Ended], *, seed: int) -> str:
    """Lay out all parts as Markdown."""
    rows = [
        f"Seed {seed}.",
        "",
        "| attack | command | what was counted | wrong, lost, leaked | s |",
        "|---|---|---|---|---:|",
    ]
    for one in done:
        counted = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in _counted(one) if number)
        wrong = ", ".join(f"**{name.replace('_', ' ')}: {number}**" for name, number in one.missed.items())
        if not one.held and not wrong:
            wrong = f"**ended with {one.exit_code}**"
        rows.append(f"| {one.part.name} | `{one.command}` | {counted} | {wrong or '0'} | {one.took_s:.0f} |")
    return "\n".join(rows) + "\n"


def _counted(one: Ended) -> Iterable[tuple[str, int]]:
    for name, number in one.figures.items():
        if isinstance(number, int) and name not in ASIDE and name not in one.missed:
            yield name, number


def run_part(part: Part, *, many: int, seed: int, log: Path) -> Ended:
    """Run one part, showing what it prints as it does."""
    command = part.command(many=many, seed=seed)
    print(f"{part.name}: begins, {command}", flush=True)
    begun = time.monotonic()
    printed: list[str] = []
    env = os.environ | {name: value.format(many=many, seed=seed) for name, value in part.env.items()}
    argv = [sys.executable, *part.asked.format(many=many, seed=seed).split()]
    with (
        log.open("w", encoding="utf-8") as kept,
        subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
    ):
        assert process.stdout is not None
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace")
            print(f"{part.name}: {line}", end="", flush=True)
            kept.write(line)
            printed.append(line.rstrip("\n"))
    return ended(
        part,
        command=command,
        exit_code=process.returncode,
        took_s=time.monotonic() - begun,
        printed=printed,
        many=many,
    )


def kept(part: Part, *, quick: bool, seed: int, out: Path) -> Ended:
    """Run one part, and keep what it printed and its figures."""
    slug = part.name.replace(",", "").replace(" ", "-")
    one = run_part(part, many=part.few if quick else part.many, seed=seed, log=out / f"{slug}.log")
    figures = {"command": one.command, "exit_code": one.exit_code, "seconds": round(one.took_s), "figures": one.figures}
    (out / f"{slug}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return one


def main(arguments: Sequence[str] | None = None, *, parts: Sequence[Part] = PARTS) -> int:
    """Run the parts; give 1 when any of them did not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the cut that takes five minutes")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default="", help="parts whose name holds this")
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "chaos", help="where figures are kept")
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen = [part for part in parts if asked.only in part.name]

    def lane(real: bool) -> dict[str, Ended]:
        mine = [part for part in chosen if part.real is real]
        return {p.name: kept(p, quick=asked.quick, seed=asked.seed, out=asked.out) for p in mine}

    with ThreadPoolExecutor(2) as pool:
        by_name = {name: one for lane_of in pool.map(lane, (True, False)) for name, one in lane_of.items()}
    done = [by_name[part.name] for part in chosen]
    table = summary(done, seed=asked.seed)
    (asked.out / "summary.md").write_text(table, encoding="utf-8")
    print(f"\n{table}", flush=True)
    failed = [one.part.name for one in done if not one.held]
    print(f"not held: {'; '.join(failed)}" if failed else f"{len(done)} attacks, all held", flush=True)
    return 1 if failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())
