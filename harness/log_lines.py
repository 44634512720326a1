"""Pure. Puts the pieces of a product's log together into lines, each with the event and the step that closed it.

A piece may end within a line; the line belongs to the piece that holds its end. What cannot be read as a whole is said:
a piece that was cut, a log that started anew, a log that could not be opened.
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
    rest = b""
    last: Event | None = None
    for event in attempt.of(Kind.LOG):
        if not event.subject.endswith("/" + log_name):
            continue
        problem = _problem(event)
        if problem is not None:
            yield Unread(seq=event.seq, step=event.step, what=f"{log_name}: {problem}")
        try:
            rest += attempt.blobs.get(event.blob) if event.blob is not None else b""
        except (KeyError, ValueError):
            yield Unread(seq=event.seq, step=event.step, what=f"{log_name}: a piece is missing or altered")
            continue
        *whole, rest = rest.split(b"\n")
        last = event
        for raw in whole:
            yield _line(raw, event)
    if rest and last is not None:
        yield _line(rest, last)


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
