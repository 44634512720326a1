"""Whoever has waited long enough takes nothing more, however much comes."""

from __future__ import annotations

import socket

import pytest

from harness.deadline import Deadline
from harness.transports.socket_stream import SocketStream


def test_a_guest_that_never_stops_sending_is_left_at_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = SocketStream(ours)
        theirs.sendall(b"more")
        with pytest.raises(TimeoutError):
            stream.receive(patience=Deadline.after(-1.0))
        assert stream.receive(patience=Deadline.after(5.0)) == b"more"
        stream.close()


def test_an_end_is_told_as_one() -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    theirs.close()
    with pytest.raises(EOFError):
        stream.receive(patience=Deadline.after(5.0))
    stream.close()
