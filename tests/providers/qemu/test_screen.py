"""A virtual machine's desktop stands on its display card: its clones show it from outside, and what is drawn there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from harness.deadline import Deadline
from harness.frame import Frame
from harness.image import Image
from harness.providers.api import Lease, ShowsScreen
from harness.providers.qemu.machine import SCREEN
from harness.providers.qemu.provider import QemuProvider
from harness.transports.unix_socket import UnixSocketTransport

pytestmark = pytest.mark.guest

#: A window of one colour over the whole screen, by a program of the user's desktop. ImageMagick is in the guest.
_RED = "display -size 1024x768 -window root xc:red"


@pytest.fixture
def lease(vm_image: Image) -> Iterator[Lease]:
    run = f"screen-{secrets.token_hex(4)}"
    with QemuProvider().lease(vm_image, run_id=run, name="screen", deadline=Deadline.after(120)) as lease:
        yield lease


def seen(lease: Lease) -> Frame:
    assert isinstance(lease, ShowsScreen)
    frame = lease.screen(deadline=Deadline.after(10))
    assert frame is not None
    return frame


def test_a_clone_shows_what_its_user_draws(lease: Lease) -> None:
    before = seen(lease)
    assert (before.width, before.height) == SCREEN
    way_in = UnixSocketTransport(lease.endpoint.address)
    try:
        drawn = way_in.run(["/bin/sh", "-c", _RED], user="trader", deadline=Deadline.after(120))
    finally:
        way_in.close()
    assert drawn.ok, drawn.stderr
    middle = 3 * (1024 * 100 + 100)
    for _ in Deadline.after(20).poll(0.1):
        if seen(lease).pixels[middle : middle + 3] == b"\xff\x00\x00":
            return
    pytest.fail("the screen from outside does not show what was drawn in the guest")
