"""Pure. Reads clamd's and clamonacc's logs.

1. clamd.log says what was found: ``<time> -> PATH: NAME.UNOFFICIAL(md5:size) FOUND``.
2. clamonacc.log says what was done: ``PATH: moved to 'WHERE'``; with prevention on, what was found was denied.
3. One detection may be written several times, and again for a name with `` (deleted)`` behind it: joined by path and
   name within a step.
4. ``Daemon failed to scan`` and ``PATH: WHY ERROR`` are the scanner saying that an object was not checked.
5. The settings, read back at the end, name what is not watched. *Found* in another shape is unread.

Source: ClamAV 1.4 clamd/scanner.c (``ExtendedDetectionInfo``) and clamonacc/client/protocol.c; recorded lines in
tests/recorded/clamav.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.attempt import Attempt, Kind
from harness.log_lines import Line, lines_of
from harness.observation import Action, Detection, Exclusion, Mechanism, Observation, ScanFailure, Unread
from harness.products.clamav.sets import MARKER_PREFIX

# "Tue Nov 24 19:51:25 2026 -> /path/x.com: Name.UNOFFICIAL(44d8...:68) FOUND"; a path may hold ": " itself, so the name
# is taken from the right. Names have no blanks (signature documentation, "Signature names").
_FOUND = re.compile(r"^(?P<at>.{24}) -> (?P<path>/.*): (?P<name>\S+?)(?:\((?P<md5>[0-9a-f]{32}):\d+\))? FOUND$")
_FOUND_BY_CLIENT = re.compile(r"^(?P<path>/.*): (?P<name>\S+) FOUND$")
_MOVED = re.compile(r"^(?P<path>/.*): moved to '(?P<where>.*)'$")
# "ClamMisc: Unexpected issue; Daemon failed to scan: /path"; no path may stand before it, or a file's name could lie.
_FAILED = re.compile(r"^[^/]*Daemon failed to scan: (?P<path>.*)$")
# Source: clamd/scanner.c of ClamAV 1.4, logg(LOGG_ERROR, "%s: %s ERROR\n"): one object got no answer.
_NOT_SCANNED = re.compile(r"^.{24} -> (?:ERROR: )?(?P<path>/.*): (?P<what>.*) ERROR$")
# Source: clamd.conf(5): options that take paths, or the desktop user's accesses, out of what is watched.
_EXCLUDES_PATH = re.compile(r"^\s*OnAccessExcludePath\s+(?P<path>.+?)\s*$", re.MULTILINE)
_EXCLUDES_MORE = re.compile(
    r"^\s*(?:ExcludePath\s+\S|OnAccessExcludeUID\s+\S|OnAccessExcludeUname\s+(?!clamav\s*$)\S)", re.MULTILINE
)
_UNOFFICIAL = ".UNOFFICIAL"
_DELETED = " (deleted)"


class _Parser:
    version = 1

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give detections, failures to scan, and what could not be read, in the order of the events."""
        found: dict[tuple[str, str, int | None], Detection] = {}
        other: list[Observation] = [*_never_read(attempt), *_exclusions(attempt)]
        moved: dict[str, Line] = {}
        for item in lines_of(attempt, "clamd.log"):
            if isinstance(item, Unread):
                other.append(item)
            elif (match := _FOUND.match(item.text)) is not None:
                _join(found, _detection(item, match))
            elif (match := _NOT_SCANNED.match(item.text)) is not None:
                other.append(_failure(item, match["path"], match["what"]))
            elif " FOUND" in item.text:
                other.append(Unread(seq=item.seq, step=item.step, what=f"clamd.log: {item.text[:200]}"))
        for item in lines_of(attempt, "clamonacc.log"):
            if isinstance(item, Unread):
                other.append(item)
            elif (match := _MOVED.match(item.text)) is not None:
                moved.setdefault(_plain(match["path"]), item)
            elif (match := _FAILED.match(item.text)) is not None:
                other.append(_failure(item, match["path"], "failed to scan"))
            elif (match := _FOUND_BY_CLIENT.match(item.text)) is not None:
                _join(found, _client_detection(item, match))
            elif " FOUND" in item.text:
                other.append(Unread(seq=item.seq, step=item.step, what=f"clamonacc.log: {item.text[:200]}"))
        # The move may be logged in a later piece of the log, so a later step's record counts for the same path too.
        taken = [replace(d, action=Action.QUARANTINED) if d.target in moved else d for d in found.values()]
        named = {d.target for d in taken}
        taken += [_nameless(path, line) for path, line in moved.items() if path not in named]
        return sorted([*taken, *other], key=lambda o: (o.seq, repr(o)))


def _never_read(attempt: Attempt) -> list[Unread]:
    """Say which logs are missing altogether where they should have been read: a sample reads both."""
    read = {e.subject.rpartition("/")[2] for e in attempt.of(Kind.LOG)}
    missing = [name for name in ("clamd.log", "clamonacc.log") if name not in read] if attempt.of(Kind.SAMPLE) else []
    return [Unread(seq=0, step=None, what=f"{name} was never read") for name in missing]


def _exclusions(attempt: Attempt) -> list[Exclusion | Unread]:
    """Give what the settings exclude, as they were read back at the end."""
    seen: list[Exclusion | Unread] = []
    for event in attempt.of(Kind.PRODUCT, subject="settings"):
        try:
            raw = attempt.blobs.get(event.blob or "")
        except (KeyError, ValueError):
            raw = None
        if raw is None or event.truncated:
            seen.append(Unread(seq=event.seq, step=event.step, what="clamd.conf could not be read back whole"))
            continue
        text = raw.decode("utf-8", "backslashreplace")
        paths = [match["path"].strip('"') for match in _EXCLUDES_PATH.finditer(text)]
        paths += ["/"] if _EXCLUDES_MORE.search(text) else []
        seen += [Exclusion(seq=event.seq, step=event.step, path=path) for path in paths]
    return seen


def _failure(line: Line, path: str, what: str) -> ScanFailure:
    return ScanFailure(seq=line.seq, step=line.step, target=_plain(path), what=what)


def _nameless(path: str, line: Line) -> Detection:
    """Make a detection of a move that no record gives a reason for: the product took the file all the same."""
    return Detection(
        seq=line.seq,
        step=line.step,
        threat=None,
        action=Action.QUARANTINED,
        target=path,
        mechanism=Mechanism.UNKNOWN,
    )


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
    )


def _join(found: dict[tuple[str, str, int | None], Detection], new: Detection) -> None:
    key = (new.target, new.threat or "", new.step)
    known = found.get(key)
    if known is None:
        found[key] = new
    else:
        # clamonacc's own record repeats clamd's and has no time stamp; it counts only where clamd has none.
        count = known.count + (new.count if new.at is not None else 0)
        found[key] = replace(known, count=count, md5=known.md5 or new.md5, at=known.at or new.at)


def _plain(path: str) -> str:
    return path.removesuffix(_DELETED)


def _label(name: str) -> str | None:
    return name.removeprefix(MARKER_PREFIX) if name.startswith(MARKER_PREFIX) else None


def _mechanism(name: str) -> Mechanism:
    # Source: ClamAV documentation, "Signature names": engine heuristics are named "Heuristics.*".
    return Mechanism.HEURISTIC if name.startswith("Heuristics.") else Mechanism.SIGNATURE


PARSER = _Parser()
