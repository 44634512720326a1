"""What every adapter does in the same way: putting a set into the guest, and believing only what it reads back."""

from __future__ import annotations

import pytest

from harness.deadline import Deadline
from harness.errors import ProtectionNotProven
from harness.fake_guest import FakeMachine
from harness.products.probe import push_proven
from harness.transports.fake import FakeTransport
from tests.faults.clock import simulated
from tests.faults.wrap import Fault, Injection, Injector, Seam, faulty


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.CORRUPT])
def test_a_set_that_does_not_arrive_whole_is_no_protection(fault: Fault) -> None:
    """A marker proves which set is loaded, and says nothing about the lines behind it."""
    with simulated() as clock:
        injector = Injector((Injection(seam=Seam.TRANSPORT, fault=fault, at=1, where=0.9),), clock)
        way_in = faulty(FakeTransport(FakeMachine("guest")), Seam.TRANSPORT, injector)
        with pytest.raises(ProtectionNotProven, match="did not arrive whole"):
            push_proven(way_in, b"marker\nknown module\n", "/db", deadline=Deadline.after(5))
        push_proven(way_in, b"marker\nknown module\n", "/db", deadline=Deadline.after(5))
