"""Pure. What QEMU's guest agent is told and answers: bytes in, answers out; no socket, no clock.

The guest is hostile: an answer that is longer than any honest one, is no JSON object, or answers another call is a
``ProtocolError``; nothing that follows it is believed before both sides have found each other again (``after_sync``).

Source: QEMU 7.2, "QEMU Guest Agent Protocol Reference" (guest-sync-delimited, guest-exec, guest-exec-status).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.transports.api import OUTPUT_CAP_BYTES
from harness.transports.frames import ProtocolError, Reply, header_in, reply_of

#: Ends whatever the other side had half read, and stands before the answer to guest-sync-delimited.
DELIMITER = b"\xff"

#: Two outputs at the cap in base64, and what stands around them.
MAX_ANSWER_BYTES = 2 * (OUTPUT_CAP_BYTES * 4 // 3 + 4) + 64 * 1024

_MAX_TEXT = 300


class Refused(Exception):
    """The guest agent's own answer is that it will not or cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A process that the guest agent had started and that has ended. ``exit_code`` is None after a signal."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    stdout_truncated: bool
    stderr_truncated: bool


def encode_call(number: int, name: str, arguments: Mapping[str, object]) -> bytes:
    """Give the line that calls a function of the guest agent."""
    return json.dumps({"execute": name, "arguments": arguments, "id": number}).encode() + b"\n"


def encode_sync(number: int) -> bytes:
    """Give the bytes that make both sides begin anew."""
    return DELIMITER + encode_call(number, "guest-sync-delimited", {"id": number})


def start_of(argv: Sequence[str], stdin: bytes, *, capture: bool) -> dict[str, object]:
    """Give the arguments of ``guest-exec``."""
    return {
        "path": argv[0],
        "arg": list(argv[1:]),
        "input-data": base64.b64encode(stdin).decode("ascii"),
        "capture-output": capture,
    }


class AnswerReader:
    """Finds the answers in whatever pieces arrive."""

    def __init__(self, max_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._buffer = bytearray()
        self._looked_at = 0
        self._max_bytes = max_bytes

    def feed(self, piece: bytes) -> None:
        """Add bytes as they came."""
        self._buffer += piece

    def forget(self) -> None:
        """Drop what has come."""
        self._buffer, self._looked_at = bytearray(), 0

    def after_sync(self, number: int) -> bool:
        """Tell whether the answer to sync ``number`` has come, dropping it and all before it."""
        while True:
            start = self._buffer.find(DELIMITER)
            if start < 0:
                self.forget()
                return False
            del self._buffer[: start + 1]
            end = self._buffer.find(b"\n", 0, _MAX_TEXT)
            if end < 0:
                if len(self._buffer) >= _MAX_TEXT:
                    continue  # no answer to a sync is as long; the next delimiter may stand before a right one
                self._buffer[:0] = DELIMITER
                return False
            try:
                answer = _object(bytes(self._buffer[:end]))
            except ProtocolError:
                continue
            if answer.get("return") == number and answer.get("return") is not True:
                del self._buffer[: end + 1]
                self._looked_at = 0
                return True

    def next_answer(self, number: int) -> object | None:
        """Give what call ``number`` returns once it is whole; None until then.

        Raises:
            ProtocolError: What came is no answer to this call.
            Refused: The answer is an error.
        """
        line = self._next_line()
        if line is None:
            return None
        answer = _object(line)
        if answer.get("id") != number or isinstance(answer.get("id"), bool):
            msg = f"the answer is not to call {number}"
            raise ProtocolError(msg)
        error = answer.get("error")
        if isinstance(error, dict):
            raise Refused(str(error.get("desc"))[:_MAX_TEXT])
        if answer.get("return") is None:
            msg = "the answer returns nothing"
            raise ProtocolError(msg)
        return answer["return"]

    def _next_line(self) -> bytearray | None:
        end = self._buffer.find(b"\n", self._looked_at, self._max_bytes + 1)
        if end < 0:
            self._looked_at = len(self._buffer)
            if self._looked_at > self._max_bytes:
                self.forget()
                msg = "an answer is too long"
                raise ProtocolError(msg)
            return None
        self._looked_at = 0
        if end + 1 == len(self._buffer):  # the usual case, and an answer may have tens of mebibytes
            line, self._buffer = self._buffer, bytearray()
            return line
        line = self._buffer[:end]
        del self._buffer[: end + 1]
        return line


def pid_in(returned: object) -> int:
    """Read what ``guest-exec`` returns; ``ProtocolError`` when it is no process."""
    pid = returned.get("pid") if isinstance(returned, dict) else None
    if not isinstance(pid, int) or isinstance(pid, bool):
        msg = "the answer names no process"
        raise ProtocolError(msg)
    return pid


def ended_in(returned: object) -> Ended | None:
    """Read what ``guest-exec-status`` returns; None while the process runs, ``ProtocolError`` when it says nothing."""
    if not isinstance(returned, dict) or not isinstance(returned.get("exited"), bool):
        msg = "the answer does not say whether the process has ended"
        raise ProtocolError(msg)
    if not returned["exited"]:
        return None
    code = returned.get("exitcode")
    return Ended(
        exit_code=code if isinstance(code, int) and not isinstance(code, bool) else None,
        stdout=_decoded(returned, "out-data"),
        stderr=_decoded(returned, "err-data"),
        stdout_truncated=returned.get("out-truncated") is True,
        stderr_truncated=returned.get("err-truncated") is True,
    )


def reply_in(ended: Ended, number: int) -> Reply:
    """Read how the program ended that guest/once.py ran; its head is the last line of the error output.

    Raises:
        ProtocolError: There is no such line.
    """
    stderr, _, head = ended.stderr.removesuffix(b"\n").rpartition(b"\n")
    if ended.exit_code != 0 or ended.stderr_truncated:
        tail = ended.stderr[-_MAX_TEXT:].decode("utf-8", "replace")
        msg = f"the guest's helper failed (exit code {ended.exit_code}): {tail}"
        raise ProtocolError(msg)
    header = header_in(head, number)
    if ended.stdout_truncated:
        header["out_cut"] = True
    return reply_of(header, stdout=ended.stdout, stderr=stderr)


def _object(line: bytes | bytearray) -> dict[str, object]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        msg = "an answer is no JSON"
        raise ProtocolError(msg) from error
    if not isinstance(answer, dict):
        msg = "an answer is no JSON object"
        raise ProtocolError(msg)
    return answer


def _decoded(returned: dict[str, object], key: str) -> bytes:
    text = returned.pop(key, "")
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (ValueError, binascii.Error):
        content = None
    if content is None or len(content) > OUTPUT_CAP_BYTES:
        msg = f"the answer's '{key}' is no output"
        raise ProtocolError(msg)
    return content
