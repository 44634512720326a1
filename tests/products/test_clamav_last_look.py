"""ClamAV's last look: it waits for moves that are still on their way, and says what it could not read back."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.attempt import Kind, MemoryBlobs
from harness.deadline import Deadline
from harness.observation import Unread
from harness.products.api import Tools
from harness.products.clamav.adapter import AWAIT_MOVES, MOVE_PATIENCE_S, ClamAv
from harness.products.clamav.parse import PARSER
from harness.transports.api import CommandResult
from harness.transports.payload import Payload
from tests.builders import EventLog, make_attempt

FOUND = "/home/a b/x.dll: Win.Test.UNOFFICIAL FOUND\n"
MOVED = "/home/a b/x.dll: moved to '/quarantine/x.dll'\n"


def waited_s(log: Path) -> float:
    began = time.monotonic()
    subprocess.run(["/bin/sh", "-c", AWAIT_MOVES, "await-moves", str(log)], check=True, timeout=30)
    return time.monotonic() - began


@pytest.mark.parametrize(
    "ended",
    [
        FOUND + MOVED,
        FOUND + "/home/a b/x.dll (deleted): Win.Test.UNOFFICIAL FOUND\n" + MOVED,
        FOUND + "ERROR: Can't move file '/home/a b/x.dll' to '/quarantine/x.dll'\n",
        "",
    ],
    ids=["moved", "found twice", "could not be moved", "nothing found"],
)
def test_nothing_is_waited_for_when_every_move_has_ended(tmp_path: Path, ended: str) -> None:
    log = tmp_path / "clamonacc.log"
    log.write_text(ended)
    assert waited_s(log) < MOVE_PATIENCE_S


def test_a_move_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "clamonacc.log"
    log.write_text(FOUND)

    def later() -> None:
        with log.open("a") as stream:
            stream.write(MOVED)

    timer = threading.Timer(0.4, later)
    timer.start()
    assert 0.3 < waited_s(log) < MOVE_PATIENCE_S
    timer.join()


class Emptied:
    """A guest in which ClamAV's settings have vanished when they are to be read back."""

    def run(self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b"") -> object:
        return CommandResult(exit_code=0)

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = 0) -> tuple[bytes, bool]:
        raise FileNotFoundError(path)

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        return b'{"tail": [], "list": []}'

    @property
    def admin(self) -> Emptied:
        return self


def test_settings_that_have_vanished_are_said_to_be_unread() -> None:
    log = EventLog()
    log.add(Kind.BEGIN)

    def record(
        kind: Kind, subject: str = "", *, truncated: bool = False, blob: bytes | None = None, **_: object
    ) -> None:
        event = log.add(kind, subject, raw=blob)
        log.events[-1] = event.model_copy(update={"truncated": truncated})

    guest: Any = Emptied()
    tools = Tools(guest=guest, record=record, profile="standard", nonce="abcdef0123456789", known=())
    ClamAv(tools).collect(deadline=Deadline.after(5))
    attempt = replace(make_attempt(raws=()), events=tuple(log.events), blobs=MemoryBlobs(log.blobs))
    assert [o.what for o in PARSER(attempt) if isinstance(o, Unread) and "clamd.conf" in o.what]
