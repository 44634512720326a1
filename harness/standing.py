"""Pure. How a host or an image stands in a run: what fails often is waited for, longer each time, then set aside.

1. Only failures in a row count; one success makes all good again.
2. A failure that began before the last wait was over says nothing new: guests that fail together are one failure.
3. What is set aside stays so for the rest of the run.

Source:
    Google, "Site Reliability Engineering", chapter 22: retries back off exponentially and give up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much is borne before something is set aside.

    Attributes:
        failures: So many failures in a row bring the first wait.
        first_s: Seconds of the first wait; each further failure doubles it.
        cap_s: No wait is longer.
        waits: When so many waits brought no success, it is set aside. None: never.
    """

    failures: int
    first_s: float
    cap_s: float
    waits: int | None


#: A host whose engine does not answer: 1, 2, 4, 8, 16 and 30 seconds, enough for an engine that is started anew.
HOST = Patience(failures=1, first_s=1.0, cap_s=30.0, waits=6)

#: An image whose guests are lost: 1, 2 and 4 minutes from the third loss in a row on.
IMAGE = Patience(failures=3, first_s=60.0, cap_s=240.0, waits=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What happened lately. ``not_before`` is on the caller's monotonic clock; ``why``: the last failure."""

    failures: int = 0
    waits: int = 0
    not_before: float = 0.0
    set_aside: bool = False
    why: str = ""

    def wait_s(self, now: float) -> float:
        """Give how many seconds are still to be waited before the next try."""
        return max(self.not_before - now, 0.0)


def failed(standing: Standing, patience: Patience, *, began: float, now: float, why: str) -> Standing:
    """Count one failure.

    Args:
        standing: How things stood.
        patience: How much is borne.
        began: When what failed was begun.
        now: When it failed; both on one monotonic clock, in seconds.
        why: One sentence.
    """
    if standing.set_aside or began < standing.not_before:
        return standing
    counted = replace(standing, failures=standing.failures + 1, why=why)
    if counted.failures < patience.failures:
        return counted
    if patience.waits is not None and counted.waits >= patience.waits:
        return replace(counted, set_aside=True)
    wait_s = min(patience.first_s * 2**counted.waits, patience.cap_s)
    return replace(counted, waits=counted.waits + 1, not_before=now + wait_s)


def worked(standing: Standing) -> Standing:
    """Forget all failures; what is set aside stays so."""
    return standing if standing.set_aside else Standing()
