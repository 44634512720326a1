"""The window helper of a reference guest (guest/windows.py), run here against helpers that fail in every way."""

from __future__ import annotations

import importlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.rig import ROOT

GUEST = ROOT / "vm_images" / "reference" / "guest"
SECRET = "비밀 번호 1234"  # noqa: S105 - a test's

#: What ``winview serve`` does, in Python; ``how`` is what goes wrong.
HELPER = r"""
import os, sys, time
how = sys.argv[1]
if how == "takes nothing":
    time.sleep(60)
for line in sys.stdin:
    number, *words = line.split()
    text = [bytes.fromhex(w.removeprefix("=")).decode() + ("<" if w[0] == "=" else "") for w in words]
    said = ("[" + ", ".join(text) + "]").encode()
    if how == "dies":
        sys.exit(1)
    if how == "dies in the middle":
        os.write(1, b"%s 0 %d\n[" % (number.encode(), len(said)))
        sys.exit(1)
    if how == "hangs":
        time.sleep(60)
    if how == "hangs at a click" and text == ["click"]:
        time.sleep(60)
    if how == "takes its time":
        time.sleep(0.4)
    if how == "answers nonsense":
        os.write(1, b"x" * 100)
        continue
    if how == "answers another":
        number = "0"
    if how == "answers too much":
        os.write(1, b"%s 0 %d\n" % (number.encode(), 10**12))
        continue
    if how == "answers late":
        os.write(1, b"0 0 0\n")
    for piece in (b"%s 3 %d\n" % (number.encode(), len(said)), said[:5], said[5:]):
        os.write(1, piece)
"""
WRONG = (
    "dies",
    "dies in the middle",
    "hangs",
    "answers nonsense",
    "answers another",
    "answers too much",
    "answers late",
)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the guest's module, which is no part of our package."""
    monkeypatch.syspath_prepend(str(GUEST))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("windows")
    yield module
    for name in ("windows", "desktop_user"):
        sys.modules.pop(name, None)


class Helpers:
    """Starts helpers, and remembers them."""

    def __init__(self, windows: Any, how: str = "") -> None:
        self.how = how
        self.started: list[subprocess.Popen[bytes]] = []
        self.helper = windows.Helper(self._start)
        self.helper.start()

    def _start(self, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", HELPER, self.how]
        self.started.append(subprocess.Popen(argv, stdin=stdin, stdout=stdout))
        return self.started[-1]

    def end(self) -> None:
        """End those that the guest's module may have forgotten, too, and tell whether it has forgotten any."""
        self.helper.end()
        forgotten = [process.pid for process in self.started if process.returncode is None]
        for process in self.started:
            process.kill()
            process.wait()
        assert forgotten == []


@pytest.fixture
def helpers_for(windows: Any) -> Iterator[Callable[..., Helpers]]:
    """Give what makes helpers; none of them outlives the test."""
    with ExitStack() as stack:

        def make(how: str = "") -> Helpers:
            made = Helpers(windows, how)
            stack.callback(made.end)
            return made

        yield make


def test_a_helper_answers_one_request_after_the_other(helpers_for: Callable[..., Helpers]) -> None:
    helpers = helpers_for()
    assert helpers.helper.ask(["list"], "", 10) == (3, b"[list]")
    words = ["fill", "--window", "데모 증권", "--number", "1"]
    assert helpers.helper.ask(words, SECRET, 10) == (3, f"[{', '.join(words)}, {SECRET}<]".encode())
    assert helpers.helper.ask(["list"], "", 10) == (3, b"[list]")
    assert len(helpers.started) == 1


@pytest.mark.parametrize("how", WRONG)
def test_a_helper_that_fails_is_ended_said_to_have_failed_and_started_anew(
    how: str, windows: Any, helpers_for: Callable[..., Helpers]
) -> None:
    helpers = helpers_for(how)
    began = time.monotonic()
    with pytest.raises(windows.HelperError) as caught:
        helpers.helper.ask(["fill"], SECRET, 0.7)
    assert time.monotonic() - began < 5
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert helpers.started[0].returncode is not None
    helpers.how = ""
    helpers.helper.start()
    assert helpers.helper.ask(["list"], "", 10) == (3, b"[list]")


def test_a_helper_that_fails_again_and_again_is_not_started_for_ever(
    windows: Any, helpers_for: Callable[..., Helpers]
) -> None:
    helpers = helpers_for("dies")
    for _ in range(8):
        with pytest.raises(windows.HelperError):
            helpers.helper.ask(["list"], "", 10)
        helpers.helper.start()
    assert len(helpers.started) == windows.MAX_STARTS
    assert helpers.helper.pid is None


def test_a_helper_that_takes_no_request_is_not_waited_for(windows: Any, helpers_for: Callable[..., Helpers]) -> None:
    helpers = helpers_for("takes nothing")
    with pytest.raises(windows.HelperError, match="takes no request"):
        helpers.helper.ask(["x" * 10**6], "", 0.5)


class Session:
    """A session's main loop, with a helper. That loop alone has the helper, as in a guest."""

    def __init__(self, windows: Any, helpers: Helpers, path: Path) -> None:
        self.broker = windows.Broker(helpers.helper, str(path))
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            self.broker.serve(0.02)

    def end(self) -> None:
        self._over = True
        self._thread.join()
        self.broker.close()


@pytest.fixture
def session_with(windows: Any, at: Path, helpers_for: Callable[..., Helpers]) -> Iterator[Callable[..., Session]]:
    """Give what makes sessions at the socket; each has ended when the test has."""
    with ExitStack() as stack:

        def make(how: str = "") -> Session:
            made = Session(windows, helpers_for(how), at)
            stack.callback(made.end)
            return made

        yield make


@pytest.fixture
def at(windows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the socket's path; a fresh program is one that says so."""
    fresh = tmp_path / "wine"
    fresh.write_text('#!/bin/sh\nshift\necho "fresh $*: $(cat)"\n[ "$1" = stays ] && exec sleep 20\nexit 4\n')
    fresh.chmod(0o755)
    monkeypatch.setattr(windows, "SOCKET", str(tmp_path / "socket"))
    monkeypatch.setattr(windows.desktop_user, "WINE", str(fresh))
    monkeypatch.setattr(windows.desktop_user, "environment", lambda: dict(os.environ))
    monkeypatch.setattr(windows.desktop_user, "as_user", lambda _: {})
    return tmp_path / "socket"


def test_the_session_s_helper_is_asked_and_root_alone_can_ask_it(
    windows: Any, at: Path, session_with: Callable[..., Session]
) -> None:
    session_with()
    assert windows.ask(["list"], "", 10) == (3, b"[list]", None)
    assert stat.S_IMODE(at.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("how", WRONG)
def test_whatever_is_wrong_with_the_helper_a_fresh_program_answers_in_time(
    how: str, windows: Any, session_with: Callable[..., Session]
) -> None:
    session_with(how)
    code, output, why = windows.ask(["list"], "text", 3)
    assert (code, output) == (4, b"fresh list: text\n")
    assert why


@pytest.mark.parametrize("how", [how for how in WRONG if how != "hangs"])
@pytest.mark.parametrize("act", ["click", "fill", "close"])
def test_what_a_helper_may_have_done_is_not_done_by_a_fresh_program_again(
    act: str, how: str, windows: Any, session_with: Callable[..., Session]
) -> None:
    session_with(how)
    code, output, why = windows.ask([act, "--window", "창"], SECRET, 60)
    assert (code, output) == (windows.UNSURE, b"")
    assert why
    assert SECRET not in why


def test_a_click_that_hangs_is_late_and_is_not_done_again(windows: Any, session_with: Callable[..., Session]) -> None:
    session_with("hangs at a click")
    assert windows.ask(["list"], "", 60)[0] == 3  # it has started
    assert windows.ask(["click"], "", 2.5) == (None, b"", "it does not answer")


@pytest.mark.parametrize("act", ["click", "list"])
def test_what_a_helper_has_not_taken_from_its_pipe_a_fresh_program_does(
    act: str, windows: Any, session_with: Callable[..., Session]
) -> None:
    session_with("takes nothing")
    assert windows.ask([act, "창"], "text", 3)[:2] == (4, f"fresh {act} 창: text\n".encode())


def test_a_helper_that_has_begun_has_the_time_that_a_fresh_program_would_have_had(
    helpers_for: Callable[..., Helpers], monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = helpers_for("takes its time").helper

    def taken(_end: float) -> bool:
        while helper._unread():
            time.sleep(0.01)
        return False

    monkeypatch.setattr(helper, "_speaks", taken)  # what it says when the first limit is over
    assert helper.ask(["click"], "", 0.2, 60.0) == (3, b"[click]")


@pytest.mark.parametrize(
    "said", [b"", b'{"ex', b'{"exit": 0}\n[]', b'{"exit": 0, "length": 9}\n[half', b'{"exit": 0, "length": 2}\n[]more']
)
@pytest.mark.parametrize("act", ["list", "click"])
def test_an_answer_of_the_session_that_is_not_whole_is_none(act: str, said: bytes, windows: Any, at: Path) -> None:
    """A list is asked for again, by a fresh program; what was done to a window is not done again."""

    def answer() -> None:
        caller, _ = listening.accept()
        with caller, caller.makefile("rb") as asked:
            asked.readline()
            caller.sendall(said)

    with windows.socket.socket(windows.socket.AF_UNIX) as listening:
        listening.bind(str(at))
        listening.listen()
        session = threading.Thread(target=answer)
        session.start()
        code, output, why = windows.ask([act], "", 10)
        session.join()
    assert (code, output) == ((4, b"fresh list: \n") if act == "list" else (windows.UNSURE, b""))
    assert why


def test_a_session_s_answer_of_any_length_is_whole(windows: Any, session_with: Callable[..., Session]) -> None:
    session_with()
    words = "x" * 100_000
    assert windows.ask(["list", words], "", 20) == (3, f"[list, {words}]".encode(), None)


def test_without_a_session_a_fresh_program_answers(windows: Any, at: Path) -> None:
    assert windows.ask(["list"], "", 10) == (4, b"fresh list: \n", "FileNotFoundError")
    assert not at.exists()


def test_a_caller_that_talks_nonsense_costs_the_session_nothing(
    windows: Any, at: Path, session_with: Callable[..., Session]
) -> None:
    session_with()
    for words in (b"", b"no json\n", b"[]\n", b'{"argv": 1}\n', b'{"argv": ["list"], "stdin": 3, "limit_s": "x"}\n'):
        with windows.socket.socket(windows.socket.AF_UNIX) as caller:
            caller.connect(str(at))
            caller.sendall(words)
    assert windows.ask(["list"], "", 10)[:2] == (3, b"[list]")


def test_a_desktop_that_does_not_answer_has_no_exit_code_and_is_killed_in_time(windows: Any, at: Path) -> None:
    del at
    began = time.monotonic()
    assert windows.ask(["stays"], "", 0.6)[:2] == (None, b"fresh stays: \n")
    assert time.monotonic() - began < 5


def test_the_script_answers_with_winview_s_output_and_exit_code() -> None:
    request = json.dumps({"argv": ["list"], "limit_s": 5}).encode()
    done = subprocess.run(
        [sys.executable, "-B", str(GUEST / "windows.py")], input=request, capture_output=True, check=False, timeout=20
    )
    assert done.returncode != 0  # there is no guest here, and no answer that could be taken for one
    assert done.stdout == b""
