"""Pure. The absence of a product records nothing."""

from __future__ import annotations

from collections.abc import Sequence

from harness.attempt import Attempt
from harness.observation import Observation


class _Parser:
    version = 1

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give nothing."""
        del attempt
        return ()


PARSER = _Parser()
