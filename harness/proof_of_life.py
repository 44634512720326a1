"""Pure. Rule 2: the lab. What an attempt must prove before anything in it can be good news, or a failure convicts.

Also which signature set was loaded around a step, on which rule 1 rests.
"""

from __future__ import annotations

from harness.comparison import Comparison, trouble_refs, trouble_text
from harness.facts import ExclusionSeen, Facts, SampleSeen, StepStatus, When
from harness.image import Folder
from harness.verdict import Finding, Need


def guest_crashed(seen: Comparison) -> Finding | None:
    """Match a guest that died by itself once the build was in it; the same twice beside living controls is suspect."""
    crash = next((t for t in seen.facts.troubles if t.guest_crashed), None)
    if crash is None or crash.step is None:
        # Before the first step the build was not there yet: a guest that dies then says nothing about it.
        return None
    at, stage = crash.step, seen.facts.stage_of(crash.step)
    survived = any(c.passed or any(s.index >= at for s in c.steps) for c in seen.before)
    return seen.unclear(
        f"The guest died at '{stage}': {crash.summary}",
        stage=stage,
        needs=frozenset({Need.CONFIRM if survived else Need.CONTROL}),
        refs=(crash.seq,),
        suspicion=("crash", stage, str(at)) if survived else (),
    )


def lab_trouble(seen: Comparison) -> Finding | None:
    """Match trouble of ours, and an attempt without its end."""
    facts = seen.facts
    if facts.complete and not facts.troubles:
        return None
    return seen.unclear(trouble_text(facts), needs=frozenset({Need.RETRY}), refs=trouble_refs(facts))


def protection_unproven(seen: Comparison) -> Finding | None:
    """Match a border without a sample, a sample that is not as scheduled, and an object that was not checked."""
    facts = seen.facts
    sampled = {s.border for s in facts.samples}
    unsampled = next((border for border in _borders_reached(facts) if border not in sampled), None)
    if unsampled is not None:
        return seen.unclear(f"Protection was not sampled {_where(facts, unsampled)}.", needs=frozenset({Need.RETRY}))
    # Every sample counts, not only the last at its border.
    for sample in sorted(facts.samples, key=lambda s: (s.border, s.seq)):
        wrong = _sample_trouble(facts, sample)
        if wrong is not None:
            return seen.unclear(
                wrong,
                needs=frozenset({Need.RETRY}),
                drifted_to=sample.label if sample.active else None,
                refs=(sample.seq,),
            )
    for claim in facts.claims:
        if claim.label != scheduled_at(facts, claim.border):
            return seen.unclear(
                f"The product says that signature {claim.label} is loaded {_where(facts, claim.border)}, and its"
                f" reactions prove {scheduled_at(facts, claim.border)}: one of the two is not so.",
                needs=frozenset({Need.RETRY}),
                refs=(claim.seq,),
            )
    if facts.scan_failures:
        return seen.unclear(
            f"The product says that it failed to check an object: {facts.scan_failures[0]}.",
            needs=frozenset({Need.RETRY}),
        )
    return None


def _sample_trouble(facts: Facts, sample: SampleSeen) -> str | None:
    """Say what is wrong with a sample; None when it is active with the scheduled set."""
    where = _where(facts, sample.border)
    if not sample.active:
        return f"Protection was not proven {where}: {sample.why_not or 'no marker fired'}."
    scheduled = scheduled_at(facts, sample.border)
    if sample.label is None:
        why = sample.why_not or "no single marker fired"
        return f"Signature of unknown name was loaded {where} where {scheduled} was scheduled: {why}."
    if sample.label != scheduled:
        return f"Signature {sample.label} was loaded {where} where {scheduled} was scheduled."
    return None


def _where(facts: Facts, border: int) -> str:
    return "before the first step" if border < 0 else f"after '{facts.stage_of(border)}'"


def _borders_reached(facts: Facts) -> list[int]:
    """Give the borders that must have a sample: before the first step, after every step that ran, after our look."""
    ran = [s.index for s in facts.steps]
    looked = [len(facts.cell.scenario.steps)] if facts.sampled_behind and facts.files is not None else []
    return [*range(-1, max(ran) + 1 if ran else 0), *looked]


def canary_silent(seen: Comparison) -> Finding | None:
    """Match a folder in which no canary was tried, or one that did not react."""
    facts = seen.facts
    for when, folders in required_canaries(facts):
        for folder in sorted(folders):
            tries = [c for c in facts.canaries if c.when is when and c.folder is folder]
            if not tries:
                return seen.unclear(
                    f"No canary was tried in the folder '{folder}' ({when} the steps).", needs=frozenset({Need.RETRY})
                )
            silent = next((c for c in tries if not c.reacted and not c.excluded), None)
            if silent is not None:
                return seen.unclear(
                    f"The canary in the folder '{folder}' ({when} the steps) was silent: {silent.why_not}.",
                    needs=frozenset({Need.RETRY}),
                    refs=(silent.seq,),
                )
        # A declared exclusion silences the canary inside it; then one outside it must prove that the product is alive.
        if when is not When.STEP and not any(c.reacted for c in facts.canaries if c.when is when):
            return seen.unclear(
                f"No canary reacted anywhere ({when} the steps): all were excluded.", needs=frozenset({Need.RETRY})
            )
    return None


def required_canaries(facts: Facts) -> tuple[tuple[When, frozenset[Folder]], ...]:
    """Say in which folders a canary must have reacted, and when, for this attempt to prove life.

    The install folder itself exists only from an install that worked to an uninstall that did.
    """
    everywhere = frozenset(Folder) - {Folder.INSTALL}
    installed = went_on = False
    for step in facts.steps:
        went_on = went_on or (installed and step.kind == "launch")
        if step.status is StepStatus.PASSED and step.kind in {"install", "update", "uninstall"}:
            installed = step.kind != "uninstall"
    after = frozenset(Folder) if installed else everywhere
    middle = ((When.STEP, frozenset({Folder.INSTALL})),) if went_on else ()
    return ((When.BEFORE, everywhere), *middle, (When.AFTER, after))


def excluded_behind_our_back(seen: Comparison) -> Finding | None:
    """Match an exclusion over the tested paths that nobody declared."""
    hidden = hidden_exclusions(seen.facts)
    if not hidden:
        return None
    return seen.unclear(f"An exclusion that nobody declared covers the tested paths: {hidden[0].path}.")


def hidden_exclusions(facts: Facts) -> tuple[ExclusionSeen, ...]:
    """Give the exclusions over the tested paths that nobody declared."""
    return tuple(e for e in facts.exclusions if e.covers_tested and not e.declared)


def control_missing(seen: Comparison) -> Finding | None:
    """Match an attempt that has no usable control; a passing one needs it too."""
    if seen.before:
        return None
    needs = frozenset({Need.CONTROL})
    return seen.unclear("There is no usable control run without a security product to compare with.", needs=needs)


def drift_around(facts: Facts, step: int | None) -> tuple[str, str | None] | None:
    """Give (scheduled, found) when the set at a step is not proven to be the scheduled one; None when it is.

    The samples at the step's two borders are looked at: no known label may contradict, and one must be known. The one
    at its end may be missing (a guest that is lost after a quarantine). What our own last look provokes comes after
    the last sample of a step, wherever a failed step ended the scenario.
    """
    at = -1 if step is None else step
    inspecting = at >= len(facts.cell.scenario.steps)
    begin = max((s.border for s in facts.samples if s.border < at), default=-1) if inspecting else max(at - 1, -1)
    around = [s for s in facts.samples if s.border in {begin, at}]
    known = [s for s in around if s.label is not None]
    wrong = next((s for s in known if s.label != scheduled_at(facts, s.border)), None)
    if wrong is not None:
        return scheduled_at(facts, wrong.border), wrong.label
    return None if known else (scheduled_at(facts, begin), None)


def scheduled_at(facts: Facts, border: int) -> str:
    """Name the set that is scheduled at a border."""
    if border < 0:
        return facts.cell.product.schedule[0].label
    return facts.cell.scheduled(min(border, len(facts.cell.scenario.steps)), after=True).label
