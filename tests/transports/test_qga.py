"""The guest agent's transport against an agent that lies, stalls or never stops, and against the real one."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.transports import qga
from harness.transports.qga import QgaTransport
from harness.transports.qga_messages import MAX_ANSWER_BYTES
from tests.transports import real_ways

MARK = "nobody-reads-this"


class Agent:
    """An agent on a Unix socket that runs nothing, and answers as it is told.

    Attributes:
        answers: By function: what to send for a call; by default what an honest agent sends.
        calls: Every call, in order.
    """

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, Callable[[dict[str, Any]], bytes | Iterator[bytes]]] = {}
        self.calls: list[dict[str, Any]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                try:
                    for line in lines:
                        self._answer(connection, json.loads(line.lstrip(b"\xff")))
                except OSError:
                    continue

    def _answer(self, connection: socket.socket, call: dict[str, Any]) -> None:
        self.calls.append(call)
        said = self.answers.get(call["execute"], honest)(call)
        for piece in (said,) if isinstance(said, bytes) else said:
            connection.sendall(piece)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def line(call: dict[str, Any], returned: object) -> bytes:
    return json.dumps({"return": returned, "id": call["id"]}).encode() + b"\n"


def honest(call: dict[str, Any]) -> bytes:
    """Answer as qemu-ga does, whose every program is guest/once.py and ends at once with 0."""
    if call["execute"] == "guest-sync-delimited":
        return b"\xff" + line(call, call["arguments"]["id"])
    if call["execute"] == "guest-exec":
        return line(call, {"pid": 4242})
    head = base64.b64encode(b'\n{"id": 1, "exit": 0}\n').decode()
    return line(call, {"exited": True, "exitcode": 0, "err-data": head})


@pytest.fixture
def agent() -> Iterator[Agent]:
    with real_ways.folder() as where:
        made = Agent(where / "s")
        made.path = where / "s"  # type: ignore[attr-defined]
        yield made
        made.close()


@pytest.fixture
def transport(agent: Agent) -> Iterator[QgaTransport]:
    made = QgaTransport(str(agent.path))  # type: ignore[attr-defined]
    yield made
    made.close()


def run(transport: QgaTransport, seconds: float = 5.0, *, stdin: bytes = b"") -> int | None:
    transport._number = 0  # the agent above knows one number
    return transport.run(["/bin/true"], deadline=Deadline.after(seconds), stdin=stdin).exit_code


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the guest no time beyond the deadline, so that a test need not wait for it."""
    monkeypatch.setattr(qga, "AGENT_GRACE_S", 0.0)


def test_both_sides_find_each_other_once_and_then_every_call_has_its_answer(
    agent: Agent, transport: QgaTransport
) -> None:
    assert [run(transport), run(transport)] == [0, 0]
    asked = [call["execute"] for call in agent.calls]
    assert asked == ["guest-sync-delimited", *["guest-exec", "guest-exec-status"] * 2]


@pytest.mark.usefixtures("no_grace")
def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one(agent: Agent, transport: QgaTransport) -> None:
    late: list[bytes] = []

    def keep(call: dict[str, Any]) -> bytes:
        late.append(honest(call))
        return b""

    agent.answers["guest-exec-status"] = keep
    with pytest.raises(GuestUnreachable, match="did not answer while '/bin/true' ran"):
        run(transport, 0.05)
    del agent.answers["guest-exec-status"]
    agent.answers["guest-sync-delimited"] = lambda call: late.pop() + honest(call)
    assert run(transport) == 0
    assert [call["execute"] for call in agent.calls].count("guest-sync-delimited") == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda call: b"\x00\xff{]\n",
        lambda call: line({"id": call["id"] - 1}, {"pid": 1}),
        lambda call: line(call, {"pid": "1"}),
        lambda call: line(call, {"exited": True, "exitcode": 0, "out-data": "*"}),
        lambda call: json.dumps({"error": {"desc": "not here"}, "id": call["id"]}).encode() + b"\n",
        lambda call: line(call, {}) + line(call, {}),
    ],
    ids=["garbage", "wrong id", "no process", "no base64", "an error", "two answers"],
)
@pytest.mark.parametrize("at", ["guest-exec", "guest-exec-status"])
def test_nonsense_is_the_guest_s_and_the_next_call_begins_anew(
    at: str, nonsense: Callable[[dict[str, Any]], bytes], agent: Agent, transport: QgaTransport
) -> None:
    agent.answers[at] = nonsense
    with pytest.raises(GuestUnreachable):
        run(transport)
    agent.answers.clear()
    assert run(transport) == 0


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("call", ["guest-sync-delimited", "guest-exec", "guest-exec-status"])
def test_an_agent_that_never_stops_talking_is_left_at_the_deadline(
    call: str, agent: Agent, transport: QgaTransport
) -> None:
    agent.answers[call] = lambda _: repeat(bytes(64 * 1024))
    begun = time.monotonic()
    with pytest.raises(GuestUnreachable):
        run(transport, 0.3)
    assert time.monotonic() - begun < 3
    assert len(transport._agent._answers._buffer) <= MAX_ANSWER_BYTES + 1024**2


def test_an_agent_that_hangs_up_leaves_a_guest_that_is_gone(agent: Agent, transport: QgaTransport) -> None:
    def hang_up(_: dict[str, Any]) -> bytes:
        raise OSError

    agent.answers["guest-exec"] = hang_up
    with pytest.raises(GuestUnreachable, match="The guest is gone"):
        run(transport)
    with pytest.raises(GuestUnreachable):
        run(transport)


def test_a_program_that_runs_is_not_asked_for_all_the_time(agent: Agent, transport: QgaTransport) -> None:
    end = time.monotonic() + 0.4
    agent.answers["guest-exec-status"] = lambda call: (
        honest(call) if time.monotonic() > end else line(call, {"exited": False})
    )
    assert run(transport) == 0
    assert 4 < len(agent.calls) < 40


def test_nothing_of_a_program_or_its_input_stands_in_a_command_line_or_an_error(
    agent: Agent, transport: QgaTransport
) -> None:
    agent.answers["guest-exec-status"] = lambda call: line(call, {"exited": True, "exitcode": 1, "err-data": ""})
    with pytest.raises(GuestUnreachable) as told:
        run(transport, stdin=MARK.encode())
    started = next(call["arguments"] for call in agent.calls if call["execute"] == "guest-exec")
    assert MARK in base64.b64decode(started["input-data"]).decode()
    assert (started["path"], *started["arg"]) == qga.HELPER
    assert MARK not in f"{told.value!r} {told.value.detail} {told.value.hint}"


def test_nobody_there_is_a_guest_that_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(GuestUnreachable):
        QgaTransport(str(tmp_path / "nothing"))


# --- the real one -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_agent() -> Iterator[Path]:
    with real_ways.guest_agent() as path:
        yield path


def real_transport(path: Path) -> QgaTransport:
    return QgaTransport(str(path), helper=real_ways.helper())


def test_half_a_call_of_whoever_was_connected_before_disturbs_nobody(real_agent: Path) -> None:
    with socket.socket(socket.AF_UNIX) as before:
        before.connect(str(real_agent))
        before.sendall(b'{"execute": "guest-exec", "arguments": {"path": "/bin/')
    transport = real_transport(real_agent)
    assert transport.run(["/bin/true"], deadline=Deadline.after(10)).ok
    transport.close()


@pytest.mark.parametrize("junk", [b"\x00{]}\n", b'{"execute": "guest-e', b'{"execute": "nothing"}\n' * 50])
def test_after_junk_on_our_own_line_the_real_agent_is_found_again(real_agent: Path, junk: bytes) -> None:
    transport = real_transport(real_agent)
    assert transport.run(["/bin/true"], deadline=Deadline.after(10)).ok
    transport._agent._stream.send(junk, patience=Deadline.after(5))
    transport._agent.out_of_step()
    assert transport.run(["/bin/echo", "here"], deadline=Deadline.after(10)).stdout == b"here\n"
    transport.close()


def test_a_program_and_its_input_are_in_no_process_list(real_agent: Path) -> None:
    transport = real_transport(real_agent)
    script = "cat > /dev/null; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    listed = transport.run(["/bin/sh", "-c", script], stdin=MARK.encode(), deadline=Deadline.after(10)).stdout
    transport.close()
    assert b"once.py" in listed
    assert MARK.encode() not in listed


def test_a_pipe_that_carried_an_input_is_gone_also_when_nobody_read_it(real_agent: Path) -> None:
    with real_ways.folder() as pipes:
        transport = QgaTransport(str(real_agent), helper=real_ways.helper(), pipes=str(pipes))
        large = bytes(qga.INLINE_BYTES * 2 + 1)
        assert transport.run(["/usr/bin/wc", "-c"], stdin=large, deadline=Deadline.after(20)).stdout == b"2097153\n"
        assert transport.run(["/bin/true"], stdin=large, deadline=Deadline.after(20)).ok
        transport.close()
        assert list(pipes.iterdir()) == []
