"""Pure. One point in time that bounds a piece of work, handed down to everything that the work calls.

The only pure module that reads a clock: a deadline is a promise about the clock and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the host's monotonic clock, in seconds."""

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Make the deadline that lies ``seconds`` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def remaining_s(self) -> float:
        """Give the seconds that are left; never negative."""
        return max(0.0, self.at_s - time.monotonic())

    @property
    def expired(self) -> bool:
        """Tell whether the point has passed."""
        return self.remaining_s <= 0

    def sooner(self, seconds: float) -> Deadline:
        """Give the nearer of this deadline and ``seconds`` from now."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at_s)

    def poll(self, every_s: float) -> Iterator[float]:
        """Yield at once, then every ``every_s`` seconds until the deadline, and once more at it.

        Yields:
            Seconds since the first round. The last round starts at the deadline or, when the one before it took
            longer, as soon as that is over: a condition that became true in the meantime is still seen.
        """
        begun = round_s = time.monotonic()
        yield 0.0
        while round_s < self.at_s:
            time.sleep(min(every_s, self.remaining_s))
            round_s = time.monotonic()
            yield round_s - begun
