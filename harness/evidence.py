"""Pure. What a person is shown about one cell: every attempt and control as a timeline, with the raw bytes beside it.

1. Nothing here decides; it lays out what ``decide`` and ``settle`` saw, so that a reader can check them.
2. Raw bytes are decoded with an encoding that is named, capped at a size that is said, and never lost: the digest of
   the whole blob stands beside each excerpt.
3. A blob that is missing or damaged is shown as missing or damaged.
4. Text keeps what the guest wrote; ``visible`` makes it safe to look at, and every renderer for people applies it.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from pydantic import Field

from harness.attempt import LAYER, Attempt, Blobs, Event, Kind, Role
from harness.errors import Blame
from harness.facts import Facts, StepSeen, StepStatus
from harness.frozen import Frozen
from harness.matrix import MatrixDetection, Named, Protection, Text, UtcTime
from harness.matrix_cell import Tried, detections_of, duration_of, protection_of
from harness.observation import Mechanism
from harness.plan import Cell
from harness.rules import changed_files
from harness.verdict import Outcome, Verdict
from harness.windows_codes import code_text

#: Bytes of one blob that are shown: so many from its beginning and so many from its end.
HEAD_BYTES, TAIL_BYTES = 4096, 8192

#: Blobs of one attempt that are shown as text; those that decided come first in the count.
MAX_EXCERPTS = 48

#: A picture larger than this is named and not shown: a page must stay openable.
MAX_PICTURE_BYTES = 4 * 1024 * 1024

_PNG = b"\x89PNG\r\n\x1a\n"


class StepLine(Frozen):
    """One step as it went. ``began_s`` counts from the attempt's beginning, None when it never began."""

    index: int
    kind: Named
    status: StepStatus
    began_s: float | None = None
    duration_s: float | None = None
    expectation: Text = None
    code: int | None = None
    code_text: Text = None
    timed_out: bool = False
    detail: Text = None
    dialog: Text = None


class Picture(Frozen):
    """One picture of the guest's screen. ``png`` is None when it cannot be shown, and ``why_not`` says why."""

    sha256: Named
    stage: Text
    step: int | None
    at_s: float
    caption: Text
    png: bytes | None = Field(default=None, exclude=True, repr=False)
    why_not: Text = None


class Excerpt(Frozen):
    """What one blob of text says. ``decisive`` when the finding refers to it.

    ``cut`` when the excerpt leaves bytes out, ``truncated`` when the collector already had to.
    """

    seq: int
    kind: Kind
    sha256: Named
    source: Text
    name: Text
    stage: Text
    step: int | None
    at_s: float
    text: str
    encoding: Text
    size_bytes: int | None
    cut: bool = False
    truncated: bool = False
    decisive: bool = False
    why_not: Text = None


class TroubleLine(Frozen):
    """Something of ours that went wrong."""

    stage: Text
    summary: Text
    guest_crashed: bool


class FileChange(Frozen):
    """A file that is not as in the control: ``gone``, ``changed`` or ``cannot be opened``."""

    path: Named
    change: Named


class AttemptEvidence(Frozen):
    """Everything that one attempt has to show. ``layer`` is the content of that in which its protection was up."""

    id: Named
    role: Role
    ordinal: int
    alone: bool
    complete: bool
    provider: Text
    started_at: UtcTime
    duration_s: float | None
    observed_s: float
    outcome: Outcome
    stage: Text
    rule: Text
    reason: Text
    blame: Blame | None
    mechanism: Mechanism | None
    steps: tuple[StepLine, ...]
    detections: tuple[MatrixDetection, ...]
    protection: Protection
    troubles: tuple[TroubleLine, ...]
    unread: tuple[str, ...]
    scan_failures: tuple[str, ...]
    foreign_modules: tuple[str, ...]
    pictures: tuple[Picture, ...]
    excerpts: tuple[Excerpt, ...]
    excerpts_left_out: int
    layer: Text = None

    @property
    def dialog(self) -> str | None:
        """Give the text of the first error dialog that was on the screen."""
        return next((step.dialog for step in self.steps if step.dialog), None)


class CellEvidence(Frozen):
    """What the page and ``explain`` show about one cell."""

    cell_id: Named
    decided_by: Text
    attempts: tuple[AttemptEvidence, ...]
    controls: tuple[AttemptEvidence, ...]
    file_changes: tuple[FileChange, ...] | None = Field(description="None when there was nothing to compare.")

    @property
    def decider(self) -> AttemptEvidence | None:
        """Give the attempt whose evidence is shown first."""
        return next((a for a in self.attempts if a.id == self.decided_by), None) or next(iter(self.attempts), None)

    @property
    def control(self) -> AttemptEvidence | None:
        """Give the control that is shown beside it: the last one that finished, else the last one."""
        finished = [c for c in self.controls if c.complete]
        return next(reversed(finished or self.controls), None)


def evidence_of(cell: Cell, verdict: Verdict, attempts: Sequence[Tried], controls: Sequence[Tried]) -> CellEvidence:
    """Lay out the evidence of one cell.

    Args:
        cell: What was asked.
        verdict: Its verdict; ``decided_by`` names the attempt that is shown first.
        attempts: The cell's own attempts, in any order (for a control cell: the control's).
        controls: The control attempts that judged it; empty for a control cell.
    """
    own = sorted(attempts, key=_order)
    decider = next((t for t in own if t.facts.attempt_id == verdict.decided_by), None)
    return CellEvidence(
        cell_id=cell.id,
        decided_by=verdict.decided_by,
        attempts=tuple(attempt_evidence(t) for t in own),
        controls=tuple(attempt_evidence(t) for t in sorted(controls, key=_order)),
        file_changes=None if decider is None else _file_changes(decider.facts, [t.facts for t in controls]),
    )


def attempt_evidence(tried: Tried) -> AttemptEvidence:
    """Lay out one attempt."""
    attempt, facts, finding = tried
    meta = attempt.meta
    excerpts, left_out = _excerpts(attempt, facts, frozenset(finding.refs))
    return AttemptEvidence(
        id=meta.id,
        role=meta.role,
        ordinal=meta.ordinal,
        alone=meta.alone,
        complete=facts.complete,
        provider=meta.provider,
        started_at=meta.started_at,
        duration_s=duration_of(attempt),
        observed_s=facts.observed_s,
        outcome=finding.outcome,
        stage=finding.stage,
        rule=finding.rule,
        reason=finding.reason,
        blame=finding.blame,
        mechanism=finding.mechanism,
        steps=_steps(attempt, facts),
        detections=detections_of(facts),
        protection=protection_of(facts),
        troubles=tuple(
            TroubleLine(stage=facts.stage_of(t.step), summary=t.summary, guest_crashed=t.guest_crashed)
            for t in facts.troubles
        ),
        unread=tuple(map(_clean, facts.unread)),
        scan_failures=tuple(map(_clean, facts.scan_failures)),
        foreign_modules=tuple(map(_clean, facts.foreign_modules)),
        pictures=_pictures(attempt, facts),
        excerpts=excerpts,
        excerpts_left_out=left_out,
        layer=_layer(attempt),
    )


def _layer(attempt: Attempt) -> str | None:
    contents = [event.data.get("content") for event in attempt.of(Kind.GUEST, subject=LAYER)]
    return str(contents[0]) if contents else None


def _order(tried: Tried) -> tuple[float, str, int, str]:
    meta = tried.attempt.meta
    return (meta.started_at.timestamp(), meta.role.value, meta.ordinal, meta.id)


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _steps(attempt: Attempt, facts: Facts) -> tuple[StepLine, ...]:
    """Give a line for every step of the scenario, also for those that were never reached."""
    began = {e.step: e.host_mono_s for e in reversed(attempt.of(Kind.STEP_BEGIN)) if e.step is not None}
    seen = {s.index: s for s in facts.steps}
    return tuple(
        _step(seen[index], began.get(index))
        if index in seen
        else StepLine(index=index, kind=step.kind, status=StepStatus.NOT_RUN)
        for index, step in enumerate(facts.cell.scenario.steps)
    )


def _step(step: StepSeen, began_s: float | None) -> StepLine:
    return StepLine(
        index=step.index,
        kind=step.kind,
        status=step.status,
        began_s=None if began_s is None else round(began_s, 3),
        duration_s=None if step.status is StepStatus.NOT_RUN else round(step.duration_s, 3),
        expectation=step.expectation,
        code=step.code,
        code_text=code_text(step.code),
        timed_out=step.timed_out,
        detail=step.detail,
        dialog=step.dialog,
    )


def _file_changes(facts: Facts, controls: Sequence[Facts]) -> tuple[FileChange, ...] | None:
    if facts.files is None or not any(c.passed and c.files is not None for c in controls):
        return None
    split = (text.rpartition(" (") for text in changed_files(facts, controls))
    return tuple(FileChange(path=path, change=change.rstrip(")")) for path, _, change in split)


def _read(blobs: Blobs, sha256: str) -> tuple[bytes | None, str | None]:
    try:
        return blobs.get(sha256), None
    except KeyError:
        return None, "the bytes are missing in the store"
    except ValueError:
        return None, "the bytes in the store are not those that were recorded"


def _pictures(attempt: Attempt, facts: Facts) -> tuple[Picture, ...]:
    return tuple(_picture(attempt.blobs, facts, e) for e in attempt.of(Kind.SCREENSHOT) if e.blob)


def _picture(blobs: Blobs, facts: Facts, event: Event) -> Picture:
    raw, why_not = _read(blobs, event.blob or "")
    why_not = why_not if raw is None else _unfit(raw)
    return Picture(
        sha256=event.blob or "",
        stage=facts.stage_of(event.step),
        step=event.step,
        at_s=round(event.host_mono_s, 3),
        caption=event.subject,
        png=raw if why_not is None else None,
        why_not=why_not,
    )


def _unfit(raw: bytes) -> str | None:
    if not raw.startswith(_PNG):
        return "it is no PNG picture"
    if len(raw) > MAX_PICTURE_BYTES:
        return f"it is too large to be shown here ({len(raw)} bytes)"
    return None


def _excerpts(attempt: Attempt, facts: Facts, refs: frozenset[int]) -> tuple[tuple[Excerpt, ...], int]:
    """Give the blobs of text in the order of the events.

    When there are too many, those that decided are kept first, then what the product wrote, then our own looks.
    """
    textual = [e for e in attempt.events if e.blob and e.kind is not Kind.SCREENSHOT]
    first = sorted(textual, key=lambda e: (e.seq not in refs, e.kind not in {Kind.LOG, Kind.PRODUCT}, e.seq))
    kept = {e.seq for e in first[:MAX_EXCERPTS]}
    shown = [_excerpt(attempt.blobs, facts, e, decisive=e.seq in refs) for e in textual if e.seq in kept]
    return tuple(x for x in shown if x.size_bytes != 0), len(textual) - len(shown)


def _excerpt(blobs: Blobs, facts: Facts, event: Event, *, decisive: bool) -> Excerpt:
    raw, why_not = _read(blobs, event.blob or "")
    text, encoding, cut = decode(raw or b"")
    size_bytes = len(raw) if raw is not None else None
    return Excerpt(
        seq=event.seq,
        kind=event.kind,
        sha256=event.blob or "",
        source=event.source,
        name=event.subject or event.kind.value,
        stage=facts.stage_of(event.step),
        step=event.step,
        at_s=round(event.host_mono_s, 3),
        text=text,
        encoding=encoding if raw else None,
        size_bytes=size_bytes,
        cut=cut,
        truncated=event.truncated,
        decisive=decisive,
        why_not=why_not,
    )


def decode(raw: bytes) -> tuple[str, str, bool]:
    """Give the text of raw bytes, the encoding it was read in, and whether bytes were left out.

    UTF-16 by its byte order mark, else UTF-8, else code page 949 (what Windows and wine consoles write in Korea), else
    UTF-8 with replacement characters. A cut never makes another encoding be chosen: it may split a character.
    """
    encoding = _encoding(raw)
    if len(raw) <= HEAD_BYTES + TAIL_BYTES:
        return _clean(raw.decode(encoding, "replace").removeprefix("\ufeff")), encoding, False
    odd = 1 if encoding.startswith("utf-16") and len(raw) % 2 else 0
    head, tail = raw[:HEAD_BYTES].decode(encoding, "replace"), raw[-TAIL_BYTES - odd :].decode(encoding, "replace")
    gap = f"\n[... {len(raw) - HEAD_BYTES - TAIL_BYTES} bytes are left out here ...]\n"
    return _clean(head.removeprefix("\ufeff") + gap + tail), encoding, True


def _encoding(raw: bytes) -> str:
    if raw.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"
    if raw.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be"
    for encoding in ("utf-8", "cp949"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(raw)  # a character that is cut at the end is no objection
        except UnicodeDecodeError:
            continue
        return encoding
    return "utf-8"
