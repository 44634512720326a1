#!/usr/bin/python3
"""Run programs in this guest for the harness, one after the other, over one pair of pipes.

One resident agent instead of one ``docker exec`` a command: a command then costs what the program costs.

Frames, both ways: one line of JSON, then the raw bytes that the line announces.
  request  {"id": N, "argv": [...], "user": NAME|null, "timeout_s": S, "cap": BYTES, "stdin": LENGTH}
           + LENGTH bytes of standard input
  reply    {"id": N, "exit": CODE|null, "signal": N|null, "timed_out": bool, "errno": N|null, "duration_s": S,
            "out": LENGTH, "err": LENGTH, "out_cut": bool, "err_cut": bool}
           + bytes of both outputs, in this order

A program runs in a session of its own; at its timeout the whole session's process group is killed. Output beyond
``cap`` is read and dropped, so that a program that floods neither blocks nor fills memory. The end of the input ends
the agent.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import IO, Any, BinaryIO

import desktop_user

Json = dict[str, Any]
CHUNK = 256 * 1024


class Input:
    """A request's input, taken from the harness only as fast as the program takes it: it is never here whole."""

    def __init__(self, requests: BinaryIO, length: int) -> None:
        self._requests = requests
        self._left = length

    def piece(self) -> bytes:
        """Give the next bytes, waiting for them; none at the end, or when the harness has gone."""
        data = self._requests.read1(min(self._left, CHUNK)) if self._left else b""  # type: ignore[attr-defined]
        self._left = self._left - len(data) if data else 0
        return data

    def skip(self) -> None:
        """Read what the program did not take, so that the next request is found."""
        while self.piece():
            pass


def pump(
    process: "subprocess.Popen[bytes]", stdin: Input, end: float, cap: int
) -> tuple[bytes, bytes, bool, bool, bool]:
    """Feed and drain a program until it closes its output or the time is over; give outputs, cuts and the timeout."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    kept: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    cut = {process.stdout: False, process.stderr: False}
    rest = memoryview(stdin.piece())
    with selectors.DefaultSelector() as selector:
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
                piece = os.read(stream.fileno(), CHUNK)
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
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            cwd="/",
            preexec_fn=None if user is None else lambda: desktop_user.become_user(user),  # noqa: PLW1509 (no threads)
        )
    except (OSError, subprocess.SubprocessError) as problem:
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


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until the input ends."""
    while line := requests.readline(1024 * 1024):
        request = json.loads(line)
        stdin = Input(requests, int(request.get("stdin", 0)))
        reply, out, err = run(request, stdin)
        stdin.skip()
        reply |= {"out": len(out), "err": len(err)}
        replies.write(json.dumps(reply).encode() + b"\n" + out + err)
        replies.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
