"""Pure. What a test product of ours does about a file that it knows: the acts of commercial products, by script.

Only products in ``TEST_PRODUCTS`` act by script. They stand for no real one: what is decided beside them is about this
tool, and never about a release.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from harness.frozen import Frozen

#: Products of ours that exist to test the tool.
TEST_PRODUCTS = frozenset({"guard"})


def shown_product(name: str) -> str:
    """Give a product's name as people read it: one of ours says that it is a test.

    Example:
        >>> shown_product("guard"), shown_product("clamav")
        ('TEST guard', 'clamav')
    """
    return f"TEST {name}" if name in TEST_PRODUCTS else name


class Act(StrEnum):
    """What is done once a known file is opened."""

    DENY = "deny"
    QUARANTINE = "quarantine"
    PUT_BACK = "put_back"
    LOCK = "lock"
    KILL = "kill"
    HANG = "hang"
    ALERT = "alert"


#: Acts that may come some time after the first open, and acts that last.
_LATER = frozenset({Act.QUARANTINE, Act.PUT_BACK, Act.KILL})
_LASTING = frozenset({Act.PUT_BACK, Act.LOCK, Act.HANG})


class Behaviour(Frozen):
    """One act, its time and its length.

    ``deny`` refuses every open. ``quarantine`` takes the file away; ``put_back`` does so too, and returns it after
    ``for_s``. ``lock`` refuses opens for ``for_s`` from the first on. ``kill`` ends the programs that have the file
    loaded, and names them. ``hang`` leaves the first open unanswered: for ``for_s``, or for good. ``alert`` records
    and does no more.
    """

    does: Act = Act.QUARANTINE
    after_s: float = Field(default=0.0, ge=0, le=3600, description="Seconds from the first open to the act.")
    for_s: float | None = Field(default=None, gt=0, le=3600, description="How long a lock, a hang or an absence lasts.")
    silent: bool = Field(default=False, description="True: nothing is recorded about it.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.after_s and self.does not in _LATER:
            msg = f"'{self.does}' is done at the open itself and has no 'after_s'"
            raise ValueError(msg)
        if self.for_s is not None and self.does not in _LASTING:
            msg = f"'{self.does}' does not last and has no 'for_s'"
            raise ValueError(msg)
        if self.for_s is None and self.does in _LASTING - {Act.HANG}:
            msg = f"'{self.does}' lasts and needs 'for_s'"
            raise ValueError(msg)
        if self.silent and self.does is Act.ALERT:
            msg = "an alert that nobody hears is none"
            raise ValueError(msg)
        return self
