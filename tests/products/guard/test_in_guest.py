"""The guard's decisions, on files of this machine and without the kernel: a socket stands for the group of events."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.behaviour import Act, Behaviour
from harness.products.guard.in_guest import ANSWER, EVENT, FAN_ALLOW, FAN_DENY, Guard
from harness.products.guard.sets import set_of
from harness.signature import KnownFile, Signature

CONTENT = b"a module"
A_WHILE_S = 0.03


class Rig:
    """A guard over a folder: what is asked of it, and what it wrote."""

    def __init__(self, folder: Path) -> None:
        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.answers, events = (end.fileno() for end in self._ends)
        self.log = folder / "guard.log"
        (folder / "kept").mkdir()
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.guard = Guard(events, log, quarantine=str(folder / "kept"))
        self.file = folder / "module.dll"
        self.file.write_bytes(CONTENT)
        self._log = log

    def does(self, act: Act, **settings: Any) -> None:
        behaviour = Behaviour(does=act, **settings)
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        known = KnownFile(threat="Test.X", sha256=sha256, md5="", size_bytes=len(CONTENT), behaviour=behaviour)
        self.guard.load(json.loads(set_of(Signature(label="s", marker="s", known=(known,)))))

    def ask(self, path: Path | None = None) -> int | None:
        """Open the file as the kernel does for an event; give the answer, None when it is held back."""
        descriptor = os.open(path or self.file, os.O_RDONLY)
        decision = self.guard.decide(descriptor, 4242)
        if decision is not None:
            os.close(descriptor)
        return decision

    def wait(self) -> None:
        time.sleep(A_WHILE_S * 1.5)
        self.guard.do_due()

    def actions(self) -> list[str]:
        return [json.loads(line)["action"] for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        os.close(self._log)
        for end in self._ends:
            end.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def test_a_known_file_is_known_by_its_bytes_alone(rig: Rig, tmp_path: Path) -> None:
    rig.does(Act.DENY)
    (tmp_path / "other.dll").write_bytes(b"A MODULE")
    (tmp_path / "copy.txt").write_bytes(CONTENT)
    assert rig.ask(tmp_path / "other.dll") == FAN_ALLOW
    assert rig.ask(tmp_path / "copy.txt") == FAN_DENY
    assert rig.ask(tmp_path) == FAN_ALLOW


def test_deny_refuses_every_open_and_leaves_the_file(rig: Rig) -> None:
    rig.does(Act.DENY)
    assert [rig.ask(), rig.ask()] == [FAN_DENY, FAN_DENY]
    assert rig.file.read_bytes() == CONTENT
    assert rig.actions() == ["denied", "denied"]


def test_quarantine_takes_the_file_at_its_first_open(rig: Rig) -> None:
    rig.does(Act.QUARANTINE)
    assert rig.ask() == FAN_DENY
    assert not rig.file.exists()
    rig.file.write_bytes(CONTENT)
    assert rig.ask() == FAN_DENY
    assert rig.actions() == ["quarantined", "quarantined"]


def test_a_late_quarantine_lets_the_file_be_opened_until_its_time(rig: Rig) -> None:
    rig.does(Act.QUARANTINE, after_s=A_WHILE_S)
    assert [rig.ask(), rig.ask()] == [FAN_ALLOW, FAN_ALLOW]
    assert rig.file.exists()
    rig.wait()
    assert not rig.file.exists()
    record = json.loads(rig.log.read_text())
    assert (record["action"], record["late"], record["path"]) == ("quarantined", True, str(rig.file))


def test_what_is_put_back_is_there_again_and_left_alone(rig: Rig) -> None:
    rig.does(Act.PUT_BACK, for_s=A_WHILE_S)
    assert rig.ask() == FAN_DENY
    assert not rig.file.exists()
    rig.wait()
    assert rig.file.read_bytes() == CONTENT
    assert rig.ask() == FAN_ALLOW
    assert rig.actions() == ["quarantined", "restored"]


def test_a_lock_is_held_from_the_first_open_and_let_go(rig: Rig) -> None:
    rig.does(Act.LOCK, for_s=A_WHILE_S)
    assert rig.ask() == FAN_DENY
    rig.wait()
    assert rig.ask() == FAN_ALLOW
    assert rig.actions() == ["locked"]


def test_what_is_silent_acts_and_writes_nothing(rig: Rig) -> None:
    rig.does(Act.LOCK, for_s=60, silent=True)
    assert rig.ask() == FAN_DENY
    assert rig.log.read_bytes() == b""


def test_a_hang_answers_when_its_time_has_come(rig: Rig) -> None:
    rig.does(Act.HANG, for_s=A_WHILE_S)
    assert rig.ask() is None
    assert rig.ask() == FAN_ALLOW
    rig.wait()
    assert ANSWER.unpack(os.read(rig.answers, 64))[1] == FAN_ALLOW


def test_a_hang_for_good_is_never_answered(rig: Rig) -> None:
    rig.does(Act.HANG)
    assert rig.ask() is None
    assert rig.guard.wait_s() is None


def test_an_alert_is_raised_once_and_stops_nothing(rig: Rig) -> None:
    rig.does(Act.ALERT)
    assert [rig.ask(), rig.ask()] == [FAN_ALLOW, FAN_ALLOW]
    assert rig.actions() == ["alerted"]


def test_a_file_that_cannot_be_taken_is_told_as_such(rig: Rig) -> None:
    rig.does(Act.QUARANTINE)
    descriptor = os.open(rig.file, os.O_RDONLY)
    rig.file.unlink()
    assert rig.guard.decide(descriptor, 1) == FAN_DENY
    os.close(descriptor)
    assert rig.actions() == ["failed 2"]


LOADER = """
import mmap, sys, time
files = [open(path, "rb") for path in sys.argv[1:]]
kept = [mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) for file in files]
print(flush=True)
time.sleep(50)
"""


def test_a_kill_ends_the_programs_that_have_the_file_loaded_and_names_them(rig: Rig, tmp_path: Path) -> None:
    program = tmp_path / "App.EXE"
    program.write_bytes(b"a program")
    argv = [sys.executable, "-c", LOADER, str(program), str(rig.file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as loaded:
        assert loaded.stdout is not None
        loaded.stdout.readline()
        rig.does(Act.KILL, after_s=A_WHILE_S)
        assert [rig.ask(), rig.ask()] == [FAN_ALLOW, FAN_ALLOW]
        assert loaded.poll() is None
        rig.wait()
        assert loaded.wait(10) == -signal.SIGKILL
    record = json.loads(rig.log.read_text())
    assert (record["action"], record["path"], record["pid"]) == ("killed", str(program), loaded.pid)
    assert record["sha256"] is None, "the digest that is known is the module's"


def test_another_set_forgets_what_was_begun(rig: Rig) -> None:
    rig.does(Act.QUARANTINE, after_s=A_WHILE_S)
    rig.ask()
    rig.does(Act.ALERT)
    rig.wait()
    assert rig.file.exists()


def test_its_own_opens_are_answered_at_once_and_the_others_are_decided(rig: Rig) -> None:
    """Nobody else would answer its own."""
    rig.does(Act.DENY)
    for pid, answer in ((os.getpid(), FAN_ALLOW), (4242, FAN_DENY)):
        descriptor = os.open(rig.file, os.O_RDONLY)
        os.write(rig.answers, EVENT.pack(EVENT.size, 3, 0, EVENT.size, 0, descriptor, pid))
        rig.guard.read_events()
        assert ANSWER.unpack(os.read(rig.answers, 64)) == (descriptor, answer)


def test_what_it_says_of_itself_is_what_its_set_tells_it_to_say(rig: Rig) -> None:
    rig.guard.load(json.loads(set_of(Signature(label="new", marker="new", says="old"))))
    assert rig.guard.status()["definitions"] == "old"
    rig.guard.load(json.loads(set_of(Signature(label="new", marker="new"))))
    assert rig.guard.status()["definitions"] == "new"
    assert "TEST" in rig.guard.status()["product"]
