"""Driver. ``doctor``: what this machine has, what it lacks, and how to mend it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.cli import say
from harness.cli.progress import progress
from harness.cli.run import Asked, interruptible, load, open_store
from harness.doctor import Examined, examine, labs
from harness.errors import InputError
from harness.lab_choice import Lab, choose
from harness.plan import expand
from harness.products import parser_of
from harness.prove_rig import Proven, prove_rig
from harness.providers import provider_names
from harness.rig import AUTO, ROOT, make_rig
from harness.rig import sweep as sweep_guests
from harness.session import Options, new_run_id
from harness.yaml_files import load_expectations

#: The cells by which the rig tests itself; what each must show stands beside it.
RIG_SUITE = ROOT / "scenarios" / "suites" / "rig.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class RigAsked:
    """How the rig is to test itself. ``jobs`` None is the suite's."""

    provider: str
    jobs: int | None
    out: Path


def doctor(*, sweep: bool, as_json: bool, provider: str = AUTO, rig: RigAsked | None = None) -> int:
    """Say what this machine can do.

    Returns:
        5 when no provider (or not the one that is named) is usable, something that every run needs is missing, or a
        promise of the rig is not kept.

    Raises:
        InputError: There is no such provider.
    """
    if provider != AUTO and provider not in provider_names():
        raise InputError(f"There is no provider '{provider}'.", hint=f"Providers: {', '.join(provider_names())}.")
    swept = sweep_guests() if sweep else None
    findings, found = examine(ROOT), labs(ROOT)
    bad = lacking(findings, found, provider)
    if as_json:
        told = [{"provider": lab.provider, "usable": lab.complete, "why_not": lab.shortcoming} for lab in found]
        shown: dict[str, object] = {"swept": swept, "labs": told, "findings": [asdict(f) for f in findings]}
    else:
        shown = {}
        _say_findings(findings, bad, swept)
        _say_labs(found, bad)
    kept = not bad
    if rig is not None and bad:
        say.note("the rig is not tried: it lacks what it needs")
    elif rig is not None:
        proven, duration_s = _prove(rig)
        kept = proven.kept
        shown["rig"] = {
            "run": proven.run_id,
            "duration_s": round(duration_s, 1),
            "promises": [{"kept": p.kept, **p.model_dump(mode="json")} for p in proven.promises],
        }
        if not as_json:
            for line in promise_lines(proven, duration_s=duration_s, out=rig.out):
                say.line(line)
    if as_json:
        say.data({"ok": kept, **shown})
    return 0 if kept else 5


def _prove(asked: RigAsked) -> tuple[Proven, float]:
    """Run the cells of the rig's own suite in the store of an output folder; give what came of it, and the seconds."""
    begun = time.monotonic()
    loaded = load(Asked(suite=RIG_SUITE, provider=asked.provider))
    plan = expand(loaded.suite)
    run_id = new_run_id(plan.suite.name, datetime.now(UTC))
    rig = make_rig(asked.provider, loaded)
    options = Options(run_id=run_id, jobs=asked.jobs or plan.suite.jobs, provider=rig.provider.name, fresh=True)
    with open_store(asked.out, None) as store, interruptible(run_id) as stop, progress(plan) as listener:
        proven = prove_rig(
            plan,
            load_expectations(RIG_SUITE.with_suffix(".expected.yaml")),
            rig=rig,
            store=store,
            parsers=parser_of,
            options=options,
            listeners=[listener],
            stop=stop,
        )
    return proven, time.monotonic() - begun


def promise_lines(proven: Proven, *, duration_s: float, out: Path) -> list[str]:
    """Say which promises were kept, and of each other one what was seen instead and where to look."""
    where = "" if out == Path("reports") else f" --out {out}"
    lines = []
    for promise in proven.promises:
        lines.append(f"{'kept' if promise.kept else 'NOT KEPT':8} {promise.promise:18} {promise.words}")
        lines += [f"{'':8} {'':18} {sentence}" for sentence in promise.why_not]
        if promise.why_not and promise.cells:
            lines.append(f"{'':8} {'':18} look: hts-compat explain {promise.cells[0]} {proven.run_id}{where}")
    broken = [p.promise for p in proven.promises if not p.kept]
    total = len(proven.promises)
    if not proven.whole:
        lines.append("the test of the rig was stopped before its end")
    if proven.kept:
        return [*lines, f"the rig keeps all {total} promises ({duration_s:.0f} s)"]
    return [*lines, f"{len(broken)} of {total} promises are not kept: {', '.join(broken)} ({duration_s:.0f} s)"]


def lacking(findings: Sequence[Examined], found: Sequence[Lab], provider: str) -> list[Examined]:
    """Give what must be mended: what every run needs, and what keeps the provider that is wanted from being usable.

    Args:
        findings: What was looked at.
        found: The providers; one that is complete is enough when none is named.
        provider: The one that is named, or ``auto``.
    """
    wanted = {lab.provider for lab in found} if provider == AUTO else {provider}
    if any(lab.complete for lab in found if lab.provider in wanted):
        wanted = set()
    return [f for f in findings if f.needed and not f.ok and (not f.lab or f.lab in wanted)]


def _say_findings(findings: Sequence[Examined], bad: Sequence[Examined], swept: int | None) -> None:
    if swept is not None:
        say.line(f"removed {swept} guests that killed runs had left")
    for finding in findings:
        mark = "ok" if finding.ok else "MISSING" if finding in bad else "absent"
        say.line(f"{mark:8} {finding.name:18} {finding.detail}")
        if not finding.ok and finding.fix:
            say.line(f"{'':8} {'':18} fix: {finding.fix}")


def _say_labs(found: Sequence[Lab], bad: Sequence[Examined]) -> None:
    """Say of each provider whether it is usable, and which one is taken when nobody names one."""
    choice = choose(found)
    for lab in found:
        mark = "usable" if lab.complete else "not usable"
        say.line(f"{mark:10} {lab.provider:16} {lab.shortcoming}".rstrip())
    if choice is not None and any(lab.complete for lab in found):
        say.line(f"'--provider auto' takes {choice.provider}, because {choice.why}")
    say.line("this machine can run the reference lab" if not bad else f"{len(bad)} needed things are missing")
