"""A whole cell in a container against the same in a virtual machine, one and two at once; and where its seconds go.

Usage: ``python benchmarks/bench_vm_cells.py [--json] [--quick] [--trace] [--providers docker qemu] [--cells N]``. Needs
the reference image of each provider. Cells are interleaved between the providers, after one of each that is left out.

- ``cell_PROVIDER_s``: seconds of one attempt, from asking for the guest to its end; ``two_PROVIDER_s``: of two at once,
  until both have ended. The baseline is the first provider's (docker).
- ``lease_s``, ``steps_s`` ...: where they go, by stage of the cell. ``looks_s`` and so on: by what the guest was asked;
  these are seconds in commands, so that waiting between two looks is in no one of them.
- ``--trace`` prints every command of the last cell of each provider with its time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import __version__
from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.cli.run import Asked, load
from harness.deadline import Deadline
from harness.errors import HarnessError, LabError
from harness.judge import judge
from harness.plan import Cell, expand
from harness.products import parser_of
from harness.providers.api import Endpoint
from harness.rig import ROOT, make_rig, sweep
from harness.run_cell import Rig, run_cell
from harness.transports.api import CommandResult, Transport
from harness.transports.payload import Payload, size_of

Metric = dict[str, object]

SUITE = ROOT / "scenarios" / "suites" / "smoke.yaml"
CELL = "1.0.0/reference/clamav-standard/2026-11-04/fresh-install"
CELLS, QUICK_CELLS = 5, 1


@dataclass(frozen=True, slots=True)
class Command:
    """One program that a cell ran in its guest: when, how long, and what it was for."""

    at_s: float
    took_s: float
    kind: str
    words: str


@dataclass(slots=True)
class Trace:
    """Everything that one cell asked its guest, and its stages as they began."""

    began: float = field(default_factory=time.perf_counter)
    commands: list[Command] = field(default_factory=list)
    stages: list[tuple[float, str]] = field(default_factory=list)
    ended_s: float = 0.0

    def stage(self, name: str) -> None:
        """Note that a stage begins."""
        self.stages.append((time.perf_counter() - self.began, name))

    def stage_seconds(self) -> dict[str, float]:
        """Give the seconds of each stage, in order."""
        ends = [at for at, _ in self.stages[1:]] + [self.ended_s]
        return {name: end - at for (at, name), end in zip(self.stages, ends, strict=True)}

    def kind_seconds(self) -> dict[str, float]:
        """Give the seconds in commands of each kind."""
        found: defaultdict[str, float] = defaultdict(float)
        for command in self.commands:
            found[command.kind] += command.took_s
        return dict(found)

    def told(self) -> str:
        """Write every command down, a line each."""
        marks = [(at, f"{at:7.2f}         --- {name}") for at, name in self.stages]
        lines = [(c.at_s, f"{c.at_s:7.2f} {c.took_s:7.3f} {c.kind:10} {c.words}") for c in self.commands]
        return "\n".join(line for _, line in sorted([*marks, *lines]))


class Traced:
    """A transport that notes what it is asked; see ``Transport``."""

    def __init__(self, inner: Transport, trace: Trace) -> None:
        self._inner = inner
        self._trace = trace

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """See ``Transport.run``."""
        began = time.perf_counter()
        try:
            return self._inner.run(argv, deadline=deadline, user=user, stdin=stdin)
        finally:
            self._note(began, *_told(argv, stdin))

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """See ``Transport.push``."""
        began = time.perf_counter()
        try:
            self._inner.push(content, path, deadline=deadline, mode=mode, owner=owner)
        finally:
            self._note(began, "files", f"push {path}")

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = 16 * 1024**2) -> tuple[bytes, bool]:
        """See ``Transport.pull``."""
        began = time.perf_counter()
        try:
            return self._inner.pull(path, deadline=deadline, max_bytes=max_bytes)
        finally:
            self._note(began, "files", f"pull {path}")

    def close(self) -> None:
        """See ``Transport.close``."""
        self._inner.close()

    def _note(self, began: float, kind: str, words: str) -> None:
        now = time.perf_counter()
        self._trace.commands.append(Command(began - self._trace.began, now - began, kind, words))


def _told(argv: Sequence[str], stdin: Payload) -> tuple[str, str]:
    """Give the kind of a command, and what it was in a few words."""
    line = " ".join(argv)
    script = argv[1].rpartition("/")[2] if len(argv) > 1 else ""
    if stdin and isinstance(stdin, bytes) and script.endswith(".py") and script not in {"", "unpack.py"}:
        asked = json.loads(stdin)
        keys = ", ".join(sorted(asked.keys() - {"limit_s"}))
        if script == "observe.py":
            return ("looks" if asked.get("windows") else "facts"), f"observe {keys}"
        if script == "windows.py":
            return "clicks", f"windows {asked['argv']}"
        kinds = {"plant.py": "canaries", "desktop.py": "programs", "inspect_files.py": "inspect"}
        return kinds.get(script, "other"), f"{script} {asked.get('action', keys)} {asked.get('id', '')}"
    if "import" in line or script == "screen.py":
        return "pictures", "screenshot"
    if "deliver" in argv:
        return "deliver", f"deliver {size_of(stdin)} bytes"
    if "clam" in line:
        return "product", line[:60].replace("\n", " ")
    return "other", line[:80].replace("\n", " ")


class Lab:
    """The same cell on one provider."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.tag = f"bench-vm-{secrets.token_hex(4)}"
        loaded = load(Asked(suite=SUITE, provider=provider))
        self.rig = make_rig(provider, loaded)
        self.cell = next(cell for cell in expand(loaded.suite).cells if cell.id == CELL)
        self._control: Attempt | None = None

    def warm_up(self) -> None:
        """Make the control; it loads a template, too, which only the first guest of a process pays for."""
        self._control, _ = self._attempt(self.cell.control())
        lost = self._control.of(Kind.TROUBLE)
        if lost:
            msg = f"The control on {self.provider} did not come to its end."
            raise LabError(msg, detail=str(lost[0].subject), hint="Is the machine overloaded? Try again.")

    def one(self) -> Trace:
        """Make one attempt.

        Raises:
            LabError: It is not COMPATIBLE, so its time says nothing.
        """
        attempt, trace = self._attempt(self.cell)
        judged = judge([attempt], [self._control or attempt], parsers=parser_of)
        if judged.verdict.outcome.value != "COMPATIBLE":
            msg = f"{self.cell.id} on {self.provider} came out {judged.verdict.outcome.value}."
            raise LabError(msg, detail=judged.verdict.reason, hint="Is the machine overloaded? Try again.")
        return trace

    def two(self) -> float:
        """Make two attempts at once; give the seconds until both have ended."""
        troubles: list[HarnessError] = []

        def work() -> None:
            try:
                self.one()
            except HarnessError as error:
                troubles.append(error)

        began = time.perf_counter()
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if troubles:
            raise troubles[0]
        return time.perf_counter() - began

    def close(self) -> None:
        """Remove what an interrupted cell left."""
        sweep(self.tag)

    def _attempt(self, cell: Cell) -> tuple[Attempt, Trace]:
        trace = Trace()
        meta = AttemptMeta(
            id=secrets.token_hex(8),
            cell=cell,
            role=Role.CONTROL if cell.is_control else Role.FIRST,
            ordinal=1,
            alone=True,
            nonce=secrets.token_hex(6),
            provider=self.provider,
            tool_version=__version__,
            started_at=datetime.now(UTC),
        )
        attempt = run_cell(meta, _traced(self.rig, trace), run_id=self.tag, on_stage=trace.stage)
        trace.ended_s = time.perf_counter() - trace.began
        return attempt, trace


def _traced(rig: Rig, trace: Trace) -> Rig:
    def connect(endpoint: Endpoint) -> Transport:
        return Traced(rig.connect(endpoint), trace)

    return replace(rig, connect=connect)


def metric(value: float, *, baseline: float | None = None) -> Metric:
    """Give one figure in seconds; none has a goal."""
    return {
        "value": round(value, 3),
        "unit": "s",
        "baseline": None if baseline is None else round(baseline, 3),
        "ratio": None if not baseline else round(value / baseline, 3),
        "goal": None,
        "met": None,
    }


def measure(providers: Sequence[str], *, cells: int, trace: bool) -> dict[str, object]:
    """Measure everything and give the object that table.py reads."""
    load_before = round(os.getloadavg()[0], 2)
    with ExitStack() as stack:
        labs = [Lab(provider) for provider in providers]
        ones: dict[str, list[Trace]] = {lab.provider: [] for lab in labs}
        twos: dict[str, list[float]] = {lab.provider: [] for lab in labs}
        for lab in labs:
            stack.callback(lab.close)
            lab.warm_up()
            lab.one()  # a layer of its product is another template, and loaded with its first guest
        for turn in range(cells):
            for lab in labs if turn % 2 == 0 else reversed(labs):
                ones[lab.provider].append(lab.one())
                twos[lab.provider].append(lab.two())
                note(f"{lab.provider}: {ones[lab.provider][-1].ended_s:.2f} s, two {twos[lab.provider][-1]:.2f} s")
    if trace:
        for name, traces in ones.items():
            note(f"--- {name}\n{traces[-1].told()}")
    metrics: dict[str, Metric] = {}
    for name in providers:
        against = None if name == providers[0] else ones[providers[0]]
        metrics[f"cell_{name}_s"] = metric(
            statistics.median(t.ended_s for t in ones[name]),
            baseline=None if against is None else statistics.median(t.ended_s for t in against),
        )
        metrics[f"two_{name}_s"] = metric(
            statistics.median(twos[name]),
            baseline=None if against is None else statistics.median(twos[providers[0]]),
        )
    metrics |= _parts({name: [t.stage_seconds() for t in traces] for name, traces in ones.items()}, "stage")
    metrics |= _parts({name: [t.kind_seconds() for t in traces] for name, traces in ones.items()}, "asked")
    machine = {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "load_before": load_before,
        "load_after": round(os.getloadavg()[0], 2),
        "cells": cells,
        "cut": f"{cells} cells of each instead of {CELLS}" if cells < CELLS else None,
    }
    return {"name": "vm_cells", "machine": machine, "metrics": metrics}


def _parts(taken: dict[str, list[dict[str, float]]], what: str) -> dict[str, Metric]:
    """Give the medians of the parts of a cell: the last provider's, against the first's when there are two."""
    first, last = next(iter(taken)), list(taken)[-1]
    found: dict[str, Metric] = {}
    for part in taken[last][0]:
        middle = {name: statistics.median(one.get(part, 0.0) for one in taken[name]) for name in (first, last)}
        found[f"{what}_{part}_s"] = metric(middle[last], baseline=None if first == last else middle[first])
    return found


def note(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CELLS} cell of each")
    parser.add_argument("--trace", action="store_true", help="print every command of the last cell of each provider")
    parser.add_argument("--providers", nargs="+", default=["docker", "qemu"], help="the first is the baseline")
    parser.add_argument("--cells", type=int, help=f"how many cells of each instead of {CELLS}")
    asked = parser.parse_args(arguments)
    cells = asked.cells or (QUICK_CELLS if asked.quick else CELLS)
    try:
        result = measure(asked.providers, cells=cells, trace=asked.trace)
    except HarnessError as error:
        note("\n".join(part for part in (f"error: {error.summary}", error.detail, f"hint: {error.hint}") if part))
        return error.exit_code
    print(json.dumps(result, ensure_ascii=False) if asked.json else json.dumps(result, ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
