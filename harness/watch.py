"""Effects. Cells whose end is known: they admit a product on an image before its cells run, and keep watch meanwhile.

1. A product is tried on an image only when the known good and the known bad cell came out right there. The record is in
   the store, for all runs; it is made by the first run that needs it.
2. Sentinels are made after every so many judged cells and at the end. A wrong one takes back all that was judged since
   it was last right; attempts stay, and a verdict that was taken back says what it was.
3. A known cell that the lab lost is tried again, as often as any cell. One that then still could not tell is wrong:
   a lab that cannot prove what is known proves nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from harness.attempt import Attempt, Role
from harness.judge import Judged
from harness.judgement import Judgement
from harness.plan import Cell, Plan
from harness.probes import Known, Probe, probes_of, sentinels_of
from harness.sentinels import Sighting, Span, since, withdrawn, withdrawn_by
from harness.stores.api import Store
from harness.verdict import Need

#: The rule of a cell whose product was not admitted on its image.
NOT_ADMITTED = "image.not_admitted"


class Lab(Protocol):
    """What a session lends."""

    store: Store
    plan: Plan

    @property
    def run_id(self) -> str:
        """Name the run."""
        ...

    def attempt(self, cell: Cell, *, role: Role, ordinal: int) -> Attempt:
        """Make one attempt on a fresh guest and keep it."""
        ...

    def controls_for(self, cell: Cell) -> Sequence[Attempt]:
        """Give the cell's controls, made if need be."""
        ...

    def judge(self, attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> Judged:
        """Judge by today's parsers and rules."""
        ...

    def keep_judged(
        self, cell: Cell, judged: Judged, attempts: Sequence[Attempt], controls: Sequence[Attempt]
    ) -> Judgement:
        """Write a judgement down and keep it."""
        ...

    def keep(self, cell: Cell, judgement: Judgement) -> None:
        """Keep a judgement."""
        ...

    def warn(self, cell: Cell, text: str) -> None:
        """Tell who listens that a known cell came out wrong."""
        ...

    def parser_version_of(self, cell: Cell) -> int:
        """Give the version of the cell's parser."""
        ...


class _Look(NamedTuple):
    """One try of a known cell, with what it was judged by."""

    attempt: Attempt
    judged: Judged
    controls: Sequence[Attempt]


class Watch:
    """The known cells of one run.

    Args:
        lab: The session.
        taken_up: The run was begun by another process: what its sentinels saw is in the store.
    """

    def __init__(self, lab: Lab, *, taken_up: bool) -> None:
        self._lab = lab
        self._taken_up = taken_up
        self._probes = probes_of(lab.plan)
        self._sentinels = sentinels_of(lab.plan)
        self._admits = lab.plan.suite.admission
        self._refused: list[tuple[Probe, str]] = []
        self._sightings: list[Sighting] = []
        self._unwatched = 0  # judged cells behind which no sentinel was seen
        self._claimed = 0  # those of them for which a worker is about to look
        self._lock = threading.Lock()
        self._looking = threading.Lock()

    def load(self, done: Mapping[str, Judgement]) -> None:
        """Take over what an earlier process of the run has seen, and judged since."""
        if not self._taken_up or not self._sentinels:
            return
        for known in self._sentinels:
            lost = 0
            for attempt in self._attempts_of(known.cell):
                found = self._judged(known, attempt)
                lost = lost + 1 if _is_lost(found) else 0
                # One that was to be tried again says nothing; the process died in between, or the next one says it.
                if lost in {0, self._lab.plan.suite.retries + 1}:
                    self._note(known, found)
                    lost = 0
        self._unwatched = len(done)

    # --- admission ----------------------------------------------------------------------------------------------------

    def probes_for(self, cells: Sequence[Cell]) -> list[Probe]:
        """Give the probes that must be right before these cells may run."""
        return [p for p in self._probes if self._admits and any(p.is_for(cell) for cell in cells)]

    def admit(self, probe: Probe, done: Mapping[str, Judgement]) -> None:
        """Find out whether a product may be tried on an image: from the run, from the store, or by guests."""
        for known in probe:
            verdict = self._verdict_of(known, done)
            if not known.admits(verdict.outcome):
                self._refuse(probe, f"the {known.name} cell came out {verdict.outcome.value}: {verdict.reason}")
                return

    def _refuse(self, probe: Probe, told: str) -> None:
        cell = probe.good.cell
        product = f"{cell.product.name}-{cell.product.profile}"
        why = f"'{product}' was not admitted on the image '{cell.image.name}': {told}"
        with self._lock:
            self._refused.append((probe, why))
        self._lab.warn(cell, why)

    def why_refused(self, cell: Cell) -> str | None:
        """Say why a cell may not run; None when it may."""
        return next((why for probe, why in self._refused if probe.is_for(cell)), None)

    def _verdict_of(self, known: Known, done: Mapping[str, Judgement]) -> Judgement:
        in_run = done.get(known.cell.id)
        if in_run is not None:
            return in_run
        on_record = self._lab.store.latest_judgement(known.cell.execution_key())
        current = on_record is not None and on_record.parser_version == self._lab.parser_version_of(known.cell)
        if on_record is not None and current and known.admits(on_record.outcome):
            again = on_record.model_copy(update={"cached_from": on_record.cached_from or on_record.run_id})
            self._lab.keep(known.cell, again)
            return again
        found = self._look_at(known)
        return self._lab.keep_judged(known.cell, found.judged, [found.attempt], found.controls)

    # --- sentinels ----------------------------------------------------------------------------------------------------

    def judged_one(self) -> None:
        """Count a judged cell; look at the sentinels when it is time."""
        wanted = self._lab.plan.suite.sentinels
        if wanted is None:
            return
        with self._lock:
            self._unwatched += 1
            fresh = self._unwatched - self._claimed
            if fresh < wanted.every:
                return
            self._claimed += fresh
        self._look_around(fresh)

    def end(self) -> None:
        """Look at the sentinels for the last time, unless nothing was judged since the time before."""
        if not self.over:
            self._look_around(self._unwatched)

    @property
    def over(self) -> bool:
        """Tell whether sentinels were seen after every judged cell: before that, a run is not complete."""
        return self._unwatched == 0 or not self._sentinels

    def withdraw(self) -> None:
        """Take back what wrong sentinels leave unsure; does nothing twice."""
        if all(sighting.right for sighting in self._sightings):
            return
        store, run_id = self._lab.store, self._lab.run_id
        judgements, began = store.judgements(run_id), store.find_run(run_id).started_at
        for cell in {c.id: c for c in (*self._lab.plan.cells, *self._lab.plan.controls())}.values():
            known = judgements.get(cell.id)
            if known is None or known.withdrawn_by is not None or known.cached_from is not None or not known.attempts:
                continue
            spans = [_span(a) for a in store.attempts_by_id([*known.attempts, *known.controls])]
            wrong = withdrawn_by(spans, self._sightings, run_began=began)
            if wrong is not None:
                last_right = since(wrong, self._sightings, run_began=began)
                self._lab.keep(cell, withdrawn(known, wrong, last_right, now=datetime.now(UTC)))

    def _look_around(self, judged: int) -> None:
        """Look at all sentinels, and watch so many judged cells by it."""
        with self._looking:
            for known in self._sentinels:
                found = self._look_at(known)
                if known.cell not in self._lab.plan.cells:
                    self._lab.keep_judged(known.cell, found.judged, [found.attempt], found.controls)
            self.withdraw()
            with self._lock:
                self._unwatched -= judged
                self._claimed = max(self._claimed - judged, 0)

    def _look_at(self, known: Known) -> _Look:
        """Try a known cell until it is right, or is wrong for another reason than a loss of ours."""
        retries = self._lab.plan.suite.retries
        found = self._try(known)
        while retries > 0 and _is_lost(found):
            retries -= 1
            found = self._try(known)
        self._note(known, found)
        return found

    def _try(self, known: Known) -> _Look:
        ordinal = 1 + len(self._attempts_of(known.cell))
        return self._judged(known, self._lab.attempt(known.cell, role=Role.SENTINEL, ordinal=ordinal))

    def _judged(self, known: Known, attempt: Attempt) -> _Look:
        """Judge one try. What the product denied needs no control; all else does, to say why."""
        judged = self._lab.judge([attempt], ())
        if known.bad and known.is_right(judged.verdict.outcome):
            return _Look(attempt, judged, ())
        controls = self._lab.controls_for(known.cell)
        return _Look(attempt, self._lab.judge([attempt], controls), controls)

    def _note(self, known: Known, found: _Look) -> None:
        if known not in self._sentinels:
            return
        verdict = found.judged.verdict
        right = known.is_right(verdict.outcome)
        told = f"the {known.name} sentinel {known.cell.id} came out {verdict.outcome.value}: {verdict.reason}"
        sighting = Sighting(known.cell.id, found.attempt.meta.id, _span(found.attempt), right, told)
        with self._lock:
            self._sightings.append(sighting)
        if not right:
            self._lab.warn(known.cell, told)

    def _attempts_of(self, cell: Cell) -> list[Attempt]:
        stored = self._lab.store.attempts(self._lab.run_id, cell)
        return [attempt for attempt in stored if attempt.meta.role is Role.SENTINEL]


def _is_lost(found: _Look) -> bool:
    return any(Need.RETRY in finding.needs for finding in found.judged.findings)


def _span(attempt: Attempt) -> Span:
    meta = attempt.meta
    return Span(meta.started_at, meta.finished_at or meta.started_at)
