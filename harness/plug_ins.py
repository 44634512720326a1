"""Driver. What other distributions add to this one through entry points, and a clear word about one that is broken.

1. A name of this tool's own always wins: no package can take a product, provider or format over.
2. A broken plug-in is one sentence with its name, for whoever asks for it; nobody else notices.

Source: Python Packaging User Guide, "Entry points specification".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from harness.errors import LabError


class Group(StrEnum):
    """The groups of entry points that are read."""

    PRODUCTS = "hts_compat.products"
    PROVIDERS = "hts_compat.providers"
    RENDERERS = "hts_compat.renderers"

    @property
    def singular(self) -> str:
        """Give the word for one of them."""
        return self.value.partition(".")[2].removesuffix("s")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugIn:
    """One entry point: ``target`` is a package, or ``module:attribute``; ``distribution`` is who brings it."""

    group: Group
    name: str
    target: str
    distribution: str

    def __str__(self) -> str:
        return f"{self.group.singular} '{self.name}' of the package {self.distribution}"


def found(group: Group) -> tuple[PlugIn, ...]:
    """Give every plug-in of a group that is installed, by name; loads none."""
    return tuple(sorted((_plug_in(group, e) for e in entry_points(group=group)), key=lambda p: (p.name, p.target)))


def names(group: Group, own: Mapping[str, object]) -> tuple[str, ...]:
    """Give the names that may be asked for: this tool's own first, then those of plug-ins."""
    return (*own, *dict.fromkeys(p.name for p in found(group) if p.name not in own))


def plug_in(group: Group, name: str) -> PlugIn | None:
    """Find a plug-in; None when there is none of this name.

    Raises:
        LabError: Several packages bring one, and nobody can say which is meant.
    """
    fitting = dict.fromkeys(p for p in found(group) if p.name == name)
    if len(fitting) > 1:
        brought = " and ".join(p.distribution for p in fitting)
        raise LabError(f"The {group.singular} '{name}' is brought by {brought}.", hint="Uninstall all of them but one.")
    return next(iter(fitting), None)


@cache
def part(of: PlugIn, place: str) -> object:
    """Import one part of a plug-in.

    Args:
        of: Whose part it is.
        place: ``module:attribute``.

    Raises:
        LabError: It cannot be imported, or is not there.
    """
    module, _, attribute = place.partition(":")
    try:
        value: object = getattr(import_module(module), attribute)
    except Exception as error:  # a stranger's module may raise anything while it is imported
        why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise broken(of, why) from error
    return value


def broken(of: PlugIn, why: str) -> LabError:
    """Make the error that says in a sentence which plug-in cannot be used, and why."""
    return LabError(
        f"The {of} cannot be used: {why}.",
        hint="Repair or uninstall that package; 'hts-compat doctor' lists all plug-ins.",
    )


def _plug_in(group: Group, entry: EntryPoint) -> PlugIn:
    by = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown"
    return PlugIn(group=group, name=entry.name, target=entry.value, distribution=by)
