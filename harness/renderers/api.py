"""Pure. What a renderer is given and what it gives: a report in, the bytes of one file out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol

from harness.errors import InputError, LabError
from harness.evidence import CellEvidence
from harness.gate import Waiver
from harness.matrix import Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run to be drawn: its matrix, and the evidence of as many cells as one has, by cell id.

    ``waivers`` are those that hold today, by cell id; ``strict`` counts DETECTED as incompatible. Test reports ask for
    both; the other formats show the outcome alone.
    """

    matrix: Matrix
    evidence: Mapping[str, CellEvidence] = field(default_factory=dict)
    waivers: Mapping[str, Waiver] = field(default_factory=dict)
    strict: bool = False


class Renderer(Protocol):
    """Draws a run as one file. The same report gives the same bytes."""

    #: End of the file's name, with its dot.
    suffix: str

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        ...


#: By the name that ``hts-compat matrix --format`` takes; imported on use.
RENDERERS: dict[str, str] = {
    "html": "harness.renderers.page:PageRenderer",
    "json": "harness.renderers.json_file:JsonRenderer",
    "csv": "harness.renderers.csv_file:CsvRenderer",
    "md": "harness.renderers.markdown:MarkdownRenderer",
    "junit": "harness.renderers.junit:JunitRenderer",
}

#: Others add theirs under their own name in this group of entry points.
ENTRY_POINTS = "hts_compat.renderers"


def renderer(name: str) -> Renderer:
    """Give the renderer of a format.

    Raises:
        InputError: There is none of that name.
    """
    target = RENDERERS.get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        make: Callable[[], Renderer] = getattr(import_module(module), attribute)
        return make()
    others = entry_points(group=ENTRY_POINTS)
    if name in others.names:
        try:
            make = others[name].load()
            return make()
        except Exception as error:  # a stranger's module may raise anything
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise LabError(
                f"The renderer '{name}' cannot be used: {why}.", hint="Repair or uninstall the package that brings it."
            ) from error
    known = ", ".join([*RENDERERS, *sorted(others.names)])
    raise InputError(f"There is no format '{name}'.", hint=f"Formats: {known}.")
