"""Pure. Reads clamd's and clamonacc's logs.

1. clamd.log says what was found: ``<time> -> PATH: NAME.UNOFFICIAL(md5:size) FOUND``.
2. clamonacc.log says what was done: ``PATH: moved to 'WHERE'``; with prevention on, what was found was denied.
3. One detection may be written several times, and again for a name with `` (deleted)`` behind it: joined by path and
   name within a step.
4. ``Daemon failed to scan`` is the scanner saying that it let an object pass unchecked.

Source: ClamAV 1.4 clamd/scanner.c (``ExtendedDetectionInfo``) and clamonacc/client/protocol.c; recorded lines in
tests/recorded/clamav.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.attempt import Attempt, Kind
from harness.log_lines import Line, lines_of
from harness.observation import Action, Detection, Mechanism, Observation, ScanFailure, Unread
from harness.products.clamav.sets import MARKER_PREFIX

# "Tue Nov 24 19:51:25 2026 -> /path/x.com: Name.UNOFFICIAL(44d8...:68) FOUND"; a path may hold ": " itself, so the name
# is taken from the right. Names have no blanks (signature documentation, "Signature names").
_FOUND = re.compile(r"^(?P<at>.{24}) -> (?P<path>/.*): (?P<name>\S+?)(?:\((?P<md5>[0-9a-f]{32}):\d+\))? FOUND$")
_FOUND_BY_CLIENT = re.compile(r"^(?P<path>/.*): (?P<name>\S+) FOUND$")
_MOVED = re.compile(r"^(?P<path>/.*): moved to '(?P<where>.*)'$")
_FAILED = re.compile(r"Daemon failed to scan: (?P<path>.*)$")
_UNOFFICIAL = ".UNOFFICIAL"
_DELETED = " (deleted)"


class _Parser:
    version = 1

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give detections, failures to scan, and what could not be read, in the order of the events."""
        found: dict[tuple[str, str, int | None], Detection] = {}
        other: list[Observation] = []
        moved: set[tuple[str, int | None]] = set()
        logs = [e for e in attempt.of(Kind.LOG) if e.subject.endswith("/clamd.log")]
        if not logs and attempt.of(Kind.SAMPLE):
            other.append(Unread(seq=0, step=None, what="clamd.log was never read"))
        for item in lines_of(attempt, "clamd.log"):
            if isinstance(item, Unread):
                other.append(item)
            elif (match := _FOUND.match(item.text)) is not None:
                _join(found, _detection(item, match))
            elif item.text.endswith(" FOUND"):
                other.append(Unread(seq=item.seq, step=item.step, what=f"clamd.log: {item.text[:200]}"))
        for item in lines_of(attempt, "clamonacc.log"):
            if isinstance(item, Unread):
                other.append(item)
            elif (match := _MOVED.match(item.text)) is not None:
                moved.add((_plain(match["path"]), item.step))
            elif (match := _FAILED.search(item.text)) is not None:
                other.append(ScanFailure(seq=item.seq, step=item.step, target=match["path"], what="failed to scan"))
            elif (match := _FOUND_BY_CLIENT.match(item.text)) is not None:
                _join(found, _client_detection(item, match))
        taken = [replace(d, action=Action.QUARANTINED) if _was_moved(d, moved) else d for d in found.values()]
        return sorted([*taken, *other], key=lambda o: (o.seq, repr(o)))


def _detection(line: Line, match: re.Match[str]) -> Detection:
    name = match["name"].removesuffix(_UNOFFICIAL)
    return Detection(
        seq=line.seq,
        step=line.step,
        threat=name,
        action=Action.DENIED,
        target=_plain(match["path"]),
        mechanism=_mechanism(name),
        md5=match["md5"],
        set_label=_label(name),
        at=match["at"],
    )


def _client_detection(line: Line, match: re.Match[str]) -> Detection:
    name = match["name"].removesuffix(_UNOFFICIAL)
    return Detection(
        seq=line.seq,
        step=line.step,
        threat=name,
        action=Action.DENIED,
        target=_plain(match["path"]),
        mechanism=_mechanism(name),
        set_label=_label(name),
        count=0,
    )


def _join(found: dict[tuple[str, str, int | None], Detection], new: Detection) -> None:
    key = (new.target, new.threat or "", new.step)
    known = found.get(key)
    if known is None:
        found[key] = new
    else:
        found[key] = replace(known, count=known.count + new.count, md5=known.md5 or new.md5, at=known.at or new.at)


def _was_moved(detection: Detection, moved: set[tuple[str, int | None]]) -> bool:
    # The move may be logged in the next piece of the log, so a later step's record counts for the same path too.
    return any(path == detection.target for path, _ in moved)


def _plain(path: str) -> str:
    return path.removesuffix(_DELETED)


def _label(name: str) -> str | None:
    return name.removeprefix(MARKER_PREFIX) if name.startswith(MARKER_PREFIX) else None


def _mechanism(name: str) -> Mechanism:
    # Source: ClamAV documentation, "Signature names": engine heuristics are named "Heuristics.*".
    return Mechanism.HEURISTIC if name.startswith("Heuristics.") else Mechanism.SIGNATURE


PARSER = _Parser()
