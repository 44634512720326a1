"""What every adapter does in the same way: putting a set into the guest, and believing only what it reads back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest

from harness.deadline import Deadline
from harness.errors import ProtectionNotProven
from harness.facts import When
from harness.fake_guest import FakeMachine
from harness.image import Folder
from harness.products.api import Tools
from harness.products.fake import GUARD, FakeProduct
from harness.products.probe import CANARY_PATIENCE_S, push_proven
from harness.systems.fake import FakeSystem
from harness.transports.fake import FakeTransport
from tests.builders import make_image, make_signature
from tests.fake_lab import guarded_machine
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


def test_a_canary_is_waited_for_only_where_a_marker_fired_just_before() -> None:
    """Five folders times three seconds would be spent on a product that is known to be dead."""

    class Noted(FakeSystem):
        patience: ClassVar[list[object]] = []

        def plant(self, nonce: str, items: Sequence[Mapping[str, object]], *, deadline: Deadline) -> bytes:
            self.patience.extend(item["until_denied_s"] for item in items)
            return super().plant(nonce, items, deadline=deadline)

    guest = Noted(make_image(), FakeTransport(guarded_machine("guest")))
    known = (make_signature("a"),)
    product = FakeProduct(
        Tools(guest=guest, record=lambda *a, **k: None, profile="standard", nonce="0" * 12, known=known)
    )
    folders = {Folder.TEMP: guest.image.folders[Folder.TEMP]}
    product.arm(known[0], deadline=Deadline.after(5))
    product.canary(folders, when=When.BEFORE, deadline=Deadline.after(5))
    guest.admin.run([GUARD, "stop"], deadline=Deadline.after(5))
    product.sample(border=0, deadline=Deadline.after(5))
    product.canary(folders, when=When.AFTER, deadline=Deadline.after(5))
    assert [seconds for seconds in Noted.patience if seconds] == [CANARY_PATIENCE_S]
    assert Noted.patience[-1] == 0.0
