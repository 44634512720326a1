"""Effects. The absence of a product: what every control runs with."""

from __future__ import annotations

from collections.abc import Mapping

from harness.deadline import Deadline
from harness.facts import When
from harness.image import Folder
from harness.products.api import Tools
from harness.signature import Signature


class NoProduct:
    """Does nothing, and so has nothing to prove."""

    def __init__(self, tools: Tools) -> None:
        del tools

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        """Do nothing."""

    def pin(self, signature: Signature, *, deadline: Deadline) -> None:
        """Do nothing: a vendor's update means nothing without its product."""

    def sample(self, *, border: int, deadline: Deadline) -> None:
        """Do nothing."""

    def canary(self, folders: Mapping[Folder, str], *, when: When, deadline: Deadline) -> None:
        """Do nothing."""

    def scan(self, folder: str, *, deadline: Deadline) -> None:
        """Do nothing: there is nothing that could scan."""

    def collect(self, *, deadline: Deadline) -> None:
        """Do nothing."""
