"""One reader of what a stranger or a guest wrote, inputs for it, and what must hold whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fuzz.mutation import Dice


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader.

    Attributes:
        inputs: Makes one input of dice.
        check: Raises when a promise is broken.
        cost: How much longer one input takes than the cheapest target's; a long run gives each its share of time.
    """

    name: str
    inputs: Callable[[Dice], Any]
    check: Callable[[Any], None]
    cost: int = 1
