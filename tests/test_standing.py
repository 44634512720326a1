"""How long something that fails is waited for, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.standing import HOST, IMAGE, Patience, Standing, failed, worked

SOME = Patience(failures=3, first_s=10.0, cap_s=60.0, waits=4)


def losses(patience: Patience, number: int) -> tuple[Standing, list[float]]:
    """Let so many tries fail, each begun as soon as it may be; give the waits."""
    standing, now, waits = Standing(), 100.0, []
    for _ in range(number):
        now += standing.wait_s(now)
        standing = failed(standing, patience, began=now, now=now + 1.0, why="lost")
        now += 1.0
        waits.append(standing.wait_s(now))
    return standing, waits


def test_waits_double_up_to_their_cap_and_then_it_is_set_aside() -> None:
    standing, waits = losses(SOME, 7)
    assert waits == [0.0, 0.0, 10.0, 20.0, 40.0, 60.0, 0.0]
    assert standing.set_aside
    assert (standing.failures, standing.why) == (7, "lost")


def test_what_is_never_set_aside_is_waited_for_again_and_again() -> None:
    standing, waits = losses(Patience(failures=1, first_s=1.0, cap_s=4.0, waits=None), 9)
    assert waits == [1.0, 2.0, *[4.0] * 7]
    assert not standing.set_aside


def test_an_engine_has_a_minute_and_an_image_seven() -> None:
    assert sum(losses(HOST, 7)[1]) == 61.0
    assert sum(losses(IMAGE, 6)[1]) == 420.0
    assert losses(HOST, 7)[0].set_aside
    assert losses(IMAGE, 6)[0].set_aside
    assert not losses(HOST, 6)[0].set_aside
    assert not losses(IMAGE, 5)[0].set_aside


def test_guests_that_fail_together_are_one_failure() -> None:
    """Sixty-four guests at once must not use up all patience at once."""
    standing, _ = losses(SOME, 3)
    assert standing.waits == 1
    for _ in range(64):
        standing = failed(standing, SOME, began=101.0, now=104.0, why="late")
    assert (standing.waits, standing.set_aside, standing.why) == (1, False, "lost")


def test_one_success_makes_all_good() -> None:
    standing, _ = losses(SOME, 5)
    assert worked(standing) == Standing()


def test_what_is_set_aside_stays_so() -> None:
    standing, _ = losses(SOME, 7)
    assert worked(standing) == standing
    assert failed(standing, SOME, began=1e9, now=1e9, why="again") == standing


@given(st.lists(st.booleans(), max_size=60))
def test_nothing_is_set_aside_without_enough_failures_in_a_row(tries: list[bool]) -> None:
    standing, now, longest, row = Standing(), 0.0, 0, 0
    for good in tries:
        now += standing.wait_s(now) + 1.0
        standing = worked(standing) if good else failed(standing, SOME, began=now, now=now, why="lost")
        row = 0 if good and not standing.set_aside else row + (not good)
        longest = max(longest, row)
    assert standing.set_aside == (longest >= SOME.failures + (SOME.waits or 0))
