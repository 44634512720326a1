"""Pure. What one attempt means: the rules, and ``decide``, which tries them.

1. Total and deterministic: every input has exactly one outcome; the order of controls does not matter.
2. Rules are tried from the top of ``RULES``; the first that matches wins, and the finding names it.
3. Taking evidence of life away never introduces COMPATIBLE or DETECTED.
4. A detection of the build never leaves COMPATIBLE.
5. Our trouble is never the product's: it is INCONCLUSIVE with blame ``lab``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from harness.behaviour import shown_product
from harness.build import fold
from harness.comparison import Comparison, Rule, older_version, trouble_refs, trouble_text, usable
from harness.errors import Blame
from harness.facts import AttributedDetection, Facts, Owner, StepSeen, StepStatus
from harness.observation import Action, Mechanism
from harness.proof_of_life import (
    canary_silent,
    control_missing,
    drift_around,
    excluded_behind_our_back,
    guest_crashed,
    hidden_exclusions,
    lab_trouble,
    protection_unproven,
)
from harness.scenario import INSPECT
from harness.verdict import Finding, Need, Outcome

#: Raised with every change of a rule that may change a verdict; part of the judgement key.
RULES_VERSION = 4

#: A failure that is only a timeout convicts when the step had at least this many times the control's time.
TIMEOUT_FACTOR = 3.0

#: A step counts as slower only from this many seconds on; below it, two runs of one cell differ as much.
SLOWDOWN_FLOOR_S = 1.0


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
    seen = Comparison(facts=facts, controls=tuple(sorted(controls, key=lambda c: (c.started_order, c.attempt_id))))
    for name, rule in CONTROL_RULES if facts.cell.is_control else RULES:
        finding = rule(seen)
        if finding is not None:
            doubts = _doubts(seen) if Need.RETRY in finding.needs else ()
            return replace(finding, rule=name, doubts=doubts)
    msg = "the last rule matches everything"
    raise AssertionError(msg)


# --- rule 0: a control cell -----------------------------------------------------------------------------------------


def _control_trouble(seen: Comparison) -> Finding | None:
    facts = seen.facts
    if usable(facts):
        return None
    return seen.unclear(trouble_text(facts), needs=frozenset({Need.RETRY}), refs=trouble_refs(facts))


def _control_of_older(seen: Comparison) -> Finding | None:
    """Match a control that failed before the cell's own build was there: the older build's fault, not this one's."""
    step = seen.facts.failed
    if step is None or not seen.facts.cell.scenario.is_about_older(step.index):
        return None
    return seen.finding(
        Outcome.INCONCLUSIVE,
        f"The older build {older_version(seen.facts)} fails at '{step.kind}' without any security product, so there was"
        f" nothing to update: {_step_text(step)}",
        stage=step.kind,
        blame=Blame.BUILD,
        refs=(step.seq,),
    )


def _not_run_here(seen: Comparison) -> Finding | None:
    """Match a program that cannot start on this image at all, which an installer did not tell beforehand."""
    facts, step = seen.facts, seen.facts.failed
    launch = facts.cell.scenario.steps[step.index].launch if step is not None else None
    if step is None or launch is None:
        return None
    program = fold(facts.cell.build.installed_path(launch.program))
    file = next((f for f in facts.files or () if fold(f.path) == program), None)
    why = facts.cell.image.why_not_run(file.machine) if file is not None else None
    if file is None or why is None:
        return None
    return seen.unclear(f"The program {file.path} {why}.", stage=step.kind, refs=(step.seq,))


def _control_passed(seen: Comparison) -> Finding | None:
    if not seen.facts.passed:
        return None
    return seen.finding(Outcome.COMPATIBLE, "Every step passed without a security product.")


def _control_failed(seen: Comparison) -> Finding | None:
    step = seen.facts.failed
    if step is None:
        return None
    others = [c for c in seen.before if c.attempt_id != seen.facts.attempt_id]
    same = [c for c in others if c.failed is not None and c.failed.failure == step.failure]
    if same and len(same) == len(others):
        return seen.finding(
            Outcome.BUILD_FAULT,
            f"The step '{step.kind}' fails without any security product, in {len(same) + 1} guests: {_step_text(step)}",
            stage=step.kind,
            blame=Blame.BUILD,
            refs=(step.seq,),
        )
    if others:
        return seen.unclear(
            f"The control changes from run to run: the step '{step.kind}' failed once, and not again in the same way.",
            stage=step.kind,
            refs=(step.seq,),
        )
    return seen.unclear(
        f"The step '{step.kind}' failed in the only control run so far.",
        needs=frozenset({Need.CONTROL}),
        stage=step.kind,
        refs=(step.seq,),
    )


def _control_unfinished(seen: Comparison) -> Finding | None:
    return seen.unclear("The control did not run all of its steps.", needs=frozenset({Need.RETRY}))


# --- rule 1: the product's own act about the build -------------------------------------------------------------------


def _product_acted(seen: Comparison) -> Finding | None:
    facts = seen.facts
    acts = [d for d in facts.of(Owner.BUILD) if d.detection.action is not Action.ALERTED]
    if not acts:
        return None
    drifts = [drift_around(facts, d.detection.step) for d in acts]
    as_scheduled = [d for d, drift in zip(acts, drifts, strict=True) if drift is None]
    if not as_scheduled:
        first = acts[0]
        scheduled, found = drifts[0] or ("", None)
        return seen.unclear(
            f"The product acted on {first.object_path}, but signature {found or 'of unknown name'} was loaded where"
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
    return seen.finding(
        outcome,
        f"{shown_product(facts.cell.product.name)} {what} {named.object_path} at '{named.stage}'"
        f" ({named.detection.threat or 'no name recorded'}).",
        stage=as_scheduled[0].stage,
        blame=Blame.PRODUCT,
        mechanism=named.detection.mechanism,
        needs=frozenset({Need.CONFIRM}),
        refs=tuple(sorted({d.detection.seq for d in acts})),
    )


# --- the older build, from which an update starts ---------------------------------------------------------------------


def _older_not_whole(seen: Comparison) -> Finding | None:
    """Match an update that did not start from a whole older build: nothing about this build follows from it.

    When the update itself or a later step failed, that is this build's trouble on such a PC: ``step.failed``.
    """
    facts, step = seen.facts, seen.facts.failed
    records = _about_older(facts)
    if step is not None and not facts.cell.scenario.is_about_older(step.index):
        return None
    if records:
        what = {Action.QUARANTINED: "removed", Action.DENIED: "denied"}.get(records[0].detection.action, "reported")
        return seen.finding(
            Outcome.INCONCLUSIVE,
            f"{facts.cell.product.name} {what} {records[0].object_path} of the older build {older_version(facts)} at"
            f" '{records[0].stage}' ({records[0].detection.threat or 'no name recorded'}), so the update to"
            f" {facts.cell.build.version} did not start from a whole one.",
            stage=records[0].stage,
            blame=Blame.PRODUCT,
            mechanism=records[0].detection.mechanism,
            refs=tuple(sorted({d.detection.seq for d in records})),
        )
    if step is None:
        return None
    return seen.finding(
        Outcome.INCONCLUSIVE,
        f"The older build {older_version(facts)} failed at '{step.kind}', so there was nothing to update:"
        f" {_step_text(step)}",
        stage=step.kind,
        blame=Blame.BUILD,
        refs=(step.seq,),
    )


def _about_older(facts: Facts) -> tuple[AttributedDetection, ...]:
    """Give the product's records about the older build of an update, earliest first."""
    return facts.of(Owner.OLDER) if facts.cell.older is not None else ()


# --- rule 3: a step failed -------------------------------------------------------------------------------------------


def _step_failed(seen: Comparison) -> Finding | None:
    step = seen.facts.failed
    if step is None:
        return None
    same = [c for c in seen.before if c.failed is not None and c.failed.failure == step.failure]
    passed = [c for c in seen.before if _passes(c, step.index)]
    if len(same) == len(seen.before):
        return _fails_without_product(seen, step, same)
    if len(passed) != len(seen.before):
        return seen.unclear(
            f"The step '{step.kind}' failed, and the control changes from run to run, so it cannot judge it.",
            stage=step.kind,
            refs=(step.seq,),
        )
    if not any(_passes(c, step.index) for c in seen.after):
        return seen.unclear(
            f"The step '{step.kind}' failed and passes in the control; a fresh control run is needed to be sure.",
            needs=frozenset({Need.CONTROL_AFTER}),
            stage=step.kind,
            refs=(step.seq,),
        )
    if step.timed_out and not _timeout_convicts(seen, step, passed):
        return seen.unclear(
            f"The step '{step.kind}' only ran out of time; that convicts nobody until it repeats alone with at least"
            f" {TIMEOUT_FACTOR:g} times the control's time.",
            needs=frozenset({Need.ALONE}),
            stage=step.kind,
            refs=(step.seq,),
        )
    alerts = seen.facts.of(Owner.BUILD) or _about_older(seen.facts)
    if alerts:
        whose = f" of the older build {older_version(seen.facts)}" if alerts[0].owner is Owner.OLDER else ""
        return seen.finding(
            Outcome.BLOCKED,
            f"The step '{step.kind}' fails with the product, passes without it, and the product raised"
            f" {alerts[0].detection.threat or 'an alert'} about {alerts[0].object_path}{whose}: {_step_text(step)}",
            stage=step.kind,
            blame=Blame.PRODUCT,
            mechanism=alerts[0].detection.mechanism,
            needs=frozenset({Need.CONFIRM}),
            failure=step.failure,
            refs=(step.seq, *sorted({d.detection.seq for d in alerts})),
        )
    unread = seen.facts.unread
    record = f"what it recorded could not all be read ({unread[0]})" if unread else "the product left no record"
    return seen.finding(
        Outcome.BROKEN,
        f"The step '{step.kind}' fails with the product and passes without it; {record}: {_step_text(step)}",
        stage=step.kind,
        blame=Blame.PRODUCT,
        mechanism=Mechanism.UNKNOWN,
        needs=frozenset({Need.CONFIRM}),
        failure=step.failure,
        refs=(step.seq,),
    )


def _passes(control: Facts, index: int) -> bool:
    """Tell whether a control passes one step. It may fail at a later one: a build's own fault excuses no product."""
    ran = [s.status for s in control.steps if s.index == index]
    return bool(ran) and all(status is StepStatus.PASSED for status in ran)


def _fails_without_product(seen: Comparison, step: StepSeen, same: Sequence[Facts]) -> Finding:
    if len(same) < 2:  # noqa: PLR2004 - a control's failure is believed from its second guest on
        return seen.unclear(
            f"The step '{step.kind}' fails in the control too, which was seen only once so far.",
            needs=frozenset({Need.CONTROL}),
            stage=step.kind,
            refs=(step.seq,),
        )
    return seen.finding(
        Outcome.BUILD_FAULT,
        f"The step '{step.kind}' fails in the same way without a security product ({len(same)} control runs):"
        f" {_step_text(step)}",
        stage=step.kind,
        blame=Blame.BUILD,
        refs=(step.seq,),
    )


def _timeout_convicts(seen: Comparison, step: StepSeen, passed: Sequence[Facts]) -> bool:
    slowest = max((s.duration_s for c in passed for s in c.steps if s.index == step.index), default=0.0)
    return seen.facts.alone and step.duration_s >= TIMEOUT_FACTOR * slowest


def _step_text(step: StepSeen) -> str:
    return step.detail or f"expectation '{step.expectation}'"


# --- rules 4 and 5: not read, and changed behind our back -------------------------------------------------------------


def _not_read(seen: Comparison) -> Finding | None:
    facts = seen.facts
    if facts.unread:
        return seen.unclear(f"Evidence could not be read: {facts.unread[0]}.", needs=frozenset({Need.RETRY}))
    strangers = facts.of(Owner.UNATTRIBUTED)
    if strangers:
        return seen.unclear(
            f"The product recorded something about {strangers[0].detection.target}, which is neither the build's nor"
            " ours.",
            refs=tuple(d.detection.seq for d in strangers),
        )
    if facts.files is None:
        return seen.unclear("The files were not inspected after the last step.", needs=frozenset({Need.RETRY}))
    if not facts.passed:
        return seen.unclear("Not every step ran, and none failed.", needs=frozenset({Need.RETRY}))
    if not _comparable(seen.before):
        return seen.unclear(
            "No control run passed with its files inspected, so nothing can be said about changes behind our back.",
            needs=frozenset({Need.CONTROL}),
        )
    return None


def _changed_behind_our_back(seen: Comparison) -> Finding | None:
    odd = _odd(seen)
    if not odd:
        return None
    controls = _comparable(seen.before)
    # What differs between two controls moves by itself, so one control alone does not convict.
    sure = len(controls) >= 2  # noqa: PLR2004 - the same number as for a control's failure
    return seen.unclear(
        f"All steps passed and the product recorded nothing, yet {odd[0]} differs from the control.",
        stage=INSPECT,
        needs=frozenset({Need.CONFIRM if sure else Need.CONTROL}),
        suspicion=("changed", *odd) if sure else (),
    )


def _odd(seen: Comparison) -> tuple[str, ...]:
    """Name the files and modules that are not as in the controls."""
    controls = _comparable(seen.before)
    ordinary = {m for c in controls for m in c.foreign_modules}
    modules = sorted(set(seen.facts.foreign_modules) - ordinary) if controls else []
    return changed_files(seen.facts, controls) + tuple(f"module {m}" for m in modules)


def _doubts(seen: Comparison) -> tuple[str, ...]:
    """Say what an attempt that is to be retried holds against the build: were it whole, no pass would outweigh it."""
    facts = seen.facts
    if facts.cell.is_control:
        return ()
    failed = [f"the step '{facts.failed.kind}' failed"] if facts.failed is not None else []
    acts = [d for d in facts.of(Owner.BUILD) if d.detection.action is not Action.ALERTED]
    unproven = [d for d in acts if (drift_around(facts, d.detection.step) or ("", ""))[1] is None]
    return (
        *[f"the product acted on {d.object_path}" for d in unproven],
        *failed,
        *[f"the product recorded something about {d.object_path}" for d in facts.of(Owner.UNATTRIBUTED)],
        *[f"{odd} differs from the control" for odd in _odd(seen)],
        *[f"an exclusion that nobody declared covered {e.path}" for e in hidden_exclusions(facts)],
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


def _all_passed(seen: Comparison) -> Finding | None:
    facts = seen.facts
    alerts = facts.of(Owner.BUILD)
    slowdown = _slowdown(facts, seen.before)
    reacted = sum(c.reacted for c in facts.canaries)
    if alerts:
        return seen.finding(
            Outcome.DETECTED,
            f"Every step passed, but {shown_product(facts.cell.product.name)} raised"
            f" {alerts[0].detection.threat or 'an alert'} about {alerts[0].object_path}.",
            stage=alerts[0].stage,
            blame=Blame.PRODUCT,
            mechanism=alerts[0].detection.mechanism,
            slowdown=slowdown,
            refs=tuple(sorted({d.detection.seq for d in alerts})),
        )
    return seen.finding(
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
    ("control.older", _control_of_older),
    ("control.passed", _control_passed),
    ("control.machine", _not_run_here),
    ("control.failed", _control_failed),
    ("control.unfinished", _control_unfinished),
)

RULES: tuple[tuple[str, Rule], ...] = (
    ("product.acted", _product_acted),
    ("lab.crash", guest_crashed),
    ("lab.trouble", lab_trouble),
    ("lab.protection", protection_unproven),
    ("lab.canary", canary_silent),
    ("lab.exclusion", excluded_behind_our_back),
    ("lab.machine", _not_run_here),
    ("lab.control", control_missing),
    ("older.build", _older_not_whole),
    ("step.failed", _step_failed),
    ("evidence.unread", _not_read),
    ("files.changed", _changed_behind_our_back),
    ("all.passed", _all_passed),
)
