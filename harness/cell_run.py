"""Effects. One cell, from its first attempt to its judgement.

What is missing to be sure is said by the findings (``Need``), and only by them; the loop here gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from harness.attempt import Attempt, Role
from harness.control_book import MAX_CONTROLS_BEFORE, ControlBook
from harness.judge import Judged
from harness.judgement import Judgement
from harness.plan import Cell, Suite
from harness.settle import guests_wanted
from harness.turns import SET_ASIDE_RULE, SetAside
from harness.verdict import Need

#: A cell never gets more attempts than this, whatever its findings ask for.
MAX_ATTEMPTS = 8

#: Nor more rounds of asking for what is missing: were the host's clock set back, no control would ever come after.
MAX_ROUNDS = 2 * MAX_ATTEMPTS


class Lab(Protocol):
    """What a session lends."""

    def attempt(self, cell: Cell, *, role: Role, ordinal: int, alone: bool = False) -> Attempt:
        """Make one attempt on a fresh guest and keep it."""
        ...

    def made_before(self, cell: Cell) -> Sequence[Attempt]:
        """Give what the run that is taken up again has made of a cell already; nothing for a new run."""
        ...

    def judge(self, attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> Judged:
        """Judge by today's parsers and rules."""
        ...

    def keep_judged(
        self, cell: Cell, judged: Judged, attempts: Sequence[Attempt], controls: Sequence[Attempt]
    ) -> Judgement:
        """Write a judgement down and keep it."""
        ...

    def keep_untried(self, cell: Cell, rule: str, why: str) -> None:
        """Keep why a cell was not tried."""
        ...


class CellRun:
    """One cell of a run.

    Args:
        lab: The session.
        cell: The cell; no control.
        book: Its controls.
        suite: Says how often to confirm and to retry.
    """

    def __init__(self, lab: Lab, cell: Cell, *, book: ControlBook, suite: Suite) -> None:
        self._lab = lab
        self._cell = cell
        self._book = book
        self._suite = suite
        self._attempts: list[Attempt] = []

    def run(self) -> bool:
        """Make attempts until the findings ask for nothing more, then keep the judgement; False: it was not tried."""
        try:
            judged, controls = self._tried()
        except SetAside as error:
            if not self._attempts:
                self._lab.keep_untried(self._cell, SET_ASIDE_RULE, str(error))
                return False
            judged, controls = self._judge()
        self._lab.keep_judged(self._cell, judged, self._attempts, controls)
        return True

    def _tried(self) -> tuple[Judged, tuple[Attempt, ...]]:
        self._attempts.extend(a for a in self._lab.made_before(self._cell) if a.meta.role is not Role.SENTINEL)
        if not self._attempts:
            self._make(Role.FIRST)
        self._book.ensure_first()
        judged, controls = self._judge()
        for _ in range(MAX_ROUNDS):
            if len(self._attempts) >= MAX_ATTEMPTS or not self._give(self._wanted(judged)):
                break
            judged, controls = self._judge()
        return judged, controls

    def _judge(self) -> tuple[Judged, tuple[Attempt, ...]]:
        """Judge by the controls that there are now; other cells may add to them at any time."""
        controls = self._book.attempts
        return self._lab.judge(self._attempts, controls), controls

    def _wanted(self, judged: Judged) -> Need | None:
        """Give what is needed most, cheapest first; None when nothing would let us say more."""
        needs = frozenset[Need]().union(*(finding.needs for finding in judged.findings))
        telling = [f for f in judged.findings if Need.RETRY not in f.needs]
        retries = len(judged.findings) - len(telling)
        if Need.RETRY in needs and not telling and retries <= self._suite.retries:
            return Need.RETRY
        if Need.CONTROL in needs and len(self._controls_before()) < MAX_CONTROLS_BEFORE:
            return Need.CONTROL
        if Need.CONTROL_AFTER in needs and not self._was_controlled_after():
            return Need.CONTROL_AFTER
        if Need.ALONE in needs and not any(a.meta.alone for a in self._attempts):
            return Need.ALONE
        # A timeout beside other guests convicts nobody, so it confirms nothing either.
        sure = [f for f in telling if Need.ALONE not in f.needs]
        if Need.CONFIRM in needs and len(sure) < guests_wanted(sure, confirm=self._suite.confirm):
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
        self._attempts.append(self._lab.attempt(self._cell, role=role, ordinal=ordinal, alone=alone))
