"""Effects. The one way in which cells run: composes attempts and controls, answers from the store, tells listeners.

1. A control runs once and is shared by all cells that it judges (``control_book``); it runs again when it fails, and
   afresh after a failure that it must judge.
2. What is missing to be sure is said by the findings; ``cell_run`` gives it, ``attempt_maker`` on fresh guests.
3. A run that is taken up again first ends the guests that its last process left; a run that another process has taken
   up ends here, and nothing more is written.
4. What fails often is waited for, and then given up (``turns``).
5. Cells whose end is known go before the others, and keep watch (``watch``).
6. ``stop`` ends a run cleanly: no new guest is leased, what runs is finished and kept. A full disk does the same.
7. Guests that a provider keeps ready end with the run, however it ends.
"""

from __future__ import annotations

import logging
import secrets
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from harness import __version__
from harness.attempt import Attempt, Role
from harness.attempt_maker import AttemptMaker, Stopped
from harness.cell_run import CellRun
from harness.control_book import ControlBook
from harness.errors import DiskFull, HarnessError, LabError
from harness.from_store import answer_from_store
from harness.happening import Happening, Listener, SessionEvent
from harness.judge import Judged, Parsers, judge
from harness.judgement import Judgement
from harness.plan import Cell, Plan
from harness.probes import cells_of, probes_of
from harness.providers.api import KeepsGuestsReady
from harness.run_cell import Rig
from harness.standing import HOST, IMAGE, Patience
from harness.stop_switch import Clock, StopSwitch, SystemClock
from harness.stores.api import RunInfo, RunState, StaleClaim, StaleRun, Store
from harness.turns import SET_ASIDE_RULE, SetAside, Turns
from harness.watch import NOT_ADMITTED, Watch
from harness.written import guestless, untried, written

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a run is made.

    Attributes:
        fresh: Answer no cell from the store.
        resume: The run is in the store already; only what it lacks is run.
        host_patience, image_patience: When an engine is given up, and when an image is set aside.
    """

    run_id: str
    jobs: int
    provider: str
    fresh: bool = False
    resume: bool = False
    host_patience: Patience = HOST
    image_patience: Patience = IMAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run came to. ``trouble`` is the error that ended it early, if one did; ``set_aside`` says why by image."""

    run_id: str
    state: RunState
    judgements: dict[str, Judgement]
    attempts_made: int
    answered_from_store: int
    trouble: HarnessError | None = None
    set_aside: dict[str, str] = field(default_factory=dict)


def new_run_id(suite: str, now: datetime) -> str:
    """Name a run: its time, its suite, and four characters that keep two runs of one second apart."""
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{suite}-{secrets.token_hex(2)}"


def run(
    plan: Plan,
    *,
    rig: Rig,
    store: Store,
    parsers: Parsers,
    options: Options,
    listeners: Sequence[Listener] = (),
    stop: StopSwitch | None = None,
    clock: Clock | None = None,
) -> RunResult:
    """Run every cell of a plan that the store cannot answer, and judge all of them.

    Args:
        plan: What is asked. Its suite says how often to confirm and to retry.
        rig: Where guests come from.
        store: Where attempts and judgements are kept. The run is made in it, or taken up again (``options.resume``).
        parsers: Gives each product's parser.
        options: How.
        listeners: Hear of everything as it happens.
        stop: Ends the run early when asked.
        clock: By which what fails often is waited for; the host's own when None.

    Returns:
        The run's state and the judgement of each cell, controls included.

    Raises:
        InputError: The input turned out wrong while running; nothing is lost.
        StoreError: The store cannot be used at all, or another process drives the run.
    """
    session = _Session(
        plan=plan,
        rig=rig,
        store=store,
        parsers=parsers,
        options=options,
        listeners=listeners,
        stop=stop or StopSwitch(),
        clock=clock or SystemClock(),
    )
    try:
        return session.run()
    finally:
        if isinstance(rig.provider, KeepsGuestsReady):
            rig.provider.close()


class _Session:
    def __init__(
        self,
        *,
        plan: Plan,
        rig: Rig,
        store: Store,
        parsers: Parsers,
        options: Options,
        listeners: Sequence[Listener],
        stop: StopSwitch,
        clock: Clock,
    ) -> None:
        self.plan = plan
        self.rig = rig
        self.store = store
        self.parsers = parsers
        self.options = options
        self.listeners = listeners
        self.stop = stop
        self.trouble: HarnessError | None = None
        self.answered = 0
        self._answered_ids: set[str] = set()
        self._lock = threading.Lock()
        self._turns = Turns(
            clock=clock,
            stop=stop,
            tell=self.tell,
            host=options.host_patience,
            image=options.image_patience,
            run_id=options.run_id,
        )
        self._maker = AttemptMaker(
            rig=rig,
            store=store,
            run_id=options.run_id,
            provider=options.provider,
            jobs=options.jobs,
            turns=self._turns,
            stop=stop,
            clock=clock,
            tell=self.tell,
        )
        beside = [cell for cell in cells_of(probes_of(plan)) if cell.is_control]
        self._controls = {c.execution_key(): ControlBook(self, c) for c in (*plan.controls(), *beside)}
        self.watch = Watch(self, taken_up=options.resume)

    def run(self) -> RunResult:
        started = datetime.now(UTC)
        if self.options.resume:
            self.store.resume_run(self.options.run_id)
            self._guarded(self._sweep)
        else:
            self.store.start_run(self._info(started), self.plan)
        self.tell(Happening.RUN_STARTED, text=f"{len(self.plan.cells)} cells")
        done = self.store.judgements(self.options.run_id)
        open_cells = [c for c in self.plan.cells if c.id not in done]
        self._guarded(partial(self._answer_all, open_cells))
        unanswered = [c for c in open_cells if c.id not in self._answered_ids]
        cells = [c for c in unanswered if not c.is_control and c.without_guest is None]
        self._guarded(partial(self.watch.load, done))
        with ThreadPoolExecutor(max_workers=self.options.jobs, thread_name_prefix="cell") as pool:
            admissions = [partial(self.watch.admit, probe, done) for probe in self.watch.probes_for(cells)]
            list(pool.map(self._guarded, admissions))
            cells = [c for c in cells if not self._refused(c)]
            wanted = {c.control().execution_key() for c in (*cells, *(u for u in unanswered if u.is_control))}
            # Controls first: when a cell's turn comes, its control has been begun by a worker, so waiting for it ends.
            first = [book for key, book in self._controls.items() if key in wanted]
            futures: list[Future[None]] = [pool.submit(self._guarded, book.ensure_first) for book in first]
            futures += [pool.submit(self._guarded, partial(self._run_cell, cell)) for cell in cells]
            for future in futures:
                future.result()
        self._guarded(self.watch.end)
        for book in self._controls.values():
            self._guarded(partial(self._judge_control, book, known=done.get(book.cell.id)))
        self._guarded(self.watch.withdraw)
        self._guarded(self._tie_up)
        return self._finish()

    @property
    def run_id(self) -> str:
        """Name the run."""
        return self.options.run_id

    def controls_for(self, cell: Cell) -> Sequence[Attempt]:
        """Give a cell's controls, made if need be."""
        book = self.control_of(cell)
        book.ensure_first()
        return book.attempts

    def parser_version_of(self, cell: Cell) -> int:
        """Give the version of a cell's parser."""
        return self.parsers(cell.product.name).version

    def warn(self, cell: Cell, text: str) -> None:
        """Tell that a known cell came out wrong."""
        log.error("%s", text)
        self.tell(Happening.WARNED, cell=cell, text=text)

    def _run_cell(self, cell: Cell) -> None:
        if CellRun(self, cell, book=self.control_of(cell), suite=self.plan.suite).run():
            self.watch.judged_one()

    def _refused(self, cell: Cell) -> bool:
        why = self.watch.why_refused(cell)
        if why is not None:
            self._guarded(partial(self.keep_untried, cell, NOT_ADMITTED, why))
        return why is not None

    def _tie_up(self) -> None:
        """Say of controls and probes that nobody asked for that they were not needed, so that the run is whole."""
        if self.stop.requested:
            return
        left = self.store.unfinished(self.options.run_id)
        own = {cell.id for cell in self.plan.cells}
        if any(cell.id in own for cell in left):
            return
        for cell in left:
            if not self.store.attempts(self.options.run_id, cell):
                version, why = self.parser_version_of(cell), "No cell of this run needed it."
                made = untried(cell, rule="nothing.ran", reason=why, parser_version=version, now=datetime.now(UTC))
                self.store.add_judgement(self.options.run_id, cell, made)

    def control_of(self, cell: Cell) -> ControlBook:
        return self._controls[cell.control().execution_key()]

    def attempt(self, cell: Cell, *, role: Role, ordinal: int, alone: bool = False) -> Attempt:
        """Make one attempt on a fresh guest and keep it; see ``AttemptMaker``."""
        return self._maker.attempt(cell, role=role, ordinal=ordinal, alone=alone)

    def made_before(self, cell: Cell) -> Sequence[Attempt]:
        """Give what the run has made of a cell already, if it is taken up again."""
        return self.store.attempts(self.options.run_id, cell) if self.options.resume else ()

    def judge(self, attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> Judged:
        """Judge by today's parsers and rules."""
        return judge(attempts, controls, parsers=self.parsers, confirm=self.plan.suite.confirm)

    def keep(self, cell: Cell, judgement: Judgement) -> None:
        made_here = judgement.model_copy(update={"run_id": self.options.run_id})
        self.store.add_judgement(self.options.run_id, cell, made_here)
        self.tell(Happening.CELL_JUDGED, cell=cell, judgement=made_here)

    def keep_judged(
        self,
        cell: Cell,
        judged: Judged,
        attempts: Sequence[Attempt],
        controls: Sequence[Attempt],
        *,
        cached_from: str | None = None,
    ) -> Judgement:
        judgement = written(
            cell,
            judged,
            attempts,
            controls,
            parser_version=self.parsers(cell.product.name).version,
            now=datetime.now(UTC),
            cached_from=cached_from,
        )
        self.keep(cell, judgement)
        return judgement

    def tell(
        self,
        what: Happening,
        *,
        cell: Cell | None = None,
        role: Role | None = None,
        attempt_id: str | None = None,
        text: str = "",
        judgement: Judgement | None = None,
    ) -> None:
        """Tell every listener."""
        event = SessionEvent(
            what=what,
            run_id=self.options.run_id,
            cell=cell,
            role=role,
            attempt_id=attempt_id,
            text=text,
            judgement=judgement,
        )
        for listener in self.listeners:
            try:
                listener.on(event)
            except Exception:  # who only listens must not cost an attempt
                log.exception("a listener failed at '%s'", what)

    def keep_untried(self, cell: Cell, rule: str, why: str) -> None:
        """Keep why a cell was not tried."""
        version = self.parser_version_of(cell)
        judgement = untried(cell, rule=rule, reason=why, parser_version=version, now=datetime.now(UTC))
        self.keep(cell, judgement)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do a worker's task; what ends the whole run is kept and stops the others."""
        try:
            work()
        except (Stopped, SetAside, StaleClaim):
            return
        except HarnessError as error:
            self._end_early(error)
        except Exception as error:  # a bug in a parser or a rule: what is durable stays, and can be judged again
            log.exception("the run ends early")
            self._end_early(
                LabError(
                    f"The harness itself failed while judging ({type(error).__name__}: {error}).",
                    detail=traceback.format_exc(),
                    hint="What was seen is kept; go on with --resume when this is repaired.",
                )
            )

    def _sweep(self) -> None:
        """End the guests that the run's last process left: the store says that nobody drives the run but us."""
        left = self.rig.provider.sweep(self.options.run_id)
        if left:
            log.warning("%d guests of the run's last process were still there; they are ended", left)

    def _end_early(self, error: HarnessError) -> None:
        with self._lock:
            self.trouble = self.trouble or error
        self.stop.request(error.summary)
        if isinstance(error, DiskFull):
            log.error("the disk is full: no new guest is leased")

    def _answer_all(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            if self.stop.requested:
                return
            if self._answer(cell) is not None:
                self._answered_ids.add(cell.id)

    def _answer(self, cell: Cell) -> Judgement | None:
        """Answer a cell without a guest: it cannot have one, or an earlier judgement still holds."""
        now = datetime.now(UTC)
        if cell.without_guest is not None:
            judgement = guestless(cell, cell.without_guest, parser_version=self.parser_version_of(cell), now=now)
            self.keep(cell, judgement)
            return judgement
        if self.options.fresh:
            return None
        found = answer_from_store(cell, store=self.store, suite=self.plan.suite, judge=self.judge, now=now)
        if found is None:
            return None
        judgement = self.keep_judged(cell, found.judged, found.attempts, found.controls, cached_from=found.origin)
        self.answered += 1
        if not cell.is_control:
            self.control_of(cell).borrowed = found.controls, found.origin
        return judgement

    def _judge_control(self, book: ControlBook, *, known: Judgement | None) -> None:
        """Judge a control by all of its attempts, when all cells have asked what they wanted of it.

        When this run made none, those are looked at by which its cells were answered from the store.
        """
        book.load()
        if book.cell.id in self._answered_ids and not book.attempts:
            return
        attempts, origin = (book.attempts, None) if book.attempts else book.borrowed
        aside = self._turns.why_set_aside(book.cell.image)
        if not attempts and aside is not None and known is None:
            self.keep_untried(book.cell, SET_ASIDE_RULE, aside)
            return
        if not attempts or (known is not None and set(known.attempts) == {a.meta.id for a in attempts}):
            return
        judged = self.judge(attempts, attempts)
        self.keep_judged(book.cell, judged, attempts, (), cached_from=origin)

    def _finish(self) -> RunResult:
        judgements = self.store.judgements(self.options.run_id)
        whole = not self.store.unfinished(self.options.run_id) and self.watch.over
        state = RunState.COMPLETE if whole else RunState.INTERRUPTED
        try:
            self.store.finish_run(self.options.run_id, at=datetime.now(UTC), state=state)
        except (DiskFull, StaleRun) as error:  # the run stays open in the store, and can be resumed
            self._end_early(error)
            state = RunState.INTERRUPTED
        self.tell(Happening.RUN_FINISHED, text=state.value)
        return RunResult(
            run_id=self.options.run_id,
            state=state,
            judgements=judgements,
            attempts_made=self._maker.made,
            answered_from_store=self.answered,
            trouble=self.trouble,
            set_aside=self._turns.set_aside(cell.image for cell in self.plan.cells),
        )

    def _info(self, started: datetime) -> RunInfo:
        suite = self.plan.suite
        return RunInfo(
            id=self.options.run_id,
            suite=suite.name,
            lab=suite.lab.value,
            provider=self.options.provider,
            tool_version=__version__,
            started_at=started,
            finished_at=None,
            state=RunState.RUNNING,
            drill=suite.drill,
            expected_cells=len(self.plan.cells),
        )
