"""Driver. Allure results: each cell as a test whose steps stand at the times at which they really happened.

1. A step's times are the attempt's own clock (``started_at`` plus seconds since its beginning), never the time of
   writing: a run, a stored answer and pytest give the same times.
2. ``historyId`` comes from the cell's id alone, so that a test's history is one build's on one image beside one
   product's profile and signatures in one scenario, whoever wrote the results.
3. Nothing that a guest wrote stands in a description (Allure renders those); it stands in messages and attachments.
4. An attachment is named by its content: a control's pictures are there once, however many cells it judged.

Source: allure-python-commons 2.16, ``model2``, ``types`` and ``AllureFileLogger``; Allure's file formats
(``environment.properties``, ``categories.json``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from allure_commons.logger import AllureFileLogger
from allure_commons.model2 import Attachment, Label, Parameter, StatusDetails, TestResult, TestStepResult
from allure_commons.model2 import Status as AllureStatus
from allure_commons.types import AttachmentType, LabelType, Severity
from allure_commons.utils import uuid4

from harness.as_test import AsTest, Status, as_test, observed_lines
from harness.attempt import Kind
from harness.behaviour import shown_product
from harness.errors import InputError
from harness.evidence import AttemptEvidence, CellEvidence, Excerpt, StepLine
from harness.facts import Owner, StepStatus
from harness.image import Lab
from harness.inert_text import visible
from harness.matrix import MatrixCell, MatrixDetection, MatrixRun
from harness.plan import NONE
from harness.renderers.api import Report
from harness.renderers.explain import explain
from harness.verdict import BAD, GOOD, Outcome

STATUS = {
    Status.PASSED: AllureStatus.PASSED,
    Status.FAILED: AllureStatus.FAILED,
    Status.ERROR: AllureStatus.BROKEN,
    Status.SKIPPED: AllureStatus.SKIPPED,
    Status.WAIVED: AllureStatus.SKIPPED,
}

#: Characters of a name, a label or a parameter.
MAX_LINE = 200

_LABS = {
    Lab.REFERENCE: "Reference lab: a Linux guest with wine and real products for it; no real Windows.",
    Lab.WINDOWS: "A real Windows guest.",
}


def write_allure(report: Report, folder: Path) -> None:
    """Write a run into a folder of Allure results; what is there already stays.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        logger = AllureFileLogger(str(folder))
        written: set[str] = set()
        lanes = Lanes()
        for cell in report.matrix.cells:
            test = as_test(cell, waiver=report.waivers.get(cell.id), strict=report.strict)
            result = TestResult(uuid=uuid4(), name=cell.id)
            bodies = fill(result, test, report.evidence.get(cell.id), report.matrix.run, lanes)
            for name in bodies.keys() - written:
                logger.report_attached_data(body=bodies[name], file_name=name)
            written |= bodies.keys()
            logger.report_result(result=result)
        (folder / "environment.properties").write_text(_environment(report.matrix.run), encoding="utf-8")
        (folder / "categories.json").write_text(json.dumps(_categories(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"The Allure results cannot be written to '{folder}'.", detail=str(error)) from error


@dataclass(slots=True)
class Lanes:
    """Gives each result a row of Allure's timeline in which nothing else stood at its time."""

    _taken: list[list[tuple[int, int]]] = field(default_factory=list)

    def of(self, start: int, stop: int) -> str:
        """Name the first row that is free from one moment to the other (milliseconds)."""
        free = (n for n, row in enumerate(self._taken) if all(stop <= s or e <= start for s, e in row))
        lane = next(free, len(self._taken))
        if lane == len(self._taken):
            self._taken.append([])
        self._taken[lane].append((start, stop))
        return f"guest {lane + 1}"


def fill(
    result: TestResult, test: AsTest, evidence: CellEvidence | None, run: MatrixRun, lanes: Lanes
) -> Mapping[str, bytes]:
    """Put a cell into a test result, in place of what is there; give its attachments, bytes by file name.

    Args:
        result: Anybody's: an empty one, or the one that allure-pytest has made for an item.
        test: The cell as a test.
        evidence: Its evidence; without it there are no steps.
        run: The run that it belongs to.
        lanes: The rows of the timeline, of all results that are written together.
    """
    cell = test.cell
    files = _Files()
    decider = evidence.decider if evidence is not None else None
    result.name = _line(
        f"{shown_product(cell.product)}-{cell.profile} {_schedule(cell)}, {cell.build.version}, {cell.scenario}"
    )
    result.fullName = _line(f"hts-compat/{cell.id}")
    result.titlePath = [_line(text) for text in (run.suite, cell.build.version, cell.scenario)]
    result.historyId = result.testCaseId = _digest(cell.id)
    result.status = STATUS[test.status]
    result.statusDetails = StatusDetails(
        known=test.status is Status.WAIVED,
        flaky=cell.flaky,
        message=test.message if test.status is not Status.PASSED or cell.outcome is Outcome.DETECTED else None,
        trace="\n".join(observed_lines(cell)) or None,
    )
    result.description = _description(cell)
    result.descriptionHtml = None
    result.labels = list(_labels(cell, run))
    result.parameters = list(_parameters(cell))
    result.attachments = [files.text("the proof, step by step", explain(cell, evidence))]
    result.start, result.stop = _span(cell, decider, run)
    result.labels.append(Label(LabelType.THREAD, lanes.of(result.start, result.stop)))
    result.steps = []
    if evidence is not None and decider is not None:
        result.steps += _steps(decider, files)
        result.attachments += _loose(decider, files)
        others = [a for a in evidence.attempts if a is not decider]
        result.steps += [_attempt(a, f"{a.role.value} {a.ordinal}, another guest", files) for a in others]
        result.steps += [
            _attempt(a, f"{a.role.value} {a.ordinal}, without the product", files) for a in evidence.controls
        ]
    return files.bodies


# --- the cell --------------------------------------------------------------------------------------------------------


def _schedule(cell: MatrixCell) -> str:
    return cell.signature if cell.signature_from is None else f"{cell.signature_from} → {cell.signature}"


def _labels(cell: MatrixCell, run: MatrixRun) -> Iterator[Label]:
    moved = cell.signature_from is not None
    severity = Severity.CRITICAL if moved else Severity.NORMAL if cell.product != NONE else Severity.MINOR
    yield Label(LabelType.PARENT_SUITE, _line(run.suite))
    yield Label(LabelType.SUITE, _line(f"{cell.build.name} {cell.build.version}"))
    yield Label(LabelType.SUB_SUITE, _line(cell.scenario))
    yield Label(LabelType.FEATURE, _line(f"{shown_product(cell.product)}-{cell.profile}"))
    yield Label(LabelType.STORY, _line(_schedule(cell)))
    yield Label(LabelType.SEVERITY, severity.value)
    yield Label(LabelType.FRAMEWORK, "hts-compat")
    yield Label(LabelType.HOST, _line(f"{cell.provider}/{cell.image}"))
    yield Label("lab", cell.lab.value)
    marks = [cell.outcome.value, cell.stage, cell.mechanism.value if cell.mechanism is not None else None]
    yield from (Label(LabelType.TAG, _line(mark)) for mark in (f"{cell.lab.value}-lab", *marks) if mark is not None)
    if cell.test_product:
        yield Label(LabelType.TAG, "test-product")
    if cell.cached:
        yield Label(LabelType.TAG, "from-store")


def _parameters(cell: MatrixCell) -> Iterator[Parameter]:
    axes = {
        "build": cell.build.version,
        "image": cell.image,
        "product": f"{shown_product(cell.product)}-{cell.profile}",
        "signatures": _schedule(cell),
        "scenario": cell.scenario,
    }
    yield from (Parameter(name=name, value=_line(value)) for name, value in axes.items())
    facts = {"installer sha256": cell.build.sha256, "product version": cell.product_version, "from": cell.cached_from}
    yield from (
        Parameter(name=name, value=_line(value), excluded=True) for name, value in facts.items() if value is not None
    )


def _description(cell: MatrixCell) -> str:
    """Say what the verdict rests on, in words that are ours alone."""
    stage = f" at {cell.stage}" if cell.stage is not None else ""
    parts = [
        f"**{cell.outcome.value}**{stage}" + (f", by the rule {cell.rule}" if cell.rule is not None else ""),
        "confirmed on more than one guest" if cell.confirmed and len(cell.attempts) > 1 else None,
        f"blame: {cell.blame.value}" if cell.blame is not None else None,
        "answered from the store by an earlier run" if cell.cached else None,
    ]
    told = "; ".join(part for part in parts if part is not None)
    canaries = [c for c in cell.protection.canaries if not c.excluded]
    alive = f"\n\n{sum(c.reacted for c in canaries)} of {len(canaries)} canaries reacted in this guest." * bool(
        canaries
    )
    return f"{told}.{alive}\n\n{_LABS[cell.lab]}"


def _span(cell: MatrixCell, decider: AttemptEvidence | None, run: MatrixRun) -> tuple[int, int]:
    if decider is None:
        moment = _ms(cell.started_at or run.started_at)
        return moment, moment
    return _ms(decider.started_at), _ms(decider.started_at, decider.duration_s or 0.0)


# --- attempts and steps ----------------------------------------------------------------------------------------------


def _attempt(attempt: AttemptEvidence, name: str, files: _Files) -> TestStepResult:
    stage = f" at {attempt.stage}" if attempt.stage is not None else ""
    return TestStepResult(
        name=_line(f"{name}: {attempt.outcome.value}{stage}"),
        status=_attempt_status(attempt),
        statusDetails=StatusDetails(message=_line(attempt.reason)) if attempt.reason else None,
        start=_ms(attempt.started_at),
        stop=_ms(attempt.started_at, attempt.duration_s or 0.0),
        steps=_steps(attempt, files),
        attachments=_loose(attempt, files),
    )


def _attempt_status(attempt: AttemptEvidence) -> str:
    if attempt.outcome in BAD:
        return AllureStatus.FAILED
    return AllureStatus.PASSED if attempt.outcome in GOOD else AllureStatus.BROKEN


def _steps(attempt: AttemptEvidence, files: _Files) -> list[TestStepResult]:
    steps = [_step(attempt, step, files) for step in attempt.steps if step.status is not StepStatus.NOT_RUN]
    for trouble in attempt.troubles:
        steps.append(
            TestStepResult(
                name=_line(f"trouble of the lab at {trouble.stage}: {trouble.summary}"),
                status=AllureStatus.BROKEN,
                start=_ms(attempt.started_at, attempt.duration_s or 0.0),
                stop=_ms(attempt.started_at, attempt.duration_s or 0.0),
            )
        )
    missing = [step.kind for step in attempt.steps if step.status is StepStatus.NOT_RUN]
    if missing:
        end = _ms(attempt.started_at, attempt.duration_s or 0.0)
        steps.append(
            TestStepResult(
                name=_line(f"not reached: {', '.join(missing)}"), status=AllureStatus.SKIPPED, start=end, stop=end
            )
        )
    return steps


def _step(attempt: AttemptEvidence, step: StepLine, files: _Files) -> TestStepResult:
    failed = step.status is StepStatus.FAILED
    began = step.began_s or 0.0
    found = [d for d in attempt.detections if _step_of(attempt, d) == step.index]
    attachments = [files.text("dialog", step.dialog)] if step.dialog else []
    attachments += [
        files.picture(f"screen at {p.stage}", p.png)
        for p in attempt.pictures
        if p.step == step.index and p.png is not None
    ]
    attachments += [_log(x, files) for x in _told(attempt) if x.step == step.index]
    return TestStepResult(
        name=_line(f"{step.index + 1} {step.kind}"),
        status=AllureStatus.FAILED if failed else AllureStatus.PASSED,
        statusDetails=StatusDetails(message=_line(_why(step))) if failed else None,
        parameters=list(_expected(step)) if failed else [],
        start=_ms(attempt.started_at, began),
        stop=_ms(attempt.started_at, began + (step.duration_s or 0.0)),
        steps=[_reaction(attempt, d, began) for d in found],
        attachments=attachments,
    )


def _step_of(attempt: AttemptEvidence, found: MatrixDetection) -> int | None:
    """Give the step that a detection belongs to: of several of its kind the one that failed, else the first."""
    same = [step for step in attempt.steps if step.kind == found.stage and step.status is not StepStatus.NOT_RUN]
    failed = [step for step in same if step.status is StepStatus.FAILED]
    return next((step.index for step in (*failed, *same)), None)


def _why(step: StepLine) -> str:
    code = "" if step.code is None else f" (code {step.code}{f', {step.code_text}' if step.code_text else ''})"
    return f"{step.detail or step.expectation or 'failed'}{code}"


def _expected(step: StepLine) -> Iterator[Parameter]:
    if step.expectation is not None:
        yield Parameter(name="expectation", value=_line(step.expectation))
    if step.code is not None:
        yield Parameter(name="code", value=_line(f"{step.code} {step.code_text or ''}".strip()))


def _reaction(attempt: AttemptEvidence, found: MatrixDetection, began_s: float) -> TestStepResult:
    """Give what the product did, at the moment at which it did it."""
    moment = _ms(attempt.started_at, began_s + (found.after_s or 0.0))
    part = f" ({found.component.value})" if found.component is not None else ""
    target, threat = found.target or "no target recorded", found.threat or "no name recorded"
    return TestStepResult(
        name=_line(f"the product {found.action.value} {target}{part}: {threat}"),
        status=AllureStatus.FAILED if found.owner is Owner.BUILD else AllureStatus.BROKEN,
        start=moment,
        stop=moment,
    )


def _told(attempt: AttemptEvidence) -> list[Excerpt]:
    """Give the texts worth attaching: what decided, and the logs."""
    return [x for x in attempt.excerpts if x.decisive or x.kind in {Kind.LOG, Kind.TROUBLE}]


def _loose(attempt: AttemptEvidence, files: _Files) -> list[Attachment]:
    """Give what belongs to no step: from before the first one and after the last."""
    steps = {step.index for step in attempt.steps if step.status is not StepStatus.NOT_RUN}
    pictures = [p for p in attempt.pictures if p.step not in steps and p.png is not None]
    return [
        *(files.picture(f"screen at {p.stage}", p.png or b"") for p in pictures),
        *(_log(x, files) for x in _told(attempt) if x.step not in steps),
    ]


def _log(excerpt: Excerpt, files: _Files) -> Attachment:
    cut = "; an excerpt" if excerpt.cut or excerpt.truncated else ""
    text = excerpt.why_not or excerpt.text
    name = (excerpt.name or excerpt.kind.value).rpartition("/")[2]
    return files.text(f"{name} ({excerpt.source or 'harness'}{cut})", text)


@dataclass(slots=True)
class _Files:
    """The attachments of one result: bytes by file name."""

    bodies: dict[str, bytes] = field(default_factory=dict)

    def text(self, name: str, text: str) -> Attachment:
        """Attach text, in which nothing acts."""
        return self._add(name, visible(text, lines=True).encode(), AttachmentType.TEXT)

    def picture(self, name: str, png: bytes) -> Attachment:
        """Attach a picture."""
        return self._add(name, png, AttachmentType.PNG)

    def _add(self, name: str, body: bytes, kind: AttachmentType) -> Attachment:
        file_name = f"{hashlib.sha256(body).hexdigest()}-attachment.{kind.extension}"
        self.bodies[file_name] = body
        return Attachment(name=_line(name), source=file_name, type=kind.mime_type)


# --- the run ---------------------------------------------------------------------------------------------------------


def _environment(run: MatrixRun) -> str:
    facts = {
        "run": run.id,
        "suite": run.suite,
        "lab": run.lab.value,
        "provider": run.provider or "unknown",
        "hts-compat": run.tool_version,
        "state": run.state or "unknown",
    }
    return "".join(f"{name}={visible(value).translate({ord(chr(92)): '/'})}\n" for name, value in facts.items())


def _categories() -> list[dict[str, object]]:
    """Group what is not well by its outcome, which begins each message."""
    failed: list[dict[str, object]] = [
        {"name": outcome.value, "matchedStatuses": ["failed"], "messageRegex": f"(?s){outcome.value}.*"}
        for outcome in (*sorted(BAD), Outcome.DETECTED)
    ]
    return [
        *failed,
        {"name": "could not tell", "matchedStatuses": ["broken"]},
        {"name": "waived", "matchedStatuses": ["skipped"], "messageRegex": "(?s)waived.*"},
        {"name": "declared unsupported", "matchedStatuses": ["skipped"], "messageRegex": "(?s)UNSUPPORTED.*"},
    ]


def _line(text: str) -> str:
    """Give text for one line of a report: inert, and cut where it is longer than anybody reads."""
    shown = visible(text)
    return shown if len(shown) <= MAX_LINE else f"{shown[: MAX_LINE - 1]}…"


def _ms(moment: datetime, after_s: float = 0.0) -> int:
    return round((moment.timestamp() + after_s) * 1000)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
