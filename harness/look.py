"""Pure. Reads what our scripts in a guest answer (observe.py, plant.py, desktop.py, inspect_files.py).

The guest is hostile: an answer may be no JSON, of another shape, cut, or a lie. What does not fit raises ``LookError``;
nothing is filled in, and no text from a guest is used as a path on the host.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.machine import Machine, machine_of

Json = Mapping[str, object]

#: Longest text that is taken over from a guest; the rest is dropped.
MAX_TEXT = 4096

#: A duration beyond thirty years is none.
MAX_SECONDS = 1e9


#: How observe.py names what is not there any more. Source: errno(3).
_GONE = ("ENOENT", "ESRCH", "ENOTDIR")


class LookError(Exception):
    """An answer from a guest is not what it should be. One sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A visible top-level window: its title, its program, and the texts of its child windows in order.

    ``corner`` is its upper left one on the screen, in pixels.
    """

    title: str
    class_name: str
    image: str
    windows_pid: int
    hung: bool
    texts: tuple[str, ...]
    corner: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        """Give title and texts as a person would read them."""
        return "\n".join([self.title, *[t for t in self.texts if t]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder as a listing shows it."""

    path: str
    is_file: bool
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a log. ``error`` is the reason why there is none."""

    path: str
    content: bytes
    next_offset: int
    inode: int | None
    truncated: bool
    reset: bool
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """How the guest reacted to one planted object; numbers are errno values, 0 is success, None is *not tried*."""

    open_errno: int | None
    exec_errno: int | None
    control_open_errno: int | None
    control_exec_errno: int | None
    written: bool
    bytes_read: int
    finished: bool
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A program that was started in the guest: ``starting``, ``running``, ``ended`` or ``failed``."""

    state: str
    exit_code: int | None
    windows_error: int | None
    start_errno: int | None

    @property
    def code(self) -> int | None:
        """Give the number to report: the program's full exit code, or why it did not start."""
        return next((c for c in (self.exit_code, self.windows_error, self.start_errno) if c is not None), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """How the program ended that wrote a disc's file: by itself, or by a signal."""

    exit_code: int | None
    signal: int | None
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """A file that was opened and read; ``sha256`` None with an errno when that failed.

    ``machine`` is what a program is made for, None where that was not read or its header does not say it.
    """

    path: str
    size_bytes: int
    sha256: str | None
    errno: int | None
    machine: Machine | None = None


def answer(raw: bytes) -> Json:
    """Read one JSON object.

    Raises:
        LookError: The bytes are no JSON object, or the script says that it was asked wrongly.
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        msg = "the guest's answer is no JSON"
        raise LookError(msg) from error
    if not isinstance(value, dict):
        msg = "the guest's answer is no JSON object"
        raise LookError(msg)
    if value.get("error") == "BAD_REQUEST":
        msg = f"the guest's script refused the request: {text(value.get('detail'))}"
        raise LookError(msg)
    return value


def desktop_answers(raw: bytes) -> bool:
    """Tell whether the desktop answered at all: a listing that was killed at its limit has no exit code.

    One that ended and cannot be read is another thing, and no answer that does not come in time.
    """
    part = _object(answer(raw), "windows")
    return "error" in part or part.get("exit_code", 0) is not None


def windows(raw: bytes) -> tuple[Window, ...]:
    """Read the list of windows. A listing that the guest could not make raises ``LookError``."""
    part = _object(answer(raw), "windows")
    listed = part.get("json")
    if not isinstance(listed, list):
        msg = "the guest could not list its windows"
        raise LookError(msg)
    return tuple(
        Window(
            title=text(item.get("title")),
            class_name=text(item.get("class")),
            image=text(item.get("image")),
            windows_pid=number(item.get("pid")) or 0,
            hung=item.get("hung") is True,
            texts=tuple(text(c.get("text")) for c in _objects(item.get("children", []))),
            corner=_corner(item.get("rect")),
        )
        for item in _objects(listed)
    )


def _corner(rect: object) -> tuple[int, int] | None:
    """Read the upper left corner of a rectangle: left, top, right, bottom."""
    sides = [number(side) for side in rect] if isinstance(rect, list) else []
    left, top = (*sides, None, None)[:2]
    return None if left is None or top is None else (left, top)


def established_ports(raw: bytes) -> frozenset[int]:
    """Read to which remote ports a connection is established."""
    part = _object(answer(raw), "tcp")
    return frozenset(
        number(item.get("remote_port")) or 0
        for item in _objects(part.get("items"))
        if item.get("state") == "ESTABLISHED"
    )


def listening_ports(raw: bytes) -> frozenset[int]:
    """Read on which local ports something listens."""
    part = _object(answer(raw), "tcp")
    return frozenset(
        number(item.get("local_port")) or 0 for item in _objects(part.get("items")) if item.get("state") == "LISTEN"
    )


def entries(raw: bytes) -> tuple[tuple[Entry, ...], bool]:
    """Read a listing and whether it was cut. A missing folder is empty.

    Raises:
        LookError: A folder could not be read; the lab's trouble must not look like files that a product took away.
    """
    listings = _objects(answer(raw).get("list"))
    unreadable = [
        text(e.get("error")) for one in listings for e in _objects(one.get("errors", [])) if e.get("error") not in _GONE
    ]
    if unreadable:
        msg = f"a folder could not be listed ({unreadable[0] or 'no reason given'})"
        raise LookError(msg)
    found = tuple(
        Entry(path=text(e.get("path")), is_file=e.get("type") == "file", size_bytes=number(e.get("size")) or 0)
        for listing in listings
        for e in _objects(listing.get("entries"))
    )
    return found, any(listing.get("truncated") is True for listing in listings)


def chunks(raw: bytes) -> tuple[Chunk, ...]:
    """Read pieces of logs."""
    return tuple(_chunk(item) for item in _objects(answer(raw).get("tail")))


def chunk(raw: bytes) -> Chunk:
    """Read the one piece of a log that was asked for; any other number of pieces raises ``LookError``."""
    found = chunks(raw)
    if len(found) != 1:
        msg = f"one piece of log was asked for and {len(found)} were answered"
        raise LookError(msg)
    return found[0]


def _chunk(item: Json) -> Chunk:
    error_text = (text(item["error"]) or "no reason given") if "error" in item else None
    data = item.get("data_b64", "" if error_text is not None else None)
    if not isinstance(data, str):
        msg = "a piece of log has no bytes"
        raise LookError(msg)
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = "a piece of log is no base64"
        raise LookError(msg) from error
    return Chunk(
        path=text(item.get("path")),
        content=content,
        next_offset=number(item.get("offset")) or 0,
        inode=number(item.get("inode")),
        truncated=item.get("truncated") is True,
        reset=item.get("reset") is True,
        error=error_text,
    )


def monotonic_s(raw: bytes) -> float | None:
    """Read the guest's monotonic clock, in seconds; None when it does not say."""
    clocks = answer(raw).get("time")
    return seconds(clocks.get("monotonic_s")) or None if isinstance(clocks, dict) else None


def mapped_files(raw: bytes) -> tuple[str, ...]:
    """Read which files are mapped into the asked processes. One that has ended by now has none.

    Raises:
        LookError: A process's files could not be read, or not all of them.
    """
    paths: set[str] = set()
    for process in _objects(answer(raw).get("images")):
        if "error" in process:
            if process["error"] in _GONE:
                continue
            msg = f"the files of a process could not be read ({text(process['error']) or 'no reason given'})"
            raise LookError(msg)
        if process.get("truncated") is not False:
            msg = "the list of a process's files was cut"
            raise LookError(msg)
        paths.update(text(file.get("path")) for file in _objects(process.get("files")))
    return tuple(sorted(paths))


def run_pids(raw: bytes, run: str) -> tuple[int, ...]:
    """Read the ids of the processes that carry a job's mark; a second start of it is marked ``run-2``."""
    part = _object(answer(raw), "processes")
    mark = re.compile(rf"{re.escape(run)}(?:-\d+)?")
    marked = (p for p in _objects(part.get("items")) if mark.fullmatch(text(p.get("run"))))
    return tuple(number(p.get("pid")) or 0 for p in marked)


def pids_beside(raw: bytes, run: str) -> tuple[int, ...]:
    """Read the ids of all processes of the user whose processes carry a job's mark; empty when none does.

    What a service of the system starts for the program does not carry the mark.
    """
    items = _objects(_object(answer(raw), "processes").get("items"))
    marked = set(run_pids(raw, run))
    users = {number(p.get("uid")) for p in items if number(p.get("pid")) in marked}
    return tuple(number(p.get("pid")) or 0 for p in items if number(p.get("uid")) in users)


def planted(raw: bytes, count: int) -> tuple[Planted, ...]:
    """Read how the guest reacted to each planted object, in the order of the request.

    Raises:
        LookError: Not exactly ``count`` items are answered.
    """
    items = _objects(answer(raw).get("items"))
    if len(items) != count:
        msg = f"{count} objects were planted and {len(items)} are answered"
        raise LookError(msg)
    if any(number(i.get("bytes_read")) is None for i in items):
        msg = "the guest does not say how much of a planted object it could read"
        raise LookError(msg)
    return tuple(
        Planted(
            open_errno=number(i.get("open_errno")),
            exec_errno=number(i.get("exec_errno")),
            control_open_errno=number(i.get("control_open_errno")),
            control_exec_errno=number(i.get("control_exec_errno")),
            written=number(i.get("create_errno")) == 0 and number(i.get("write_errno")) == 0,
            bytes_read=number(i.get("bytes_read")) or 0,
            finished=i.get("finished") is True,
            elapsed_s=seconds(i.get("elapsed_s")),
        )
        for i in items
    )


def job(raw: bytes) -> Job:
    """Read how a started program is."""
    value = answer(raw)
    state = text(value.get("state"))
    if state not in {"starting", "running", "ended", "failed"}:
        msg = f"the guest reports a program in the unknown state '{state}'"
        raise LookError(msg)
    return Job(
        state=state,
        exit_code=number(value.get("exit_code")),
        windows_error=number(value.get("windows_error")),
        start_errno=number(value.get("start_errno")),
    )


def written(raw: bytes) -> Written:
    """Read how a disc's file was written.

    Raises:
        LookError: The disc could not be read, or held something else.
    """
    value = answer(raw)
    code, signal = number(value.get("exit")), number(value.get("signal"))
    if "trouble" in value or (code is None) == (signal is None):
        msg = f"the guest could not read the disc: {text(value.get('trouble'))}"
        raise LookError(msg)
    return Written(exit_code=code, signal=signal, error=text(value.get("error")))


def digests(raw: bytes) -> tuple[tuple[FileDigest, ...], bool]:
    """Read the files that were opened and hashed, and whether the list was cut."""
    value = answer(raw)
    found = tuple(
        FileDigest(
            path=text(f.get("path")),
            size_bytes=number(f.get("size")) or 0,
            sha256=text(f["sha256"]) if isinstance(f.get("sha256"), str) else None,
            errno=number(f.get("errno")),
            machine=machine_of(_head(f.get("head_b64"))),
        )
        for f in _objects(value.get("files"))
    )
    return found, value.get("truncated") is True


def _head(value: object) -> bytes:
    """Take over a file's first bytes; none when they are not what they should be, as they only ever excuse a build."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        return b""


def text(value: object) -> str:
    """Take over a text from a guest: at most ``MAX_TEXT`` characters, lone surrogates replaced."""
    if not isinstance(value, str):
        return ""
    return value[:MAX_TEXT].encode("utf-8", "replace").decode("utf-8")


def number(value: object) -> int | None:
    """Take over a whole number; anything else is None. ``True`` is no number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def seconds(value: object) -> float:
    """Take over seconds; anything else is 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < MAX_SECONDS else 0.0  # type: ignore[arg-type, operator]


def _object(value: Json, key: str) -> Json:
    part = value.get(key)
    if not isinstance(part, dict):
        msg = f"the guest's answer has no '{key}'"
        raise LookError(msg)
    return part


def _objects(value: object) -> list[Json]:
    """Take a list of objects as it is; dropping what does not fit would make a file or a process vanish."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        msg = "a part of the guest's answer is no list of objects"
        raise LookError(msg)
    return value
