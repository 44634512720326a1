"""One struck cell of ``chaos_guests``: what is done to which guest, what came of it, and all of them counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.plan import Cell
from harness.verdict import GOOD, Outcome
from tests.faults.blows import Blow
from tests.faults.report import count, result, table

#: Fewer cells are a cut.
CELLS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One struck cell. ``third``: not a guest with the product is struck but every third control, the first of all."""

    number: int
    cell: Cell
    true: Outcome
    blow: Blow
    at: int
    guest: int
    third: bool = False

    def __str__(self) -> str:
        where = "one control in three" if self.third else f"guest {self.guest}"
        return (
            f"case {self.number}: {self.cell.id}, {self.blow.name} {self.at} calls behind {self.blow.behind} in {where}"
            if self.blow.layer is None
            else f"case {self.number}: {self.cell.id}, {self.blow.name}"
        )


@dataclass(slots=True)
class Struck:
    """What came of one struck cell."""

    case: Case
    blow_said: str = "the guest was not called so often"
    fell_at: float | None = None
    outcome: Outcome | None = None
    stage: str | None = None
    rule: str = ""
    reason: str = ""
    false_proof: str = ""
    guests: int = 0
    leaks: tuple[str, ...] = ()
    took_s: float = 0.0

    @property
    def verdict(self) -> str:
        """Name it in the words of the report."""
        if self.outcome is None:
            return "lost"
        if self.false_proof or (self.outcome in GOOD and self.outcome is not self.case.true):
            return "wrong green"
        if self.outcome is Outcome.INCONCLUSIVE:
            return "inconclusive"
        return "right" if self.outcome is self.case.true else "wrong red"

    def row(self) -> dict[str, Any]:
        """Give what is written down of it: all but the case, which the seed draws again."""
        return {name: getattr(self, name) for name in _ROW} | {"outcome": self.outcome and self.outcome.value}

    @classmethod
    def of_row(cls, case: Case, row: Mapping[str, Any]) -> Struck:
        """Give what was written down."""
        outcome = None if row["outcome"] is None else Outcome(row["outcome"])
        return cls(case=case, **{**row, "outcome": outcome, "leaks": tuple(row["leaks"])})


_ROW = tuple(
    "blow_said fell_at outcome stage rule reason false_proof guests leaks took_s".split()  # noqa: SIM905 - to be read
)


def summary(done: Sequence[Struck], *, seed: int, took_s: float) -> dict[str, object]:
    """Count what came of all cells."""
    verdicts = [struck.verdict for struck in done]
    return result(
        "chaos_guests",
        {
            "faulted_cells": count(len(done)),
            "blows_that_fell": count(
                sum(struck.fell_at is not None for struck in done), goal=len(done) // 2, at_least=True
            ),
            "guests": count(sum(struck.guests for struck in done)),
            "verdicts_right": count(verdicts.count("right")),
            "verdicts_inconclusive": count(verdicts.count("inconclusive")),
            "wrong_greens": count(verdicts.count("wrong green"), goal=0),
            "wrong_reds": count(verdicts.count("wrong red"), goal=0),
            "verdicts_lost": count(verdicts.count("lost"), goal=0),
            "leaks": count(sum(len(struck.leaks) for struck in done), goal=0),
            "seconds": count(round(took_s)),
        },
        cut=None if len(done) >= CELLS else f"{len(done)} cells instead of {CELLS}",
        seed=seed,
    )


def by_blow(done: Sequence[Struck]) -> str:
    """Lay out what came of each blow."""
    kinds = ("right", "inconclusive", "wrong green", "wrong red", "lost")
    rows: list[list[object]] = [["blow", "cells", "fell", *kinds]]
    for name in sorted({struck.case.blow.name for struck in done}):
        mine = [struck for struck in done if struck.case.blow.name == name]
        verdicts = [struck.verdict for struck in mine]
        fell = sum(struck.fell_at is not None for struck in mine)
        rows.append([name, len(mine), fell, *(verdicts.count(kind) for kind in kinds)])
    return table(rows)
