#!/usr/bin/python3
"""Run one program for the harness and end: for a way in that starts a process of its own a command (qemu-ga).

Standard input: a request as agent.py takes it, one line of JSON, and behind it the program's input. A request that
names a ``pipe`` has its input there instead: a FIFO into which others write piece by piece, so that no input is ever
whole in this guest.
Standard output: the program's. Standard error: the program's, a line end, and one line of JSON, the reply's head.
"""

import contextlib
import json
import os
import select
import sys
import time

import agent

#: Of the error output's room for the reply's head, which must not be what a cap cuts.
HEAD_BYTES = 4096


class Piped(agent.Input):
    """The input of a request that comes through a FIFO; waited for until the program's time is over."""

    def __init__(self, path: str, length: int, end: float) -> None:
        # Also open for writing: between two writers it has not ended.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._length = length
        self._end = end

    def piece(self) -> bytes:
        """Give the next bytes; none at the end, or when the time is over."""
        if not self._length:
            return b""
        ready, _, _ = select.select([self._pipe], [], [], max(0.0, self._end - time.monotonic()))
        if not ready:
            return b""
        data = os.read(self._pipe, min(self._length, agent.CHUNK))
        self._length -= len(data)
        return data


def main() -> None:
    """Answer one request."""
    os.umask(0o022)
    request = json.loads(sys.stdin.buffer.readline(1024 * 1024))
    path, length = request.get("pipe"), int(request.get("stdin", 0))
    end = time.monotonic() + float(request["timeout_s"])
    stdin = agent.Input(sys.stdin.buffer, length) if path is None else Piped(path, length, end)
    try:
        reply, out, err = agent.run(request, stdin)
    finally:
        # Who waits to write into it is ended by that, and nobody begins to.
        if path is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)
    room = max(int(request["cap"]) - HEAD_BYTES, 0)
    if len(err) > room:
        reply["err_cut"] = True
    sys.stdout.buffer.write(out)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(err[:room] + b"\n" + json.dumps(reply).encode() + b"\n")
    sys.stderr.buffer.flush()


if __name__ == "__main__":
    main()
