"""Pure. One attempt, read: everything that ``decide`` looks at, and nothing that it must go and find.

``judge.read`` makes these from an attempt; tables and property tests make them by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.attempt import Role
from harness.build import Component
from harness.image import Folder
from harness.machine import Machine
from harness.observation import Detection, Layer
from harness.plan import Cell
from harness.scenario import INSPECT


class Owner(StrEnum):
    """Whose object a detection is about; ``OLDER`` is the build that an ``update`` step starts from."""

    BUILD = "build"
    OLDER = "older"
    PLANTED = "planted"
    UNATTRIBUTED = "unattributed"


class When(StrEnum):
    """When protection was tried, relative to the steps."""

    BEFORE = "before"
    STEP = "step"
    AFTER = "after"


class StepStatus(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSeen:
    """One step of the attempt.

    Attributes:
        expectation: The expectation that failed, as a stable word (``exit_code``, ``window``); None when it passed.
        code: Exit code or HRESULT of the failure, raw; None when there is none.
        timed_out: The only thing that failed is that something did not happen in time.
        detail: One sentence for a human; never compared.
        dialog: Text of the error dialog that was on the screen.
    """

    index: int
    kind: str
    status: StepStatus
    seq: int
    expectation: str | None = None
    code: int | None = None
    timed_out: bool = False
    duration_s: float = 0.0
    detail: str = ""
    dialog: str | None = None

    @property
    def failure(self) -> tuple[int, str | None, int | None]:
        """Give what two failures are compared by: step, expectation and code; never text or time."""
        return (self.index, self.expectation, self.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributedDetection:
    """A detection with its owner settled."""

    detection: Detection
    owner: Owner
    stage: str
    windows: str | None
    component: Component | None
    after_s: float | None = None

    @property
    def object_path(self) -> str:
        """Give the object as a person knows it: by its Windows path where it has one."""
        return self.windows or self.detection.target

    @property
    def order(self) -> tuple[int, int]:
        """Give the order in which detections happened: step, then event."""
        step = self.detection.step
        return (-1 if step is None else step, self.detection.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySeen:
    """One try of one layer in one folder. It reacted only when denied, recorded, and the control beside it was not."""

    seq: int
    layer: Layer
    folder: Folder
    when: When
    reacted: bool
    excluded: bool = False
    after_s: float | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSeen:
    """The protection at one border: after step ``border``, or before the first step when it is -1.

    ``label`` is the one set whose marker fired; None when none or several did.
    """

    seq: int
    border: int
    active: bool
    label: str | None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something of ours went wrong, or the guest died."""

    seq: int
    step: int | None
    summary: str
    retryable: bool = True
    guest_crashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExclusionSeen:
    """A path that the product does not watch; ``declared`` when the harness asked for it itself."""

    path: str
    declared: bool
    covers_tested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSeen:
    """A file below the install folder after the last step; ``sha256`` is None when it could not be opened.

    ``machine`` is what a program is made for; None where nobody knows.
    """

    path: str
    size_bytes: int
    sha256: str | None
    machine: Machine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the product said of itself, once the set of ``border`` had been proven: the label of its set."""

    seq: int
    border: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that one attempt says.

    ``files`` is None when the last look never happened; ``sampled_behind`` says that a sample must stand behind it.
    """

    attempt_id: str
    cell: Cell
    role: Role
    ordinal: int
    complete: bool
    alone: bool = False
    started_order: float = 0.0
    ended_order: float | None = None
    steps: tuple[StepSeen, ...] = ()
    detections: tuple[AttributedDetection, ...] = ()
    canaries: tuple[CanarySeen, ...] = ()
    samples: tuple[SampleSeen, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    unread: tuple[str, ...] = ()
    scan_failures: tuple[str, ...] = ()
    exclusions: tuple[ExclusionSeen, ...] = ()
    claims: tuple[Claim, ...] = ()
    files: tuple[FileSeen, ...] | None = None
    sampled_behind: bool = False
    foreign_modules: tuple[str, ...] = ()
    observed_s: float = 0.0

    @property
    def failed(self) -> StepSeen | None:
        """Give the first step that failed."""
        return next((s for s in self.steps if s.status is StepStatus.FAILED), None)

    @property
    def passed(self) -> bool:
        """Tell whether every step of the scenario ran and passed, and nothing of ours went wrong."""
        ran = {s.index for s in self.steps if s.status is StepStatus.PASSED}
        whole = ran == set(range(len(self.cell.scenario.steps))) and self.failed is None
        return self.complete and not self.troubles and whole

    def of(self, owner: Owner) -> tuple[AttributedDetection, ...]:
        """Give the detections with one owner, earliest first."""
        return tuple(sorted((d for d in self.detections if d.owner is owner), key=lambda d: d.order))

    def sample_at(self, border: int) -> SampleSeen | None:
        """Give the last sample at a border."""
        return next((s for s in reversed(self.samples) if s.border == border), None)

    def stage_of(self, step: int | None) -> str:
        """Name the stage of a step index; the last look is ``inspect``."""
        steps = self.cell.scenario.steps
        return steps[step or 0].kind if step is None or step < len(steps) else INSPECT
