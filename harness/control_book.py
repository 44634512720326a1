"""Effects. All control attempts of one control cell, made once and shared by all cells that it judges."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from harness.attempt import Attempt, Role
from harness.judge import Judged
from harness.plan import Cell
from harness.verdict import Outcome

#: A control's failure is believed from its second guest on; a third run settles nothing more.
MAX_CONTROLS_BEFORE = 2


class Lab(Protocol):
    """What a session lends."""

    def attempt(self, cell: Cell, *, role: Role, ordinal: int) -> Attempt:
        """Make one attempt on a fresh guest and keep it."""
        ...

    def made_before(self, cell: Cell) -> Sequence[Attempt]:
        """Give what the run that is taken up again has made of a cell already; nothing for a new run."""
        ...

    def judge(self, attempts: Sequence[Attempt], controls: Sequence[Attempt]) -> Judged:
        """Judge by today's parsers and rules."""
        ...


class ControlBook:
    """The control attempts of one cell.

    Args:
        lab: The session.
        cell: The control cell.
    """

    def __init__(self, lab: Lab, cell: Cell) -> None:
        self._lab = lab
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
            if not self._attempts:
                self._attempts.extend(self._lab.made_before(self.cell))

    def _settled(self) -> bool:
        if not self._attempts:
            return False
        return self._lab.judge(self._attempts, self._attempts).verdict.outcome is Outcome.COMPATIBLE

    def _before(self) -> list[Attempt]:
        return [a for a in self._attempts if a.meta.role is Role.CONTROL]

    def _make(self, role: Role) -> None:
        ordinal = 1 + sum(a.meta.role is role for a in self._attempts)
        self._attempts.append(self._lab.attempt(self.cell, role=role, ordinal=ordinal))
