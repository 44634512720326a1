"""A virtual machine's desktop stands on its display card: its clones show it from outside, and what is drawn there."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

from harness.deadline import Deadline
from harness.frame import Frame
from harness.image import Image
from harness.providers.api import Lease, OpensDesktop, ShowsScreen, TakesInput
from harness.providers.qemu.machine import SCREEN
from harness.providers.qemu.provider import QemuProvider
from harness.transports.api import CommandResult
from harness.transports.unix_socket import UnixSocketTransport

pytestmark = pytest.mark.guest

#: Paints the root window red, as a program of the desktop: XOpenDisplay(3), XSetWindowBackground(3), XClearWindow(3).
_RED = """
from ctypes import CDLL, c_ulong, c_void_p
x = CDLL("libX11.so.6")
x.XOpenDisplay.restype, x.XDefaultRootWindow.restype = c_void_p, c_ulong
display = c_void_p(x.XOpenDisplay(None))
root = c_ulong(x.XDefaultRootWindow(display))
x.XSetWindowBackground(display, root, c_ulong(0xFF0000))
x.XClearWindow(display, root)
x.XCloseDisplay(display)
"""


@pytest.fixture(scope="module")
def lease(vm_image: Image) -> Iterator[Lease]:
    run = f"screen-{secrets.token_hex(4)}"
    with QemuProvider(spares=False).lease(vm_image, run_id=run, name="screen", deadline=Deadline.after(120)) as lease:
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
        drawn = way_in.run(["/usr/bin/python3", "-c", _RED], user="trader", deadline=Deadline.after(120))
    finally:
        way_in.close()
    assert drawn.ok, drawn.stderr
    middle = 3 * (1024 * 100 + 100)
    for _ in Deadline.after(20).poll(0.1):
        if seen(lease).pixels[middle : middle + 3] == b"\xff\x00\x00":
            return
    pytest.fail("the screen from outside does not show what was drawn in the guest")


def test_a_desktop_that_is_opened_is_loopbacks_alone_and_wants_its_password(lease: Lease) -> None:
    assert isinstance(lease, OpensDesktop)
    desktop = lease.open_desktop(deadline=Deadline.after(10))
    host, _, port = desktop.address.partition(":")
    assert host == "127.0.0.1"
    assert listening_at(int(port)) == {"0100007F"}
    assert vnc_result(int(port), desktop.password[::-1]) != 0
    assert vnc_result(int(port), desktop.password) == 0


def listening_at(port: int) -> set[str]:
    """Give the local addresses at which a TCP port is listened to. Source: proc(5), /proc/net/tcp, state 0A."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}


def vnc_result(port: int, password: str) -> int:
    """Log in as a viewer does, and give the server's result; 0 is OK. Source: RFC 6143, 7.1 and 7.2.2."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as viewer, viewer.makefile("rb") as told:
        assert told.read(12) == b"RFB 003.008\n"
        viewer.sendall(b"RFB 003.008\n")
        assert told.read(2) == b"\x01\x02", "VNC authentication is the only way in"
        viewer.sendall(b"\x02")
        # DES with the bits of each byte of the key turned round; three times the same key is DES.
        key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in password.encode().ljust(8, b"\0")[:8])
        encryptor = Cipher(TripleDES(key * 3), ECB()).encryptor()  # noqa: S305 - what VNC does
        viewer.sendall(encryptor.update(told.read(16)) + encryptor.finalize())
        return int.from_bytes(told.read(4), "big")


#: Prints where the pointer is: XQueryPointer(3).
_POINTER = """
from ctypes import CDLL, byref, c_int, c_uint, c_ulong, c_void_p
x = CDLL("libX11.so.6")
x.XOpenDisplay.restype, x.XDefaultRootWindow.restype = c_void_p, c_ulong
display = c_void_p(x.XOpenDisplay(None))
at = [c_ulong(), c_ulong(), c_int(), c_int(), c_int(), c_int(), c_uint()]
x.XQueryPointer(display, c_ulong(x.XDefaultRootWindow(display)), *map(byref, at))
print(at[2].value, at[3].value)
"""

#: Prints the X key code of the first key that goes down: 8 more than the kernel's (XQueryKeymap(3)).
_KEY = """
import time
from ctypes import CDLL, c_void_p, create_string_buffer
x = CDLL("libX11.so.6")
x.XOpenDisplay.restype = c_void_p
display = c_void_p(x.XOpenDisplay(None))
keys = create_string_buffer(32)
for _ in range(3000):
    x.XQueryKeymap(display, keys)
    if any(keys.raw):
        print(next(8 * i + bit for i, byte in enumerate(keys.raw) for bit in range(8) if byte >> bit & 1))
        break
    time.sleep(0.01)
"""


def test_keys_and_clicks_from_outside_arrive_on_the_desktop(lease: Lease) -> None:
    assert isinstance(lease, TakesInput)
    limit = Deadline.after(150)
    lease.click_at(321, 123, deadline=limit)
    way_in = UnixSocketTransport(lease.endpoint.address)
    try:
        pointer = way_in.run(["/usr/bin/python3", "-c", _POINTER], user="trader", deadline=limit)
        at = [int(number) for number in pointer.stdout.split()]
        assert all(abs(seen - wanted) <= 1 for seen, wanted in zip(at, (321, 123), strict=True)), at
        pressed: list[CommandResult] = []

        def watch() -> None:
            pressed.append(way_in.run(["/usr/bin/python3", "-c", _KEY], user="trader", deadline=limit))

        watcher = threading.Thread(target=watch)
        watcher.start()
        while watcher.is_alive() and not limit.expired:
            lease.press("f7", deadline=limit)
        watcher.join()
    finally:
        way_in.close()
    assert pressed[0].stdout == b"73\n", "F7 is 65 in linux/input-event-codes.h"
