"""Pure. Every error that this tool raises on purpose: one sentence, a hint, and whose trouble it is.

1. A summary is one sentence for a human; a hint says what to do next.
2. Each class has a ``blame``; a blame maps to one exit code of the contract.
3. ``retryable`` says whether the same call may succeed later; it is recorded with the trouble.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Blame(StrEnum):
    """Whose trouble a failure is."""

    PRODUCT = "product"
    BUILD = "build"
    LAB = "lab"
    INPUT = "input"


#: Exit codes of the command line, by blame. A product's or a build's failure is a result, not an error, and never
#: ends a command by itself.
EXIT_BY_BLAME = {Blame.INPUT: 2, Blame.LAB: 5, Blame.PRODUCT: 1, Blame.BUILD: 1}


class HarnessError(Exception):
    """Root of all errors of this tool.

    Args:
        summary: One sentence that says what is wrong.
        detail: Further lines, such as a command's output. Shown below the summary.
        hint: What the reader can do next. Shown last.
    """

    blame: ClassVar[Blame] = Blame.LAB
    retryable: ClassVar[bool] = False

    def __init__(self, summary: str, *, detail: str = "", hint: str = "") -> None:
        """Keep the three texts; ``str(error)`` is the summary alone."""
        super().__init__(summary)
        self.summary = summary
        self.detail = detail
        self.hint = hint

    @property
    def exit_code(self) -> int:
        """Give the exit code that the command line ends with when this error reaches it."""
        return EXIT_BY_BLAME[self.blame]


class InputError(HarnessError):
    """Something that the user wrote or named is wrong. Nothing was started."""

    blame = Blame.INPUT


class LabError(HarnessError):
    """The lab is not usable: an engine, an image, a tool or the disk."""

    blame = Blame.LAB


class HostDown(LabError):
    """What makes guests does not answer at all: no guest was made, and none can be until it is back."""

    retryable = True


class GuestUnreachable(LabError):
    """The guest, or the way into it, is gone."""

    retryable = True


class GuestCommandTimeout(LabError):
    """A program in the guest still ran at its deadline and was ended."""

    retryable = True


class ProtectionNotProven(LabError):
    """A security product did not reach the state that the cell asks for (not armed, or another signature loaded)."""

    retryable = True


class StoreError(LabError):
    """The store cannot be read or written."""


class UnusableStore(StoreError):
    """The store that was named is damaged, of a newer version or of another program. It is left as it was."""

    blame = Blame.INPUT


class DiskFull(StoreError):
    """The host has no room for evidence; what is durable stays, and nothing new is leased."""
