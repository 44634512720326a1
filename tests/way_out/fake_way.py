"""A way out for simulated guests: the real proxy and the real guest's part, and a guest that answers when asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.deadline import Deadline
from harness.fake_guest import Called, FakeMachine
from harness.providers.api import Endpoint
from harness.providers.fake import FakeProvider
from harness.run_cell import Rig
from harness.transports.api import Transport, Wire
from harness.transports.socket_stream import SocketStream
from harness.way_out.in_guest import Switch
from harness.way_out.open_way import PYTHON
from tests.fake_lab import FakeLab, guarded_machine
from tests.way_out.guest_end import LIMIT_S, all_of

#: What a program in a guest does: it gets a function that sends bytes to a listener and gives what comes back.
Ask = Callable[[bytes, int], bytes]


class FakeWay:
    """Guests with a way out.

    Args:
        during: What happens in a guest between the two proofs.
        said: Changes what a guest says of itself in a proof.
    """

    def __init__(
        self, during: Callable[[Ask], object] = lambda _ask: None, said: dict[str, object] | None = None
    ) -> None:
        self.lab = FakeLab(provider=FakeProvider(self.machine))
        self.argvs: list[Sequence[str]] = []
        self.during = during
        self._said = said or {}
        self._ports: list[int] = []
        self._proofs = 0
        self._open: list[tuple[threading.Thread, socket.socket, list[socket.socket]]] = []

    def rig(self) -> Rig:
        """Give the rig of these guests."""
        return replace(self.lab.rig(), carry=self._carry)

    def end(self) -> None:
        """Wait for the guests' parts, which end with their way out."""
        for thread, guest, listeners in self._open:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), "the way out was not closed"
            for each in (guest, *listeners):
                each.close()

    def cut(self) -> None:
        """End the guest's part, as a product that kills it would."""
        for thread, guest, listeners in self._open:
            guest.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT_S)
            for listener in listeners:
                listener.close()

    def machine(self, name: str) -> FakeMachine:
        """Make a guest that answers the proofs."""
        machine = guarded_machine(name)
        machine.programs |= {PYTHON: self._prove, "/bin/sh": lambda called: called.stdin}
        return machine

    def _ask(self, data: bytes, listener: int = 0) -> bytes:
        with socket.create_connection(("127.0.0.1", self._ports[listener]), LIMIT_S) as connected:
            connected.settimeout(LIMIT_S)
            connected.sendall(data)
            return all_of(connected)

    def _prove(self, called: Called) -> bytes:
        self._proofs += 1
        if self._proofs % 2 == 0:
            self.during(self._ask)
        wanted = called.argv[4]
        try:
            answer = self._ask(f"CONNECT {wanted} HTTP/1.1\r\nHost: {wanted}\r\n\r\n".encode())
        except OSError as error:
            answer = str(error).encode()
        line = answer.split(b"\r\n")[0].decode()
        return json.dumps({"links": ["lo"], "routes": [], "answer": line, **self._said}).encode()

    def _carry(self, endpoint: Endpoint, argv: Sequence[str], *, transport: Transport, deadline: Deadline) -> Wire:
        del endpoint, transport, deadline
        self.argvs.append(argv)
        ours, guest = socket.socketpair()
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in argv[3:]]
        self._ports = [listener.getsockname()[1] for listener in listeners]
        thread = threading.Thread(target=_serve, args=(listeners, guest))
        thread.start()
        self._open.append((thread, guest, listeners))
        return SocketStream(ours)


def _serve(listeners: list[socket.socket], guest: socket.socket) -> None:
    switch = Switch(listeners, guest.fileno(), guest.fileno())
    try:
        switch.run()
    except OSError:
        pass
    finally:
        switch.close()
