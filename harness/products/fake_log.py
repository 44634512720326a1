"""Pure. The log of the product that only tests know: how its lines are written, and how they are read.

One line a record: ``<action> | <name> | <sha256> | <path>``; an action is one of ``observation.Action``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.attempt import Attempt, Kind
from harness.log_lines import Line, lines_of
from harness.observation import Action, Detection, Mechanism, Observation, Unread

NAME = "fake"
LOG = "/run/hts-compat/fake/fake.log"
MARKER_PREFIX = "Fake.Set."

_RECORD = re.compile(r"^(?P<action>[a-z]+) \| (?P<threat>\S+) \| (?P<sha256>[0-9a-f]{64}) \| (?P<path>/.*)$")


def line_of(action: Action, threat: str, sha256: str, path: str) -> bytes:
    """Write one record."""
    return f"{action.value} | {threat} | {sha256} | {path}\n".encode()


class _Parser:
    version = 1

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give records, and lines that are none."""
        found: list[Observation] = []
        if not attempt.of(Kind.LOG) and attempt.of(Kind.SAMPLE):
            found.append(Unread(seq=0, step=None, what="fake.log was never read"))
        return [*found, *(_observation(line) for line in lines_of(attempt, "fake.log"))]


def _observation(line: Line | Unread) -> Observation:
    if isinstance(line, Unread):
        return line
    match = _RECORD.match(line.text)
    if match is None or match["action"] not in set(Action):
        return Unread(seq=line.seq, step=line.step, what=f"fake.log: {line.text[:200]}")
    return Detection(
        seq=line.seq,
        step=line.step,
        threat=match["threat"],
        action=Action(match["action"]),
        target=match["path"],
        mechanism=Mechanism.SIGNATURE,
        sha256=match["sha256"],
        set_label=match["threat"].removeprefix(MARKER_PREFIX) if match["threat"].startswith(MARKER_PREFIX) else None,
    )


PARSER = _Parser()
