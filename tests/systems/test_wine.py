"""What the wine system makes of its guest's answers, by a way in that follows a script."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, LabError
from harness.fake_guest import FakeMachine
from harness.look import LookError
from harness.systems import wine
from harness.systems.wine import WineSystem
from harness.transports.api import CommandResult
from harness.transports.fake import FakeTransport
from harness.transports.payload import Payload, whole
from tests.builders import make_image

DONE, NO_WINDOW, USAGE, HUNG, KILLED = 0, 3, 2, 6, 124


class Scripted(FakeTransport):
    """Answers each command with the next exit code, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        super().__init__(FakeMachine("guest"))
        self.codes = list(codes)
        self.asked: list[tuple[Sequence[str], bytes]] = []

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        del deadline, user
        self.asked.append((tuple(argv), whole(stdin)))
        return CommandResult(exit_code=self.codes.pop(0) if len(self.codes) > 1 else self.codes[0], stdout=b"{}")


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wine, "BUSY_S", 0.05)
    monkeypatch.setattr(wine, "BUSY_EVERY_S", 0.001)


@pytest.mark.parametrize(("codes", "pressed"), [((DONE,), True), ((NO_WINDOW,), False), ((HUNG, HUNG, DONE), True)])
def test_a_window_that_is_busy_for_a_moment_is_asked_again(codes: tuple[int, ...], pressed: bool) -> None:
    way_in = Scripted(*codes)
    assert WineSystem(make_image(), way_in).click(window="창", button="확인", deadline=soon()) is pressed
    assert len(way_in.asked) == len(codes)


@pytest.mark.parametrize(("code", "error"), [(HUNG, LabError), (USAGE, LabError), (KILLED, GuestCommandTimeout)])
def test_a_helper_that_does_not_do_its_work_is_trouble_and_no_answer(code: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        WineSystem(make_image(), Scripted(code)).close_window(window="창", deadline=soon())


def test_what_is_typed_stands_in_no_command_line() -> None:
    way_in = Scripted(DONE)
    assert WineSystem(make_image(), way_in).fill(window="창", field="암호", value="비밀 1234", deadline=soon())
    ((argv, asked),) = way_in.asked
    assert not any("비밀" in word for word in argv)
    assert json.loads(asked)["stdin"] == "비밀 1234"
    assert "비밀 1234" not in json.loads(asked)["argv"]


class Saying(Scripted):
    """Answers a script with bytes of its own."""

    def __init__(self, said: bytes, code: int = DONE) -> None:
        super().__init__(code)
        self.said = said

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        return replace(super().run(argv, deadline=deadline, user=user, stdin=stdin), stdout=self.said)


def from_disc(way_in: Scripted) -> CommandResult:
    guest = WineSystem(make_image(), way_in)
    return guest.deliver_from_disc(
        r"C:\users\trader\Downloads\데모.exe", size_bytes=7, sha256="5" * 64, deadline=soon()
    )


@pytest.mark.parametrize(
    ("said", "code", "signal"), [({"exit": 0}, 0, None), ({"exit": 2}, 2, None), ({"signal": 9}, None, 9)]
)
def test_a_delivery_from_disc_ends_as_the_program_that_wrote(said: Any, code: int | None, signal: int | None) -> None:
    way_in = Saying(json.dumps({"error": "왜", **said}).encode())
    result = from_disc(way_in)
    assert (result.exit_code, result.signal, result.stderr.decode()) == (code, signal, "왜")
    ((_, asked),) = way_in.asked
    image = make_image()
    path = image.guest_path(r"C:\users\trader\Downloads\데모.exe")
    assert json.loads(asked) == {"path": path, "user": image.user, "size": 7, "sha256": "5" * 64}


@pytest.mark.parametrize("said", [b"", b"{}", b'{"exit": nul', b'{"trouble": "the disc cannot be used"}'])
def test_a_disc_that_could_not_be_read_is_trouble_and_no_failed_delivery(said: bytes) -> None:
    with pytest.raises(LookError):
        from_disc(Saying(said))


def test_a_script_that_fails_is_trouble_and_no_failed_delivery() -> None:
    with pytest.raises(GuestUnreachable):
        from_disc(Saying(b'{"exit": 0}', code=1))
