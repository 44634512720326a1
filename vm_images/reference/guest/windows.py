#!/usr/bin/python3
"""Look at and press the windows of the desktop, through the resident winview.exe or, where that fails, a fresh one.

Starting a Windows program for each look costs tenths of a second, and seconds in a virtual machine that has to be
emulated. So the session keeps one ``winview serve`` (a ``Helper``) and answers at ``SOCKET``, which is root's alone.
The helper is the desktop user's process: what is tested there can kill it, stop it or answer in its place, as it can
do to a fresh one. Whatever is wrong with it, it is ended, started anew a few times, and a fresh program is asked.

What is done to a window is never done twice (a second click may press what the first one has opened). A fresh program
does it only when the helper has not taken the request from its pipe; else nobody can tell whether it was done.

One JSON request on stdin: ``{"argv": ["click", "--window", ...], "stdin": "text", "limit_s": 10}``. Standard output
and exit code are winview's; killed at the limit, the exit code is 124, as timeout(1) has it; 125 when it may or may not
have been done.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import desktop_user

SOCKET = f"{desktop_user.RUN_FOLDER}/windows.socket"
WINVIEW = f"{desktop_user.TOOLS}/winview.exe"
#: More than winview can ever write about 64 windows of 128 children.
MAX_ANSWER = 64 * 1024**2
#: So much of a caller's time the helper may take; the rest is a fresh program's.
HELPERS_SHARE = 0.5
MAX_STARTS = 4
KILLED, UNSURE = 124, 125
#: What may be done a second time: it changes nothing.
AGAIN = frozenset({"list"})

Json = dict[str, Any]
Process = subprocess.Popen[bytes]


class HelperError(Exception):
    """The helper has gone, does not answer, or answers nonsense; the text says which.

    ``taken``: it may have done what it was asked for. ``late``: it had not answered when the time was over.
    """

    taken = False
    late = False


class Unanswered(NamedTuple):
    """Why the session's helper gave no answer; else as ``HelperError``."""

    why: str
    taken: bool = False
    late: bool = False


class Helper:
    """The resident ``winview serve``, asked over pipes that nobody else has.

    Args:
        start: Starts it with these two descriptors as standard input and output.
    """

    def __init__(self, start: Callable[[int, int], Process]) -> None:
        self._start = start
        self._starts = 0
        self._number = 0
        self._process: Process | None = None
        self._requests = self._answers = -1
        self._pending = b""

    @property
    def pid(self) -> int | None:
        """Give its process, None when there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it, unless it runs or was started too often."""
        if self._process is not None and self._process.poll() is None:
            return
        self.end()
        if self._starts == MAX_STARTS:
            return
        self._starts += 1
        its_input, self._requests = os.pipe()
        self._answers, its_output = os.pipe()
        os.set_blocking(self._requests, False)
        self._process = self._start(its_input, its_output)
        os.close(its_input)
        os.close(its_output)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> None:
        """End it and forget what it said."""
        if self._process is None:
            return
        self._stop()
        os.close(self._requests)
        os.close(self._answers)
        self._process, self._pending = None, b""

    def ask(self, argv: list[str], stdin: str, limit_s: float, last_s: float | None = None) -> tuple[int, bytes]:
        """Give exit code and output of one command of winview.

        Args:
            argv: The command.
            stdin: What it reads.
            limit_s: How long it may take, so that a fresh program has time behind it.
            last_s: How long it may take where none can be asked, as the helper has begun.

        Raises:
            HelperError: There is no answer that can be used. The helper has been ended.
        """
        if self._process is None:
            message = "it does not run"
            raise HelperError(message)
        began = time.monotonic()
        end = began + limit_s
        self._number += 1
        words = [word.encode("utf-8").hex() for word in argv]
        if stdin:
            words.append("=" + stdin.encode("utf-8").hex())
        request = f"{self._number} {' '.join(words)}\n".encode("ascii")
        sent = False
        try:
            self._send(request, end)
            sent = True
            if argv[0] not in AGAIN and not self._speaks(end) and self._unread() < len(request):
                end = began + (last_s or limit_s)
            code, length = self._head(end)
            return code, self._take(length, end)
        except (OSError, ValueError, HelperError) as problem:
            known = problem if isinstance(problem, HelperError) else HelperError(type(problem).__name__)
            self._stop()
            known.taken = sent and self._unread() < len(request)
            self.end()
            raise known from None  # the request may hold a secret

    def _send(self, request: bytes, end: float) -> None:
        rest = memoryview(request)
        while rest:
            if not select.select([], [self._requests], [], max(0.0, end - time.monotonic()))[1]:
                message = "it takes no request"
                raise HelperError(message)
            rest = rest[os.write(self._requests, rest) :]

    def _speaks(self, end: float) -> bool:
        return bool(self._pending or select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0])

    def _unread(self) -> int:
        """Give how many bytes of what was sent still lie in the pipe; also when nobody reads it any more (pipe(7))."""
        return int(struct.unpack("i", fcntl.ioctl(self._requests, termios.FIONREAD, bytes(4)))[0])

    def _head(self, end: float) -> tuple[int, int]:
        while b"\n" not in self._pending:
            if len(self._pending) > 64:
                message = "its answer has no head"
                raise HelperError(message)
            self._receive(end)
        head, _, self._pending = self._pending.partition(b"\n")
        number, code, length = (int(word) for word in head.split(b" "))
        if number != self._number or not 0 <= code < 256 or not 0 <= length <= MAX_ANSWER:
            message = "its answer is to another question"
            raise HelperError(message)
        return code, length

    def _take(self, length: int, end: float) -> bytes:
        pieces, missing = [self._pending], length - len(self._pending)
        while missing > 0:
            self._pending = b""
            self._receive(end)
            pieces.append(self._pending)
            missing -= len(self._pending)
        data = b"".join(pieces)
        self._pending = data[length:]
        return data[:length]

    def _receive(self, end: float) -> None:
        if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
            message = "it does not answer"
            problem = HelperError(message)
            problem.late = True
            raise problem
        piece = os.read(self._answers, 1024**2)
        if not piece:
            message = "it has gone"
            raise HelperError(message)
        self._pending += piece


class Broker:
    """Answers at a socket, with what a helper says; for the session's main loop."""

    def __init__(self, helper: Helper, path: str = SOCKET) -> None:
        self.helper = helper
        if os.path.lexists(path):
            os.unlink(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o077)
        try:
            self._socket.bind(path)
        finally:
            os.umask(mask)
        self._socket.listen(64)

    def serve(self, limit_s: float) -> None:
        """Answer one caller if one comes within the limit, then see that the helper runs."""
        if select.select([self._socket], [], [], limit_s)[0]:
            caller, _ = self._socket.accept()
            # A caller that has gone, or talks nonsense, finds no answer here.
            with caller, contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                self._answer(caller)
        self.helper.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._socket.close()
        self.helper.end()

    def _answer(self, caller: socket.socket) -> None:
        caller.settimeout(5.0)
        with caller.makefile("rb") as stream:
            request = json.loads(stream.readline(256 * 1024))
        try:
            code, output = self.helper.ask(
                request["argv"], request["stdin"], request["limit_s"], float(request["last_s"])
            )
        except HelperError as problem:
            trouble = {"trouble": str(problem), "taken": problem.taken, "late": problem.late}
            caller.sendall(json.dumps(trouble).encode("ascii") + b"\n")
            return
        # Without its length an answer that is cut would look like a whole one.
        caller.sendall(json.dumps({"exit": code, "length": len(output)}).encode("ascii") + b"\n" + output)


def ask_resident(argv: list[str], stdin: str, limit_s: float, last_s: float) -> tuple[int, bytes] | Unanswered:
    """Ask the session's helper; give exit code and output, or why there is none. Limits as for ``Helper.ask``."""
    request = {"argv": argv, "stdin": stdin, "limit_s": limit_s, "last_s": last_s}
    sent = False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as session:
            session.settimeout(last_s + 1.0)
            session.connect(SOCKET)
            session.sendall(json.dumps(request).encode("ascii") + b"\n")
            sent = True
            with session.makefile("rb") as stream:
                head = json.loads(stream.readline(4096))
                if "exit" not in head:
                    return Unanswered(str(head["trouble"]), head["taken"] is True, head["late"] is True)
                output = stream.read()
        if len(output) != int(head["length"]):
            return Unanswered("its answer is cut", taken=True)
        return int(head["exit"]), output
    except (OSError, ValueError, LookupError, TypeError) as problem:
        return Unanswered(type(problem).__name__, taken=sent, late=isinstance(problem, TimeoutError))


def ask_fresh(argv: list[str], stdin: str, limit_s: float) -> tuple[int | None, bytes]:
    """Start winview.exe as the desktop user; give exit code (None: killed at the limit) and output."""
    process = subprocess.Popen(
        [desktop_user.WINE, WINVIEW, *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=desktop_user.environment(),
        **desktop_user.as_user(desktop_user.USER),
        start_new_session=True,
    )
    try:
        output, _none = process.communicate(stdin.encode("utf-8"), timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _none = process.communicate()
        return None, output
    return process.returncode, output


def ask(argv: list[str], stdin: str, limit_s: float) -> tuple[int | None, bytes, str | None]:
    """Run one command of winview; give exit code (None: killed at the limit), output, and why no helper answered."""
    end = time.monotonic() + limit_s
    answer = ask_resident(argv, stdin, limit_s * HELPERS_SHARE, limit_s)
    if not isinstance(answer, Unanswered):
        return (*answer, None)
    if answer.taken and argv[0] not in AGAIN:
        return None if answer.late else UNSURE, b"", answer.why
    return (*ask_fresh(argv, stdin, max(0.1, end - time.monotonic())), answer.why)


def main() -> None:
    """Answer the one request on stdin."""
    request = json.loads(sys.stdin.buffer.read())
    code, output, why = ask(request["argv"], request.get("stdin", ""), float(request.get("limit_s", 10.0)))
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
    if code == UNSURE:
        sys.stderr.write(f"the resident window helper failed and may have done it: {why}\n")
    sys.exit(KILLED if code is None else code)


if __name__ == "__main__":
    main()
