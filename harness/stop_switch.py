"""Effects. What ends a run early, and the clock by which a run waits."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Protocol


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
