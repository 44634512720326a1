"""Pure. Puts the pieces of a product's log together into lines, each with the event and the step that closed it.

1. A piece may end within a line; the line belongs to the piece that holds its end.
2. What cannot be read as a whole is said: a piece that was cut or is missing, a gap between two pieces, a log that
   started anew or could not be opened, a last line without its end.
3. No line is put together from pieces that do not adjoin: what is left of both sides of a gap is dropped, and said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.attempt import Attempt, Event, Kind
from harness.observation import Unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a log, without its end; bytes that are no UTF-8 are kept as backslash escapes."""

    seq: int
    step: int | None
    text: str
    decoded: bool


def lines_of(attempt: Attempt, log_name: str) -> Iterator[Line | Unread]:
    """Give the lines of the log whose path ends in ``/log_name``, in order, and what could not be read of it."""
    log = _Log(log_name)
    for event in attempt.of(Kind.LOG):
        if event.subject.endswith("/" + log_name):
            yield from log.piece(event, attempt)
    yield from log.end()


class _Log:
    """One log while its pieces are read: the start of a line that waits for its end, and where the next must begin."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self._last: Event | None = None
        self._next_offset: int | None = 0
        self._torn = False

    def piece(self, event: Event, attempt: Attempt) -> Iterator[Line | Unread]:
        problem = _problem(event)
        if problem is not None:
            yield self._unread(event, problem)
        content = _content(event, attempt)
        if content is None:
            yield self._unread(event, "a piece is missing or altered")
            self._tear(None)
            return
        start = event.data.get("offset")
        if event.data.get("reset"):
            self._tear(0)
            self._torn = False
        elif isinstance(start, int) and start != self._next_offset:
            if self._next_offset is not None:
                yield self._unread(event, f"there is a gap before byte {start}")
            self._tear(start)
        if self._next_offset is not None:
            self._next_offset += len(content)
        if content:
            yield from self._lines(content, event)

    def end(self) -> Iterator[Line | Unread]:
        if self._rest and self._last is not None:
            yield _line(self._rest, self._last)
            yield self._unread(self._last, "its last line has no end")

    def _lines(self, content: bytes, event: Event) -> Iterator[Line]:
        whole = (self._rest + content).split(b"\n")
        self._rest, self._last = whole.pop(), event
        if self._torn and whole:
            del whole[0]
            self._torn = False
        elif self._torn:
            self._rest = b""
        for raw in whole:
            yield _line(raw, event)

    def _tear(self, next_offset: int | None) -> None:
        self._rest, self._torn, self._next_offset = b"", True, next_offset

    def _unread(self, event: Event, what: str) -> Unread:
        return Unread(seq=event.seq, step=event.step, what=f"{self._name}: {what}")


def _content(event: Event, attempt: Attempt) -> bytes | None:
    if event.blob is None:
        return b"" if event.data.get("error") else None
    try:
        return attempt.blobs.get(event.blob)
    except (KeyError, ValueError):
        return None


def _problem(event: Event) -> str | None:
    if event.data.get("error"):
        return f"it could not be read ({event.data['error']})"
    if event.data.get("reset"):
        return "it started anew, so an earlier part may be lost"
    return "a piece was cut" if event.truncated else None


def _line(raw: bytes, event: Event) -> Line:
    try:
        return Line(seq=event.seq, step=event.step, text=raw.decode(), decoded=True)
    except UnicodeDecodeError:
        return Line(seq=event.seq, step=event.step, text=raw.decode("utf-8", "backslashreplace"), decoded=False)
