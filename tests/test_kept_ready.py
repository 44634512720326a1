"""Guests that a provider keeps ready end with the run, however it ends."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError
from harness.providers.fake import FakeProvider
from harness.stores.memory import MemoryStore
from tests.fake_lab import FakeLab, cell, guarded_machine, plan


class _KeepsReady(FakeProvider):
    """Counts how often it was closed, and sees that no guest runs any more then."""

    closed = 0

    def close(self) -> None:
        self.closed += 1
        assert self.running == []


def test_guests_that_are_kept_ready_end_with_the_run() -> None:
    provider = _KeepsReady(guarded_machine)
    FakeLab(provider=provider).run(plan(cell()), MemoryStore())
    assert provider.closed == 1


def test_guests_that_are_kept_ready_end_also_when_the_run_could_not_begin() -> None:
    provider, store = _KeepsReady(guarded_machine), MemoryStore()
    FakeLab(provider=provider).run(plan(cell()), store)
    with pytest.raises(HarnessError):
        FakeLab(provider=provider).run(plan(cell()), store)  # a run of this name is there already
    assert provider.closed == 2
