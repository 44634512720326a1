"""A deadline: nearer ones win, what is left is never negative, and polling ends with a look at the deadline."""

from __future__ import annotations

import time

import pytest

from harness.deadline import Deadline


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.pauses.append(round(seconds, 6))
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def test_what_remains_is_never_negative(clock: Clock) -> None:
    deadline = Deadline.after(5.0)
    assert (deadline.remaining_s, deadline.expired) == (5.0, False)
    clock.now_s += 7
    assert (deadline.remaining_s, deadline.expired) == (0.0, True)
    assert Deadline.after(-3.0).expired


def test_the_nearer_deadline_wins(clock: Clock) -> None:
    deadline = Deadline.after(5.0)
    assert deadline.sooner(2.0) == Deadline(clock.now_s + 2.0)
    assert deadline.sooner(9.0) == deadline


def test_polling_looks_at_once_and_a_last_time_at_the_deadline(clock: Clock) -> None:
    seen = list(Deadline.after(1.0).poll(0.4))
    assert seen == pytest.approx([0.0, 0.4, 0.8, 1.0])
    assert clock.pauses == pytest.approx([0.4, 0.4, 0.2])


def test_polling_after_the_deadline_looks_once(clock: Clock) -> None:
    assert list(Deadline.after(0.0).poll(0.4)) == [0.0]
    assert clock.pauses == []


def test_a_look_that_lasts_beyond_the_deadline_is_followed_by_a_last_one(clock: Clock) -> None:
    looks = []
    for seen_s in Deadline.after(1.0).poll(0.1):
        looks.append(seen_s)
        clock.now_s += 0.6
    assert looks == pytest.approx([0.0, 0.7, 1.3])
