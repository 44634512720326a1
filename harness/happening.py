"""Pure. What a run tells those who listen: progress, JUnit, Allure, the pytest plugin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from harness.attempt import Role
from harness.judgement import Judgement
from harness.plan import Cell


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


class Tell(Protocol):
    """Tells every listener of a run; the arguments are those of ``SessionEvent``."""

    def __call__(
        self,
        what: Happening,
        *,
        cell: Cell | None = None,
        role: Role | None = None,
        attempt_id: str | None = None,
        text: str = "",
        judgement: Judgement | None = None,
    ) -> None:
        """Tell."""
        ...
