"""Driver. ``hts-compat run``: load, expand, run, write the report, say what it came to."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from harness.as_test import as_test, waivers_for
from harness.cli import say
from harness.cli.github import GitHub, github
from harness.cli.progress import progress
from harness.egress import opened_in
from harness.errors import HarnessError, InputError
from harness.gate import Policy
from harness.images import Images
from harness.lab_choice import Choice
from harness.load import LoadedSuite, load_policy, load_suite
from harness.outcome_exit import NOTHING_RAN, exit_code
from harness.plan import Cell, Plan, expand
from harness.products import parser_of, product_names
from harness.renderers import job_summary
from harness.renderers.api import Report, renderer
from harness.renderers.github import At, of_cells
from harness.report import matrix_for, report_for, write_report
from harness.rig import AUTO, ROOT, make_rig, sweep
from harness.selection import select
from harness.session import Options, RunResult, new_run_id, run
from harness.stop_switch import StopSwitch
from harness.stores.api import RunInfo, RunState, Store
from harness.stores.sqlite import SqliteStore
from harness.yaml_files import images_named_in
from harness.yaml_places import SuitePlaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line asks for."""

    suite: Path
    builds: tuple[Path, ...] = ()
    keep: str | None = None
    jobs: int | None = None
    provider: str = "auto"
    resume: str | None = None
    fresh: bool = False
    strict: bool = False
    out: Path = Path("reports")
    store: Path | None = None
    junitxml: Path | None = None
    alluredir: Path | None = None
    policy: Path | None = None
    github: bool | None = False
    as_json: bool = False
    folder: str | None = None
    quiet: bool = False
    images: Path = ROOT / "vm_images"


def run_suite(asked: Asked) -> int:
    """Run a suite; give the exit code of the contract."""
    policy = load_policy(asked.policy) if asked.policy is not None else None
    told = github(asked.github)
    ran = run_and_report(asked, policy)
    result = ran.result
    if result is None:
        say.note("nothing to run: the suite and the filter leave no cell")
        told.summarise(lambda room: job_summary.fitted(job_summary.head(NOTHING_RAN), room, ""))
        return NOTHING_RAN
    if result.trouble is not None:
        raise result.trouble
    if result.state is not RunState.COMPLETE:
        where = "" if asked.out == Path("reports") else f" --out {asked.out}"
        say.note(f"the run {result.run_id} was stopped before its end; what it lacks could not be told")
        fresh = " --fresh" if asked.fresh else ""
        say.note(f"hint: Go on with: hts-compat run {asked.suite} --resume {result.run_id}{fresh}{where}")
    with open_store(asked.out, asked.store) as store:
        matrix = matrix_for(store, store.find_run(result.run_id))
    waived = waivers_for(policy, matrix.cells, now=datetime.now(UTC))
    judged = {cell.id: result.judgements.get(cell.id) for cell in matrix.cells}
    code = exit_code(judged, strict=asked.strict, waived=waived)
    tell(told, ran, Report(matrix=matrix, waivers=waived, strict=asked.strict), code)
    return code


def tell(told: GitHub, ran: Ran, report: Report, code: int) -> None:
    """Tell GitHub what a run came to: its summary, and each bad cell at the line of the suite that asked for it."""
    if not told.is_heard:
        return
    more = f"The report in '{ran.folder}' has everything."
    told.summarise(lambda room: job_summary.of_run(report, exit_code=code, room_bytes=room, more=more))
    places = SuitePlaces(ran.sources)
    cells = {cell.id: cell for cell in ran.cells}

    def where(name: str) -> At | None:
        written = places.of_cell(cells[name]) if name in cells else None
        return None if written is None else told.at(written.place)

    tests = [as_test(c, waiver=report.waivers.get(c.id), strict=report.strict) for c in report.matrix.cells]
    told.annotate(of_cells(tests, where))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run and its report.

    Attributes:
        result: None when the suite and the filter leave no cell.
        folder: Where the report is.
        cells: What was asked, in the order of the matrix.
        lab: Where its guests came from, and why from there.
        sources: The files that asked for it, the suite's own first.
    """

    result: RunResult | None
    folder: Path
    cells: tuple[Cell, ...] = ()
    lab: Choice | None = None
    sources: tuple[Path, ...] = ()


def run_and_report(asked: Asked, policy: Policy | None = None) -> Ran:
    """Run a suite and write its report.

    Args:
        asked: What the command line asks for.
        policy: Its waivers show in test reports.

    Raises:
        HarnessError: The input or the lab is wrong. Nothing was started, or what was seen is kept.
    """
    if not _is_empty(asked.store or asked.out / "store"):
        with open_store(asked.out, asked.store):
            pass  # a store that cannot be used is told before builds are made for it
    if asked.resume is not None:
        asked = _as_it_was_begun(asked, asked.resume)
    loaded, lab = load_for_lab(asked)
    plan = _plan(asked, loaded)
    if not plan.cells:
        return Ran(result=None, folder=asked.out)
    _writable(asked.out)
    for file in (asked.junitxml, asked.alluredir):
        if file is not None:
            _writable(file.absolute().parent)
    with open_store(asked.out, asked.store) as store:
        if asked.resume is not None:
            run_id = _unfinished(store.find_run(asked.resume)).id
            plan = store.plan_of(run_id)
        else:
            run_id = new_run_id(plan.suite.name, datetime.now(UTC))
        rig = make_rig(asked.provider, loaded)
        if plan.suite.egress is not None:
            say.note(f"way out: {opened_in(plan.suite.egress)}")
        options = Options(
            run_id=run_id,
            jobs=asked.jobs or plan.suite.jobs,
            provider=rig.provider.name,
            fresh=asked.fresh,
            resume=asked.resume is not None,
        )
        with interruptible(run_id) as stop, progress(plan) as listener:
            result = run(
                plan, rig=rig, store=store, parsers=parser_of, options=options, listeners=[listener], stop=stop
            )
        folder = asked.out / (asked.folder or run_id)
        ran = Ran(result=result, folder=folder, cells=plan.cells, lab=lab, sources=loaded.sources)
        if result.trouble is not None:
            say.note(f"the run has ended early; to go on with it: --resume {run_id}")
            return ran
        report = report_for(store, store.find_run(run_id), parsers=parser_of)
        files = write_report(report, folder)
        write_test_reports(asked, report, policy)
        say_result(asked, result, plan, files["html"], lab=lab)
    return ran


def write_test_reports(asked: Asked, report: Report, policy: Policy | None) -> None:
    """Write what CI servers read, where it was asked for.

    Raises:
        InputError: A file cannot be written.
    """
    waivers = waivers_for(policy, report.matrix.cells, now=datetime.now(UTC))
    report = replace(report, waivers=waivers, strict=asked.strict)
    if asked.junitxml is not None:
        try:
            asked.junitxml.write_bytes(renderer("junit").render(report))
        except OSError as error:
            raise InputError(f"The file '{asked.junitxml}' cannot be written.", detail=str(error)) from error
    if asked.alluredir is not None:
        from harness.renderers.allure_results import write_allure

        write_allure(report, asked.alluredir)


def load(asked: Asked) -> LoadedSuite:
    """Load the suite; see ``load_for_lab``."""
    return load_for_lab(asked)[0]


def load_for_lab(asked: Asked) -> tuple[LoadedSuite, Choice | None]:
    """Load the suite, with the images of this checkout and the builds of the command line, and choose its lab.

    A lab that nobody asked for is told as progress, with the reason.
    """
    from harness.build_file import build_from_file

    extra = tuple(build_from_file(path) for path in asked.builds)
    images = Images(asked.images, provider=asked.provider, wanted=images_named_in(asked.suite))
    names = product_names()
    loaded = load_suite(asked.suite, images=images, known_products=names, extra_builds=extra, progress=say.note)
    if asked.provider == AUTO and images.choice is not None:
        say.note(images.choice.sentence())
    return loaded, images.choice


@contextmanager
def open_store(out: Path, store: Path | None) -> Iterator[Store]:
    """Open the store of an output folder, or another one, and close it again."""
    opened = SqliteStore(store or out / "store")
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def stored(out: Path, store: Path | None) -> Iterator[Store]:
    """Open a store that is only read from; one that is not there is not made.

    Raises:
        InputError: There is none.
    """
    folder = store or out / "store"
    if _is_empty(folder):
        raise InputError(f"There is no store '{folder}'.", hint="Start with 'hts-compat run', or name it with --store.")
    with open_store(out, store) as opened:
        yield opened


def _is_empty(store: Path) -> bool:
    return not store.exists() or (store.is_dir() and not any(store.iterdir()))


def _unfinished(info: RunInfo) -> RunInfo:
    if info.state is RunState.COMPLETE:
        raise InputError(
            f"The run '{info.id}' is complete; nothing of it is left to do.",
            hint="Start a new run without --resume; cells that are still true are answered from the store.",
        )
    return info


@contextmanager
def interruptible(run_id: str) -> Iterator[StopSwitch]:
    """Turn the first interrupt into a clean end, and the second into an end now, with nothing left behind."""
    stop = StopSwitch()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        if not stop.requested:
            stop.request("interrupted")
            say.note("interrupted: running guests are finished and kept; again to stop now")
            return
        say.note("stopping now")
        with contextlib.suppress(HarnessError):
            sweep(run_id)
        os._exit(128 + number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _as_it_was_begun(asked: Asked, run_id: str) -> Asked:
    """Give the provider of the run that is taken up again: its cells are of that provider's images.

    Raises:
        InputError: There is no such run, or another provider was asked for.
    """
    with stored(asked.out, asked.store) as store:
        begun = store.find_run(run_id).provider
    if asked.provider not in {AUTO, begun}:
        raise InputError(
            f"The run '{run_id}' was begun with the provider '{begun}', not with '{asked.provider}'.",
            hint="Leave '--provider' out, or start a new run.",
        )
    return replace(asked, provider=begun)


def _plan(asked: Asked, loaded: LoadedSuite) -> Plan:
    try:
        return select(expand(loaded.suite), asked.keep)
    except ValueError as error:
        raise InputError(f"The filter cannot be read: {error}.", hint="Words, and, or, not, brackets.") from error


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".hts-compat-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"The folder '{out}' cannot be written.", detail=str(error), hint="Name another folder."
        ) from error


def say_result(asked: Asked, result: RunResult, plan: Plan, page: Path, *, lab: Choice | None = None) -> None:
    """Print what a run came to: a line a cell, or with ``as_json`` one JSON object and nothing else."""
    if asked.quiet:
        return
    if asked.as_json:
        say.data(
            {
                "run": result.run_id,
                "lab": None if lab is None else {"provider": lab.provider, "why": lab.why},
                "state": result.state.value,
                "attempts_made": result.attempts_made,
                "answered_from_store": result.answered_from_store,
                "set_aside": result.set_aside,
                "report": str(page),
                "cells": {
                    cell.id: {"outcome": j.outcome.value, "stage": j.stage, "reason": j.reason}
                    for cell in plan.cells
                    if (j := result.judgements.get(cell.id)) is not None
                },
            }
        )
        return
    for cell in plan.cells:
        judgement = result.judgements.get(cell.id)
        if judgement is None:
            say.line(f"{'not finished':14} {cell.id}")
            continue
        say.line(f"{judgement.outcome.value:14} {cell.id}: {judgement.reason}")
    for why in result.set_aside.values():
        say.line(why)
    say.line(f"run {result.run_id}: {result.attempts_made} guests, {result.answered_from_store} cells from the store")
    say.line(f"report: {page}")
