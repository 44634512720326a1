"""Pure. The frames that the in-guest agent speaks (guest/agent.py): bytes in, replies out; no socket, no clock.

The guest is hostile: a reply that announces more than its cap, is no JSON object or answers another request is a
``ProtocolError``, and the connection is of no further use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from harness.transports.api import OUTPUT_CAP_BYTES, CommandResult

MAX_HEADER_BYTES = 64 * 1024

#: A file that is asked for with a greeting is small: the agent makes room for so much before it reads.
GREETING_CAP_BYTES = 4096


class ProtocolError(Exception):
    """The agent's bytes are not a reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: how the program ended, and whether it was ended by its timeout."""

    result: CommandResult
    timed_out: bool


def encode_request(
    number: int,
    argv: Sequence[str],
    *,
    user: str | None,
    timeout_s: float,
    stdin_bytes: int,
    cap: int = OUTPUT_CAP_BYTES,
    pipe: str | None = None,
) -> bytes:
    """Give the first line of one request; so many bytes of standard input come behind it, or through a pipe there."""
    header = {
        "id": number,
        "argv": list(argv),
        "user": user,
        "timeout_s": round(timeout_s, 3),
        "cap": cap,
        "stdin": stdin_bytes,
    }
    return json.dumps(header if pipe is None else header | {"pipe": pipe}).encode() + b"\n"


def encode_greeting(number: int, *, clock_s: float | None, file: str, cap: int = GREETING_CAP_BYTES) -> bytes:
    """Give the request that starts no program: set the guest's clock (seconds since 1970), give a small file.

    Raises:
        ValueError: The path has a line's end in it.
    """
    if "\n" in file:
        raise ValueError(file)
    clock = "-" if clock_s is None else f"{clock_s:.6f}"
    return f"greet {number} {clock} {cap} {file}\n".encode()


class ReplyReader:
    """Puts the replies of one agent together from whatever pieces arrive."""

    def __init__(self, cap: int = OUTPUT_CAP_BYTES) -> None:
        self._buffer = bytearray()
        self._cap = cap

    def feed(self, piece: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += piece

    def next_reply(self, number: int) -> Reply | None:
        """Give the reply to request ``number`` once it is whole; None until then.

        Raises:
            ProtocolError: What came is no reply to this request.
        """
        end = self._buffer.find(b"\n", 0, MAX_HEADER_BYTES + 1)
        if end < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                msg = "a reply's first line is too long"
                raise ProtocolError(msg)
            return None
        header = header_in(bytes(self._buffer[:end]), number)
        out, err = (self._length(header, key) for key in ("out", "err"))
        if len(self._buffer) < end + 1 + out + err:
            return None
        body = bytes(self._buffer[end + 1 : end + 1 + out + err])
        del self._buffer[: end + 1 + out + err]
        return reply_of(header, stdout=body[:out], stderr=body[out:])

    def _length(self, header: dict[str, object], key: str) -> int:
        value = header.get(key)
        if not isinstance(value, int) or not _is_whole(value) or not 0 <= value <= self._cap:
            msg = f"the reply announces {value!r} bytes of '{key}'"
            raise ProtocolError(msg)
        return value


def header_in(line: bytes, number: int) -> dict[str, object]:
    """Read the line that answers request ``number``.

    Raises:
        ProtocolError: It is something else.
    """
    try:
        header = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = "a reply's first line is no JSON"
        raise ProtocolError(msg) from error
    if not isinstance(header, dict) or not _is_whole(header.get("id")) or header["id"] != number:
        msg = f"the reply does not answer request {number}"
        raise ProtocolError(msg)
    return header


def reply_of(header: dict[str, object], *, stdout: bytes, stderr: bytes) -> Reply:
    """Join a reply's line with its bytes.

    Raises:
        ProtocolError: A value of the line is no number where there must be one.
    """
    return Reply(
        result=CommandResult(
            exit_code=_integer(header, "exit"),
            stdout=stdout,
            stderr=stderr,
            stdout_truncated=header.get("out_cut") is True,
            stderr_truncated=header.get("err_cut") is True,
            signal=_integer(header, "signal"),
            errno=_integer(header, "errno"),
            duration_s=float(_integer_or_float(header, "duration_s")),
        ),
        timed_out=header.get("timed_out") is True,
    )


def _is_whole(value: object) -> bool:
    """Tell whether a JSON value is a whole number; ``true`` equals 1 in Python and is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(header: dict[str, object], key: str) -> int | None:
    value = header.get(key)
    if value is None:
        return None
    if isinstance(value, int) and _is_whole(value) and abs(value) < 2**63:
        return value
    msg = f"the reply's '{key}' is no number"
    raise ProtocolError(msg)


def _integer_or_float(header: dict[str, object], key: str) -> float:
    value = header.get(key, 0.0)
    # False for NaN, infinity and what a float cannot hold.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:  # noqa: PLR2004 - 31 years
        return value
    msg = f"the reply's '{key}' is no number"
    raise ProtocolError(msg)
