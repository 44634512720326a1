"""A way in that is lost and found again is the same for all who keep it."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.fake_guest import FakeMachine
from harness.transports.fake import FakeTransport
from harness.transports.way_in import WayIn


class Counted(FakeTransport):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def soon() -> Deadline:
    return Deadline.after(20)


def test_what_is_reopened_reaches_whoever_answers_then_and_lets_go_of_what_was() -> None:
    made = [Counted(FakeMachine(name)) for name in ("before", "after")]
    connections = iter(made)
    way_in = WayIn(lambda: next(connections))
    way_in.push(b"1", "/f", deadline=soon())
    way_in.reopen(deadline=soon())
    with pytest.raises(FileNotFoundError):
        way_in.pull("/f", deadline=soon())
    assert way_in.run(["/bin/cat"], stdin=b"x", deadline=soon()).stdout == b"x"
    way_in.push(b"2", "/f", deadline=soon())
    assert (made[0].machine.files, made[1].machine.files) == ({"/f": b"1"}, {"/f": b"2"})
    assert [one.closed for one in made] == [1, 0]
    way_in.close()
    assert [one.closed for one in made] == [1, 1]


def test_a_guest_that_nobody_finds_again_is_told() -> None:
    machine = FakeMachine("guest")
    way_in = WayIn(lambda: FakeTransport(machine))
    machine.ended = "it went down"
    with pytest.raises(GuestUnreachable):
        way_in.reopen(deadline=Deadline.after(0.01))


def test_a_guest_whose_way_in_comes_up_late_is_waited_for() -> None:
    machine, asked = FakeMachine("guest"), [0]

    def connect() -> FakeTransport:
        asked[0] += 1
        machine.ended = "not there yet" if asked[0] == 2 else None
        return FakeTransport(machine)

    way_in = WayIn(connect)
    way_in.reopen(deadline=soon())
    assert asked == [3]
    assert way_in.run(["/bin/true"], deadline=soon()).ok
