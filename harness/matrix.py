"""Pure. The compatibility matrix: one verdict a cell, as matrix.json promises it (contract ``hts-compat/matrix/1``).

1. The same judgements give the same bytes: cells stand in the order of the plan, and nothing here asks the clock.
2. Unknown is None, never an empty string. Times are UTC ISO 8601 with ``Z``.
3. A cell that was expected and has no judgement stands in the matrix as INCONCLUSIVE: what is missing is visible.
4. Every field of the contract is always there; fields of ours are additions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, Protocol, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.build import Component
from harness.errors import Blame
from harness.facts import AttributedDetection, Facts, Owner, StepSeen, When
from harness.frozen import Frozen
from harness.image import Folder, Lab
from harness.judgement import Judgement
from harness.observation import Action, Layer, Mechanism
from harness.plan import Cell, Plan
from harness.verdict import Finding, Outcome, Verdict, settle

SCHEMA: Literal["hts-compat/matrix/1"] = "hts-compat/matrix/1"

#: Reason of a cell that was expected and never got a judgement.
NOT_FINISHED = "not finished"

_SURROGATES = re.compile("[\ud800-\udfff]")


def _to_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _to_text(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _known(value: object) -> object:
    """Give None for an empty string, and text that UTF-8 can hold: guests write names that it cannot."""
    if isinstance(value, str):
        return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", value) or None
    return value


UtcTime = Annotated[
    AwareDatetime,
    AfterValidator(_to_utc),
    PlainSerializer(_to_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": "Z$"}, mode="serialization"),
]
#: Text that is always there.
Named = Annotated[str, BeforeValidator(_known), Field(min_length=1)]
#: Text that a guest or a person may have written; an empty one is unknown.
Text = Annotated[Annotated[str, Field(min_length=1)] | None, BeforeValidator(_known)]


class Assurance(StrEnum):
    """What a good verdict rests on."""

    REPORTED = "reported"
    OBSERVED = "observed"
    EXCLUDED = "excluded"


class Cause(StrEnum):
    """What turned a cell bad against its baseline."""

    OUR_CHANGE = "our_change"
    VENDOR_UPDATE = "vendor_update"
    INTERACTION = "interaction"
    FLAKE = "flake"
    INFRASTRUCTURE = "infrastructure"


class Tried(NamedTuple):
    """One attempt with what it says and what it means: the three that everything shown is made from."""

    attempt: Attempt
    facts: Facts
    finding: Finding


class MatrixBuild(Frozen):
    """The build of a cell; ``sha256`` is its installer's."""

    name: Named
    version: Named
    sha256: Named


class MatrixDetection(Frozen):
    """One record of the product about an object that is the build's or that nobody could attribute.

    ``target`` is the Windows path where there is one, ``raw_target`` what the product wrote. ``signature`` is the set
    that was loaded there. ``after_s`` counts from the beginning of the step.
    """

    threat: Text
    action: Action
    target: Text
    sha256: Text
    component: Component | None
    mechanism: Mechanism
    signature: Text
    at: Text
    after_s: float | None
    stage: Text
    owner: Owner
    raw_target: Text
    accessed_by: Text
    count: int


class MatrixCanary(Frozen):
    """One try to provoke the protection; ``why_not`` says why a silent one counts as silent."""

    layer: Layer
    folder: Folder
    when: When
    reacted: bool
    after_s: float | None
    excluded: bool
    why_not: Text


class MatrixSample(Frozen):
    """The protection at one border: after step ``border`` (from 0), or before the first step when it is -1."""

    border: int
    stage: Text
    active: bool
    signature: Text
    scheduled: Text
    why_not: Text


class MatrixExclusion(Frozen):
    """A path that the product does not watch."""

    path: Text
    declared: bool
    covers_tested: bool


class Protection(Frozen):
    """Proof that protection was alive in the guest that decided; None stands for what was never sampled."""

    canaries: tuple[MatrixCanary, ...] = ()
    active_before: bool | None = None
    active_after: bool | None = None
    signature_before: Text = None
    signature_after: Text = None
    exclusions: tuple[MatrixExclusion, ...] = ()
    samples: tuple[MatrixSample, ...] = ()


class EvidenceRef(Frozen):
    """Where raw bytes are: ``path`` is relative to the report or the store, None when nobody exported them."""

    kind: Named
    path: Text
    sha256: Named


class FailedStep(Frozen):
    """The step at which the cell failed. ``code`` is raw; ``code_text`` what Windows calls it."""

    index: int
    kind: Named
    expectation: Text
    code: int | None
    code_text: Text
    timed_out: bool
    duration_s: float
    detail: Text
    dialog: Text


class MatrixAttempt(Frozen):
    """One attempt, summed up. ``stage`` and ``rule`` are those of its own finding."""

    id: Named
    role: Role
    ordinal: int
    alone: bool
    outcome: Outcome
    stage: Text
    rule: Text
    reason: Named
    started_at: UtcTime
    duration_s: float | None


class ControlSummary(Frozen):
    """What the same cell did without a security product."""

    outcome: Outcome
    stage: Text
    reason: Named
    attempts: tuple[MatrixAttempt, ...]


class MatrixCell(Frozen):
    """One cell of matrix.json. The order of the fields is the order in the file."""

    key: Named
    id: Named
    build: MatrixBuild
    image: Named
    image_content: Named
    provider: Named
    lab: Lab
    product: Named
    profile: Named
    product_version: Text
    signature: Named
    signature_from: Text
    signature_components: dict[str, Text]
    scenario: Named
    outcome: Outcome
    stage: Text
    rule: Text
    reason: Named
    assurance: Assurance | None
    blame: Blame | None
    mechanism: Mechanism | None
    flaky: bool
    confirmed: bool
    slowdown: float | None
    attempts: tuple[MatrixAttempt, ...]
    control: ControlSummary | None
    cached: bool
    cached_from: Text
    observed_s: float | None
    cause: Cause | None
    failed_step: FailedStep | None
    detections: tuple[MatrixDetection, ...]
    protection: Protection
    evidence: tuple[EvidenceRef, ...]
    decided_by: Text
    started_at: UtcTime | None
    duration_s: float | None

    def to_value(self) -> dict[str, JsonValue]:
        """Give the cell as JSON values: what ``Judgement.cell`` holds."""
        value: dict[str, JsonValue] = self.model_dump(mode="json")
        return value


class RunFacts(Protocol):
    """What a store knows of a run (``stores.api.RunInfo`` fits)."""

    @property
    def id(self) -> str: ...  # noqa: D102  # a structural type: the fields speak for themselves
    @property
    def suite(self) -> str: ...  # noqa: D102
    @property
    def lab(self) -> str: ...  # noqa: D102
    @property
    def provider(self) -> str: ...  # noqa: D102
    @property
    def tool_version(self) -> str: ...  # noqa: D102
    @property
    def started_at(self) -> datetime: ...  # noqa: D102
    @property
    def finished_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def drill(self) -> bool: ...  # noqa: D102
    @property
    def expected_cells(self) -> int: ...  # noqa: D102


class MatrixRun(Frozen):
    """The run that a matrix shows."""

    id: Named
    started_at: UtcTime
    finished_at: UtcTime | None
    suite: Named
    tool_version: Named
    lab: Lab
    expected_cells: int
    provider: Text = None
    state: Text = None
    drill: bool = False

    @classmethod
    def of(cls, run: RunFacts) -> Self:
        """Take a run over from a store's own record of it."""
        return cls(
            id=run.id,
            started_at=run.started_at,
            finished_at=run.finished_at,
            suite=run.suite,
            tool_version=run.tool_version,
            lab=Lab(run.lab),
            expected_cells=run.expected_cells,
            provider=run.provider,
            state=str(run.state),
            drill=run.drill,
        )


class Matrix(Frozen):
    """A whole run: what matrix.json holds and what every renderer draws."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["hts-compat/matrix/1"] = Field(default=SCHEMA, alias="schema")
    run: MatrixRun
    cells: tuple[MatrixCell, ...]

    def to_value(self) -> dict[str, JsonValue]:
        """Give the matrix as JSON values, in the contract's names."""
        value: dict[str, JsonValue] = self.model_dump(mode="json", by_alias=True)
        return value

    def to_json(self) -> bytes:
        """Give matrix.json: UTF-8, two spaces of indent, a final newline; the same matrix gives the same bytes."""
        return json.dumps(self.to_value(), ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Read matrix.json; raise ``ValueError`` when it is not one."""
        return cls.model_validate_json(raw)


def matrix_schema() -> dict[str, JsonValue]:
    """Give the JSON Schema of matrix.json; ``harness/schemas/matrix.schema.json`` is this, written down."""
    schema: dict[str, JsonValue] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://hts-compat.invalid/schemas/matrix-1.json",
        **Matrix.model_json_schema(by_alias=True, mode="serialization"),
    }
    return schema


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


def _asked(cell: Cell) -> dict[str, object]:
    """Give what is known of a cell before anything ran; every field of the contract is there."""
    schedule = [signature.label for signature in cell.product.schedule]
    build = cell.build
    return {
        "key": cell.execution_key(),
        "id": cell.id,
        "build": MatrixBuild(name=build.name, version=build.version, sha256=build.installer.sha256),
        "image": cell.image.name,
        "image_content": cell.image.content,
        "provider": cell.image.provider,
        "lab": cell.image.lab,
        "product": cell.product.name,
        "profile": cell.product.profile,
        "product_version": None,
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


def _cell(cell: Cell, judgement: Judgement | None) -> MatrixCell:
    if cell.unsupported is not None:
        return _without_evidence(cell, Outcome.UNSUPPORTED, cell.unsupported)
    if judgement is None:
        return _without_evidence(cell, Outcome.INCONCLUSIVE, NOT_FINISHED, blame=Blame.LAB)
    try:
        known = MatrixCell.model_validate(judgement.cell)
    except ValidationError:
        reason = "The stored cell cannot be read by this version of the tool; 'hts-compat rejudge' writes it anew."
        return _without_evidence(cell, Outcome.INCONCLUSIVE, reason, blame=Blame.LAB)
    cached = judgement.cached_from
    return known.model_copy(update={"cached": cached is not None, "cached_from": cached})


def _without_evidence(cell: Cell, outcome: Outcome, reason: str, *, blame: Blame | None = None) -> MatrixCell:
    nothing = dict.fromkeys(
        ("stage", "rule", "mechanism", "slowdown", "observed_s", "control", "cached_from", "cause", "decided_by",
         "started_at")
    )  # fmt: skip
    return MatrixCell.model_validate(
        _asked(cell)
        | nothing
        | {
            "outcome": outcome,
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
    """Give the records about the build, then those about nobody's object, each in the order in which they happened."""
    shown: Iterable[AttributedDetection] = (*facts.of(Owner.BUILD), *facts.of(Owner.UNATTRIBUTED))
    return tuple(
        MatrixDetection(
            threat=found.detection.threat,
            action=found.detection.action,
            target=found.windows or found.detection.target,
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


#: What Windows calls the codes that a failing start, load or connection ends with most often.
#: Source: Windows SDK, winerror.h and ntstatus.h (names are theirs, the words ours).
_CODES: dict[int, str] = {
    2: "ERROR_FILE_NOT_FOUND (a file is missing)",
    3: "ERROR_PATH_NOT_FOUND (a folder is missing)",
    5: "ERROR_ACCESS_DENIED (access denied)",
    32: "ERROR_SHARING_VIOLATION (another program holds the file)",
    126: "ERROR_MOD_NOT_FOUND (a module cannot be found)",
    127: "ERROR_PROC_NOT_FOUND (a function cannot be found in its module)",
    193: "ERROR_BAD_EXE_FORMAT (not a program for this system)",
    225: "ERROR_VIRUS_INFECTED (refused as malicious)",
    226: "ERROR_VIRUS_DELETED (removed as malicious)",
    740: "ERROR_ELEVATION_REQUIRED (needs administrator rights)",
    1260: "ERROR_ACCESS_DISABLED_BY_POLICY (blocked by policy)",
    4551: "ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION (blocked by application control)",
    10054: "WSAECONNRESET (the connection was reset)",
    10060: "WSAETIMEDOUT (the connection timed out)",
    10061: "WSAECONNREFUSED (the connection was refused)",
    0xC0000005: "STATUS_ACCESS_VIOLATION (the program crashed)",
    0xC0000022: "STATUS_ACCESS_DENIED (access denied)",
    0xC0000135: "STATUS_DLL_NOT_FOUND (a module is missing)",
    0xC0000142: "STATUS_DLL_INIT_FAILED (a module could not be initialised)",
    0xC0000409: "STATUS_STACK_BUFFER_OVERRUN (the program ended itself)",
    0xC0000906: "STATUS_VIRUS_INFECTED (refused as malicious)",
}


def code_text(code: int | None) -> str | None:
    """Say what Windows calls an exit code or HRESULT; None when it is not known here.

    Args:
        code: Raw, signed or unsigned; an HRESULT of the facility WIN32 is read as the error that it wraps.
    """
    if code is None:
        return None
    unsigned = code & 0xFFFFFFFF
    if unsigned >> 16 == 0x8007:  # noqa: PLR2004  # HRESULT_FROM_WIN32 (winerror.h)
        unsigned &= 0xFFFF
    return _CODES.get(unsigned)
