"""Pure. Which provider a run's guests come from when nobody names one.

1. Only one that is usable here is chosen, and the one that has most of the wanted images before others.
2. Among equals the order below decides. It was measured; ARCHITECTURE.md, "Which lab", has the figures.
3. The choice is one sentence, which says what was wrong with those that stand before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: Our own providers, the first preferred; those of other packages come behind, by name.
ORDER = ("docker", "qemu")

#: Why each stands where it does.
_MERITS = {
    "docker": "containers run a cell in the least time",
    "qemu": "each guest is a virtual machine with a kernel of its own",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One provider on this machine, as seen for the images of one suite.

    Attributes:
        why_not: What keeps it from running any guest, as a sentence; empty when it is usable.
        lacks: Those of the wanted images that it has not, by name.
        fix: What mends the first of both, a command or a sentence.
    """

    provider: str
    why_not: str = ""
    lacks: tuple[str, ...] = ()
    fix: str = ""

    @property
    def usable(self) -> bool:
        """Tell whether it can run guests at all."""
        return not self.why_not

    @property
    def complete(self) -> bool:
        """Tell whether every wanted image is there to be used."""
        return self.usable and not self.lacks

    @property
    def shortcoming(self) -> str:
        """Say what it falls short of; empty when it is complete."""
        if self.why_not:
            return self.why_not
        return f"it has no image '{self.lacks[0]}'" if self.lacks else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The provider of a run. ``why`` is one sentence without a full stop."""

    provider: str
    why: str

    def sentence(self) -> str:
        """Say both."""
        return f"lab: {self.provider}, because {self.why}"


def asked_for(provider: str) -> Choice:
    """Give the choice that a person made."""
    return Choice(provider=provider, why="it was asked for")


def in_order(providers: Iterable[str]) -> list[str]:
    """Sort providers, the preferred first."""
    return sorted(providers, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def choose(labs: Iterable[Lab]) -> Choice | None:
    """Choose among labs, which come in order and are looked at one by one, until one has everything.

    Returns:
        None when none is usable.
    """
    seen: list[Lab] = []
    for lab in labs:
        seen.append(lab)
        if lab.complete:
            break
    usable = [lab for lab in seen if lab.usable]
    if not usable:
        return None
    best = min(usable, key=lambda lab: len(lab.lacks))  # the first of equals
    passed = [f"{lab.provider} is not usable ({lab.shortcoming})" for lab in seen if lab is not best and lab.why_not]
    passed += [f"{lab.provider} lacks the image '{lab.lacks[0]}'" for lab in seen if lab is not best and lab.usable]
    merit = _MERITS.get(best.provider, "it is usable here")
    return Choice(provider=best.provider, why=" and ".join(passed) or merit)
