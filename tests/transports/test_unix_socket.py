"""An agent that answers garbage over its socket is the guest's trouble, told in time, whatever it says."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.transports import agent
from harness.transports.api import OUTPUT_CAP_BYTES
from harness.transports.unix_socket import UnixSocketTransport


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "AGENT_GRACE_S", 0.2)
    monkeypatch.setattr("secrets.randbits", lambda _bits: 0)  # the agents here know one number


Answer = Callable[[socket.socket], object]


@contextmanager
def agent_that(answers: Answer, path: Path) -> Iterator[UnixSocketTransport]:
    """Give the way to an agent that reads one request and answers as it likes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                answers(connection)
                connection.recv(65536)  # until the harness lets go

        guest = threading.Thread(target=serve, daemon=True)
        guest.start()
        way_in = UnixSocketTransport(str(path))
        yield way_in
        way_in.close()
        guest.join(10)
        assert not guest.is_alive(), "the harness still holds the connection"


def frame(*, out: int = 0, err: int = 0, **more: object) -> bytes:
    return json.dumps({"id": 1, "exit": 0, "out": out, "err": err, **more}).encode() + b"\n"


def endlessly(piece: bytes, pause_s: float = 0.0) -> Answer:
    def answer(connection: socket.socket) -> None:
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return answer


def once(answer: bytes) -> Answer:
    return lambda connection: connection.sendall(answer)


def hang_up(connection: socket.socket) -> None:
    connection.sendall(frame(out=10) + b"half")
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "answers",
    [
        once(b"\x00\xff\xfe nonsense\n"),
        once(b"[]\n"),
        once(b'{"id": 2}\n'),
        once(b'{"id": true, "out": 0, "err": 0}\n'),
        once(frame(out=-1)),
        once(frame(out=OUTPUT_CAP_BYTES + 1)),
        once(frame(exit="zero")),
        once(frame(exit=2**70)),
        once(b"x" * 200_000),
        once(b"[" * 60_000 + b"\n"),
        hang_up,
        endlessly(b"no line ends here "),
        endlessly(b"nonsense\n"),
    ],
    ids=[
        "bytes", "a list", "another request's", "true for 1", "a length below zero", "a length beyond the cap",
        "a word for a number", "a number that nothing holds", "a line without its end", "a deep line", "half a frame",
        "a flood without lines", "a flood of lines",
    ],
)  # fmt: skip
def test_what_is_no_answer_is_unreachable_at_once(answers: Answer, tmp_path: Path) -> None:
    with agent_that(answers, tmp_path / "agent") as way_in:
        began = time.monotonic()
        with pytest.raises(GuestUnreachable):
            way_in.run(["/bin/true"], deadline=Deadline.after(20))
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "answers",
    [
        once(b""),
        once(frame(out=10) + b"half"),
        lambda connection: (connection.sendall(frame(out=OUTPUT_CAP_BYTES)), endlessly(b"x", 0.0005)(connection)),
    ],
    ids=["silence", "half a frame", "a frame that trickles"],
)
def test_an_answer_that_never_ends_is_given_up_at_the_deadline(answers: Answer, tmp_path: Path) -> None:
    with agent_that(answers, tmp_path / "agent") as way_in:
        began = time.monotonic()
        with pytest.raises(GuestUnreachable, match="did not answer"):
            way_in.run(["/bin/true"], deadline=Deadline.after(0.1))
        assert time.monotonic() - began < 5


def test_what_comes_unasked_behind_an_answer_ends_the_next_call(tmp_path: Path) -> None:
    with agent_that(once(frame() + b"more\n"), tmp_path / "agent") as way_in:
        assert way_in.run(["/bin/true"], deadline=Deadline.after(20)).ok
        with pytest.raises(GuestUnreachable):
            way_in.run(["/bin/true"], deadline=Deadline.after(20))


def test_the_late_answer_to_a_connection_that_was_given_up_answers_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ask for the first time; a port hands the one's answer to the other."""
    monkeypatch.undo()
    with agent_that(once(frame()), tmp_path / "agent") as way_in, pytest.raises(GuestUnreachable):
        way_in.run(["/bin/true"], deadline=Deadline.after(20))


def test_a_guest_that_stands_still_is_greeted_before_it_is_let_go_on(tmp_path: Path) -> None:
    """It answers only behind both: waiting for its answer first would be for ever."""
    goes_on = threading.Event()

    def answer(connection: socket.socket) -> None:
        assert goes_on.wait(10)
        connection.sendall(frame(out=5) + b"nonce")

    with agent_that(answer, tmp_path / "agent") as way_in:
        told = way_in.greet(clock_s=None, file="/nonce", deadline=Deadline.after(20), sent=goes_on.set)
    assert told.stdout == b"nonce"
