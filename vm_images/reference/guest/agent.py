#!/usr/bin/python3
"""Run programs in this guest for the harness, one after the other, over one pair of pipes.

One resident agent instead of one ``docker exec`` a command: a command then costs what the program costs.

Frames, both ways: one line of JSON, then the raw bytes that the line announces.
  request  {"id": N, "argv": [...], "user": NAME|null, "timeout_s": S, "cap": BYTES, "stdin": LENGTH}
           + LENGTH bytes of standard input
  greeting greet N SECONDS|- BYTES PATH
           starts no program: sets the clock (seconds since 1970), and gives so many bytes of the file as the
           reply's first output. No JSON: it is a clone's first request, and a clone has to translate all that it needs
  reply    {"id": N, "exit": CODE|null, "signal": N|null, "timed_out": bool, "errno": N|null, "duration_s": S,
            "out": LENGTH, "err": LENGTH, "out_cut": bool, "err_cut": bool}
           + bytes of both outputs, in this order

A program runs in a session of its own; at its timeout the whole session's process group is killed. Output beyond
``cap`` is read and dropped, so that a program that floods neither blocks nor fills memory. The end of the input ends
the agent.

A guest script of ours (``SCRIPTS``) runs in a copy of the agent (fork) instead of a new Python: that is the larger part
of what such a script costs, and seconds of each step in a virtual machine without hardware acceleration.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, BinaryIO

import desktop_user

Json = dict[str, Any]
CHUNK = 256 * 1024
#: What is read of a program at once: as much as a pipe holds, and so little that it needs no memory map of its own.
PIECE = 64 * 1024
GREETING = b"greet "
PYTHON = "/usr/bin/python3"
HERE = os.path.dirname(os.path.abspath(__file__))
#: Modules beside this one, each with a ``main`` that answers one request on stdin and keeps nothing for the next.
SCRIPTS = frozenset({"desktop", "from_disc", "inspect_files", "observe", "plant", "screen", "windows"})


class Input:
    """A request's input, taken from the harness only as fast as the program takes it: it is never here whole."""

    def __init__(self, requests: BinaryIO, length: int) -> None:
        self._requests = requests
        self._left = length

    def piece(self) -> bytes:
        """Give the next bytes, waiting for them; none at the end, or when the harness has gone.

        A virtio port gives 4 KiB at a time. Handed on one by one, each would be a switch to the program and back, which
        costs an emulated machine of one processor a millisecond.
        """
        data = self._requests.read(min(self._left, PIECE)) if self._left else b""
        self._left = self._left - len(data) if data else 0
        return data

    def skip(self) -> None:
        """Read what the program did not take, so that the next request is found."""
        while self.piece():
            pass


def load_scripts() -> None:
    """Have every script of ours ready; otherwise each is read when it is first asked for."""
    for name in sorted(SCRIPTS):
        importlib.import_module(name)
    gc.freeze()  # a copy's collector then leaves these pages shared


class Forked:
    """A guest script in a copy of this process; it offers what is used here of ``subprocess.Popen``."""

    def __init__(self, name: str, user: str | None, environment: dict[str, str]) -> None:
        try:
            module = importlib.import_module(name)  # here, not in the copy: the next one finds it
        except Exception as problem:
            message = f"{name} cannot be loaded: {problem}"
            raise ImportError(message) from problem
        self.returncode: int | None = None
        its_input, to_it = os.pipe()
        from_it, its_output = os.pipe()
        errors_from_it, its_errors = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            run_in_copy(module.main, user, environment, (its_input, its_output, its_errors))
        for descriptor in (its_input, its_output, its_errors):
            os.close(descriptor)
        self.stdin: IO[bytes] = os.fdopen(to_it, "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(from_it, "rb", buffering=0)
        self.stderr: IO[bytes] = os.fdopen(errors_from_it, "rb", buffering=0)

    def poll(self) -> int | None:
        """Give the exit code, None while it runs."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; ``subprocess.TimeoutExpired`` when that does not come in time."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("script", timeout or 0.0)
            time.sleep(0.0005)
        return code


def run_in_copy(main: Any, user: str | None, environment: dict[str, str], streams: tuple[int, int, int]) -> None:
    """Be the script: what a new process would have, and nothing of the agent's. Never returns."""
    code = 1
    try:
        os.setsid()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 65536)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir("/")
        if user is not None:
            desktop_user.become_user(user)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def start(argv: list[str], user: str | None, environment: dict[str, str]) -> "Forked | subprocess.Popen[bytes]":
    """Start a program: a script of ours in a copy of the agent, all else as it is asked for."""
    folder, _, script = argv[1].rpartition("/") if len(argv) == 2 and argv[0] == PYTHON else ("", "", "")
    if folder == HERE and script.removesuffix(".py") in SCRIPTS:
        return Forked(script.removesuffix(".py"), user, environment)
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # they are read and written by their descriptors
        start_new_session=True,
        env=environment,
        cwd="/",
        preexec_fn=None if user is None else lambda: desktop_user.become_user(user),  # noqa: PLW1509 (no threads)
    )


def pump(
    process: "Forked | subprocess.Popen[bytes]", stdin: Input, end: float, cap: int
) -> tuple[bytes, bytes, bool, bool, bool]:
    """Feed and drain a program until it closes its output or the time is over; give outputs, cuts and the timeout."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    kept: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    cut = {process.stdout: False, process.stderr: False}
    rest = memoryview(stdin.piece())
    with selectors.PollSelector() as selector:  # the kernel's part of it has run before, in a clone too
        for stream in kept:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        if rest:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            process.stdin.close()
        ended_at: float | None = None
        while selector.get_map():
            now = time.monotonic()
            if now >= end:
                return bytes(kept[process.stdout]), bytes(kept[process.stderr]), *cut.values(), True
            # A program that has ended may have left children that hold its pipes; they do not keep the reply waiting.
            if process.poll() is not None:
                ended_at = ended_at or now
                if now - ended_at > 0.2:
                    break
            for key, _ in selector.select(min(0.05, end - now)):
                if key.fileobj is process.stdin:
                    try:
                        rest = rest[os.write(process.stdin.fileno(), rest) :]
                        rest = rest or memoryview(stdin.piece())
                    except BrokenPipeError:
                        rest = rest[len(rest) :]
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                stream: IO[bytes] = key.fileobj  # type: ignore[assignment]
                piece = os.read(stream.fileno(), PIECE)
                if not piece:
                    selector.unregister(stream)
                    continue
                room = cap - len(kept[stream])
                kept[stream] += piece[: max(room, 0)]
                cut[stream] = cut[stream] or len(piece) > room
    return bytes(kept[process.stdout]), bytes(kept[process.stderr]), *cut.values(), False


def run(request: Json, stdin: Input) -> tuple[Json, bytes, bytes]:
    """Run one program; whatever goes wrong is in the reply."""
    began = time.monotonic()
    end = began + float(request["timeout_s"])
    reply: Json = {"id": request["id"], "exit": None, "signal": None, "timed_out": False, "errno": None}
    user = request.get("user")
    environment = dict(os.environ) if user is None else desktop_user.environment(user)
    try:
        process = start(request["argv"], user, environment)
    except (OSError, ImportError, subprocess.SubprocessError) as problem:
        reply |= {"errno": getattr(problem, "errno", None) or 1, "duration_s": 0.0}
        return reply, b"", str(problem).encode()
    out, err, out_cut, err_cut, timed_out = pump(process, stdin, end, int(request["cap"]))
    if not timed_out:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
    if timed_out:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    code = process.returncode
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    reply |= {
        "exit": code if code >= 0 and not timed_out else None,
        "signal": -code if code < 0 else None,
        "timed_out": timed_out,
        "out_cut": out_cut,
        "err_cut": err_cut,
        "duration_s": round(time.monotonic() - began, 4),
    }
    return reply, out, err


def greet(line: bytes) -> bytes:
    """Do what is wanted of a clone first, without a program; give the whole reply."""
    _, number, clock, cap, path = line.rstrip(b"\n").split(b" ", 4)
    try:
        if clock != b"-":
            time.clock_settime(time.CLOCK_REALTIME, float(clock))
        descriptor = os.open(path, os.O_RDONLY)
        try:
            content = os.read(descriptor, int(cap))
        finally:
            os.close(descriptor)
    except OSError as problem:
        said = str(problem).encode()
        reply = {"id": int(number), "exit": None, "errno": problem.errno or 1, "out": 0, "err": len(said)}
        return json.dumps(reply).encode() + b"\n" + said
    return b'{"id": %d, "exit": 0, "out": %d, "err": 0}\n' % (int(number), len(content)) + content


def serve(
    requests: BinaryIO,
    replies: BinaryIO,
    *,
    at_work: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """Answer requests until the input ends; a program runs within ``at_work``."""
    while line := requests.readline(1024 * 1024):
        if line.startswith(GREETING):
            replies.write(greet(line))
            replies.flush()
            continue
        request = json.loads(line)
        stdin = Input(requests, int(request.get("stdin", 0)))
        with at_work():
            reply, out, err = run(request, stdin)
            stdin.skip()
        reply |= {"out": len(out), "err": len(err)}
        replies.write(json.dumps(reply).encode() + b"\n" + out + err)
        replies.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
