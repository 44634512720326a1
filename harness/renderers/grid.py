"""Pure. How a matrix is laid out on a page: for each scenario a table of builds against product @ signature.

Rows and columns stand in the order of the plan. A place where the plan asked nothing stays empty, which is not the same
as a cell that could not tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from harness.behaviour import shown_product
from harness.matrix import Matrix, MatrixCell
from harness.verdict import Outcome


class Group(StrEnum):
    """The colour group of an outcome (contract)."""

    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    FAULT = "fault"
    UNKNOWN = "unknown"
    NEUTRAL = "neutral"


#: ``fault`` is the contract's *bad, other owner*.
GROUPS: Mapping[Outcome, Group] = {
    Outcome.COMPATIBLE: Group.GOOD,
    Outcome.DETECTED: Group.WARN,
    Outcome.QUARANTINED: Group.BAD,
    Outcome.BLOCKED: Group.BAD,
    Outcome.BROKEN: Group.BAD,
    Outcome.BUILD_FAULT: Group.FAULT,
    Outcome.INCONCLUSIVE: Group.UNKNOWN,
    Outcome.UNSUPPORTED: Group.NEUTRAL,
}

#: One character for text that has no colour, each of another shape.
SYMBOLS: Mapping[Outcome, str] = {
    Outcome.COMPATIBLE: "✓",
    Outcome.DETECTED: "!",
    Outcome.QUARANTINED: "⊟",
    Outcome.BLOCKED: "✕",
    Outcome.BROKEN: "↯",
    Outcome.BUILD_FAULT: "◆",
    Outcome.INCONCLUSIVE: "?",
    Outcome.UNSUPPORTED: "–",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Column:
    """One product in one profile with one schedule of signatures."""

    product: str
    profile: str
    signature_from: str | None
    signature: str

    @property
    def signatures(self) -> str:
        """Give the signature, or the move from one to the other."""
        return self.signature if self.signature_from is None else f"{self.signature_from} → {self.signature}"

    @property
    def title(self) -> str:
        """Give the column's whole name."""
        if self.product == self.signature:  # the control: none @ none
            return self.product
        return f"{shown_product(self.product)} {self.profile} @ {self.signatures}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One build on one image; ``cells`` has a place for every column."""

    build: str
    version: str
    sha256: str
    image: str
    cells: tuple[MatrixCell | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One scenario: its table."""

    scenario: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    images: tuple[str, ...]

    @property
    def products(self) -> list[tuple[str, str, int]]:
        """Give (product, profile, number of columns) for the heads that span columns."""
        runs = groupby(self.columns, key=lambda c: (c.product, c.profile))
        return [(shown_product(product), profile, len(list(columns))) for (product, profile), columns in runs]


def column_of(cell: MatrixCell) -> Column:
    """Give the column that a cell stands in."""
    return Column(
        product=cell.product, profile=cell.profile, signature_from=cell.signature_from, signature=cell.signature
    )


def sections(matrix: Matrix) -> tuple[Section, ...]:
    """Lay a matrix out, one section for each scenario, in the order of its cells."""
    by_scenario: dict[str, list[MatrixCell]] = {}
    for cell in matrix.cells:
        by_scenario.setdefault(cell.scenario, []).append(cell)
    return tuple(_section(scenario, cells) for scenario, cells in by_scenario.items())


def _section(scenario: str, cells: Sequence[MatrixCell]) -> Section:
    columns = _together(dict.fromkeys(map(column_of, cells)))
    places: dict[tuple[str, str, str, str], dict[Column, MatrixCell]] = {}
    for cell in cells:
        key = (cell.build.name, cell.build.version, cell.build.sha256, cell.image)
        places.setdefault(key, {})[column_of(cell)] = cell
    return Section(
        scenario=scenario,
        columns=columns,
        rows=tuple(
            Row(build=name, version=version, sha256=sha256, image=image, cells=tuple(at.get(c) for c in columns))
            for (name, version, sha256, image), at in places.items()
        ),
        images=tuple(dict.fromkeys(c.image for c in cells)),
    )


def _together(columns: Mapping[Column, None]) -> tuple[Column, ...]:
    """Bring the columns of one product and profile side by side, in the order of first sight."""
    first: dict[tuple[str, str], int] = {}
    for column in columns:
        first.setdefault((column.product, column.profile), len(first))
    return tuple(sorted(columns, key=lambda c: first[c.product, c.profile]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Cells that went wrong in what looks like the same way.

    Attributes:
        product: Who acted; None when it is not the product's doing.
        target: Name of the file that it is about.
        threat: The detection's name.
        text: What is known when no record of a product is: the failed expectation or the reason.
    """

    outcome: Outcome
    product: str | None
    target: str | None
    threat: str | None
    text: str | None
    cells: tuple[MatrixCell, ...]


#: The order in which causes are shown: what a product did, what the build did, what we could not tell.
_FIRST = (Group.BAD, Group.FAULT, Group.WARN, Group.UNKNOWN)


def causes(matrix: Matrix) -> tuple[Cause, ...]:
    """Group the cells that are not good by what they have in common, worst first, then by how many they are."""
    groups: dict[tuple[Outcome, str | None, str | None, str | None, str | None], list[MatrixCell]] = {}
    for cell in matrix.cells:
        if GROUPS[cell.outcome] in _FIRST:
            groups.setdefault(_alike(cell), []).append(cell)
    found = [
        Cause(outcome=o, product=product, target=target, threat=threat, text=text, cells=tuple(cells))
        for (o, product, target, threat, text), cells in groups.items()
    ]
    return tuple(sorted(found, key=lambda c: (_FIRST.index(GROUPS[c.outcome]), -len(c.cells))))


def _alike(cell: MatrixCell) -> tuple[Outcome, str | None, str | None, str | None, str | None]:
    product = f"{shown_product(cell.product)} {cell.profile}"
    found = next(iter(cell.detections), None)
    step = cell.failed_step
    if cell.outcome is Outcome.BUILD_FAULT:
        return (cell.outcome, None, None, None, (step.detail or step.expectation) if step is not None else cell.reason)
    if GROUPS[cell.outcome] is not Group.UNKNOWN and found is not None:
        name = (found.target or "").replace("/", "\\").rpartition("\\")[2]
        return (cell.outcome, product, name or None, found.threat, None)
    return (cell.outcome, None if cell.product == cell.signature else product, None, None, cell.reason)


#: Open pairs that the head of a matrix names.
MOST_NAMED = 6


def way_out_of(matrix: Matrix) -> dict[str, str]:
    """Name what was open to the guests of a run: ``hosts``, and the ``names`` of vendors' clouds; empty where nothing.

    Each is a list as people read it, cut behind ``MOST_NAMED``.
    """
    opened = [cell.egress.opened for cell in matrix.cells if cell.egress is not None]
    pairs = dict.fromkeys(permit.pair.text for egress in opened for permit in egress.permits())
    clouds = dict.fromkeys(f"{cloud.name} ({cloud.product})" for egress in opened for cloud in egress.vendor_clouds)
    return {"hosts": _listed(list(pairs)), "names": _listed(list(clouds))}


def _listed(names: Sequence[str]) -> str:
    more = f" (+{len(names) - MOST_NAMED})" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
