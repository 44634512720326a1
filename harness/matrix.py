"""Pure. The compatibility matrix: one verdict a cell, as matrix.json promises it (contract ``hts-compat/matrix/1``).

1. The same judgements give the same bytes: cells stand in the order of the plan, and nothing here asks the clock.
2. Unknown is None, never an empty string. Times are UTC ISO 8601 with ``Z``.
3. A cell that was expected and has no judgement stands in the matrix as INCONCLUSIVE: what is missing is visible.
4. Every field of the contract is always there; fields of ours are additions.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)

from harness.attempt import Role
from harness.build import Component
from harness.egress import Egress
from harness.egress_seen import EgressSeen
from harness.errors import Blame
from harness.facts import Owner, When
from harness.frozen import Frozen
from harness.image import Folder, Lab
from harness.inert_text import inert_json
from harness.observation import Action, Layer, Mechanism
from harness.verdict import Outcome

SCHEMA: Literal["hts-compat/matrix/1"] = "hts-compat/matrix/1"

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


class MatrixEgress(Frozen):
    """The way out of the cell's guests: what was open, and what became of it in the guest that decided.

    ``seen`` is None when no guest's connections were recorded. ``asks_a_cloud``: a vendor's cloud was open, so the
    verdict is never taken from the store.
    """

    opened: Egress
    asks_a_cloud: bool
    seen: EgressSeen | None = None


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
    """One cell of matrix.json. The order of the fields is the order in the file.

    ``test_product``: the product is one of ours that exists to test the tool, and stands for no real one.
    """

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
    test_product: bool = False
    older: MatrixBuild | None = Field(default=None, description="The build that an 'update' step starts from.")
    egress: MatrixEgress | None = Field(default=None, description="The guests' way out; None when they had none.")
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
        """Give matrix.json: UTF-8, two spaces of indent, a final newline; the same matrix gives the same bytes.

        What a terminal would obey or an eye not see stands as its escape: the file may be printed.
        """
        text = json.dumps(self.to_value(), ensure_ascii=False, indent=2, allow_nan=False)
        return inert_json(text).encode() + b"\n"

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
