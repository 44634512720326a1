"""``reproduce``: a guest is held where a person asked, says how it is reached, and is gone afterwards."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.cli import reproduce as face
from harness.cli.reproduce import Reproduced, in_guest, reproduce
from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, InputError, LabError
from harness.fake_guest import FakeMachine, Mischief
from harness.providers.api import Endpoint
from harness.providers.fake import FakeProvider
from harness.transports.api import CommandResult
from harness.transports.payload import Payload
from tests.fake_lab import CLEAN, FakeLab, cell, guarded_machine, in_every_guest, plan

ASKED = Reproduced(cell="", suite=Path("suite.yaml"), stage="launch", seconds=0.001)


def seen_from_outside(name: str) -> FakeMachine:
    machine = guarded_machine(name)
    machine.screen = lambda _moment: None
    return machine


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeLab]:
    """Give what makes the lab that the command line uses."""

    def made(mischief: Mischief | None = None, machine: Callable[[str], FakeMachine] = seen_from_outside) -> FakeLab:
        lab = FakeLab(in_every_guest(mischief or Mischief()), provider=FakeProvider(machine))
        monkeypatch.setattr(face, "load", lambda _asked: SimpleNamespace(suite=None))
        monkeypatch.setattr(face, "expand", lambda _suite: plan(cell(CLEAN)))
        monkeypatch.setattr(face, "make_rig", lambda _provider, _loaded: lab.rig())
        return lab

    return made


def test_a_held_guest_says_how_it_is_seen_and_reached_and_is_gone_afterwards(
    lab: Callable[..., FakeLab], capsys: pytest.CaptureFixture[str]
) -> None:
    used = lab()
    assert reproduce(replace(ASKED, cell=cell(CLEAN).id, as_json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    (name,) = used.provider.machines
    assert (told["stage"], told["passed"], told["provider"]) == ("launch", True, "fake")
    assert told["vnc"] == {"address": "127.0.0.1:5900", "password": "simulated"}
    assert told["shell"] == ["hts-compat", "in-guest", f"fake:fake:{name}"]
    assert used.provider.running == []


def test_a_provider_without_a_screen_says_so(lab: Callable[..., FakeLab], capsys: pytest.CaptureFixture[str]) -> None:
    lab(machine=guarded_machine)
    assert reproduce(replace(ASKED, cell=cell(CLEAN).id)) == 0
    told = capsys.readouterr().out
    assert "the provider 'fake' shows none" in told
    assert "shell   hts-compat in-guest fake:fake:" in told


def test_a_step_that_fails_before_is_where_it_is_held(
    lab: Callable[..., FakeLab], capsys: pytest.CaptureFixture[str]
) -> None:
    lab(Mischief(dies_at="self_update"))
    assert reproduce(replace(ASKED, cell=cell(CLEAN).id, stage="dwell", as_json=True)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["stage"], told["passed"], told["expectation"]) == ("self_update", False, "alive")


def test_a_stage_that_the_scenario_has_not_is_refused_before_there_is_a_guest(lab: Callable[..., FakeLab]) -> None:
    used = lab()
    with pytest.raises(InputError, match="no stage 'reboot'") as caught:
        reproduce(replace(ASKED, cell=cell(CLEAN).id, stage="reboot"))
    assert "launch" in caught.value.hint
    assert used.guests == 0


def test_a_guest_that_is_lost_before_its_stage_is_the_labs_trouble(lab: Callable[..., FakeLab]) -> None:
    lab(Mischief(lost_at="install"))
    with pytest.raises(LabError, match="did not get as far as 'launch'"):
        reproduce(replace(ASKED, cell=cell(CLEAN).id))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_hold_and_the_guest(
    lab: Callable[..., FakeLab], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    used = lab()
    running: list[int] = []

    def signalled(*_told: object) -> None:
        running.append(len(used.provider.running))
        os.kill(os.getpid(), number)
        for _ in Deadline.after(0.5).poll(0.01):
            pass  # the signal comes here
        running.append(-1)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(face, "_wait", signalled)
    assert reproduce(replace(ASKED, cell=cell(CLEAN).id)) == 0
    assert running == [1]
    assert used.provider.running == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_guest_that_ends_while_it_is_held_is_told(
    lab: Callable[..., FakeLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = lab()
    monkeypatch.setattr(face, "LOOK_EVERY_S", 0.001)

    def tell(*_told: object) -> None:
        (machine,) = used.provider.machines.values()
        machine.ended = "somebody switched it off"

    monkeypatch.setattr(face, "_tell", tell)
    with pytest.raises(LabError, match="could not be held") as caught:
        reproduce(replace(ASKED, cell=cell(CLEAN).id, seconds=30))
    assert "lost while it was held: somebody switched it off" in caught.value.detail
    assert used.provider.running == []


@dataclass
class Answering:
    """A way into a guest that answers as it was told, and keeps what it was asked."""

    result: CommandResult
    asked: list[tuple[tuple[str, ...], str | None]] = field(default_factory=list)
    closed: bool = False

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        del deadline, stdin
        self.asked.append((tuple(argv), user))
        if argv[0] == "sleep":
            raise GuestCommandTimeout("'sleep' did not end in time in the guest.")
        return self.result

    def close(self) -> None:
        self.closed = True


def reached(monkeypatch: pytest.MonkeyPatch, result: CommandResult) -> tuple[Answering, list[Endpoint]]:
    way_in, endpoints = Answering(result), list[Endpoint]()

    def connect(endpoint: Endpoint) -> Answering:
        endpoints.append(endpoint)
        return way_in

    kit = SimpleNamespace(connect=connect)
    monkeypatch.setattr(face, "kit_of", lambda _name: kit)
    return way_in, endpoints


def test_a_command_runs_in_the_guest_as_its_user_and_its_output_cannot_trick_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = CommandResult(exit_code=3, stdout=b"\x1b[2Jout\n", stderr=b"err\n")
    way_in, endpoints = reached(monkeypatch, result)
    assert in_guest("qemu:unix_socket:/run/vm:1/agent", ["ls", "-l"], user="trader", seconds=5) == 3
    assert endpoints == [Endpoint(transport="unix_socket", address="/run/vm:1/agent")]
    assert way_in.asked == [(("ls", "-l"), "trader")]
    told = capsys.readouterr()
    assert "\x1b" not in told.out
    assert told.out.endswith("out\n")
    assert told.err == "err\n"
    assert way_in.closed


def test_root_is_the_administrator_and_lines_are_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    way_in, _ = reached(monkeypatch, CommandResult(exit_code=0))
    monkeypatch.setattr("sys.stdin", io.StringIO("id\n\nwhoami | cat\n"))
    assert in_guest("docker:docker_exec:abc", [], user="root", seconds=5) == 0
    assert way_in.asked == [(("/bin/sh", "-c", "id"), None), (("/bin/sh", "-c", "whoami | cat"), None)]


def test_a_command_that_does_not_end_or_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    reached(monkeypatch, CommandResult(exit_code=None, errno=2))
    assert in_guest("docker:docker_exec:abc", ["sleep", "9"], user="root", seconds=5) == 124
    assert in_guest("docker:docker_exec:abc", ["nothing"], user="root", seconds=5) == 127


@pytest.mark.parametrize("guest", ["", "docker", "docker:docker_exec:", "vmware:x:y"])
def test_what_names_no_guest_is_bad_input(guest: str) -> None:
    with pytest.raises(InputError, match="is no guest"):
        in_guest(guest, ["id"], user="root", seconds=5)
