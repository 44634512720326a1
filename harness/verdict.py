"""Pure. What attempts mean: an outcome for each (``Finding``), and one for all attempts of a cell (``Verdict``).

``rules.decide`` makes findings, ``settle.settle`` makes verdicts of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.errors import Blame
from harness.facts import AttributedDetection
from harness.observation import Mechanism


class Outcome(StrEnum):
    """What a cell's verdict can be (contract)."""

    COMPATIBLE = "COMPATIBLE"
    DETECTED = "DETECTED"
    QUARANTINED = "QUARANTINED"
    BLOCKED = "BLOCKED"
    BROKEN = "BROKEN"
    BUILD_FAULT = "BUILD_FAULT"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNSUPPORTED = "UNSUPPORTED"


GOOD = frozenset({Outcome.COMPATIBLE, Outcome.DETECTED})
BAD = frozenset({Outcome.QUARANTINED, Outcome.BLOCKED, Outcome.BROKEN, Outcome.BUILD_FAULT})


class Need(StrEnum):
    """A further attempt that would let us say more."""

    CONTROL = "control"
    CONTROL_AFTER = "control_after"
    CONFIRM = "confirm"
    ALONE = "alone"
    RETRY = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one attempt means.

    Attributes:
        stage: Step kind at which it happened; None when the outcome has no stage.
        rule: Name of the rule of ``RULES`` that decided.
        reason: One sentence for a human.
        blame: Whose trouble it is; None for a good outcome.
        needs: Attempts that would let us say more; the session makes them.
        refs: ``seq`` of the events that decided, in the attempt.
        suspicion: What an equal finding on a fresh guest would prove; compared, never shown.
        failure: How the step failed (its index, expectation and code) where that convicts; None elsewhere. Compared.
        doubts: What speaks against the build in an attempt that trouble of ours lost. A retry that passes does not
            take it away.
        drifted_to: The signature that was really loaded, when that is not the scheduled one.
    """

    attempt_id: str
    outcome: Outcome
    rule: str
    reason: str
    stage: str | None = None
    blame: Blame | None = None
    mechanism: Mechanism | None = None
    needs: frozenset[Need] = frozenset()
    refs: tuple[int, ...] = ()
    detections: tuple[AttributedDetection, ...] = ()
    suspicion: tuple[str, ...] = ()
    failure: tuple[int, str | None, int | None] | None = None
    doubts: tuple[str, ...] = ()
    drifted_to: str | None = None
    slowdown: float | None = None
    observed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all attempts of a cell mean together. ``decided_by`` is the attempt whose evidence is shown first."""

    outcome: Outcome
    rule: str
    reason: str
    stage: str | None
    blame: Blame | None
    mechanism: Mechanism | None
    flaky: bool
    confirmed: bool
    decided_by: str | None
    detections: tuple[AttributedDetection, ...] = ()
    findings: tuple[Finding, ...] = ()
    slowdown: float | None = None
    observed_s: float = 0.0

    @property
    def conclusive(self) -> bool:
        """Tell whether the verdict says something about the build and the product."""
        return self.outcome is not Outcome.INCONCLUSIVE
