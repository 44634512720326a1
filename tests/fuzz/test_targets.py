"""A few inputs for every reader of hostile bytes; ``python -m tests.fuzz`` tries as many as it is given time for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutation import drawn
from tests.fuzz.target import Target
from tests.fuzz.targets import targets

#: Eight a target in the quick profile, four hundred in the thorough one.
FEW = settings(max_examples=settings().max_examples * 2 // 5, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_nothing_that_a_stranger_or_a_guest_wrote_breaks_a_reader(target: Target) -> None:
    def tried(given_input: object) -> None:  # hypothesis marks what it is given; two targets share one check
        target.check(given_input)

    FEW(given(drawn(target.inputs))(tried))()
