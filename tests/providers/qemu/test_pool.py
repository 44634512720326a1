"""Spares are used once and hold nobody back; memory is given in the order of asking, and its lack is told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from harness.deadline import Deadline
from harness.errors import LabError
from harness.providers.qemu import pool as module
from harness.providers.qemu.pool import MAX_FAILURES, MAX_SPARES, PRIVATE_MIB, RESERVE_MIB, Pool
from harness.rig import ROOT

ONE = RESERVE_MIB + PRIVATE_MIB
PLENTY = 100 * PRIVATE_MIB
SPARE_MIB = 100


@dataclass(eq=False)
class FakeMachine:
    host: FakeHost
    mib: int = SPARE_MIB
    alive: bool = True
    ended: int = 0

    def lives(self) -> bool:
        return self.alive

    def private_mib(self) -> int:
        return self.mib if self.alive else 0

    def end(self) -> None:
        self.alive = False
        self.ended += 1


@dataclass
class FakeHost:
    """A host with so much memory, of which each machine that lives takes its part."""

    memory_mib: int = PLENTY
    made: list[FakeMachine] = field(default_factory=list)
    fails: int = 0
    tried: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def available_mib(self) -> int:
        return self.memory_mib - sum(machine.private_mib() for machine in self.made)

    def make(self) -> FakeMachine:
        self.tried += 1
        assert self.gate.wait(10)
        if self.tried <= self.fails:
            msg = "no disk"
            raise LabError(msg)
        self.made.append(FakeMachine(self))
        return self.made[-1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.005)
    monkeypatch.setattr(module, "REFILL_LOOK_S", 0.005)


@pytest.fixture
def host() -> FakeHost:
    host = FakeHost()
    host.gate.set()
    return host


@pytest.fixture
def pool(host: FakeHost) -> Iterator[Pool[FakeMachine]]:
    pool: Pool[FakeMachine] = Pool(host.available_mib)
    yield pool
    host.gate.set()
    pool.close()


def becomes(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end and not condition():
        time.sleep(0.001)
    return condition()


def never(condition: Callable[[], bool]) -> bool:
    """Tell that something has not happened in a time in which the pool looked many times."""
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        if condition():
            return False
        time.sleep(0.001)
    return True


def used(pool: Pool[FakeMachine], host: FakeHost, template: str = "t", *, seconds: float = 10) -> FakeMachine | None:
    with pool.room(template, make=host.make, deadline=Deadline.after(seconds)) as room:
        spare = room.machine
    if spare is not None:
        spare.end()
    return spare


def test_the_first_guest_finds_no_spare_and_the_next_finds_one(pool: Pool[FakeMachine], host: FakeHost) -> None:
    assert used(pool, host) is None
    assert becomes(lambda: pool.spares("t") == 1)
    assert used(pool, host) is host.made[0]


def test_a_spare_is_used_exactly_once(pool: Pool[FakeMachine], host: FakeHost) -> None:
    with ThreadPoolExecutor(4) as cells:
        given = [machine for machine in cells.map(lambda _: used(pool, host), range(200)) if machine is not None]
    assert len(given) == len(set(given))
    pool.close()
    assert all(machine.ended == 1 for machine in host.made)


def test_there_are_as_many_spares_as_ran_at_once(pool: Pool[FakeMachine], host: FakeHost) -> None:
    with ExitStack() as running:
        for _ in range(3):
            running.enter_context(pool.room("t", make=host.make, deadline=Deadline.after(10)))
    assert becomes(lambda: pool.spares("t") == 3)
    assert never(lambda: pool.spares("t") > 3)


def test_there_are_never_more_than_the_most(pool: Pool[FakeMachine], host: FakeHost) -> None:
    with ExitStack() as running:
        for _ in range(MAX_SPARES + 3):
            running.enter_context(pool.room("t", make=host.make, deadline=Deadline.after(10)))
        assert becomes(lambda: pool.spares("t") == MAX_SPARES)
        assert never(lambda: pool.spares("t") > MAX_SPARES)


def test_a_spare_that_has_died_is_thrown_away_and_never_given(pool: Pool[FakeMachine], host: FakeHost) -> None:
    used(pool, host)
    assert becomes(lambda: pool.spares("t") == 1)
    host.made[0].alive = False
    assert used(pool, host) is not host.made[0]
    assert host.made[0].ended == 1


def test_a_spare_is_given_for_its_own_template_alone(pool: Pool[FakeMachine], host: FakeHost) -> None:
    used(pool, host)
    assert becomes(lambda: pool.spares("t") == 1)
    assert used(pool, host, "another") is None
    assert pool.spares("t") == 1


def test_a_template_that_changed_keeps_no_spare_not_even_one_that_is_being_made(
    pool: Pool[FakeMachine], host: FakeHost
) -> None:
    used(pool, host)
    assert becomes(lambda: pool.spares("t") == 1)
    host.gate.clear()
    used(pool, host)
    assert becomes(lambda: host.tried == 2)
    pool.empty("t")
    host.gate.set()
    assert becomes(lambda: [machine.ended for machine in host.made] == [1, 1])
    assert pool.spares("t") == 0


def test_a_pool_that_is_closed_leaves_nothing_and_may_be_used_again(pool: Pool[FakeMachine], host: FakeHost) -> None:
    used(pool, host)
    assert becomes(lambda: pool.spares("t") == 1)
    pool.close()
    assert host.made[0].ended == 1
    assert never(lambda: len(host.made) > 1)
    used(pool, host)
    assert becomes(lambda: pool.spares("t") == 1)


def test_closing_waits_for_the_spare_that_is_being_made(pool: Pool[FakeMachine], host: FakeHost) -> None:
    host.gate.clear()
    used(pool, host)
    assert becomes(lambda: host.tried == 1)
    threading.Timer(0.05, host.gate.set).start()
    pool.close()
    assert [machine.ended for machine in host.made] == [1]


def test_a_spare_that_cannot_be_made_costs_no_guest_and_is_tried_again_at_the_next(
    pool: Pool[FakeMachine], host: FakeHost
) -> None:
    host.fails = 1
    assert used(pool, host) is None
    assert becomes(lambda: host.tried == 1)
    assert never(lambda: host.tried > 1)
    assert used(pool, host) is None
    assert becomes(lambda: pool.spares("t") == 1)


def test_spares_that_fail_again_and_again_are_given_up(pool: Pool[FakeMachine], host: FakeHost) -> None:
    host.fails = 1000
    for tries in range(1, MAX_FAILURES + 1):
        assert used(pool, host) is None
        assert becomes(lambda tries=tries: host.tried == tries)  # type: ignore[misc]  # bound early
        assert becomes(lambda: not pool._making)
    assert used(pool, host) is None
    assert never(lambda: host.tried > MAX_FAILURES)


def test_no_spare_is_made_where_no_guest_would_be_admitted(host: FakeHost) -> None:
    host.memory_mib = ONE + PRIVATE_MIB // 2
    pool: Pool[FakeMachine] = Pool(host.available_mib)
    with pool.room("t", make=host.make, deadline=Deadline.after(10)):
        assert never(lambda: host.tried > 0)
        host.memory_mib += PRIVATE_MIB  # another program of the host has ended
        assert becomes(lambda: pool.spares("t") == 1)
    pool.close()


def test_depth_is_what_spares_really_keep_for_themselves(host: FakeHost) -> None:
    host.memory_mib = ONE + 2 * SPARE_MIB
    pool: Pool[FakeMachine] = Pool(host.available_mib)
    with ThreadPoolExecutor(1):
        shelf = module._Shelf[FakeMachine](make=host.make, depth=MAX_SPARES)
        pool._shelves["t"] = shelf
        used(pool, host)
        assert becomes(lambda: pool.spares("t") == 3)
        assert never(lambda: pool.spares("t") > 3)
    pool.close()


def test_spares_are_thrown_away_before_a_guest_has_to_wait(pool: Pool[FakeMachine], host: FakeHost) -> None:
    for template in ("t", "u"):
        used(pool, host, template)
        assert becomes(lambda template=template: pool.spares(template) == 1)  # type: ignore[misc]  # bound early
    host.memory_mib = ONE + SPARE_MIB  # enough for one more only when neither of them is there
    assert used(pool, host, "v", seconds=0) is None
    assert pool.spares("t") + pool.spares("u") == 1


def test_the_spare_of_the_wanted_template_is_used_and_the_others_are_thrown_away(
    pool: Pool[FakeMachine], host: FakeHost
) -> None:
    for template in ("t", "u"):
        used(pool, host, template)
        assert becomes(lambda template=template: pool.spares(template) == 1)  # type: ignore[misc]  # bound early
    host.memory_mib = ONE
    assert used(pool, host, "t", seconds=0) is host.made[0]
    assert host.made[1].ended == 1


def test_memory_that_guests_may_still_take_is_not_given_twice(host: FakeHost) -> None:
    host.memory_mib = ONE + PRIVATE_MIB // 2
    pool: Pool[FakeMachine] = Pool(host.available_mib, max_spares=0)
    with pool.room("t", make=host.make, deadline=Deadline.after(1)) as room:
        with pytest.raises(LabError, match="no memory left") as told:
            used(pool, host, seconds=0)
        assert "--jobs" in told.value.hint
        # It has taken all it will, and the host has as much as before: what was kept free for it is free.
        room.machine = FakeMachine(host, mib=PRIVATE_MIB)
        assert used(pool, host, seconds=0) is None
    assert used(pool, host, seconds=0) is None


def test_guests_that_wait_for_memory_get_it_in_the_order_in_which_they_came(host: FakeHost) -> None:
    host.memory_mib = ONE
    pool: Pool[FakeMachine] = Pool(host.available_mib, max_spares=0)
    came: list[int] = []

    def cell(number: int) -> None:
        with pool.room("t", make=host.make, deadline=Deadline.after(10)):
            came.append(number)

    with pool.room("t", make=host.make, deadline=Deadline.after(10)):
        waiting = []
        for number in range(8):
            waiting.append(threading.Thread(target=cell, args=(number,)))
            waiting[-1].start()
            assert becomes(lambda number=number: len(pool._line) == number + 1)  # type: ignore[misc]  # bound early
        assert came == []
    for thread in waiting:
        thread.join(10)
    assert came == list(range(8))


def test_one_that_gives_up_waiting_holds_nobody_back(host: FakeHost) -> None:
    host.memory_mib = RESERVE_MIB
    pool: Pool[FakeMachine] = Pool(host.available_mib, max_spares=0)
    with ThreadPoolExecutor(2) as cells:
        impatient = cells.submit(used, pool, host, "t", seconds=0.05)
        assert becomes(lambda: len(pool._line) == 1)
        patient = cells.submit(used, pool, host, "t", seconds=10)
        with pytest.raises(LabError, match="no memory left"):
            impatient.result(10)
        host.memory_mib = ONE
        assert patient.result(10) is None


def test_whoever_waits_behind_others_is_told_so(host: FakeHost) -> None:
    host.memory_mib = RESERVE_MIB
    pool: Pool[FakeMachine] = Pool(host.available_mib, max_spares=0)
    with ThreadPoolExecutor(1) as cells:
        first = cells.submit(used, pool, host, "t", seconds=10)
        assert becomes(lambda: len(pool._line) == 1)
        with pytest.raises(LabError) as told:
            used(pool, host, seconds=0)
        assert "before" in told.value.detail
        host.memory_mib = ONE
        first.result(10)


#: Uses a pool as a program would that forgets to close it; its spares leave a word when they are ended.
FORGETFUL = """
import time
from harness.deadline import Deadline
from harness.providers.qemu.pool import Pool
class Machine:
    def lives(self): return True
    def private_mib(self): return 0
    def end(self): print("ended", flush=True)
pool = Pool(lambda: 10000)
with pool.room("t", make=Machine, deadline=Deadline.after(10)):
    while not pool.spares("t"):
        time.sleep(0.001)
"""


def test_a_program_that_ends_without_closing_its_pool_leaves_no_spare() -> None:
    done = subprocess.run([sys.executable, "-c", FORGETFUL], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"ended\n"
