"""Pure. Whether a release may go out: policy and matrix -> pass, blocked, could not tell, or nothing to decide.

1. A pass rests on evidence: at least one cell passed, none is bad, unknown, stale or missing.
2. What the run promised and does not have counts as missing, so taking a cell away never makes a pass.
3. A waiver names who, why and until when, covers bad outcomes alone, and is always shown. It never covers "unknown".
4. A test product of ours stands for no real one: its cells are shown and never counted, whatever the policy says.
5. A baseline says what is new. It changes no decision unless the policy says so.
6. Total and deterministic; the order of the cells does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, field_validator

from harness.behaviour import TEST_PRODUCTS, shown_product
from harness.documents import Age
from harness.frozen import Frozen
from harness.image import Lab
from harness.matrix import Assurance, MatrixCell, MatrixRun
from harness.plan import NONE, STANDARD
from harness.verdict import BAD, Outcome

#: How far a cell may lie in the future before we say that a clock is wrong.
CLOCK_SLACK = timedelta(minutes=5)

_DAY_S = 86400.0


class Requirement(Frozen):
    """A cell that must be there for every build that the gate decides about."""

    product: str
    profile: str = STANDARD
    signature: str = Field(default="*", description="Glob over the cell's last scheduled signature.")
    scenario: str
    image: str = "*"

    @field_validator("product")
    @classmethod
    def _is_real(cls, value: str) -> str:
        if value in TEST_PRODUCTS:
            msg = f"'{value}' is a test product of ours, and no release is decided from it"
            raise ValueError(msg)
        return value

    def covers(self, cell: MatrixCell) -> bool:
        """Tell whether a cell is what is required."""
        return (
            (cell.product, cell.profile, cell.scenario) == (self.product, self.profile, self.scenario)
            and fnmatchcase(cell.signature, self.signature)
            and fnmatchcase(cell.image, self.image)
        )

    def __str__(self) -> str:
        return f"{self.product}-{self.profile}@{self.signature} in {self.scenario} on image {self.image}"


class Waiver(Frozen):
    """Somebody's decision to release in spite of a bad cell, with a reason and a last day (UTC, included)."""

    cell: str = Field(min_length=1, description="Glob over the cell's id.")
    reason: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    until: date
    outcomes: tuple[Outcome, ...] = Field(
        default=(Outcome.DETECTED, *sorted(BAD)), min_length=1, description="Which outcomes it covers."
    )

    @field_validator("cell")
    @classmethod
    def _names_something(cls, value: str) -> str:
        if not any(character.isalnum() for character in value):
            msg = f"'{value}' would waive everything; name the build, product or scenario"
            raise ValueError(msg)
        return value

    @field_validator("outcomes")
    @classmethod
    def _covers_bad_alone(cls, value: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
        for outcome in value:
            if outcome not in {*BAD, Outcome.DETECTED}:
                msg = f"{outcome} cannot be waived; only a bad outcome can"
                raise ValueError(msg)
        return value

    def covers(self, cell: MatrixCell) -> bool:
        """Tell whether it is about this cell's outcome, whatever the day."""
        return cell.outcome in self.outcomes and fnmatchcase(cell.id, self.cell)


class Policy(Frozen):
    """What must hold for a release."""

    name: str = Field(min_length=1)
    description: str = ""
    builds: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="Globs over versions: the builds that are decided about."
    )
    allow_reference_lab: bool = Field(default=False, description="False: cells of the reference lab count as missing.")
    require: tuple[Requirement, ...] = ()
    allow: tuple[Literal[Outcome.COMPATIBLE, Outcome.DETECTED], ...] = Field(
        default=(Outcome.COMPATIBLE, Outcome.DETECTED), min_length=1, description="Outcomes that pass."
    )
    min_observed_s: float = Field(default=0.0, ge=0, description="How long the program must have been watched.")
    max_age: Age = Field(default=7 * _DAY_S, description="How old a cell's evidence may be, such as 7d.")
    pass_on_observed: tuple[str, ...] = Field(
        default=(), description="Products that may pass though their own records cannot be read."
    )
    max_flaky: int = Field(default=0, ge=0, description="How many passing cells may have attempts that disagree.")
    known_bad_passes: bool = Field(
        default=False, description="True: a bad cell that is as bad in the baseline, at the same stage, does not block."
    )
    waivers: tuple[Waiver, ...] = ()


class State(StrEnum):
    """What the gate says."""

    PASS = "pass"  # noqa: S105 - a state, not a password
    BLOCKED = "blocked"
    COULD_NOT_TELL = "could_not_tell"
    NOTHING = "nothing"


#: The contract's exit codes.
EXIT_CODES = {State.PASS: 0, State.BLOCKED: 1, State.COULD_NOT_TELL: 3, State.NOTHING: 4}


class Ruling(StrEnum):
    """What one cell means for the release."""

    PASSES = "passes"
    WAIVED = "waived"
    KNOWN = "known"
    BLOCKS = "blocks"
    UNKNOWN = "unknown"
    MISSING = "missing"
    NEUTRAL = "neutral"


class CellRuling(Frozen):
    """One cell, and why it means what it means. ``is_new`` is None without a baseline and for what does not block."""

    id: str
    outcome: Outcome
    ruling: Ruling
    reason: str
    is_new: bool | None = None
    waiver: Waiver | None = None


class GateDecision(Frozen):
    """The gate's answer. ``missing`` and ``doubts`` keep it from a pass; ``notes`` change nothing."""

    policy: str
    run: str
    state: State
    reason: str
    cells: tuple[CellRuling, ...]
    missing: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Give the contract's exit code."""
        return EXIT_CODES[self.state]


def decide_gate(
    policy: Policy,
    run: MatrixRun,
    cells: Sequence[MatrixCell],
    *,
    now: datetime,
    baseline: Sequence[MatrixCell] | None = None,
) -> GateDecision:
    """Decide a release from a run's matrix.

    Args:
        policy: What must hold.
        run: The run; what it expected and does not have counts as missing.
        cells: Its cells, in any order. Controls (product ``none``) and builds outside the policy are not decided about.
        now: Aware; ages and waivers are counted from it.
        baseline: The cells of an earlier, accepted run.

    Returns:
        The decision, with a ruling for each cell in the order of their ids.
    """
    scope = sorted(
        (c for c in cells if c.product != NONE and any(fnmatchcase(c.build.version, b) for b in policy.builds)),
        key=lambda c: (c.id, c.model_dump_json()),
    )
    rulings = tuple(_rule(policy, cell, now=now, baseline=baseline) for cell in scope)
    missing = _missing(policy, scope)
    doubts = _doubts(policy, run, cells, [c for c, r in zip(scope, rulings, strict=True) if r.ruling is Ruling.PASSES])
    state, reason = _state(rulings, missing, doubts)
    return GateDecision(
        policy=policy.name,
        run=run.id,
        state=state,
        reason=reason,
        cells=rulings,
        missing=missing,
        doubts=doubts,
        notes=_notes(policy, scope, rulings, now=now),
    )


def _state(rulings: Sequence[CellRuling], missing: Sequence[str], doubts: Sequence[str]) -> tuple[State, str]:
    count = {ruling: sum(r.ruling is ruling for r in rulings) for ruling in Ruling}
    decidable = len(rulings) - count[Ruling.MISSING] - count[Ruling.NEUTRAL]
    if decidable == 0:
        left = count[Ruling.MISSING]
        ignored = f" ({_cells(left)} of the reference lab do not count)" if left else ""
        return State.NOTHING, f"There is no cell to decide from{ignored}."
    if count[Ruling.BLOCKS]:
        new = sum(r.is_new is True for r in rulings)
        return State.BLOCKED, f"{_cells(count[Ruling.BLOCKS])} bad{f', {new} of them new' if new else ''}."
    unclear = [
        *([f"{_cells(count[Ruling.UNKNOWN])} without an answer that counts"] if count[Ruling.UNKNOWN] else []),
        *([f"{_cells(count[Ruling.MISSING])} of the reference lab only"] if count[Ruling.MISSING] else []),
        *([f"{len(missing)} required but not there"] if missing else []),
        *([doubts[0]] if doubts else []),
        *([] if count[Ruling.PASSES] else ["no cell passed without a waiver"]),
    ]
    if unclear:
        return State.COULD_NOT_TELL, f"Could not tell: {'; '.join(unclear)}."
    waived = f", {count[Ruling.WAIVED]} waived" if count[Ruling.WAIVED] else ""
    known = f", {count[Ruling.KNOWN]} as bad as in the baseline" if count[Ruling.KNOWN] else ""
    return State.PASS, f"{_cells(count[Ruling.PASSES])} passed{waived}{known}."


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


# --- one cell --------------------------------------------------------------------------------------------------------


def _rule(policy: Policy, cell: MatrixCell, *, now: datetime, baseline: Sequence[MatrixCell] | None) -> CellRuling:
    def ruled(ruling: Ruling, reason: str, *, is_new: bool | None = None, waiver: Waiver | None = None) -> CellRuling:
        return CellRuling(id=cell.id, outcome=cell.outcome, ruling=ruling, reason=reason, is_new=is_new, waiver=waiver)

    if cell.test_product or cell.product in TEST_PRODUCTS:
        return ruled(Ruling.NEUTRAL, f"{shown_product(cell.product)} is no real security product; it is not counted.")
    if cell.lab is Lab.REFERENCE and not policy.allow_reference_lab:
        return ruled(Ruling.MISSING, "It was made in the reference lab, and the policy asks for real Windows.")
    if cell.outcome is Outcome.UNSUPPORTED:
        return ruled(Ruling.NEUTRAL, cell.reason)
    if cell.outcome is Outcome.INCONCLUSIVE:
        return ruled(Ruling.UNKNOWN, cell.reason)
    stale = _stale(policy, cell, now=now)
    if cell.outcome not in policy.allow:
        earlier = None if baseline is None else _counterparts(cell, baseline)
        is_new = None if earlier is None else not any(_as_bad(e, cell) for e in earlier)
        waiver = waiver_for(policy, cell, now=now)
        if waiver is not None or (policy.known_bad_passes and is_new is False):
            if stale:
                return ruled(Ruling.UNKNOWN, stale, is_new=is_new, waiver=waiver)
            if waiver is None:
                return ruled(Ruling.KNOWN, f"As bad as in the baseline: {cell.reason}", is_new=is_new)
            text = f"Waived until {waiver.until} by {waiver.owner}: {waiver.reason}"
            return ruled(Ruling.WAIVED, text, is_new=is_new, waiver=waiver)
        return ruled(Ruling.BLOCKS, f"{cell.reason}{_expired(policy, cell)}", is_new=is_new)
    doubt = stale or _thin_evidence(policy, cell)
    return ruled(Ruling.UNKNOWN, doubt) if doubt else ruled(Ruling.PASSES, cell.reason)


def _stale(policy: Policy, cell: MatrixCell, *, now: datetime) -> str | None:
    if cell.started_at is None:
        return "Nobody knows when it ran."
    age = now - cell.started_at
    if age < -CLOCK_SLACK:
        return "It ran in the future; a clock is wrong."
    if age.total_seconds() > policy.max_age:
        return f"It ran {_days(age.total_seconds())} ago; the policy asks for at most {_days(policy.max_age)}."
    return None


def _days(seconds: float) -> str:
    return f"{seconds / _DAY_S:.1f} days" if seconds >= _DAY_S else f"{seconds / 3600.0:.1f} hours"


def _thin_evidence(policy: Policy, cell: MatrixCell) -> str | None:
    if cell.assurance is None:
        return "It does not say what it rests on."
    if cell.assurance is Assurance.EXCLUDED:
        return "The product was told not to watch the tested folders; that never passes."
    if cell.assurance is Assurance.OBSERVED and cell.product not in policy.pass_on_observed:
        return f"The records of {cell.product} cannot be read, and the policy does not let it pass on observation."
    if policy.min_observed_s > 0 and (cell.observed_s is None or cell.observed_s < policy.min_observed_s):
        seen = "an unknown time" if cell.observed_s is None else f"{cell.observed_s:.0f} s"
        return f"The program was watched for {seen}; the policy asks for {policy.min_observed_s:.0f} s."
    return None


# --- waivers and the baseline ----------------------------------------------------------------------------------------


def waiver_for(policy: Policy, cell: MatrixCell, *, now: datetime) -> Waiver | None:
    """Give the first waiver of a policy that covers a cell's outcome and is not over; ``now`` is aware."""
    return next((w for w in policy.waivers if w.covers(cell) and not _is_over(w, now)), None)


def _is_over(waiver: Waiver, now: datetime) -> bool:
    return _utc_day(now) > waiver.until


def _utc_day(now: datetime) -> date:
    offset = now.utcoffset() or timedelta()
    return (now - offset).date()


def _expired(policy: Policy, cell: MatrixCell) -> str:
    """Name the waiver that no longer helps; only called when none that holds was found."""
    waiver = next((w for w in policy.waivers if w.covers(cell)), None)
    return f" (its waiver by {waiver.owner} ended on {waiver.until})" if waiver else ""


def _counterparts(cell: MatrixCell, baseline: Sequence[MatrixCell]) -> list[MatrixCell]:
    """Find the cell in the baseline: of the same build, else of whatever builds that run had."""
    twins = [b for b in baseline if _axes(b) == _axes(cell)]
    return [b for b in twins if b.build.version == cell.build.version] or twins


def _axes(cell: MatrixCell) -> tuple[str | None, ...]:
    return (cell.image, cell.product, cell.profile, cell.signature_from, cell.signature, cell.scenario)


def _as_bad(earlier: MatrixCell, cell: MatrixCell) -> bool:
    return (earlier.outcome, earlier.stage) == (cell.outcome, cell.stage)


# --- the run as a whole ----------------------------------------------------------------------------------------------


def _missing(policy: Policy, scope: Sequence[MatrixCell]) -> tuple[str, ...]:
    accepted = [
        c
        for c in scope
        if (policy.allow_reference_lab or c.lab is not Lab.REFERENCE) and c.outcome is not Outcome.UNSUPPORTED
    ]
    versions = sorted({c.build.version for c in scope})
    named = sorted({b for b in policy.builds if not set(b) & set("*?[")})
    absent = [f"build {version}: no cell at all" for version in named if version not in versions]
    required = [
        f"build {version}: {requirement}"
        for version in versions
        for requirement in policy.require
        if not any(c.build.version == version and requirement.covers(c) for c in accepted)
    ]
    return (*absent, *required)


def _doubts(
    policy: Policy, run: MatrixRun, cells: Sequence[MatrixCell], passing: Sequence[MatrixCell]
) -> tuple[str, ...]:
    there = len({cell.id for cell in cells})
    flaky = sum(cell.flaky for cell in passing)
    doubts = [
        (run.drill, "the run is a drill"),
        (run.finished_at is None, "the run is not finished"),
        (run.state not in {None, "complete"}, f"the run is {run.state}"),
        (there < run.expected_cells, f"the run expected {_cells(run.expected_cells)} and has {there}"),
        (flaky > policy.max_flaky, f"{_cells(flaky)} passed but flaky, and the policy bears {policy.max_flaky}"),
    ]
    return tuple(text for applies, text in doubts if applies)


def _notes(
    policy: Policy, scope: Sequence[MatrixCell], rulings: Sequence[CellRuling], *, now: datetime
) -> tuple[str, ...]:
    used = {ruling.waiver for ruling in rulings if ruling.waiver is not None}
    notes = []
    for waiver in policy.waivers:
        if _is_over(waiver, now):
            notes.append(f"The waiver for '{waiver.cell}' by {waiver.owner} ended on {waiver.until}.")
        elif waiver not in used and not any(waiver.covers(cell) for cell in scope):
            notes.append(f"The waiver for '{waiver.cell}' by {waiver.owner} covers no cell of this run.")
    return tuple(notes)
