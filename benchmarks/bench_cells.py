"""What the engine costs: a cell against the same steps by hand, two guests at once, a rerun, a rejudge, ``--help``.

Usage: ``python benchmarks/bench_cells.py [--json] [--quick] [--pairs N]``. Needs a Docker engine and the reference
image. Baselines are measured in the same run; pairs are interleaved, and the one that goes first changes each time.

- ``cell_overhead_s``: seconds of one attempt (claim, guest, save, judge) beyond those of ``bare_cell.py``.
- ``cell_overhead_beyond_exec_s``: the same against a cell by hand whose ``docker exec`` cost nothing, the strictest
  baseline there is: its time less the number of its calls times that of a ``docker exec true`` in an idle guest
  (``docker_exec_s``, measured behind each cell by hand, so that both had the same machine).
- ``cell_cpu_s``: processor seconds on the host's side of one attempt (its process and children, not the engine's
  daemon and not the guest). ``save_and_judge_s``: the part of an attempt that comes after its guest.
- ``jobs_2_speedup``: four cells whose control has been made, ``jobs=1`` divided by ``jobs=2``.
- ``rerun_nothing_changed_s``, ``rejudge_s``: whole commands; the rerun's baseline is the run that made the cells.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bare_cell import BareCell, BareError, BareServer, exec_seconds, run_bare_cell
from harness import __version__
from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.cli.run import Asked, load
from harness.errors import HarnessError, LabError
from harness.judge import judge
from harness.load import LoadedSuite
from harness.plan import Cell, Plan, expand
from harness.products import parser_of
from harness.products.clamav.sets import database_of, marker_text
from harness.providers.docker import CAPABILITIES, OWNER_LABEL, PIDS_LIMIT, RUN_LABEL
from harness.rig import ROOT, make_rig, sweep
from harness.run_cell import Rig, run_cell
from harness.session import Options, RunResult, run
from harness.stop_switch import StopSwitch
from harness.stores.api import Claim, RunInfo, RunState
from harness.stores.sqlite import SqliteStore
from harness.transports.payload import whole
from harness.verdict import Outcome

Metric = dict[str, object]

SUITES = ROOT / "scenarios" / "suites"
CELL = "1.0.0/reference/clamav-standard/2026-11-04/fresh-install"
PAIRS, QUICK_PAIRS = 10, 2
CELLS, QUICK_CELLS = 4, 2
REPEATS = 5
HELP_REPEATS = 10
EXEC_REPEATS = 10

#: Exit codes of a run whose cells all came to a verdict, good or bad; and of a rejudge that finds nothing changed.
JUDGED, UNCHANGED = {0, 1}, {0}

#: How long an interrupted command gets to remove its guests.
GOODBYE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """Seconds of one cell: by the clock, of the host's processor, and (engine only) behind the guest's end.

    ``execs`` is the number of ``docker exec`` of a cell by hand, ``exec_s`` what one that does nothing took behind it.
    """

    wall_s: float
    cpu_s: float
    after_guest_s: float = 0.0
    execs: int = 0
    exec_s: float = 0.0


class Bench:
    """One store, one rig, one cell; everything that it starts carries ``tag`` in its run's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"bench-cells-{secrets.token_hex(4)}"
        self.run_ids: list[str] = []
        self._loaded: LoadedSuite = load(Asked(suite=SUITES / "smoke.yaml"))
        self.rig: Rig = make_rig("docker", self._loaded)
        self._whole = expand(self._loaded.suite)
        self.cell = next(cell for cell in self._whole.cells if cell.id == CELL)
        self._store = SqliteStore(folder / "bench-store")
        self._ordinal = count(1)

    def close(self) -> None:
        """Close the store, and remove what an interrupted cell left."""
        self._store.close()
        try:
            for run_id in self.run_ids:
                sweep(run_id)
        except HarnessError as error:  # the engine went away; what ended the measurement is the thing to tell
            note(
                f"{error.summary} A guest may be left: 'hts-compat doctor --sweep' removes it once the engine answers."
            )

    def plan(self, *cells: Cell) -> Plan:
        """Give a plan of these cells under the smoke suite."""
        return Plan(suite=self._whole.suite, cells=cells)

    def start_run(self, plan: Plan) -> str:
        """Make a run in the store; give its id."""
        run_id = f"{self.tag}-{len(self.run_ids)}"
        self.run_ids.append(run_id)
        info = RunInfo(
            id=run_id,
            suite=plan.suite.name,
            lab=plan.suite.lab.value,
            provider=self.rig.provider.name,
            tool_version=__version__,
            started_at=datetime.now(UTC),
            finished_at=None,
            state=RunState.RUNNING,
            drill=True,
            expected_cells=len(plan.cells),
        )
        self._store.start_run(info, plan)
        return run_id

    def engine(self, run_id: str, cell: Cell, control: Attempt | None) -> tuple[Attempt, Took]:
        """Make one attempt as the session does: claim, guest, save, judge.

        Raises:
            LabError: The cell is not COMPATIBLE, so its time says nothing.
        """
        began, cpu = time.perf_counter(), _cpu_s()
        claim = self._store.claim(run_id, cell, role=_role(cell), ordinal=next(self._ordinal))
        attempt = run_cell(self._meta(claim, cell), self.rig, run_id=run_id)
        guest_ended = time.perf_counter()
        self._store.save(claim, attempt)
        judged = judge([attempt], [control or attempt], parsers=parser_of)
        ended = time.perf_counter()
        _must_be_compatible(cell, judged.verdict.outcome, judged.verdict.reason)
        return attempt, Took(wall_s=ended - began, cpu_s=_cpu_s() - cpu, after_guest_s=ended - guest_ended)

    def bare(self, made: BareCell) -> Took:
        """Do the same by hand."""
        began, cpu = time.perf_counter(), _cpu_s()
        execs = run_bare_cell(made, name=self._bare_name())
        wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu
        exec_s = statistics.median(exec_seconds(made, name=self._bare_name(), times=EXEC_REPEATS))
        return Took(wall_s=wall_s, cpu_s=cpu_s, execs=execs, exec_s=exec_s)

    def bare_cell(self, run_id: str, attempt: Attempt) -> BareCell:
        """Write down what a cell by hand needs; clamd's settings are those that an attempt read back."""
        settings = attempt.of(Kind.PRODUCT, subject="settings")[0].blob
        assert settings is not None
        image, signature = self.cell.image, self.cell.product.schedule[0]
        options = ["--init", "--hostname=hts-guest", "--network=none", "--cap-drop=ALL", "--log-driver=none"]
        options += [f"--cap-add={capability}" for capability in CAPABILITIES]
        options += [f"--memory={image.memory_mib}m", f"--pids-limit={PIDS_LIMIT}"]
        options += [f"--label={RUN_LABEL}={run_id}", f"--label={OWNER_LABEL}={os.getpid()}"]
        servers = [
            BareServer(
                name=service.name,
                files=self.rig.service_files(self.cell, service.name),
                command=service.command,
                port=service.ready.tcp,
            )
            for service in self.cell.scenario.services
        ]
        return BareCell(
            image=image.reference,
            run_options=options,
            clamd_conf=attempt.blobs.get(settings),
            database=database_of(signature),
            markers={known.label: marker_text(known.label) for known in self.cell.product.known},
            loaded=signature.label,
            servers=servers,
            installer=whole(self.rig.installer(self.cell.build)),
            installer_name=self.cell.build.installer.file_name,
        )

    def several(self, control: Attempt, *, cells: int, jobs: int) -> float:
        """Run some cells through the session, their control made before; give the seconds.

        The cells differ in the name of their set alone, so that they share the control.
        """
        plan = self.plan(*(_renamed(self.cell, f"{jobs}-{number}") for number in range(cells)))
        run_id = self.start_run(plan)
        claim = self._store.claim(run_id, control.cell, role=Role.CONTROL, ordinal=1)
        meta = control.meta.model_copy(update={"id": claim.attempt_id, "ordinal": 1})
        self._store.save(claim, Attempt(meta=meta, events=control.events, blobs=control.blobs))
        options = Options(run_id=run_id, jobs=jobs, provider=self.rig.provider.name, fresh=True, resume=True)
        began = time.perf_counter()
        with ended_by_interrupt(run_id) as stop:
            result = run(plan, rig=self.rig, store=self._store, parsers=parser_of, options=options, stop=stop)
        took = time.perf_counter() - began
        if stop.requested and result.trouble is None:
            raise KeyboardInterrupt  # with all of the session's threads at their end
        _must_be_whole(result, plan)
        return took

    def _bare_name(self) -> str:
        return f"hts-{self.run_ids[0]}-{secrets.token_hex(4)}"

    def _meta(self, claim: Claim, cell: Cell) -> AttemptMeta:
        return AttemptMeta(
            id=claim.attempt_id,
            cell=cell,
            role=claim.role,
            ordinal=claim.ordinal,
            alone=True,
            nonce=secrets.token_hex(6),
            provider=self.rig.provider.name,
            tool_version=__version__,
            started_at=datetime.now(UTC),
        )


def _role(cell: Cell) -> Role:
    return Role.CONTROL if cell.is_control else Role.FIRST


def _cpu_s() -> float:
    """Give the processor seconds of this process and of the children that have ended."""
    return sum(os.times()[:4])


def _load() -> float:
    """Give the load of the last minute; our own guests make 1 of it, with ``jobs=2`` 2."""
    return round(os.getloadavg()[0], 2)


def _renamed(cell: Cell, ending: str) -> Cell:
    """Give the same cell with a set of another name, marker included."""
    chosen = cell.product
    own, label = chosen.schedule[0], f"{chosen.schedule[0].label}.{ending}"
    renamed = own.model_copy(update={"label": label, "marker": label})
    known = tuple(renamed if known.label == own.label else known for known in chosen.known)
    product = chosen.model_copy(update={"schedule": (renamed,), "known": known})
    return cell.model_copy(update={"product": product})


def _must_be_compatible(cell: Cell, outcome: Outcome, reason: str) -> None:
    if outcome is not Outcome.COMPATIBLE:
        msg = f"{cell.id} came out {outcome.value}, so its time says nothing."
        raise LabError(msg, detail=reason, hint="Is the machine overloaded? Try again.")


def _must_be_whole(result: RunResult, plan: Plan) -> None:
    if result.trouble is not None:
        raise result.trouble
    for cell in plan.cells:
        judgement = result.judgements[cell.id]
        _must_be_compatible(cell, judgement.outcome, judgement.reason)
    if result.attempts_made != len(plan.cells):
        msg = f"{result.attempts_made} guests were started for {len(plan.cells)} cells, so the time says nothing."
        raise LabError(msg, hint="Is the machine overloaded? Try again.")


def bench_pairs(bench: Bench, *, pairs: int) -> tuple[dict[str, Metric], Attempt]:
    """Measure cells against cells by hand, in turns; give the figures and the control."""
    run_id = bench.start_run(bench.plan(bench.cell))
    control, _ = bench.engine(run_id, bench.cell.control(), None)
    warm, _ = bench.engine(run_id, bench.cell, control)
    made = bench.bare_cell(run_id, warm)
    bench.bare(made)
    engine: list[Took] = []
    bare: list[Took] = []
    turns: list[Callable[[], None]] = [
        lambda: engine.append(bench.engine(run_id, bench.cell, control)[1]),
        lambda: bare.append(bench.bare(made)),
    ]
    for pair in range(pairs):
        for turn in turns if pair % 2 == 0 else reversed(turns):
            turn()
        note(f"pair {pair + 1} of {pairs}: engine {engine[-1].wall_s:.2f} s, by hand {bare[-1].wall_s:.2f} s")
    wall, bare_wall = (statistics.median(took.wall_s for took in taken) for taken in (engine, bare))
    cpu, bare_cpu = (statistics.median(took.cpu_s for took in taken) for taken in (engine, bare))
    overhead = metric(wall - bare_wall, "s", baseline=bare_wall, ratio=wall / bare_wall, goal=0.5)
    without_execs = statistics.median(took.wall_s - took.execs * took.exec_s for took in bare)
    after_guest = statistics.median(took.after_guest_s for took in engine)
    figures = {
        "cell_overhead_s": overhead,
        "cell_overhead_beyond_exec_s": metric(
            wall - without_execs, "s", baseline=without_execs, ratio=wall / without_execs
        ),
        "docker_execs_by_hand": metric(statistics.median(took.execs for took in bare), "calls"),
        "docker_exec_s": metric(statistics.median(took.exec_s for took in bare), "s"),
        "cell_cpu_s": metric(cpu, "s", baseline=bare_cpu),
        "save_and_judge_s": metric(after_guest, "s"),
    }
    return figures, control


def bench_jobs(bench: Bench, control: Attempt, *, cells: int) -> dict[str, Metric]:
    """Measure cells one after the other, and two at a time."""
    one = bench.several(control, cells=cells, jobs=1)
    two = bench.several(control, cells=cells, jobs=2)
    note(f"{cells} cells: {one:.1f} s with jobs=1, {two:.1f} s with jobs=2")
    return {
        "jobs_2_speedup": metric(one / two, "x", baseline=1.0),
        "jobs_2_wall_s": metric(two, "s", baseline=one),
    }


def bench_commands(folder: Path, *, suite: Path, repeats: int) -> dict[str, Metric]:
    """Measure the commands of a suite that was run: the rerun that starts no guest, and the rejudge."""
    arguments = ["run", str(suite), "--out", str(folder / "reports"), "--json"]
    note(f"one fresh run of {suite.name}")
    fresh_s, made = command(*arguments, codes=JUDGED)
    reruns = [command(*arguments, codes=JUDGED) for _ in range(repeats)]
    for _, said in reruns:
        if json.loads(said)["attempts_made"] != 0:
            msg = "A rerun with nothing changed started guests."
            raise LabError(msg, detail=said, hint="Was a cell of the first run INCONCLUSIVE? Then try again.")
    rejudge = ["rejudge", json.loads(made)["run"], "--out", str(folder / "reports")]
    rejudged = [command(*rejudge, codes=UNCHANGED)[0] for _ in range(repeats)]
    return {
        "rerun_nothing_changed_s": metric(
            statistics.median(took for took, _ in reruns), "s", baseline=fresh_s, goal=2.0
        ),
        "rejudge_s": metric(statistics.median(rejudged), "s", goal=2.0),
    }


def bench_help() -> dict[str, Metric]:
    """Measure the help text, and a Python that does nothing."""
    helps: list[float] = []
    nothing: list[float] = []
    for _ in range(HELP_REPEATS):
        helps.append(command("--help")[0])
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        nothing.append(time.perf_counter() - began)
    return {"help_s": metric(statistics.median(helps), "s", baseline=statistics.median(nothing), goal=0.4)}


def command(*arguments: str, codes: Collection[int] = UNCHANGED) -> tuple[float, str]:
    """Run ``hts-compat`` from this checkout; give its seconds and what it printed.

    Raises:
        LabError: It ended with none of these exit codes.
    """
    argv = [sys.executable, "-m", "harness.cli", *arguments]
    began = time.perf_counter()
    # In a session of its own: a Ctrl-C reaches us alone, and we tell the command to remove its guests.
    with subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            _stop(process)
            raise
    took = time.perf_counter() - began
    if process.returncode not in codes:
        msg = f"'hts-compat {' '.join(arguments)}' ended with {process.returncode}."
        raise LabError(msg, detail=err[-2000:], hint="See what it says; run it by hand.")
    return took, out


def _stop(process: subprocess.Popen[str]) -> None:
    """End a command at once but cleanly: its second interrupt removes its guests."""
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    try:
        process.wait(GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def metric(
    value: float, unit: str, *, baseline: float | None = None, ratio: float | None = None, goal: float | None = None
) -> Metric:
    """Give one figure. A goal is an upper limit; every goal here is a time."""
    if ratio is None and baseline is not None:
        ratio = value / baseline
    return {
        "value": round(value, 3),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 3),
        "ratio": None if ratio is None else round(ratio, 3),
        "goal": goal,
        "met": None if goal is None else value <= goal,
    }


def note(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """Give the bench; whatever ends it, no guest of it stays."""
    bench = Bench(folder)
    try:
        yield bench
    finally:
        bench.close()


@contextmanager
def ended_by_interrupt(run_id: str) -> Iterator[StopSwitch]:
    """End a session at the first interrupt: its guests are removed at once, so that its workers soon come back."""
    stop = StopSwitch()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.request("interrupted")
        with contextlib.suppress(HarnessError):
            sweep(run_id)

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def cut_of(*, quick: bool, pairs: int) -> str | None:
    """Say what was made smaller than the figures of docs/performance.md; None when nothing was."""
    cuts = [f"{pairs} pairs instead of {PAIRS}"] if pairs < PAIRS else []
    if quick:
        cuts += [f"{QUICK_CELLS} cells instead of {CELLS}", "the suite smoke instead of demo"]
    return ", ".join(cuts) or None


def measure(*, quick: bool, pairs: int) -> dict[str, object]:
    """Measure everything and give the object of the contract."""
    suite, cells = ("smoke", QUICK_CELLS) if quick else ("demo", CELLS)
    loads = [_load()]
    with tempfile.TemporaryDirectory(prefix="bench-cells-") as name:
        folder = Path(name)
        with bench_in(folder) as bench:
            metrics, control = bench_pairs(bench, pairs=pairs)
            loads.append(_load())
            metrics |= bench_jobs(bench, control, cells=cells)
            loads.append(_load())
        metrics |= bench_commands(folder, suite=SUITES / f"{suite}.yaml", repeats=REPEATS)
    metrics |= bench_help()
    loads.append(_load())
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_before": loads[0],
        "load_after_pairs": loads[1],
        "load_after_jobs": loads[2],
        "load_after": loads[3],
        "pairs": pairs,
        "cells": cells,
        "suite": suite,
        "cut": cut_of(quick=quick, pairs=pairs),
    }
    return {"name": "cells", "machine": machine, "metrics": metrics}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS} pairs, {QUICK_CELLS} cells, suite smoke")
    parser.add_argument("--pairs", type=int, help=f"how many pairs instead of {PAIRS}")
    asked = parser.parse_args(arguments)
    if asked.pairs is not None and asked.pairs < 1:
        parser.error("--pairs must be 1 or more")
    pairs = asked.pairs or (QUICK_PAIRS if asked.quick else PAIRS)
    # A shell starts a job in the background with SIGINT ignored; ours must still end cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        result = measure(quick=asked.quick, pairs=pairs)
    except HarnessError as error:
        note("\n".join(part for part in (f"error: {error.summary}", error.detail, f"hint: {error.hint}") if part))
        return error.exit_code
    except BareError as error:
        note(f"error: The cell by hand failed: {error}")
        return 5
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    print(json.dumps(result, ensure_ascii=False) if asked.json else json.dumps(result, ensure_ascii=False, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
