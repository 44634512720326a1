"""The fault library itself: each kind of fault does what it says, at the call that it names, and nowhere else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from harness.deadline import Deadline
from harness.errors import DiskFull, GuestCommandTimeout, GuestUnreachable, LabError, ProtectionNotProven, StoreError
from harness.products.api import Scans
from harness.rig import ROOT
from harness.stores.memory import MemoryStore
from harness.transports.api import CommandResult
from tests.builders import NOON
from tests.fake_lab import FakeLab, cell, plan
from tests.faults.clock import REPLACED, simulated
from tests.faults.wrap import ERRORS, Fault, Injection, Injector, Seam, faulty, target_of


class Guest:
    """Stands for any Protocol: answers bytes, a result, a pair, nothing, and a context."""

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.name = "guest"

    def say(self, word: str, *, deadline: Deadline | None = None) -> bytes:
        self.asked.append(word)
        return f"answer to {word}".encode()

    def run(self, word: str) -> CommandResult:
        return CommandResult(exit_code=0, stdout=self.say(word))

    def pull(self, word: str) -> tuple[bytes, bool]:
        return self.say(word), False

    def push(self, content: bytes) -> None:
        self.asked.append(content)

    @contextmanager
    def lease(self) -> Iterator[Guest]:
        yield self


def wrapped(
    fault: Fault, at: int = 1, *, seam: Seam = Seam.SYSTEM, where: float = 0.5, seconds: float = 5.0
) -> tuple[Guest, Guest, Injector]:
    with simulated() as clock:
        injector = Injector((Injection(seam=seam, fault=fault, at=at, where=where, seconds=seconds),), clock)
    guest = Guest()
    return faulty(guest, seam, injector), guest, injector


def test_a_fault_strikes_the_call_that_it_names_and_no_other() -> None:
    stand_in, guest, injector = wrapped(Fault.FAIL, 2)
    assert stand_in.say("a") == b"answer to a"
    with pytest.raises(GuestUnreachable):
        stand_in.say("b")
    assert stand_in.say("c") == b"answer to c"
    assert (guest.asked, injector.struck) == (["a", "c"], ["fail at system#2 (say)"])


@pytest.mark.parametrize(
    ("seam", "error"),
    [
        (Seam.PROVIDER, LabError),
        (Seam.TRANSPORT, GuestUnreachable),
        (Seam.PRODUCT, ProtectionNotProven),
        (Seam.STORE, StoreError),
        (Seam.DISK, DiskFull),
    ],
)
def test_a_seam_fails_with_the_error_that_its_protocol_names(seam: Seam, error: type[Exception]) -> None:
    stand_in, _, _ = wrapped(Fault.FAIL, seam=seam)
    with pytest.raises(error):
        stand_in.say("a")
    assert isinstance(ERRORS[seam][1](), LabError)


def test_a_call_hangs_until_its_deadline_and_takes_no_time_of_ours() -> None:
    with simulated() as clock:
        injector = Injector((Injection(seam=Seam.SYSTEM, fault=Fault.HANG, at=1),), clock)
        deadline = Deadline.after(3600.0)
        with pytest.raises(GuestCommandTimeout):
            faulty(Guest(), Seam.SYSTEM, injector).say("a", deadline=deadline)
        assert deadline.expired


def test_a_delay_passes_on_the_simulated_clock_and_the_answer_comes() -> None:
    with simulated() as clock:
        injector = Injector((Injection(seam=Seam.SYSTEM, fault=Fault.DELAY, at=1, seconds=60.0),), clock)
        before = clock.monotonic()
        assert faulty(Guest(), Seam.SYSTEM, injector).say("a") == b"answer to a"
        assert clock.monotonic() - before > 60


@pytest.mark.parametrize(("fault", "expected"), [(Fault.TRUNCATE, b"answe"), (Fault.CORRUPT, b"answes to a")])
def test_bytes_of_an_answer_are_cut_or_altered(fault: Fault, expected: bytes) -> None:
    for method in ("say", "run", "pull"):
        stand_in, _, _ = wrapped(fault, where=0.5)
        answer = getattr(stand_in, method)("a")
        found = answer.stdout if isinstance(answer, CommandResult) else answer[0] if method == "pull" else answer
        assert found == expected


def test_a_transport_says_what_it_cut() -> None:
    assert wrapped(Fault.TRUNCATE)[0].run("a").stdout_truncated
    assert wrapped(Fault.TRUNCATE)[0].pull("a")[1]
    assert not wrapped(Fault.CORRUPT)[0].pull("a")[1]


def test_a_call_without_bytes_in_its_answer_is_hurt_in_those_that_it_carries() -> None:
    stand_in, guest, _ = wrapped(Fault.TRUNCATE)
    stand_in.push(b"12345678")
    assert guest.asked == [b"1234"]


def test_a_call_comes_twice() -> None:
    stand_in, guest, _ = wrapped(Fault.DUPLICATE)
    stand_in.say("a")
    assert guest.asked == ["a", "a"]


def test_an_answer_comes_late_to_another_question() -> None:
    stand_in, _, injector = wrapped(Fault.REORDER)
    assert [stand_in.say(word) for word in "abc"] == [b"answer to a", b"answer to a", b"answer to c"]
    assert len(injector.struck) == 1


def test_what_a_context_gives_is_faulty_too() -> None:
    stand_in, _, _ = wrapped(Fault.FAIL, 2)
    with stand_in.lease() as given, pytest.raises(GuestUnreachable):
        given.say("a")


def test_a_stand_in_has_the_abilities_and_the_data_of_its_target_and_no_others() -> None:
    stand_in, guest, injector = wrapped(Fault.FAIL, 99)
    assert (stand_in.name, target_of(stand_in)) == ("guest", guest)
    assert not isinstance(stand_in, Scans)
    assert faulty(guest, Seam.SYSTEM, injector, more={"name": "other"}).name == "other"


def test_the_wall_clock_jumps_and_the_monotonic_one_never_goes_back() -> None:
    with simulated() as clock:
        injector = Injector((Injection(seam=Seam.CLOCK, fault=Fault.FAIL, at=2),), clock)
        stand_in = faulty(Guest(), Seam.SYSTEM, injector)
        stand_in.say("a")
        wall, mono = clock.now(), clock.monotonic()
        stand_in.say("b")
        assert (clock.now() - wall).total_seconds() == pytest.approx(-3600, abs=1)
        assert clock.monotonic() > mono


def test_the_clock_is_back_afterwards() -> None:
    with simulated():
        assert Deadline.after(0).at_s < 2000
    before = time.monotonic()
    assert before <= Deadline.after(0).at_s <= time.monotonic()


def test_no_module_on_the_way_to_a_verdict_has_a_clock_of_its_own() -> None:
    """A module that was split off kept the host's clock: no control came after a failure, and 18 cells were BROKEN."""
    asks = re.compile(r"\b(datetime)\.now\(|\b(secrets)\.token|\b(time)\.(?:monotonic|sleep|time)\(")
    asked = {
        (path.stem, next(filter(None, found.groups())))
        for path in (ROOT / "harness").glob("*.py")
        for found in asks.finditer(path.read_text(encoding="utf-8"))
    }
    # The session's own clock, by which hosts and images wait, is handed in; freezing makes guests, no verdicts.
    elsewhere = {("stop_switch", "time"), ("freeze", "datetime"), ("freeze", "secrets")}
    assert asked - elsewhere == set(REPLACED)


def test_a_simulated_cell_begins_and_ends_on_the_simulated_clock() -> None:
    of, store = cell(), MemoryStore()
    with simulated():
        FakeLab().run(plan(of), store)
    made = [*store.attempts("run-1", of), *store.attempts("run-1", of.control())]
    times = [moment for a in made for moment in (a.meta.started_at, a.meta.finished_at) if moment is not None]
    assert len(times) == 4
    assert all(NOON <= moment < NOON + timedelta(hours=1) for moment in times)
