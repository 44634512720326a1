"""Effects. How many guests may run at once: shared places, or all of them for one attempt that must run alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Slots:
    """``jobs`` places for guests.

    An attempt that must be alone waits until every place is free, and holds newcomers back meanwhile, so that it does
    get its turn.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._taken = 0
        self._waiting_alone = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        """Hold one place, or all of them, for the time of the context."""
        wanted = self._jobs if alone else 1
        with self._changed:
            self._waiting_alone += alone
            self._changed.wait_for(lambda: self._may_start(wanted, alone=alone))
            self._waiting_alone -= alone
            self._taken += wanted
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._changed.notify_all()

    def _may_start(self, wanted: int, *, alone: bool) -> bool:
        held_back = self._waiting_alone > 0 and not alone
        return not held_back and self._taken + wanted <= self._jobs
