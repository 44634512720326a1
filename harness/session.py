"""Effects. The one way in which cells run: composes attempts and controls, retries, stores, tells listeners.

1. A control runs once and is shared by all cells that it judges; it runs again when it fails, and afresh after a
   failure that it must judge.
2. What is missing to be sure is said by the findings (``Need``), and only by them; the loop of ``_CellRun`` gives it.
3. An attempt is durable before anything is concluded from it.
4. A run that is taken up again first ends the guests that its last process left; a run that another process has taken
   up ends here, and nothing more is written.
5. An engine that is down is waited for, and ends the run when it does not come back: what is open can be resumed. An
   image whose guests are lost again and again is set aside (``standing``).
6. Cells whose end is known go before the others, and keep watch (``watch``).
7. ``stop`` ends a run cleanly: no new guest is leased, what runs is finished and kept. A full disk does the same.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Protocol

from harness import __version__
from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.errors import (
    Blame,
    DiskFull,
    HarnessError,
    HostDown,
    InputError,
    LabError,
    ProtectionNotProven,
    StoreError,
)
from harness.judge import Judged, Parsers, judge
from harness.judgement import Judgement
from harness.plan import Cell, Plan
from harness.probes import cells_of, probes_of
from harness.recorder import Recorder
from harness.rules import RULES_VERSION
from harness.run_cell import Rig, run_cell
from harness.settle import guests_wanted
from harness.slots import Slots
from harness.standing import HOST, IMAGE, Patience, Standing, failed, worked
from harness.stores.api import RunInfo, RunState, StaleClaim, StaleRun, Store
from harness.verdict import Need, Outcome
from harness.watch import NOT_ADMITTED, Watch
from harness.written import untried, written

log = logging.getLogger(__name__)

#: A cell never gets more attempts than this, whatever its findings ask for.
MAX_ATTEMPTS = 8

#: Nor more rounds of asking for what is missing: were the host's clock set back, no control would ever come after.
MAX_ROUNDS = 2 * MAX_ATTEMPTS

#: A control's failure is believed from its second guest on; a third run settles nothing more.
MAX_CONTROLS_BEFORE = 2


class Happening(StrEnum):
    """What a listener is told about."""

    RUN_STARTED = "run_started"
    ATTEMPT_STARTED = "attempt_started"
    STAGE = "stage"
    ATTEMPT_FINISHED = "attempt_finished"
    CELL_JUDGED = "cell_judged"
    WAITING = "waiting"
    SET_ASIDE = "set_aside"
    WARNED = "warned"
    RUN_FINISHED = "run_finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent:
    """Something that happened in a run. ``text`` is a stage's name or a sentence."""

    what: Happening
    run_id: str
    cell: Cell | None = None
    role: Role | None = None
    attempt_id: str | None = None
    text: str = ""
    judgement: Judgement | None = None


class Listener(Protocol):
    """Hears of a run as it goes: progress, JUnit, Allure. Called from several threads; must not raise."""

    def on(self, event: SessionEvent) -> None:
        """Take notice."""
        ...


@dataclass(slots=True)
class StopSwitch:
    """Asks a run to end: set once by the first interrupt, by a full disk, or by a caller that has seen enough."""

    _flag: threading.Event = field(default_factory=threading.Event)
    reason: str = ""

    def request(self, reason: str) -> None:
        """Ask the run to end; the first reason stays."""
        if not self._flag.is_set():
            self.reason = reason
            self._flag.set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the run is asked to end."""
        self._flag.wait(seconds)

    @property
    def requested(self) -> bool:
        """Tell whether the run was asked to end."""
        return self._flag.is_set()


class Clock(Protocol):
    """The time by which hosts and images are waited for."""

    def monotonic(self) -> float:
        """Give seconds since some moment."""
        ...

    def wait(self, seconds: float, stop: StopSwitch) -> None:
        """Let so much time pass, or less when the run is asked to end."""
        ...


class SystemClock:
    """The host's own clock."""

    def monotonic(self) -> float:
        """See ``Clock``."""
        return time.monotonic()

    def wait(self, seconds: float, stop: StopSwitch) -> None:
        """See ``Clock``."""
        stop.wait(seconds)


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


class _Stopped(Exception):
    """No new guest may be leased."""


class _SetAside(Exception):
    """No new guest may be leased from this image; the text says why."""


#: The rule of a cell whose image was set aside before it could be tried.
SET_ASIDE_RULE = "lab.set_aside"

#: Trouble of a product that does not get ready is no loss of a guest; every cell proves or disproves that by itself.
_NO_LOSS = frozenset({ProtectionNotProven.__name__})


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
    return _Session(
        plan=plan,
        rig=rig,
        store=store,
        parsers=parsers,
        options=options,
        listeners=listeners,
        stop=stop or StopSwitch(),
        clock=clock or SystemClock(),
    ).run()


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
        self.clock = clock
        self.plan = plan
        self.rig = rig
        self.store = store
        self.parsers = parsers
        self.options = options
        self.listeners = listeners
        self.stop = stop
        self.slots = Slots(options.jobs)
        self.trouble: HarnessError | None = None
        self.attempts_made = 0
        self.answered = 0
        self._answered_ids: set[str] = set()
        self._lock = threading.Lock()
        self._host = Standing()
        self._images: dict[str, Standing] = {}
        beside = [cell for cell in cells_of(probes_of(plan)) if cell.is_control]
        self._controls = {c.execution_key(): _ControlBook(self, c) for c in (*plan.controls(), *beside)}
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
            futures += [pool.submit(self._guarded, _CellRun(self, cell).run) for cell in cells]
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

    def control_of(self, cell: Cell) -> _ControlBook:
        return self._controls[cell.control().execution_key()]

    def attempt(self, cell: Cell, *, role: Role, ordinal: int, alone: bool = False) -> Attempt:
        """Make one attempt on a fresh guest and keep it; wait before, when its host or its image fails often.

        Raises:
            _Stopped: The run was asked to end.
            _SetAside: The image was set aside.
            HostDown: The engine was waited for in vain.
            DiskFull: There is no room for it.
        """
        while True:
            self._await_turn(cell)
            began = self.clock.monotonic()
            try:
                return self._attempt(cell, role=role, ordinal=ordinal, alone=alone)
            except HostDown as error:
                self._host_failed(error, began)

    def _attempt(self, cell: Cell, *, role: Role, ordinal: int, alone: bool) -> Attempt:
        with self.slots.take(alone=alone):
            if self.stop.requested:
                raise _Stopped
            claim = self.store.claim(self.options.run_id, cell, role=role, ordinal=ordinal)
            meta = AttemptMeta(
                id=claim.attempt_id,
                cell=cell,
                role=role,
                ordinal=ordinal,
                alone=alone or self.options.jobs == 1,
                nonce=secrets.token_hex(6),
                provider=self.options.provider,
                tool_version=__version__,
                started_at=datetime.now(UTC),
            )
            self.tell(Happening.ATTEMPT_STARTED, cell=cell, role=role, attempt_id=meta.id)
            began = self.clock.monotonic()
            try:
                attempt = self._run_cell(meta)
            except HostDown:
                self.tell(Happening.ATTEMPT_FINISHED, cell=cell, role=role, attempt_id=meta.id)
                raise
            with self._lock:
                self.attempts_made += 1
                self._host = worked(self._host)
            self._count_for_image(attempt, began)
            self.store.save(claim, attempt)
            self.tell(Happening.ATTEMPT_FINISHED, cell=cell, role=role, attempt_id=meta.id)
            return attempt

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

    def tell(self, what: Happening, **more: object) -> None:
        event = SessionEvent(what=what, run_id=self.options.run_id, **more)  # type: ignore[arg-type]  # names are checked by the dataclass
        for listener in self.listeners:
            try:
                listener.on(event)
            except Exception:  # who only listens must not cost an attempt
                log.exception("a listener failed at '%s'", what)

    def _run_cell(self, meta: AttemptMeta) -> Attempt:
        def on_stage(stage: str) -> None:
            self.tell(Happening.STAGE, cell=meta.cell, role=meta.role, attempt_id=meta.id, text=stage)

        recorder = Recorder(meta, mask=self.rig.mask)
        try:
            return run_cell(meta, self.rig, run_id=self.options.run_id, on_stage=on_stage, recorder=recorder)
        except (InputError, HostDown):
            raise
        except Exception as error:  # a bug of ours is lab trouble of this attempt, never a product's doing
            log.exception("attempt %s of %s failed in the harness itself", meta.id, meta.cell.id)
            recorder.record(
                Kind.TROUBLE,
                f"The harness itself failed ({type(error).__name__}).",
                data={"retryable": False, "guest_crashed": False},
                blob=traceback.format_exc().encode(errors="replace"),
            )
            return recorder.attempt()

    def _await_turn(self, cell: Cell) -> None:
        """Wait as long as the host and the cell's image must be left alone."""
        while not self.stop.requested:
            with self._lock:
                host, image = self._host, self._images.get(cell.image.content, Standing())
            if image.set_aside:
                raise _SetAside(self._why_set_aside(cell.image.name, image))
            now = self.clock.monotonic()
            wait_s = max(host.wait_s(now), image.wait_s(now))
            if wait_s <= 0:
                return
            why = host.why if host.wait_s(now) else image.why
            self.tell(Happening.WAITING, cell=cell, text=f"{wait_s:.0f} s: {why}")
            self.clock.wait(wait_s, self.stop)

    def _host_failed(self, error: HostDown, began: float) -> None:
        with self._lock:
            now = self.clock.monotonic()
            self._host = failed(self._host, self.options.host_patience, began=began, now=now, why=error.summary)
            given_up = self._host.set_aside
        if given_up:
            raise HostDown(
                f"{error.summary} It was waited for in vain.",
                detail=error.detail,
                hint=f"Start it, then go on with --resume {self.options.run_id}; what was seen is kept.",
            ) from error

    def _count_for_image(self, attempt: Attempt, began: float) -> None:
        """Count a guest that was lost, or forget the losses before one that was not."""
        image = attempt.cell.image
        trouble = next(iter(attempt.of(Kind.TROUBLE)), None)
        if trouble is not None and (trouble.data.get("guest_crashed") or trouble.data.get("error") in _NO_LOSS):
            return  # may be the product's or the build's doing
        with self._lock:
            before = self._images.get(image.content, Standing())
            if trouble is None:
                after = worked(before)
            else:
                now, patience = self.clock.monotonic(), self.options.image_patience
                after = failed(before, patience, began=began, now=now, why=trouble.subject)
            self._images[image.content] = after
        if after.set_aside and not before.set_aside:
            log.error("image %s is set aside", image.name)
            self.tell(Happening.SET_ASIDE, cell=attempt.cell, text=self._why_set_aside(image.name, after))

    @staticmethod
    def _why_set_aside(image: str, standing: Standing) -> str:
        return (
            f"The image '{image}' was set aside: {standing.failures} guests in a row were lost, the last one so:"
            f" {standing.why}"
        )

    def keep_untried(self, cell: Cell, rule: str, why: str) -> None:
        """Keep why a cell was not tried."""
        version = self.parser_version_of(cell)
        judgement = untried(cell, rule=rule, reason=why, parser_version=version, now=datetime.now(UTC))
        self.keep(cell, judgement)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do a worker's task; what ends the whole run is kept and stops the others."""
        try:
            work()
        except (_Stopped, _SetAside, StaleClaim):
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
            unsupported = cell.unsupported is not None
            judgement = Judgement(
                outcome=Outcome.UNSUPPORTED if unsupported else Outcome.INCONCLUSIVE,
                rule="declared" if unsupported else "lab.image",
                reason=cell.without_guest,
                blame=None if unsupported else Blame.LAB,
                rules_version=RULES_VERSION,
                parser_version=self.parsers(cell.product.name).version,
                judged_at=now,
            )
            self.keep(cell, judgement)
            return judgement
        if self.options.fresh:
            return None
        known = self.store.latest_judgement(cell.execution_key())
        if known is None or not self._still_counts(cell, known, now):
            return None
        try:
            attempts = self.store.attempts_by_id(known.attempts)
            controls = self.store.attempts_by_id(known.controls)
        except StoreError:
            log.warning("what answered %s before cannot be read any more; it is run again", cell.id, exc_info=True)
            return None
        judged = self.judge(attempts, attempts if cell.is_control else controls)
        if not (judged.verdict.conclusive and judged.verdict.confirmed):
            return None
        origin = known.cached_from or known.run_id
        judgement = self.keep_judged(cell, judged, attempts, controls, cached_from=origin)
        self.answered += 1
        if not cell.is_control:
            self.control_of(cell).borrowed = controls, origin
        return judgement

    def _still_counts(self, cell: Cell, known: Judgement, now: datetime) -> bool:
        """Tell whether an earlier judgement may answer a cell today."""
        suite = self.plan.suite
        seen_at = known.attempted_at or known.judged_at
        young = now - seen_at <= timedelta(seconds=suite.max_age_s)
        # The day and the cell decide who is re-run all the same, so that a run is repeatable and all get their turn.
        drawn = random.Random(f"{now:%Y-%m-%d}/{cell.execution_key()}").random() < suite.recheck_share  # noqa: S311
        settled = known.confirmed and known.outcome is not Outcome.INCONCLUSIVE and bool(known.attempts)
        return settled and young and not known.cloud and not drawn

    def _judge_control(self, book: _ControlBook, *, known: Judgement | None) -> None:
        """Judge a control by all of its attempts, when all cells have asked what they wanted of it.

        When this run made none, those are looked at by which its cells were answered from the store.
        """
        book.load()
        if book.cell.id in self._answered_ids and not book.attempts:
            return
        attempts, origin = (book.attempts, None) if book.attempts else book.borrowed
        standing = self._images.get(book.cell.image.content, Standing())
        if not attempts and standing.set_aside and known is None:
            self.keep_untried(book.cell, SET_ASIDE_RULE, self._why_set_aside(book.cell.image.name, standing))
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
            attempts_made=self.attempts_made,
            answered_from_store=self.answered,
            trouble=self.trouble,
            set_aside=self._set_aside(),
        )

    def _set_aside(self) -> dict[str, str]:
        names = {cell.image.content: cell.image.name for cell in self.plan.cells}
        aside = {content: standing for content, standing in self._images.items() if standing.set_aside}
        return {names[content]: self._why_set_aside(names[content], standing) for content, standing in aside.items()}

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


class _ControlBook:
    """All control attempts of one control cell, made once and shared."""

    def __init__(self, session: _Session, cell: Cell) -> None:
        self._session = session
        self.cell = cell
        self._making = threading.Lock()
        self._attempts: list[Attempt] = []
        #: The controls of a cell that was answered from the store, and the run that made them.
        self.borrowed: tuple[Sequence[Attempt], str | None] = ((), None)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Give what there is so far."""
        return tuple(self._attempts)

    def ensure_first(self) -> None:
        """Make the first control, and a second one when it fails or the lab had trouble."""
        self.load()
        with self._making:
            while len(self._before()) < MAX_CONTROLS_BEFORE and not self._settled():
                self._make(Role.CONTROL)

    def ensure_second(self) -> None:
        """Make controls until two are there that were not made after a failure."""
        with self._making:
            while len(self._before()) < MAX_CONTROLS_BEFORE:
                self._make(Role.CONTROL)

    def ensure_after(self, moment: datetime) -> None:
        """Make a control that began after a moment, unless there is one."""
        with self._making:
            if not any(a.meta.started_at > moment for a in self._attempts if a.meta.role is Role.CONTROL_AFTER):
                self._make(Role.CONTROL_AFTER)

    def load(self) -> None:
        """Take over what the run that is resumed has made already."""
        with self._making:
            if self._session.options.resume and not self._attempts:
                self._attempts.extend(self._session.store.attempts(self._session.options.run_id, self.cell))

    def _settled(self) -> bool:
        if not self._attempts:
            return False
        return self._session.judge(self._attempts, self._attempts).verdict.outcome is Outcome.COMPATIBLE

    def _before(self) -> list[Attempt]:
        return [a for a in self._attempts if a.meta.role is Role.CONTROL]

    def _make(self, role: Role) -> None:
        ordinal = 1 + sum(a.meta.role is role for a in self._attempts)
        self._attempts.append(self._session.attempt(self.cell, role=role, ordinal=ordinal))


class _CellRun:
    """One cell, from its first attempt to its judgement."""

    def __init__(self, session: _Session, cell: Cell) -> None:
        self._session = session
        self._cell = cell
        self._book = session.control_of(cell)
        self._attempts: list[Attempt] = []

    def run(self) -> None:
        """Make attempts until the findings ask for nothing more, then keep the judgement."""
        try:
            judged, controls = self._tried()
        except _SetAside as error:
            if not self._attempts:
                self._session.keep_untried(self._cell, SET_ASIDE_RULE, str(error))
                return
            judged, controls = self._judge()
        self._session.keep_judged(self._cell, judged, self._attempts, controls)
        self._session.watch.judged_one()

    def _tried(self) -> tuple[Judged, tuple[Attempt, ...]]:
        self._load()
        if not self._attempts:
            self._make(Role.FIRST)
        self._book.ensure_first()
        judged, controls = self._judge()
        for _ in range(MAX_ROUNDS):
            if len(self._attempts) >= MAX_ATTEMPTS or not self._give(self._wanted(judged)):
                break
            judged, controls = self._judge()
        return judged, controls

    def _load(self) -> None:
        if self._session.options.resume:
            stored = self._session.store.attempts(self._session.options.run_id, self._cell)
            self._attempts.extend(a for a in stored if a.meta.role is not Role.SENTINEL)

    def _judge(self) -> tuple[Judged, tuple[Attempt, ...]]:
        """Judge by the controls that there are now; other cells may add to them at any time."""
        controls = self._book.attempts
        return self._session.judge(self._attempts, controls), controls

    def _wanted(self, judged: Judged) -> Need | None:
        """Give what is needed most, cheapest first; None when nothing would let us say more."""
        needs = frozenset[Need]().union(*(finding.needs for finding in judged.findings))
        telling = [f for f in judged.findings if Need.RETRY not in f.needs]
        retries = len(judged.findings) - len(telling)
        if Need.RETRY in needs and not telling and retries <= self._session.plan.suite.retries:
            return Need.RETRY
        if Need.CONTROL in needs and len(self._controls_before()) < MAX_CONTROLS_BEFORE:
            return Need.CONTROL
        if Need.CONTROL_AFTER in needs and not self._was_controlled_after():
            return Need.CONTROL_AFTER
        if Need.ALONE in needs and not any(a.meta.alone for a in self._attempts):
            return Need.ALONE
        # A timeout beside other guests convicts nobody, so it confirms nothing either.
        sure = [f for f in telling if Need.ALONE not in f.needs]
        if Need.CONFIRM in needs and len(sure) < guests_wanted(sure, confirm=self._session.plan.suite.confirm):
            return Need.CONFIRM
        return None

    def _give(self, need: Need | None) -> bool:
        match need:
            case None:
                return False
            case Need.RETRY:
                self._make(Role.RETRY)
            case Need.CONTROL:
                self._book.ensure_second()
            case Need.CONTROL_AFTER:
                self._book.ensure_after(self._last_end())
            case Need.ALONE:
                self._make(Role.CONFIRM, alone=True)
            case Need.CONFIRM:
                self._make(Role.CONFIRM, alone=any(a.meta.alone for a in self._attempts))
        return True

    def _controls_before(self) -> list[Attempt]:
        return [a for a in self._book.attempts if a.meta.role is Role.CONTROL]

    def _last_end(self) -> datetime:
        return max(a.meta.finished_at or a.meta.started_at for a in self._attempts)

    def _was_controlled_after(self) -> bool:
        after = [a for a in self._book.attempts if a.meta.role is Role.CONTROL_AFTER]
        return any(a.meta.started_at > self._last_end() for a in after)

    def _make(self, role: Role, *, alone: bool = False) -> None:
        ordinal = 1 + sum(a.meta.role is role for a in self._attempts)
        self._attempts.append(self._session.attempt(self._cell, role=role, ordinal=ordinal, alone=alone))
