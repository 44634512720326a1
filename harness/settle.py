"""Pure. What all attempts of a cell mean together.

1. Total and deterministic; the order of findings does not matter.
2. Taking evidence of life away from an attempt never introduces COMPATIBLE or DETECTED.
3. A record of the product's own act stands alone. A failed step must repeat, in the same way or on one guest more: two
   accidents of ours beside each other are no conviction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from harness.errors import Blame
from harness.observation import Mechanism
from harness.scenario import INSPECT
from harness.verdict import BAD, GOOD, Finding, Need, Outcome, Verdict

#: These outcomes rest on the product's own record about the build, which stands whatever other attempts say.
_PRODUCT_EVIDENCE = frozenset({Outcome.QUARANTINED, Outcome.BLOCKED})

#: The rule whose findings rest on a failed step: an alert beside it says that the product minded, not that it acted.
_STEP_FAILED = "step.failed"

_SEVERITY = (Outcome.QUARANTINED, Outcome.BLOCKED, Outcome.BROKEN, Outcome.BUILD_FAULT)


def settle(findings: Sequence[Finding], *, stages: Sequence[str], confirm: int = 2) -> Verdict:
    """Give the one verdict of a cell from the findings of all its attempts.

    Args:
        findings: One for each attempt of the cell itself (no controls), in any order. Empty gives INCONCLUSIVE.
        stages: Step kinds of the scenario, in order: the earlier of two stages is shown.
        confirm: How many attempts a bad outcome without the product's own record needs.

    Returns:
        The verdict. Product evidence about the build in any attempt stands; BROKEN must repeat; attempts that disagree
        make it ``flaky``.
    """
    ordered = tuple(sorted(findings, key=lambda f: (f.attempt_id, f.rule)))
    acted = [f for f in ordered if f.outcome in _PRODUCT_EVIDENCE and f.rule != _STEP_FAILED]
    if acted:
        return _convict(acted, ordered, stages=stages, confirm=confirm)
    bad = [f for f in ordered if f.outcome in BAD]
    good = [f for f in ordered if f.outcome in GOOD]
    repeated = _repeated_suspicion(ordered, confirm=confirm)
    if repeated is not None and not good and not bad:
        return _as_verdict(repeated, ordered, flaky=False, confirmed=True)
    if bad:
        faults = [f for f in bad if f.outcome is Outcome.BUILD_FAULT]
        # A build fault is confirmed by the control guests that fail in the same way, and needs no second own attempt.
        wanted = 1 if len(faults) == len(bad) else guests_wanted(bad, confirm=confirm)
        if len(faults) in {0, len(bad)} and len(bad) >= wanted and not good:
            return _convict(bad, ordered, stages=stages, confirm=wanted)
        return _unsettled(bad[0], ordered, f"{bad[0].outcome} did not repeat on a fresh guest.")
    doubts = [f for f in ordered if f.outcome is Outcome.INCONCLUSIVE and (Need.RETRY not in f.needs or f.doubts)]
    if good and not doubts:
        return _settle_good(good, ordered)
    if good:
        beside = f" In it, {doubts[0].doubts[0]}." if doubts[0].doubts else ""
        return _unsettled(
            doubts[0], ordered, f"One attempt passed and another could not tell: {doubts[0].reason}{beside}"
        )
    if ordered:
        return _as_verdict((doubts or ordered)[0], ordered, flaky=False, confirmed=False)
    return Verdict(
        outcome=Outcome.INCONCLUSIVE,
        rule="nothing.ran",
        reason="No attempt of this cell was made.",
        stage=None,
        blame=Blame.LAB,
        mechanism=None,
        flaky=False,
        confirmed=False,
        decided_by=None,
    )


def guests_wanted(findings: Sequence[Finding], *, confirm: int) -> int:
    """Say how many guests must have failed before a failed step convicts: one more when no failure came back alike."""
    alike = Counter(f.failure for f in findings if f.failure is not None)
    unlike = len(alike) > 1 and max(alike.values()) < confirm
    return confirm + 1 if unlike else confirm


def _settle_good(good: Sequence[Finding], ordered: tuple[Finding, ...]) -> Verdict:
    """Take the worst of the good findings; an alert about the build in an attempt that the lab lost stands as well."""
    worst = next((f for f in good if f.outcome is Outcome.DETECTED), good[0])
    verdict = _as_verdict(worst, ordered, flaky=len({f.outcome for f in good}) > 1, confirmed=True)
    witness = next((f for f in ordered if f.detections and f.drifted_to is None), None)
    if worst.outcome is Outcome.DETECTED or witness is None:
        return verdict
    alert = witness.detections[0]
    return replace(
        verdict,
        outcome=Outcome.DETECTED,
        reason=f"Every step passed in one guest; in another, which the lab lost, the product recorded"
        f" {alert.detection.threat or 'an alert'} about {alert.object_path}.",
        stage=alert.stage,
        blame=Blame.PRODUCT,
        mechanism=alert.detection.mechanism,
        flaky=True,
        detections=witness.detections,
    )


def _timeouts_of(bad: Sequence[Finding], ordered: Sequence[Finding]) -> list[Finding]:
    """Give the findings that only ran out of time beside other guests: they confirm nothing, and contradict nothing."""
    stages = {f.stage for f in bad if f.rule == _STEP_FAILED}
    return [f for f in ordered if f.outcome is Outcome.INCONCLUSIVE and Need.ALONE in f.needs and f.stage in stages]


def _convict(bad: Sequence[Finding], ordered: tuple[Finding, ...], *, stages: Sequence[str], confirm: int) -> Verdict:
    place = {stage: index for index, stage in reversed(list(enumerate([*stages, INSPECT])))}
    worst = min(bad, key=lambda f: (_SEVERITY.index(f.outcome), place.get(f.stage or "", 0), f.attempt_id))
    timeouts = _timeouts_of(bad, ordered)
    agree = {(f.outcome, f.stage) for f in ordered if f not in timeouts}
    return _as_verdict(worst, ordered, flaky=len(agree) > 1, confirmed=len(bad) >= confirm)


def _repeated_suspicion(ordered: Sequence[Finding], *, confirm: int) -> Finding | None:
    suspects = [f for f in ordered if f.suspicion]
    if len(suspects) < max(confirm, 2) or len({f.suspicion for f in suspects}) != 1:
        return None
    first = suspects[0]
    crashed = first.suspicion[0] == "crash"
    return replace(
        first,
        outcome=Outcome.BROKEN,
        blame=Blame.PRODUCT,
        mechanism=Mechanism.CRASH if crashed else Mechanism.UNKNOWN,
        reason=f"{first.reason} The same was seen on {len(suspects)} fresh guests.",
    )


def _unsettled(about: Finding, ordered: tuple[Finding, ...], reason: str) -> Verdict:
    verdict = _as_verdict(about, ordered, flaky=True, confirmed=False)
    return replace(verdict, outcome=Outcome.INCONCLUSIVE, blame=Blame.LAB, reason=reason, mechanism=None)


def _as_verdict(finding: Finding, ordered: tuple[Finding, ...], *, flaky: bool, confirmed: bool) -> Verdict:
    return Verdict(
        outcome=finding.outcome,
        rule=finding.rule,
        reason=finding.reason,
        stage=finding.stage,
        blame=finding.blame,
        mechanism=finding.mechanism,
        flaky=flaky,
        confirmed=confirmed,
        decided_by=finding.attempt_id,
        detections=finding.detections,
        findings=ordered,
        slowdown=finding.slowdown,
        observed_s=finding.observed_s,
    )
