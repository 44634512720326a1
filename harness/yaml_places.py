"""Driver. Where in a suite's files a cell and its steps are written, so that a failure can show the very lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.inert_text import visible
from harness.plan import NONE, STANDARD, Cell
from harness.scenario import MAX_STEPS
from harness.yaml_source import Location, Place, Problems, Source, read_source
from harness.yaml_typed import SCHEMA, schema_name

#: Lines that one place shows.
MAX_LINES = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A piece of a file: where it begins, and its lines."""

    place: Place
    lines: tuple[str, ...]

    def shown(self) -> list[str]:
        """Give the lines with their numbers, the place first."""
        numbered = enumerate(self.lines, start=self.place.line)
        return [str(self.place), *(f"{number:5} | {visible(line)}" for number, line in numbered)]


class SuitePlaces:
    """The files of a suite, read for their places alone. What cannot be read any more has no place.

    Args:
        sources: Every file that ``load_suite`` has read, the suite's own first.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        read = [read_source(path, Problems()) for path in sources]
        self._suite = read[0] if read else None
        scenarios = [s for s in read if s is not None and s.get(SCHEMA) == schema_name("scenario")]
        self._scenarios = {s.get("name"): s for s in scenarios}

    def of_cell(self, cell: Cell) -> Written | None:
        """Give the schedule that a cell comes from, or else its product's entry."""
        suite = self._suite
        if suite is None:
            return None
        labels = [signature.label for signature in cell.product.schedule]
        for index in range(_count(suite, "products")):
            entry = suite.get("products", index)
            if not isinstance(entry, dict):
                continue
            if (entry.get("product"), entry.get("profile") or STANDARD) != (cell.product.name, cell.product.profile):
                continue
            for number in range(_count(suite, "products", index, "signatures")):
                text = suite.get("products", index, "signatures", number)
                if isinstance(text, str) and [label.strip() for label in text.split("->")] == labels:
                    return _one_line(suite, suite.at("products", index, "signatures", number))
            if cell.product.name == NONE:
                return _one_line(suite, suite.at("products", index))
        return _one_line(suite, suite.at("products"))

    def of_step(self, cell: Cell, index: int) -> Written | None:
        """Give one step of a cell's scenario as it is written; ``index`` counts from 0, repetitions laid out."""
        source = self._scenarios.get(cell.scenario.name)
        laid_out = list(_laid_out(source, ("steps",))) if source is not None else []
        if source is None or index >= len(laid_out):
            return None
        place = source.at(*laid_out[index])
        later = [line for line in (source.at(*e).line for e in _entries(source, ("steps",))) if line > place.line]
        lines = _lines(source)
        piece = lines[place.line - 1 : min(later, default=len(lines) + 1) - 1][:MAX_LINES]
        while len(piece) > 1 and not piece[-1].strip():
            piece.pop()
        return Written(place=place, lines=tuple(piece))


def _entries(source: Source, steps: Location) -> Iterator[Location]:
    """Give every entry of a list of steps, those inside repetitions too, in the order of the file."""
    for index in range(_count(source, *steps)):
        yield (*steps, index)
        yield from _entries(source, (*steps, index, "repeat", "steps"))


def _laid_out(source: Source, steps: Location) -> Iterator[Location]:
    """Give where each step is written, in the order in which steps are made; see ``scenario.laid_out``."""
    for index in range(_count(source, *steps)):
        times = source.get(*steps, index, "repeat", "times")
        if not (isinstance(times, str) and times.isdecimal()):
            yield (*steps, index)
            continue
        for _ in range(min(int(times), MAX_STEPS)):
            yield from _laid_out(source, (*steps, index, "repeat", "steps"))


def _count(source: Source, *location: str | int) -> int:
    value = source.get(*location)
    return len(value) if isinstance(value, list) else 0


def _one_line(source: Source, place: Place) -> Written:
    return Written(place=place, lines=tuple(_lines(source)[place.line - 1 : place.line]))


def _lines(source: Source) -> list[str]:
    try:
        return source.path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
