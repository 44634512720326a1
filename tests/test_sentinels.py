"""What a wrong sentinel takes back, and what it leaves."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from harness.sentinels import Sighting, Span, since, withdrawn_by
from tests.builders import NOON


def span(began: int, ended: int) -> Span:
    return Span(NOON + timedelta(seconds=began), NOON + timedelta(seconds=ended))


def seen(began: int, *, right: bool, cell_id: str = "bad") -> Sighting:
    return Sighting(cell_id, f"{cell_id}-{began}", span(began, began + 1), right, "told")


def taken_back(verdict: Span, *sightings: Sighting) -> bool:
    return withdrawn_by([verdict], sightings, run_began=NOON) is not None


def test_a_wrong_one_takes_back_what_came_since_the_last_right_one() -> None:
    sightings = (seen(10, right=True), seen(20, right=False))
    assert not taken_back(span(5, 9), *sightings)  # vouched for by the right one
    assert taken_back(span(12, 15), *sightings)
    assert taken_back(span(5, 12), *sightings)  # began before it, and ended after
    assert taken_back(span(20, 30), *sightings)  # began while the wrong one went on
    assert not taken_back(span(21, 30), *sightings)


def test_without_a_right_one_everything_since_the_run_s_begin_is_taken_back() -> None:
    assert taken_back(span(1, 2), seen(20, right=False))
    assert not taken_back(span(-9, -5), seen(20, right=False))
    assert since(seen(20, right=False), [], run_began=NOON) == NOON


def test_a_right_one_that_comes_later_gives_nothing_back_and_vouches_for_what_follows() -> None:
    sightings = (seen(10, right=True), seen(20, right=False), seen(30, right=True))
    assert taken_back(span(12, 15), *sightings)
    assert not taken_back(span(25, 29), *sightings)


def test_another_sentinel_s_right_end_vouches_for_nothing() -> None:
    assert taken_back(span(3, 5), seen(10, right=True, cell_id="good"), seen(11, right=False))


def test_one_attempt_in_doubt_is_enough() -> None:
    sightings = [seen(10, right=True), seen(20, right=False)]
    assert withdrawn_by([span(1, 2), span(14, 15)], sightings, run_began=NOON) == sightings[1]


TIMES = st.integers(0, 60)


@given(TIMES, TIMES, st.lists(st.builds(seen, TIMES, right=st.booleans()), max_size=6), st.randoms())
def test_more_wrong_ones_never_give_a_verdict_back_and_order_does_not_matter(
    began: int,
    lasts: int,
    sightings: list[Sighting],
    dice: st.randoms,  # type: ignore[valid-type]
) -> None:
    verdict = span(began, began + lasts)
    before = taken_back(verdict, *sightings)
    shuffled = list(sightings)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    assert taken_back(verdict, *shuffled) == before
    assert not before or taken_back(verdict, *sightings, seen(61, right=False, cell_id="another"))
    if all(s.right for s in sightings):
        assert not before
