"""Pure. Axes -> cells: which build meets which product, with which signatures, in which scenario, and under which key.

1. ``expand`` is deterministic and order-free: the same suite gives the same cells in the same order.
2. Every cell has a control: the same cell with product ``none``. Controls are shared by all cells that they judge.
3. ``execution_key`` covers all that the guest could see and that we could collect. Host paths are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product as cross

from pydantic import Field

from harness.build import Build, BuildKind
from harness.egress import Egress
from harness.frozen import Frozen, digest_of
from harness.image import DEFAULT_TRANSPORT, Image, Lab
from harness.machine import Machine
from harness.scenario import Scenario
from harness.signature import Signature

#: Raised whenever what an attempt records changes, so that old attempts are not taken for new ones.
COLLECTOR_VERSION = 2

#: The product of a control cell, its profile and its only signature.
NONE = "none"
STANDARD = "standard"


class ProductChoice(Frozen):
    """One security product in one profile, with the schedule of signatures that a cell expects."""

    name: str
    profile: str = STANDARD
    schedule: tuple[Signature, ...] = Field(min_length=1)
    known: tuple[Signature, ...] = Field(
        default=(), description="Every set of this product that the plan knows: a marker of any of them is recognised."
    )

    @property
    def is_control(self) -> bool:
        """Tell whether this is the absence of a product."""
        return self.name == NONE


NO_PRODUCT = ProductChoice(name=NONE, schedule=(Signature(label=NONE, marker=NONE),))


class Cell(Frozen):
    """One question: does this build work on this image beside this product with these signatures, in this scenario?"""

    build: Build
    image: Image
    product: ProductChoice
    scenario: Scenario
    older: Build | None = Field(
        default=None, description="The build that an 'update' step starts from; None when the scenario has none."
    )
    egress: Egress | None = Field(default=None, description="What its guest may reach outside itself; None: nothing.")
    unsupported: str | None = Field(default=None, description="Why the combination makes no sense; None when it does.")

    @property
    def id(self) -> str:
        """Name the cell for people, filters and test runners (no ``@``, which pytest's -k refuses)."""
        labels = "+".join(signature.label for signature in self.product.schedule)
        return "/".join(
            [
                self.build.version,
                self.image.name,
                f"{self.product.name}-{self.product.profile}",
                labels,
                self.scenario.name,
            ]
        )

    @property
    def is_control(self) -> bool:
        """Tell whether the cell has no product."""
        return self.product.is_control

    @property
    def without_guest(self) -> str | None:
        """Say why no guest is started for the cell; None when one is."""
        return self.unsupported or self.image.missing

    def control(self) -> Cell:
        """Give the cell's control; a control is its own."""
        if self.is_control:
            return self
        # No product is there that would ask its vendor.
        egress = self.egress.for_product(NONE) if self.egress is not None else None
        return self.model_copy(update={"product": NO_PRODUCT, "unsupported": None, "egress": egress})

    @property
    def asks_a_cloud(self) -> bool:
        """Tell whether a vendor's cloud is open to the cell: what it saw then, nobody knows of tomorrow."""
        return self.egress is not None and bool(self.egress.vendor_clouds)

    def scheduled(self, step_index: int, *, after: bool) -> Signature:
        """Give the signature that is expected before or after a step (index from 0)."""
        through = self.scenario.steps[: step_index + 1 if after else step_index]
        moved = sum(step.vendor_update is not None for step in through)
        return self.product.schedule[min(moved, len(self.product.schedule) - 1)]

    def execution_key(self) -> str:
        """Give the digest of everything that the guest could see and that we could collect."""
        # What is not asked for is no part of the key, so that a new kind of step does not make old attempts unknown.
        of_image = {"recipe", "reference"} | ({"transport"} if self.image.transport == DEFAULT_TRANSPORT else set())
        asked = self.model_dump(mode="json", exclude_none=True, exclude={"unsupported": True, "image": of_image})
        return digest_of({"collector": COLLECTOR_VERSION, "cell": asked})


class CellFilter(Frozen):
    """A pattern over a cell's axes; a missing key matches everything, and * and ? are wild."""

    build: str = "*"
    image: str = "*"
    product: str = "*"
    profile: str = "*"
    signature: str = Field(default="*", description="The schedule's labels joined by +.")
    scenario: str = "*"

    def matches(self, cell: Cell) -> bool:
        """Tell whether a cell fits every key of the pattern."""
        labels = "+".join(signature.label for signature in cell.product.schedule)
        pairs = (
            (cell.build.version, self.build),
            (cell.image.name, self.image),
            (cell.product.name, self.product),
            (cell.product.profile, self.profile),
            (labels, self.signature),
            (cell.scenario.name, self.scenario),
        )
        return all(fnmatchcase(value, pattern) for value, pattern in pairs)


class LeftOut(CellFilter):
    """Cells that make no sense, and why. They stay in the matrix as UNSUPPORTED."""

    reason: str = Field(min_length=1)


class Sentinels(Frozen):
    """Cells whose end is known, made again and again while a run goes on. A wrong one takes verdicts back."""

    every: int = Field(ge=1, description="After so many judged cells, and at the end.")
    good: CellFilter | None = Field(
        default=None, description="The first cell of the run that fits must be COMPATIBLE or DETECTED; else our own is."
    )
    bad: CellFilter | None = Field(
        default=None, description="The first cell of the run that fits must be QUARANTINED or BLOCKED; else our own is."
    )


class Suite(Frozen):
    """All axes of one run, made concrete."""

    name: str
    lab: Lab
    builds: tuple[Build, ...]
    images: tuple[Image, ...]
    products: tuple[ProductChoice, ...]
    scenarios: tuple[Scenario, ...]
    only: tuple[CellFilter, ...] = ()
    leave_out: tuple[LeftOut, ...] = ()
    confirm: int = Field(default=2, ge=1, le=5)
    jobs: int = Field(default=2, ge=1, le=256)
    max_age_s: float = Field(default=72000.0, ge=0)
    recheck_share: float = Field(default=0.0, ge=0, le=1)
    retries: int = Field(default=1, ge=0, le=3, description="How often a cell lost to lab trouble is tried again.")
    drill: bool = Field(default=False, description="A run of a drill is never 'the latest run'.")
    admission: bool = Field(default=False, description="No cell runs before its product is admitted on its image.")
    sentinels: Sentinels | None = None
    egress: Egress | None = Field(default=None, description="What guests may reach outside themselves; None: nothing.")
    update_from: dict[str, str] = Field(
        default_factory=dict, description="Version of a build -> version of the older build that it updates."
    )

    def older_than(self, build: Build) -> Build | None:
        """Give the build that another one updates; None when the suite names none."""
        version = self.update_from.get(build.version)
        return next((b for b in self.builds if b.version == version), None)


class Plan(Frozen):
    """The cells of one run, in the order of the matrix, without duplicates. May be empty; the caller must say so."""

    suite: Suite
    cells: tuple[Cell, ...]

    def controls(self) -> tuple[Cell, ...]:
        """Give each control that the plan's cells need, once, in order of first need."""
        needed = {cell.control().execution_key(): cell.control() for cell in self.cells if cell.without_guest is None}
        return tuple(needed.values())


def expand(suite: Suite) -> Plan:
    """Lay a suite out into its cells.

    A schedule meets the scenarios that use all of it: one signature more than the scenario has ``vendor_update``
    steps. A control (product ``none``) meets every scenario. A scenario with an ``update`` step meets the builds that
    have an older one.

    Args:
        suite: Concrete axes, in the order in which the matrix shows them.

    Returns:
        The plan. Cells that ``only`` does not name are absent; cells that ``leave_out`` names carry its reason, and
        so do those whose image does not run the build's kind of program.
    """
    cells: dict[str, Cell] = {}
    axes = cross(suite.scenarios, suite.images, suite.builds, suite.products)
    for scenario, image, build, chosen in axes:
        if not chosen.is_control and len(chosen.schedule) != scenario.vendor_updates + 1:
            continue
        older = suite.older_than(build) if scenario.updated_at is not None else None
        if scenario.updated_at is not None and older is None:
            continue
        egress = suite.egress.for_product(chosen.name) if suite.egress is not None else None
        cell = Cell(build=build, image=image, product=chosen, scenario=scenario, older=older, egress=egress)
        if suite.only and not any(wanted.matches(cell) for wanted in suite.only):
            continue
        reason = next((left.reason for left in suite.leave_out if left.matches(cell)), None)
        cells.setdefault(cell.id, cell.model_copy(update={"unsupported": reason or why_not_run(cell)}))
    return Plan(suite=suite, cells=tuple(cells.values()))


def why_not_run(cell: Cell) -> str | None:
    """Say why a cell's image cannot run the programs that its scenario starts; None when nothing speaks against it.

    Looked at are the setup programs that it runs, and the programs of ``launch`` steps that the manifest knows.
    """
    for what, machine in _programs(cell):
        why = cell.image.why_not_run(machine)
        if why is not None:
            return f"{what} {why}."
    return None


def _programs(cell: Cell) -> Iterator[tuple[str, Machine | None]]:
    if any(step.install is not None or step.update is not None for step in cell.scenario.steps):
        for build in (cell.older, cell.build):
            if build is not None and build.kind is BuildKind.PROGRAM:
                yield f"The setup program {build.installer.file_name}", build.installer.machine
    for step in cell.scenario.steps:
        file = cell.build.file_at(cell.build.installed_path(step.launch.program)) if step.launch is not None else None
        if file is not None:
            yield f"The program {file.path}", file.machine
