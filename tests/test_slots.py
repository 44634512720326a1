"""Places for guests: never more than there are, and one that must be alone gets its turn and is alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.deadline import Deadline
from harness.slots import Slots

PATIENCE_S = 10.0


class Watch:
    """Counts who is inside, and what the most ever was."""

    def __init__(self, jobs: int) -> None:
        self.slots = Slots(jobs)
        self.inside = 0
        self.most = 0
        self.beside_alone = 0
        self._lock = threading.Lock()

    def visit(self, alone: bool, stay_s: float = 0.002) -> None:
        with self.slots.take(alone=alone):
            with self._lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(stay_s)
            with self._lock:
                self.beside_alone = max(self.beside_alone, self.inside - 1 if alone else 0)
                self.inside -= 1


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_never_more_than_there_are_places_and_nobody_beside_one_that_is_alone(jobs: int) -> None:
    watch = Watch(jobs)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(watch.visit, [at % 5 == 0 for at in range(40)], timeout=PATIENCE_S))
    assert 1 <= watch.most <= jobs
    assert (watch.inside, watch.beside_alone) == (0, 0)


def test_one_that_waits_to_be_alone_holds_newcomers_back() -> None:
    slots, order = Slots(2), list[str]()
    first_is_in, first_may_go = threading.Event(), threading.Event()

    def first() -> None:
        with slots.take(alone=False):
            first_is_in.set()
            first_may_go.wait(PATIENCE_S)

    def visit(name: str, alone: bool) -> None:
        with slots.take(alone=alone):
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(first)]
        assert first_is_in.wait(PATIENCE_S)
        waiting.append(pool.submit(visit, "alone", alone=True))
        until(lambda: slots._waiting_alone == 1)
        waiting.append(pool.submit(visit, "newcomer", alone=False))
        time.sleep(0.02)
        assert order == []
        first_may_go.set()
        for done in waiting:
            done.result(PATIENCE_S)
    assert order[0] == "alone"


def until(condition: object) -> None:
    assert callable(condition)
    assert any(condition() for _ in Deadline.after(PATIENCE_S).poll(0.001))


@pytest.mark.parametrize("alone", [False, True])
def test_a_place_is_given_back_when_the_work_fails(alone: bool) -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.take(alone=alone):
        raise ZeroDivisionError
    with slots.take(alone=not alone):
        pass
