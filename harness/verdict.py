"""Pure. What attempts mean: ``decide`` for one attempt, ``settle`` for all attempts of a cell.

1. Total and deterministic: every input has exactly one outcome; the order of controls and findings does not matter.
2. Rules are tried from the top of ``RULES``; the first that matches wins, and the finding names it.
3. Taking evidence of life away never introduces COMPATIBLE or DETECTED.
4. A detection of the build never leaves COMPATIBLE.
5. Our trouble is never the product's: it is INCONCLUSIVE with blame ``lab``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from harness.attempt import Role
from harness.build import fold
from harness.errors import Blame
from harness.facts import AttributedDetection, Facts, Owner, SampleSeen, StepSeen, StepStatus, When
from harness.image import Folder
from harness.observation import Action, Mechanism
from harness.scenario import INSPECT

#: Raised with every change of a rule that may change a verdict; part of the judgement key.
RULES_VERSION = 1

#: A failure that is only a timeout convicts when the step had at least this many times the control's time.
TIMEOUT_FACTOR = 3.0

#: A step counts as slower only from this many seconds on; below it, two runs of one cell differ as much.
SLOWDOWN_FLOOR_S = 1.0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """An attempt beside its controls: what every rule looks at."""

    facts: Facts
    controls: tuple[Facts, ...]

    def finding(self, outcome: Outcome, reason: str, **more: object) -> Finding:
        return replace(
            Finding(
                attempt_id=self.facts.attempt_id,
                outcome=outcome,
                rule="",
                reason=reason,
                observed_s=self.facts.observed_s,
                detections=self.facts.of(Owner.BUILD),
            ),
            **more,  # type: ignore[arg-type]  # dataclasses.replace checks the names at run time
        )

    def unclear(self, reason: str, *, needs: frozenset[Need] = frozenset(), **more: object) -> Finding:
        return self.finding(Outcome.INCONCLUSIVE, reason, blame=Blame.LAB, needs=needs, **more)

    @property
    def before(self) -> tuple[Facts, ...]:
        """Controls that can be judged by: finished, without trouble of ours, and read whole."""
        return tuple(c for c in self.controls if _usable(c))

    @property
    def after(self) -> tuple[Facts, ...]:
        """Controls that were begun after the attempt: what changed in between shows in them."""
        later = self.facts.started_order
        return tuple(c for c in self.before if c.role is Role.CONTROL_AFTER and c.started_order > later)


Rule = Callable[[_Case], Finding | None]


def _usable(control: Facts) -> bool:
    return control.complete and not control.troubles and not control.unread


def decide(facts: Facts, controls: Sequence[Facts]) -> Finding:
    """Give the one outcome that an attempt supports, and the rule that gave it.

    Args:
        facts: The attempt, read.
        controls: All control attempts of the cell, of any role. For a control cell: its other attempts.

    Returns:
        The finding of the first rule that matches.

    Source:
        The design's rules 0-6 (ARCHITECTURE.md, "Rules").
    """
    case = _Case(facts=facts, controls=tuple(sorted(controls, key=lambda c: (c.started_order, c.attempt_id))))
    for name, rule in CONTROL_RULES if facts.cell.is_control else RULES:
        finding = rule(case)
        if finding is not None:
            return replace(finding, rule=name)
    msg = "the last rule matches everything"
    raise AssertionError(msg)


# --- rule 0: a control cell -----------------------------------------------------------------------------------------


def _control_trouble(case: _Case) -> Finding | None:
    facts = case.facts
    if _usable(facts):
        return None
    return case.unclear(_trouble_text(facts), needs=frozenset({Need.RETRY}), refs=_trouble_refs(facts))


def _control_passed(case: _Case) -> Finding | None:
    if not case.facts.passed:
        return None
    return case.finding(Outcome.COMPATIBLE, "Every step passed without a security product.")


def _control_failed(case: _Case) -> Finding | None:
    step = case.facts.failed
    if step is None:
        return None
    others = [c for c in case.before if c.attempt_id != case.facts.attempt_id]
    same = [c for c in others if c.failed is not None and c.failed.failure == step.failure]
    if same and len(same) == len(others):
        return case.finding(
            Outcome.BUILD_FAULT,
            f"The step '{step.kind}' fails without any security product, in {len(same) + 1} guests: {_step_text(step)}",
            stage=step.kind,
            blame=Blame.BUILD,
            refs=(step.seq,),
        )
    if others:
        return case.unclear(
            f"The control changes from run to run: the step '{step.kind}' failed once, and not again in the same way.",
            stage=step.kind,
            refs=(step.seq,),
        )
    return case.unclear(
        f"The step '{step.kind}' failed in the only control run so far.",
        needs=frozenset({Need.CONTROL}),
        stage=step.kind,
        refs=(step.seq,),
    )


def _control_unfinished(case: _Case) -> Finding | None:
    return case.unclear("The control did not run all of its steps.", needs=frozenset({Need.RETRY}))


# --- rule 1: the product's own act about the build -------------------------------------------------------------------


def _product_acted(case: _Case) -> Finding | None:
    facts = case.facts
    acts = [d for d in facts.of(Owner.BUILD) if d.detection.action is not Action.ALERTED]
    if not acts:
        return None
    drifts = [_drift_around(facts, d.detection.step) for d in acts]
    as_scheduled = [d for d, drift in zip(acts, drifts, strict=True) if drift is None]
    if not as_scheduled:
        first = acts[0]
        scheduled, found = drifts[0] or ("", None)
        return case.unclear(
            f"The product acted on {_target(first)}, but signature {found or 'of unknown name'} was loaded where"
            f" {scheduled} was scheduled.",
            stage=first.stage,
            drifted_to=found,
            refs=(first.detection.seq,),
            needs=frozenset({Need.RETRY}),
        )
    taken = [d for d in as_scheduled if d.detection.action is Action.QUARANTINED]
    outcome = Outcome.QUARANTINED if taken else Outcome.BLOCKED
    what = "removed" if taken else "denied"
    named = (taken or as_scheduled)[0]
    return case.finding(
        outcome,
        f"{facts.cell.product.name} {what} {_target(named)} at '{named.stage}'"
        f" ({named.detection.threat or 'no name recorded'}).",
        stage=as_scheduled[0].stage,
        blame=Blame.PRODUCT,
        mechanism=named.detection.mechanism,
        needs=frozenset({Need.CONFIRM}),
        refs=tuple(sorted({d.detection.seq for d in acts})),
    )


def _drift_around(facts: Facts, step: int | None) -> tuple[str, str | None] | None:
    """Give (scheduled, found) when the set at a step is not proven to be the scheduled one; None when it is.

    The samples at the step's two borders are looked at: no known label may contradict, and one must be known. The one
    at its end may be missing (a guest that is lost after a quarantine). What our own last look provokes comes after
    the last sample of all, wherever a failed step ended the scenario.
    """
    at = -1 if step is None else step
    inspecting = at >= len(facts.cell.scenario.steps)
    begin = max((s.border for s in facts.samples), default=-1) if inspecting else max(at - 1, -1)
    around = [s for s in facts.samples if s.border in {begin, at}]
    known = [s for s in around if s.label is not None]
    wrong = next((s for s in known if s.label != _scheduled_at(facts, s.border)), None)
    if wrong is not None:
        return _scheduled_at(facts, wrong.border), wrong.label
    return None if known else (_scheduled_at(facts, begin), None)


def _scheduled_at(facts: Facts, border: int) -> str:
    if border < 0:
        return facts.cell.product.schedule[0].label
    return facts.cell.scheduled(min(border, len(facts.cell.scenario.steps)), after=True).label


# --- rule 2: the lab ------------------------------------------------------------------------------------------------


def _guest_crashed(case: _Case) -> Finding | None:
    crash = next((t for t in case.facts.troubles if t.guest_crashed), None)
    if crash is None or crash.step is None:
        # Before the first step the build was not there yet: a guest that dies then says nothing about it.
        return None
    at, stage = crash.step, case.facts.stage_of(crash.step)
    survived = any(c.passed or any(s.index >= at for s in c.steps) for c in case.before)
    return case.unclear(
        f"The guest died at '{stage}': {crash.summary}",
        stage=stage,
        needs=frozenset({Need.CONFIRM if survived else Need.CONTROL}),
        refs=(crash.seq,),
        suspicion=("crash", stage, str(at)) if survived else (),
    )


def _lab_trouble(case: _Case) -> Finding | None:
    facts = case.facts
    if facts.complete and not facts.troubles:
        return None
    return case.unclear(_trouble_text(facts), needs=frozenset({Need.RETRY}), refs=_trouble_refs(facts))


def _protection_unproven(case: _Case) -> Finding | None:
    facts = case.facts
    sampled = {s.border for s in facts.samples}
    unsampled = next((border for border in _borders_reached(facts) if border not in sampled), None)
    if unsampled is not None:
        return case.unclear(f"Protection was not sampled {_where(facts, unsampled)}.", needs=frozenset({Need.RETRY}))
    # Every sample counts, not only the last at its border.
    for sample in sorted(facts.samples, key=lambda s: (s.border, s.seq)):
        wrong = _sample_trouble(facts, sample)
        if wrong is not None:
            return case.unclear(
                wrong,
                needs=frozenset({Need.RETRY}),
                drifted_to=sample.label if sample.active else None,
                refs=(sample.seq,),
            )
    if facts.scan_failures:
        return case.unclear(
            f"The product says that it failed to check an object: {facts.scan_failures[0]}.",
            needs=frozenset({Need.RETRY}),
        )
    return None


def _sample_trouble(facts: Facts, sample: SampleSeen) -> str | None:
    """Say what is wrong with a sample; None when it is active with the scheduled set."""
    where = _where(facts, sample.border)
    if not sample.active:
        return f"Protection was not proven {where}: {sample.why_not or 'no marker fired'}."
    scheduled = _scheduled_at(facts, sample.border)
    if sample.label is None:
        why = sample.why_not or "no single marker fired"
        return f"Signature of unknown name was loaded {where} where {scheduled} was scheduled: {why}."
    if sample.label != scheduled:
        return f"Signature {sample.label} was loaded {where} where {scheduled} was scheduled."
    return None


def _where(facts: Facts, border: int) -> str:
    return "before the first step" if border < 0 else f"after '{facts.stage_of(border)}'"


def _borders_reached(facts: Facts) -> range:
    """Give the borders that must have a sample: before the first step, and after every step that ran."""
    ran = [s.index for s in facts.steps]
    return range(-1, max(ran) + 1 if ran else 0)


def _canary_silent(case: _Case) -> Finding | None:
    facts = case.facts
    for when, folders in required_canaries(facts):
        for folder in sorted(folders):
            tries = [c for c in facts.canaries if c.when is when and c.folder is folder]
            if not tries:
                return case.unclear(
                    f"No canary was tried in the folder '{folder}' ({when} the steps).", needs=frozenset({Need.RETRY})
                )
            silent = next((c for c in tries if not c.reacted and not c.excluded), None)
            if silent is not None:
                return case.unclear(
                    f"The canary in the folder '{folder}' ({when} the steps) was silent: {silent.why_not}.",
                    needs=frozenset({Need.RETRY}),
                    refs=(silent.seq,),
                )
        # A declared exclusion silences the canary inside it; then one outside it must prove that the product is alive.
        if when is not When.STEP and not any(c.reacted for c in facts.canaries if c.when is when):
            return case.unclear(
                f"No canary reacted anywhere ({when} the steps): all were excluded.", needs=frozenset({Need.RETRY})
            )
    return None


def required_canaries(facts: Facts) -> tuple[tuple[When, frozenset[Folder]], ...]:
    """Say in which folders a canary must have reacted, and when, for this attempt to prove life.

    The install folder itself exists only after an install that worked, so it counts from then on.
    """
    everywhere = frozenset(Folder) - {Folder.INSTALL}
    installed = any(s.kind == "install" and s.status is StepStatus.PASSED for s in facts.steps)
    went_on = installed and any(s.kind == "launch" for s in facts.steps)
    after = frozenset(Folder) if installed else everywhere
    middle = ((When.STEP, frozenset({Folder.INSTALL})),) if went_on else ()
    return ((When.BEFORE, everywhere), *middle, (When.AFTER, after))


def _excluded_behind_our_back(case: _Case) -> Finding | None:
    hidden = next((e for e in case.facts.exclusions if e.covers_tested and not e.declared), None)
    if hidden is None:
        return None
    return case.unclear(f"An exclusion that nobody declared covers the tested paths: {hidden.path}.")


def _control_missing(case: _Case) -> Finding | None:
    if case.before:
        return None
    needs = frozenset({Need.CONTROL})
    return case.unclear("There is no usable control run without a security product to compare with.", needs=needs)


# --- rule 3: a step failed -------------------------------------------------------------------------------------------


def _step_failed(case: _Case) -> Finding | None:
    step = case.facts.failed
    if step is None:
        return None
    same = [c for c in case.before if c.failed is not None and c.failed.failure == step.failure]
    passed = [c for c in case.before if _passes(c, step.index)]
    if len(same) == len(case.before):
        return _fails_without_product(case, step, same)
    if len(passed) != len(case.before):
        return case.unclear(
            f"The step '{step.kind}' failed, and the control changes from run to run, so it cannot judge it.",
            stage=step.kind,
            refs=(step.seq,),
        )
    if not any(_passes(c, step.index) for c in case.after):
        return case.unclear(
            f"The step '{step.kind}' failed and passes in the control; a fresh control run is needed to be sure.",
            needs=frozenset({Need.CONTROL_AFTER}),
            stage=step.kind,
            refs=(step.seq,),
        )
    if step.timed_out and not _timeout_convicts(case, step, passed):
        return case.unclear(
            f"The step '{step.kind}' only ran out of time; that convicts nobody until it repeats alone with at least"
            f" {TIMEOUT_FACTOR:g} times the control's time.",
            needs=frozenset({Need.ALONE}),
            stage=step.kind,
            refs=(step.seq,),
        )
    alerts = case.facts.of(Owner.BUILD)
    if alerts:
        return case.finding(
            Outcome.BLOCKED,
            f"The step '{step.kind}' fails with the product, passes without it, and the product raised"
            f" {alerts[0].detection.threat or 'an alert'} about {_target(alerts[0])}: {_step_text(step)}",
            stage=step.kind,
            blame=Blame.PRODUCT,
            mechanism=alerts[0].detection.mechanism,
            needs=frozenset({Need.CONFIRM}),
            refs=(step.seq, *sorted({d.detection.seq for d in alerts})),
        )
    unread = case.facts.unread
    record = f"what it recorded could not all be read ({unread[0]})" if unread else "the product left no record"
    return case.finding(
        Outcome.BROKEN,
        f"The step '{step.kind}' fails with the product and passes without it; {record}: {_step_text(step)}",
        stage=step.kind,
        blame=Blame.PRODUCT,
        mechanism=Mechanism.UNKNOWN,
        needs=frozenset({Need.CONFIRM}),
        refs=(step.seq,),
    )


def _passes(control: Facts, index: int) -> bool:
    """Tell whether a control passes one step. It may fail at a later one: a build's own fault excuses no product."""
    ran = [s.status for s in control.steps if s.index == index]
    return bool(ran) and all(status is StepStatus.PASSED for status in ran)


def _fails_without_product(case: _Case, step: StepSeen, same: Sequence[Facts]) -> Finding:
    if len(same) < 2:  # noqa: PLR2004 - a control's failure is believed from its second guest on
        return case.unclear(
            f"The step '{step.kind}' fails in the control too, which was seen only once so far.",
            needs=frozenset({Need.CONTROL}),
            stage=step.kind,
            refs=(step.seq,),
        )
    return case.finding(
        Outcome.BUILD_FAULT,
        f"The step '{step.kind}' fails in the same way without a security product ({len(same)} control runs):"
        f" {_step_text(step)}",
        stage=step.kind,
        blame=Blame.BUILD,
        refs=(step.seq,),
    )


def _timeout_convicts(case: _Case, step: StepSeen, passed: Sequence[Facts]) -> bool:
    slowest = max((s.duration_s for c in passed for s in c.steps if s.index == step.index), default=0.0)
    return case.facts.alone and step.duration_s >= TIMEOUT_FACTOR * slowest


# --- rules 4 and 5: not read, and changed behind our back -------------------------------------------------------------


def _not_read(case: _Case) -> Finding | None:
    facts = case.facts
    if facts.unread:
        return case.unclear(f"Evidence could not be read: {facts.unread[0]}.", needs=frozenset({Need.RETRY}))
    strangers = facts.of(Owner.UNATTRIBUTED)
    if strangers:
        return case.unclear(
            f"The product recorded something about {strangers[0].detection.target}, which is neither the build's nor"
            " ours.",
            refs=tuple(d.detection.seq for d in strangers),
        )
    if facts.files is None:
        return case.unclear("The files were not inspected after the last step.", needs=frozenset({Need.RETRY}))
    if not facts.passed:
        return case.unclear("Not every step ran, and none failed.", needs=frozenset({Need.RETRY}))
    if not _comparable(case.before):
        return case.unclear(
            "No control run passed with its files inspected, so nothing can be said about changes behind our back.",
            needs=frozenset({Need.CONTROL}),
        )
    return None


def _changed_behind_our_back(case: _Case) -> Finding | None:
    controls = _comparable(case.before)
    ordinary = {m for c in controls for m in c.foreign_modules}
    modules = sorted(set(case.facts.foreign_modules) - ordinary)
    odd = changed_files(case.facts, controls) + tuple(f"module {m}" for m in modules)
    if not odd:
        return None
    # What differs between two controls moves by itself, so one control alone does not convict.
    sure = len(controls) >= 2  # noqa: PLR2004 - the same number as for a control's failure
    return case.unclear(
        f"All steps passed and the product recorded nothing, yet {odd[0]} differs from the control.",
        stage=INSPECT,
        needs=frozenset({Need.CONFIRM if sure else Need.CONTROL}),
        suspicion=("changed", *odd) if sure else (),
    )


def _comparable(controls: Sequence[Facts]) -> tuple[Facts, ...]:
    return tuple(c for c in controls if c.passed and c.files is not None)


def changed_files(facts: Facts, controls: Sequence[Facts]) -> tuple[str, ...]:
    """Name the files that vanished or changed against the control, sorted; what is declared volatile moves by itself.

    A declared patch needs no exception: it is the same in the control. What is not in every passing control, or not the
    same in all of them, moves by itself as well.
    """
    listings = [{fold(f.path): f for f in c.files or ()} for c in _comparable(controls)]
    if facts.files is None or not listings:
        return ()
    volatile = [fold(pattern) for pattern in facts.cell.scenario.volatile]
    root = fold(facts.cell.build.install_dir) + "\\"
    mine = {fold(f.path): f for f in facts.files}
    problems: set[str] = set()
    for key in set(listings[0]).intersection(*listings[1:]):
        if any(fnmatchcase(key.removeprefix(root), pattern) for pattern in volatile):
            continue
        expected = [listing[key] for listing in listings]
        found = mine.get(key)
        if found is None:
            problems.add(f"{expected[0].path} (gone)")
        elif found.sha256 is None and all(e.sha256 is not None for e in expected):
            problems.add(f"{expected[0].path} (cannot be opened)")
        elif {found.sha256} != {e.sha256 for e in expected} and len({e.sha256 for e in expected}) == 1:
            problems.add(f"{expected[0].path} (changed)")
    return tuple(sorted(problems))


# --- rule 6: all passed ----------------------------------------------------------------------------------------------


def _all_passed(case: _Case) -> Finding | None:
    facts = case.facts
    alerts = facts.of(Owner.BUILD)
    slowdown = _slowdown(facts, case.before)
    reacted = sum(c.reacted for c in facts.canaries)
    if alerts:
        return case.finding(
            Outcome.DETECTED,
            f"Every step passed, but {facts.cell.product.name} raised {alerts[0].detection.threat or 'an alert'} about"
            f" {_target(alerts[0])}.",
            stage=alerts[0].stage,
            blame=Blame.PRODUCT,
            mechanism=alerts[0].detection.mechanism,
            slowdown=slowdown,
            refs=tuple(sorted({d.detection.seq for d in alerts})),
        )
    return case.finding(
        Outcome.COMPATIBLE,
        f"Every step passed; {reacted} canaries reacted in this guest, and all {len(facts.samples)} samples were as"
        " scheduled.",
        slowdown=slowdown,
        refs=tuple(c.seq for c in facts.canaries),
    )


def _slowdown(facts: Facts, controls: Sequence[Facts]) -> float | None:
    ratios = []
    for step in facts.steps:
        times = [s.duration_s for c in controls if c.passed for s in c.steps if s.index == step.index]
        if times and step.duration_s - max(times) >= SLOWDOWN_FLOOR_S:
            ratios.append(step.duration_s / max(*times, 0.001))
    return round(max(ratios), 2) if ratios else None


CONTROL_RULES: tuple[tuple[str, Rule], ...] = (
    ("control.trouble", _control_trouble),
    ("control.passed", _control_passed),
    ("control.failed", _control_failed),
    ("control.unfinished", _control_unfinished),
)

RULES: tuple[tuple[str, Rule], ...] = (
    ("product.acted", _product_acted),
    ("lab.crash", _guest_crashed),
    ("lab.trouble", _lab_trouble),
    ("lab.protection", _protection_unproven),
    ("lab.canary", _canary_silent),
    ("lab.exclusion", _excluded_behind_our_back),
    ("lab.control", _control_missing),
    ("step.failed", _step_failed),
    ("evidence.unread", _not_read),
    ("files.changed", _changed_behind_our_back),
    ("all.passed", _all_passed),
)


def _target(found: AttributedDetection) -> str:
    return found.windows or found.detection.target


def _step_text(step: StepSeen) -> str:
    return step.detail or f"expectation '{step.expectation}'"


def _trouble_text(facts: Facts) -> str:
    if facts.troubles:
        trouble = facts.troubles[0]
        return f"The lab had trouble at '{facts.stage_of(trouble.step)}': {trouble.summary}"
    if not facts.complete:
        return "The attempt was not finished."
    return f"Evidence could not be read: {facts.unread[0]}."


def _trouble_refs(facts: Facts) -> tuple[int, ...]:
    return tuple(t.seq for t in facts.troubles)


# --- settling all attempts of a cell ----------------------------------------------------------------------------------

#: These outcomes rest on the product's own record about the build, which stands whatever other attempts say.
_PRODUCT_EVIDENCE = frozenset({Outcome.QUARANTINED, Outcome.BLOCKED})

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
    acted = [f for f in ordered if f.outcome in _PRODUCT_EVIDENCE]
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
        wanted = 1 if len(faults) == len(bad) else confirm
        if len({f.outcome for f in bad}) == 1 and len(bad) >= wanted and not good:
            return _convict(bad, ordered, stages=stages, confirm=wanted)
        return _unsettled(bad[0], ordered, f"{bad[0].outcome} did not repeat on a fresh guest.")
    doubts = [f for f in ordered if f.outcome is Outcome.INCONCLUSIVE and Need.RETRY not in f.needs]
    if good and not doubts:
        return _settle_good(good, ordered)
    if good:
        return _unsettled(doubts[0], ordered, f"One attempt passed and another could not tell: {doubts[0].reason}")
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
        f" {alert.detection.threat or 'an alert'} about {_target(alert)}.",
        stage=alert.stage,
        blame=Blame.PRODUCT,
        mechanism=alert.detection.mechanism,
        flaky=True,
        detections=witness.detections,
    )


def _timeouts_of(bad: Sequence[Finding], ordered: Sequence[Finding]) -> list[Finding]:
    """Give the findings that only ran out of time beside other guests: they confirm nothing, and contradict nothing."""
    stages = {f.stage for f in bad if f.rule == "step.failed"}
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
