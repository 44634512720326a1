"""A clock that tests hold in their hand: waiting takes no time, and a jump is a call.

The harness has no seam for the clock on purpose (``deadline.py`` alone is a promise about it), so what is replaced is
the standard library as the modules of ``REPLACED`` see it, and nothing of ours.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from unittest import mock

from tests.builders import NOON

#: What each look at the clock takes. Two events never happen at the same time, as on a real host.
TICK_S = 1e-4


class SimulatedClock:
    """Both clocks of a host: ``monotonic`` never goes back, the wall's may jump either way."""

    def __init__(self) -> None:
        self._mono_s = 1000.0
        self._wall_s = 0.0

    def monotonic(self) -> float:
        self._mono_s += TICK_S
        return self._mono_s

    def sleep(self, seconds: float) -> None:
        self._mono_s += max(seconds, TICK_S)

    def now(self, tz: tzinfo | None = None) -> datetime:
        return (NOON + timedelta(seconds=self.monotonic() + self._wall_s)).astimezone(tz or UTC)

    def jump_wall(self, seconds: float) -> None:
        """Set the wall's clock forwards or back, as NTP or a person does."""
        self._wall_s += seconds


class _Tokens:
    """``secrets`` that are the same for the same seed: a byte that is corrupted must be the same byte next time."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def token_hex(self, size: int) -> str:
        return self._dice.randbytes(size).hex()


#: Where a cell's way to its verdict asks what time it is, waits, or names something at random.
REPLACED = (
    ("deadline", "time"),
    ("recorder", "time"),
    ("recorder", "datetime"),
    ("attempt_maker", "datetime"),
    ("attempt_maker", "secrets"),
    ("session", "datetime"),
    ("session", "secrets"),
    ("watch", "datetime"),
)


@contextmanager
def simulated(seed: str = "") -> Iterator[SimulatedClock]:
    """Let everything in the harness that waits, or asks what time it is, do so on a simulated clock."""
    clock = SimulatedClock()
    with ExitStack() as stack:
        stand_ins = {"time": clock, "datetime": clock, "secrets": _Tokens(seed)}
        for module, name in REPLACED:
            stack.enter_context(mock.patch(f"harness.{module}.{name}", stand_ins[name]))
        yield clock
