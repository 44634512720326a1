"""Pure. The proof chain of one verdict as plain text, green or red, on one screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from harness.behaviour import shown_product
from harness.egress_seen import PairUse
from harness.evidence import AttemptEvidence, CellEvidence, StepLine
from harness.facts import Owner, StepStatus
from harness.inert_text import visible
from harness.matrix import MatrixCell, MatrixDetection, MatrixEgress, Protection
from harness.renderers.grid import SYMBOLS, column_of

#: Longest text from a guest on one line; what is cut says so.
LINE = 150

_STATUS = {StepStatus.PASSED: "✓ passed", StepStatus.FAILED: "✕ FAILED", StepStatus.NOT_RUN: "– not run"}


def explain(cell: MatrixCell, evidence: CellEvidence | None = None) -> str:
    """Give the proof chain of one cell.

    Args:
        cell: The cell, as matrix.json has it.
        evidence: Its evidence; None leaves the timeline out and says so.

    Returns:
        Lines of plain text, with a final line feed; nothing in it acts on a terminal.
    """
    blocks = [
        list(_verdict(cell)),
        list(_what_happened(cell)),
        list(_timeline(cell, evidence)),
        list(_protection(cell.protection)),
        list(_egress(cell.egress)),
        list(_differences(evidence)),
        list(_attempts(cell)),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _verdict(cell: MatrixCell) -> Iterator[str]:
    at = f" at {cell.stage}" if cell.stage is not None else ""
    marks = [
        f"rule {cell.rule}" if cell.rule is not None else None,
        f"blame {cell.blame.value}" if cell.blame is not None else None,
        f"mechanism {cell.mechanism.value}" if cell.mechanism is not None else None,
        f"assurance {cell.assurance.value}" if cell.assurance is not None else None,
        "confirmed" if cell.confirmed else "not confirmed",
        "FLAKY" if cell.flaky else None,
        f"observed {cell.observed_s:.1f} s" if cell.observed_s is not None else None,
        f"{cell.slowdown:g}x slower than the control" if cell.slowdown is not None else None,
        f"from run {cell.cached_from}" if cell.cached_from is not None else None,
        f"cause {cell.cause.value}" if cell.cause is not None else None,
    ]
    yield f"{SYMBOLS[cell.outcome]} {cell.outcome.value}{at}   {_short(cell.id)}"
    yield f"  {_short(cell.reason, 400)}"
    yield f"  {', '.join(_short(mark) for mark in marks if mark is not None)}"
    version = f" {cell.product_version}" if cell.product_version is not None else ""
    parts = ", ".join(f"{name} {value or 'unknown'}" for name, value in cell.signature_components.items())
    product = shown_product(cell.product)
    yield f"  {_short(product + version)}: {_short(column_of(cell).title)}{_short(f' ({parts})' if parts else '')}"
    yield f"  {cell.lab.value} lab, image {_short(cell.image)}, build {_short(cell.build.sha256)}"
    if cell.older is not None:
        yield f"  installed over build {_short(cell.older.version)} {_short(cell.older.sha256)}"


def _what_happened(cell: MatrixCell) -> Iterator[str]:
    step = cell.failed_step
    if not cell.detections and step is None:
        return
    yield "What happened"
    for found in cell.detections:
        yield f"  {_detection(found)}"
    if step is None:
        return
    code = "" if step.code is None else f", code {step.code}{f' {step.code_text}' if step.code_text else ''}"
    late = ", out of time" if step.timed_out else ""
    yield f"  step {step.index + 1} '{_short(step.kind)}' failed: {_short(step.expectation or '')}{code}{late}"
    if step.detail is not None:
        yield f"    {_short(step.detail)}"
    if step.dialog is not None:
        yield from (f"    │ {_short(line)}" for line in step.dialog.splitlines()[:8])


def _detection(found: MatrixDetection) -> str:
    after = f" {found.after_s:g} s into the step" if found.after_s is not None else ""
    part = f" ({found.component.value})" if found.component is not None else ""
    whose = "" if found.owner is Owner.BUILD else f" [{found.owner.value}]"
    name, loaded = found.threat or "no name recorded", found.signature or "unknown"
    place = f"{found.target or 'no target recorded'}{part} at {found.stage or 'no stage'}{after}"
    text = f"{found.action.value}{whose}: {place}, {name}, mechanism {found.mechanism.value}, signature {loaded}"
    return _short(text, 300)


def _timeline(cell: MatrixCell, evidence: CellEvidence | None) -> Iterator[str]:
    if evidence is None:
        yield "The attempts' bytes are not at hand, so there is no timeline."
        return
    shown = evidence.decider
    if shown is None:
        return
    beside = evidence.control
    yield f"Timeline of {_name(shown)}" + (f", beside {_name(beside)}" if beside is not None else "")
    if shown.layer is not None:
        yield f"  its guest began with the protection up (layer {_short(shown.layer, 16)})"
    samples = {sample.border: sample for sample in cell.protection.samples}
    for index, step in enumerate(shown.steps):
        control = beside.steps[index] if beside is not None and index < len(beside.steps) else None
        sample = samples.get(index)
        loaded = (
            ""
            if sample is None
            else f"then {sample.signature or 'unknown'} {'active' if sample.active else 'NOT ACTIVE'}"
        )
        name = f"{index + 1:>2} {_short(step.kind, 14):<15}"
        yield f"  {name}{_step(step):<22}{_beside(control):<26}{_short(loaded)}".rstrip()
    for trouble in shown.troubles:
        yield f"     trouble at {trouble.stage}: {_short(trouble.summary or '')}"


def _step(step: StepLine) -> str:
    took = "" if step.duration_s is None else f"{step.duration_s:8.2f} s"
    return f"{_STATUS[step.status]:<10}{took}"


def _beside(step: StepLine | None) -> str:
    return "" if step is None else f"control {_step(step).replace('✓ passed', '✓')}"


def _protection(protection: Protection) -> Iterator[str]:
    if not protection.canaries and not protection.samples:
        return
    tried = [c for c in protection.canaries if not c.excluded]
    yield f"Protection in this guest: {sum(c.reacted for c in tried)} of {len(tried)} canaries reacted"
    for (when, layer), group in groupby(protection.canaries, key=lambda c: (c.when, c.layer)):
        marks = ", ".join(f"{'✓' if c.reacted else '–' if c.excluded else '✕'} {c.folder.value}" for c in group)
        yield f"  {when.value:<7}{layer.value:<10}{marks}"
    yield from (
        f"  silent in {c.folder.value} ({c.when.value}): {_short(c.why_not or 'no reason recorded')}"
        for c in tried
        if not c.reacted
    )
    wrong = [s for s in protection.samples if not s.active or s.signature != s.scheduled]
    yield f"  {len(protection.samples) - len(wrong)} of {len(protection.samples)} samples as scheduled"
    for sample in wrong:
        where = "before the first step" if sample.border < 0 else f"after {sample.stage}"
        loaded = f"{sample.signature or 'unknown'} where {sample.scheduled or 'unknown'} was scheduled"
        yield f"  sample {where}: {_short(loaded)}{_short(f' ({sample.why_not})' if sample.why_not else '')}"
    for hole in protection.exclusions:
        declared = "declared" if hole.declared else "NOT DECLARED"
        covers = "COVERS TESTED PATHS" if hole.covers_tested else "covers no tested path"
        yield f"  exclusion ({declared}, {covers}): {_short(hole.path or '')}"


def _egress(egress: MatrixEgress | None) -> Iterator[str]:
    if egress is None:
        return
    yield "Way out of the guests" + (", a vendor's cloud among it: never answered from the store" * egress.asks_a_cloud)
    opened, seen = egress.opened, egress.seen
    for name, pairs in (
        ("the program's hosts", opened.hosts),
        ("the program's hosts here", opened.private_hosts),
        *((f"cloud '{cloud.name}' of {cloud.product}", cloud.hosts) for cloud in opened.vendor_clouds),
    ):
        if pairs:
            yield f"  open for {_short(name)}: {_short(', '.join(pairs), 400)}"
    if seen is None:
        yield "  no guest's connections were recorded"
        return
    yield "  refusing was seen to work, before and after" if seen.proven else "  NOT PROVEN before and after"
    yield from _few([f"  used {_short(use_of(use))}" for use in seen.used] or ["  nothing was used"], 16)
    yield from _few([f"  refused {_short(r.target)}, {r.times}x: {_short(r.why)}" for r in seen.refused])
    more = seen.refused_more + seen.uncounted
    if more:
        yield f"  and {more} further tries that were let nowhere"


def use_of(use: PairUse) -> str:
    """Say what went through one pair."""
    whose = f" (cloud '{use.cloud}')" if use.cloud is not None else ""
    failed = f", {use.failed} failed: {use.why or 'no reason recorded'}" if use.failed else ""
    times = "1 connection" if use.connections == 1 else f"{use.connections} connections"
    return f"{use.pair}{whose}: {times}, {use.sent_bytes} bytes out, {use.received_bytes} in{failed}"


def _differences(evidence: CellEvidence | None) -> Iterator[str]:
    changes = (evidence.file_changes or ()) if evidence is not None else ()
    if changes:
        yield "Files that are not as in the control"
        yield from _few([f"  {change.change}: {_short(change.path)}" for change in changes])


def _attempts(cell: MatrixCell) -> Iterator[str]:
    if not cell.attempts and cell.control is None:
        return
    yield "Attempts"
    for attempt in cell.attempts:
        star = "*" if attempt.id == cell.decided_by else " "
        at = f" at {attempt.stage}" if attempt.stage is not None else ""
        yield (
            f" {star}{attempt.role.value} {attempt.ordinal} ({_short(attempt.id)}): {attempt.outcome.value}{at},"
            f" {attempt.rule or 'no rule'}"
        )
    if cell.control is not None:
        count = len(cell.control.attempts)
        tries = "1 attempt" if count == 1 else f"{count} attempts"
        yield f"  control, {tries}: {cell.control.outcome.value}. {_short(cell.control.reason)}"


def _name(attempt: AttemptEvidence) -> str:
    return f"{attempt.role.value} {attempt.ordinal}"


def _few(lines: Sequence[str], most: int = 8) -> Iterable[str]:
    yield from lines[:most]
    if len(lines) > most:
        yield f"  and {len(lines) - most} more"


def _short(text: str, longest: int = LINE) -> str:
    shown = visible(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
