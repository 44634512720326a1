"""Pure. A cell of the matrix out of its verdict, its attempts and its controls; and all cells of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import (
    ValidationError,
)

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.behaviour import TEST_PRODUCTS
from harness.build import Build
from harness.egress_seen import EgressSeen
from harness.errors import Blame
from harness.facts import AttributedDetection, Facts, Owner, StepSeen
from harness.judge import egress_seen
from harness.judgement import Judgement
from harness.matrix import (
    Assurance,
    Cause,
    ControlSummary,
    EvidenceRef,
    FailedStep,
    Matrix,
    MatrixAttempt,
    MatrixBuild,
    MatrixCanary,
    MatrixCell,
    MatrixDetection,
    MatrixEgress,
    MatrixExclusion,
    MatrixRun,
    MatrixSample,
    Protection,
)
from harness.plan import Cell, Plan
from harness.settle import settle
from harness.verdict import Finding, Outcome, Verdict
from harness.windows_codes import code_text

#: Reason of a cell that was expected and never got a judgement.
NOT_FINISHED = "not finished"


class Tried(NamedTuple):
    """One attempt with what it says and what it means: the three that everything shown is made from."""

    attempt: Attempt
    facts: Facts
    finding: Finding


def cell_of(
    cell: Cell,
    verdict: Verdict,
    *,
    attempts: Sequence[Tried],
    controls: Sequence[Tried],
    evidence: Sequence[EvidenceRef] = (),
    assurance: Assurance = Assurance.REPORTED,
    cached_from: str | None = None,
    cause: Cause | None = None,
) -> MatrixCell:
    """Give the cell's object of matrix.json.

    Args:
        cell: What was asked.
        verdict: What all attempts mean together; its ``decided_by`` names the attempt whose evidence is shown.
        attempts: All attempts of the cell itself, in any order. A control cell's own attempts are given here.
        controls: All control attempts that judged it; empty for a control cell.
        evidence: The raw bytes that back the cell up. Empty: those of the deciding attempt are named by digest.
        assurance: How the product's records are had. A declared exclusion over the tested paths overrides it.
        cached_from: Id of the run whose attempts answered the cell; None when it was run.
        cause: What turned the cell bad against its baseline, when that was found out.
    """
    own = sorted(attempts, key=_order)
    decider = next((t for t in own if t.facts.attempt_id == verdict.decided_by), None)
    known = _asked(cell)
    if decider is not None:
        version, components = product_seen(decider.attempt)
        known |= {
            "provider": decider.attempt.meta.provider,
            "product_version": version,
            "signature_components": components,
            "assurance": None if cell.is_control else _assurance(decider.facts, assurance),
            "failed_step": _failed_step(decider.facts.failed),
            "detections": detections_of(decider.facts),
            "protection": protection_of(decider.facts),
            "evidence": tuple(evidence) or evidence_refs(decider.attempt),
            "egress": _egress(cell, egress_seen(decider.attempt)),
            "duration_s": duration_of(decider.attempt),
        }
    return MatrixCell.model_validate(
        known
        | {
            "outcome": verdict.outcome,
            "stage": verdict.stage,
            "rule": verdict.rule,
            "reason": verdict.reason,
            "blame": verdict.blame,
            "mechanism": verdict.mechanism,
            "flaky": verdict.flaky,
            "confirmed": verdict.confirmed,
            "slowdown": verdict.slowdown,
            "observed_s": verdict.observed_s if decider is not None else None,
            "attempts": tuple(_attempt(t) for t in own),
            "control": None if cell.is_control else _control(cell, controls),
            "cached": cached_from is not None,
            "cached_from": cached_from,
            "cause": cause,
            "decided_by": verdict.decided_by,
            "started_at": min((t.attempt.meta.started_at for t in own), default=None),
        }
    )


def matrix_of(run: MatrixRun, plan: Plan, judgements: Mapping[str, Judgement]) -> Matrix:
    """Lay a run out: one object for each expected cell, in the order of the plan.

    Args:
        run: The run (``MatrixRun.of`` takes a store's record).
        plan: What was expected. Control cells appear when the plan has them.
        judgements: The newest judgement of each cell, by cell id; more than the plan has are ignored.
    """
    return Matrix(run=run, cells=tuple(_cell(cell, judgements.get(cell.id)) for cell in plan.cells))


def evidence_refs(attempt: Attempt) -> tuple[EvidenceRef, ...]:
    """Name every blob of an attempt once, in the order of its events; the paths are not known here."""
    refs = {
        e.blob: EvidenceRef(kind=e.kind.value, path=None, sha256=e.blob) for e in reversed(attempt.events) if e.blob
    }
    return tuple(reversed(refs.values()))


def product_seen(attempt: Attempt) -> tuple[str | None, dict[str, str | None]]:
    """Give the product's version and its signature's components, as the product itself said them last.

    Read from ``version`` and ``components`` in the data of events of the kinds ``product`` and ``sample``.
    """
    version: str | None = None
    components: dict[str, str | None] = {}
    for event in attempt.events:
        if event.kind not in {Kind.PRODUCT, Kind.SAMPLE}:
            continue
        said, parts = event.data.get("version"), event.data.get("components")
        version = said if isinstance(said, str) and said else version
        if isinstance(parts, dict) and parts:
            components = {name: None if part is None else str(part) for name, part in sorted(parts.items())}
    return version, components


def _egress(cell: Cell, seen: EgressSeen | None) -> MatrixEgress | None:
    if cell.egress is None:
        return None
    return MatrixEgress(opened=cell.egress, asks_a_cloud=cell.asks_a_cloud, seen=seen)


def _asked(cell: Cell) -> dict[str, object]:
    """Give what is known of a cell before anything ran; every field of the contract is there."""
    schedule = [signature.label for signature in cell.product.schedule]
    build = cell.build
    return {
        "key": cell.execution_key(),
        "id": cell.id,
        "build": _build(build),
        "older": _build(cell.older) if cell.older is not None else None,
        "egress": _egress(cell, None),
        "image": cell.image.name,
        "image_content": cell.image.content,
        "provider": cell.image.provider,
        "lab": cell.image.lab,
        "product": cell.product.name,
        "profile": cell.product.profile,
        "product_version": None,
        "test_product": cell.product.name in TEST_PRODUCTS,
        "signature": schedule[-1],
        "signature_from": schedule[-2] if len(schedule) > 1 else None,
        "signature_components": {},
        "scenario": cell.scenario.name,
        "assurance": None,
        "failed_step": None,
        "detections": (),
        "protection": Protection(),
        "evidence": (),
        "duration_s": None,
    }


def _build(build: Build) -> MatrixBuild:
    return MatrixBuild(name=build.name, version=build.version, sha256=build.installer.sha256)


def _cell(cell: Cell, judgement: Judgement | None) -> MatrixCell:
    if cell.unsupported is not None:
        return without_evidence(cell, Outcome.UNSUPPORTED, cell.unsupported)
    if cell.image.missing is not None:
        return without_evidence(cell, Outcome.INCONCLUSIVE, cell.image.missing, blame=Blame.LAB)
    if judgement is None:
        return without_evidence(cell, Outcome.INCONCLUSIVE, NOT_FINISHED, blame=Blame.LAB)
    try:
        known = MatrixCell.model_validate(judgement.cell)
    except ValidationError:
        reason = "The stored cell cannot be read by this version of the tool; 'hts-compat rejudge' writes it anew."
        return without_evidence(cell, Outcome.INCONCLUSIVE, reason, blame=Blame.LAB)
    cached = judgement.cached_from
    return known.model_copy(update={"cached": cached is not None, "cached_from": cached})


def without_evidence(
    cell: Cell, outcome: Outcome, reason: str, *, blame: Blame | None = None, rule: str | None = None
) -> MatrixCell:
    """Give the object of a cell for which no guest was made."""
    nothing = dict.fromkeys(
        ("stage", "mechanism", "slowdown", "observed_s", "control", "cached_from", "cause", "decided_by",
         "started_at")
    )  # fmt: skip
    return MatrixCell.model_validate(
        _asked(cell)
        | nothing
        | {
            "outcome": outcome,
            "rule": rule,
            "reason": reason,
            "blame": blame,
            "flaky": False,
            "confirmed": False,
            "cached": False,
            "attempts": (),
        }
    )


_ROLES = {role: place for place, role in enumerate(Role)}


def _order(tried: Tried) -> tuple[datetime, int, int, str]:
    meta: AttemptMeta = tried.attempt.meta
    return (meta.started_at, _ROLES[meta.role], meta.ordinal, meta.id)


def _attempt(tried: Tried) -> MatrixAttempt:
    meta, finding = tried.attempt.meta, tried.finding
    return MatrixAttempt(
        id=meta.id,
        role=meta.role,
        ordinal=meta.ordinal,
        alone=meta.alone,
        outcome=finding.outcome,
        stage=finding.stage,
        rule=finding.rule,
        reason=finding.reason,
        started_at=meta.started_at,
        duration_s=duration_of(tried.attempt),
    )


def _control(cell: Cell, controls: Sequence[Tried]) -> ControlSummary | None:
    if not controls:
        return None
    ordered = sorted(controls, key=_order)
    together = settle([t.finding for t in ordered], stages=[s.kind for s in cell.scenario.steps])
    return ControlSummary(
        outcome=together.outcome,
        stage=together.stage,
        reason=together.reason,
        attempts=tuple(_attempt(t) for t in ordered),
    )


def duration_of(attempt: Attempt) -> float | None:
    """Give the seconds from the attempt's beginning to its last event, by the host's monotonic clock."""
    return round(attempt.events[-1].host_mono_s, 3) if attempt.events else None


def _assurance(facts: Facts, assurance: Assurance) -> Assurance:
    hidden = any(e.covers_tested and e.declared for e in facts.exclusions)
    return Assurance.EXCLUDED if hidden else assurance


def _failed_step(step: StepSeen | None) -> FailedStep | None:
    if step is None:
        return None
    return FailedStep(
        index=step.index,
        kind=step.kind,
        expectation=step.expectation,
        code=step.code,
        code_text=code_text(step.code),
        timed_out=step.timed_out,
        duration_s=round(step.duration_s, 3),
        detail=step.detail,
        dialog=step.dialog,
    )


def detections_of(facts: Facts) -> tuple[MatrixDetection, ...]:
    """Give the records about the build, those about the older one, then nobody's, each in their own order."""
    owners = (Owner.BUILD, Owner.OLDER, Owner.UNATTRIBUTED)
    shown: Iterable[AttributedDetection] = (found for owner in owners for found in facts.of(owner))
    return tuple(
        MatrixDetection(
            threat=found.detection.threat,
            action=found.detection.action,
            target=found.object_path,
            sha256=found.detection.sha256,
            component=found.component,
            mechanism=found.detection.mechanism,
            signature=found.detection.set_label or _label_around(facts, found.detection.step),
            at=found.detection.at,
            after_s=None if found.after_s is None else round(found.after_s, 3),
            stage=found.stage,
            owner=found.owner,
            raw_target=found.detection.target,
            accessed_by=found.detection.accessed_by,
            count=found.detection.count,
        )
        for found in shown
    )


def _label_around(facts: Facts, step: int | None) -> str | None:
    """Name the set that was loaded at a step: the same before and after it, or after it when the step changes it."""
    border = -1 if step is None else min(step, len(facts.cell.scenario.steps))
    after = facts.sample_at(border)
    if after is not None and after.label is not None:
        return after.label
    before = facts.sample_at(max(border - 1, -1))
    return before.label if before is not None else None


def protection_of(facts: Facts) -> Protection:
    """Give the proof of life of one attempt."""
    ordered = sorted(facts.samples, key=lambda s: (s.border, s.seq))
    first = facts.sample_at(-1)
    last = ordered[-1] if ordered else None
    return Protection(
        canaries=tuple(
            MatrixCanary(
                layer=c.layer,
                folder=c.folder,
                when=c.when,
                reacted=c.reacted,
                after_s=None if c.after_s is None else round(c.after_s, 3),
                excluded=c.excluded,
                why_not=c.why_not,
            )
            for c in sorted(facts.canaries, key=lambda c: c.seq)
        ),
        active_before=first.active if first is not None else None,
        active_after=last.active if last is not None and last is not first else None,
        signature_before=first.label if first is not None else None,
        signature_after=last.label if last is not None and last is not first else None,
        exclusions=tuple(
            MatrixExclusion(path=e.path, declared=e.declared, covers_tested=e.covers_tested) for e in facts.exclusions
        ),
        samples=tuple(
            MatrixSample(
                border=s.border,
                stage=None if s.border < 0 else facts.stage_of(s.border),
                active=s.active,
                signature=s.label,
                scheduled=_scheduled(facts.cell, s.border),
                why_not=s.why_not,
            )
            for s in ordered
        ),
    )


def _scheduled(cell: Cell, border: int) -> str:
    return (cell.product.schedule[0] if border < 0 else cell.scheduled(border, after=True)).label
