"""A guest's end of its way out on this machine: the real one, over a pair of sockets, and real little servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from harness.deadline import Deadline
from harness.egress import Egress, Pair
from harness.egress_seen import Connection
from harness.transports.socket_stream import SocketStream
from harness.way_out.in_guest import Switch
from harness.way_out.proxy import RecordingProxy

LIMIT_S = 30.0


class Opened:
    """A way out, from both sides. ``ports`` are the guest's listeners: the proxy, then one a pair."""

    def __init__(self, proxy: RecordingProxy, ports: list[int]) -> None:
        self.proxy = proxy
        self.ports = ports

    def connect(self, listener: int = 0) -> socket.socket:
        """Connect as a program in the guest does."""
        return socket.create_connection(("127.0.0.1", self.ports[listener]), LIMIT_S)

    def ask(self, data: bytes, listener: int = 0) -> bytes:
        """Send bytes and give all that comes back until the end."""
        with self.connect(listener) as connected:
            connected.settimeout(LIMIT_S)
            connected.sendall(data)
            return all_of(connected)

    def settled(self, count: int = 1) -> tuple[Connection, ...]:
        """Give the connections once so many are over."""
        for _ in Deadline.after(LIMIT_S).poll(0.01):
            found = self.proxy.connections()
            if len(found) >= count and not self.proxy._channels:
                return found
        raise AssertionError(self.proxy.connections())


@contextmanager
def opened(egress: Egress, *, pairs: Sequence[Pair] = (), **more: Any) -> Iterator[Opened]:
    """Open a way out whose guest is this process."""
    ours, guest = socket.socketpair()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(1 + len(pairs))]
    ports = [listener.getsockname()[1] for listener in listeners]
    switch = threading.Thread(target=_serve, args=(listeners, guest))
    switch.start()
    proxy = RecordingProxy(SocketStream(ours), egress, pairs=pairs, **more)
    try:
        assert proxy.await_ready(Deadline.after(LIMIT_S))
        yield Opened(proxy, ports)
    finally:
        proxy.close()
        switch.join(LIMIT_S)
        guest.close()
        for listener in listeners:
            listener.close()
        assert not switch.is_alive()


def _serve(listeners: list[socket.socket], guest: socket.socket) -> None:
    switch = Switch(listeners, guest.fileno(), guest.fileno())
    with contextlib.suppress(OSError):
        switch.run()
    switch.close()


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve on this machine's loopback, one connection after the other, and give the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                connected, _ = listener.accept()
            except TimeoutError:
                continue
            with connected, contextlib.suppress(OSError):
                connected.settimeout(LIMIT_S)
                talk(connected)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        done.set()
        thread.join(2 * LIMIT_S)
        listener.close()
        assert not thread.is_alive()


def all_of(connected: socket.socket) -> bytes:
    """Read to the end."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connected.recv(65536):
            found += piece
    return bytes(found)


def head_of(connected: socket.socket) -> bytes:
    """Read the head of a request, or what there was of it."""
    head = b""
    while b"\r\n\r\n" not in head and (piece := connected.recv(65536)):
        head += piece
    return head


def echo(connected: socket.socket) -> None:
    """Send back all that comes."""
    while piece := connected.recv(65536):
        connected.sendall(piece)
