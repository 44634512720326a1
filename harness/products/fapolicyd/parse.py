"""Pure. Reads fapolicyd's decisions: one line a denial, without a time, with the rule's number.

A rule's number is given its name by the adapter's own record of the rules that it loaded last before the line.
Source: fapolicyd.conf(5) ``syslog_format``; recorded lines in tests/recorded/fapolicyd.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.attempt import Attempt, Kind
from harness.log_lines import Line, lines_of
from harness.observation import Action, Detection, Mechanism, Observation, Unread
from harness.products.fapolicyd.rules import MARKER_PREFIX

# A line ends in "... exe=/usr/bin/x : path=/a/b c.elf ftype=application/x-executable trust=0"; exe and path may hold
# blanks, ftype never does.
_DENIED = re.compile(
    r"^rule=(?P<rule>\d+) dec=deny\S* perm=(?P<perm>\w+) auid=\S+ pid=(?P<pid>\d+) exe=(?P<exe>.*?)"
    r" : path=(?P<path>/.*) ftype=(?P<ftype>\S+) trust=\S+$"
)


class _Parser:
    version = 1

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        """Give denials, and what could not be read, in the order of the events."""
        found: dict[tuple[str, str, int | None], Detection] = {}
        other: list[Observation] = []
        if not attempt.of(Kind.LOG) and attempt.of(Kind.SAMPLE):
            other.append(Unread(seq=0, step=None, what="decisions.log was never read"))
        for item in lines_of(attempt, "decisions.log"):
            if isinstance(item, Unread):
                other.append(item)
            elif (match := _DENIED.match(item.text)) is not None:
                new = _detection(attempt, item, match)
                key = (new.target, new.threat or "", new.step)
                known = found.get(key)
                found[key] = new if known is None else replace(known, count=known.count + 1)
            elif "dec=deny" in item.text:
                other.append(Unread(seq=item.seq, step=item.step, what=f"decisions.log: {item.text[:200]}"))
        return sorted([*found.values(), *other], key=lambda o: (o.seq, repr(o)))


def _detection(attempt: Attempt, line: Line, match: re.Match[str]) -> Detection:
    name = _rule_name(attempt, line.seq, match["rule"])
    return Detection(
        seq=line.seq,
        step=line.step,
        threat=name,
        action=Action.DENIED,
        target=match["path"],
        mechanism=Mechanism.POLICY,
        accessed_by=match["exe"],
        accessed_pid=int(match["pid"]),
        set_label=name.removeprefix(MARKER_PREFIX) if name.startswith(MARKER_PREFIX) else None,
    )


def _rule_name(attempt: Attempt, seq: int, number: str) -> str:
    loaded = [e for e in attempt.of(Kind.PRODUCT, subject="rules") if e.seq < seq]
    names = loaded[-1].data.get("names") if loaded else None
    known = names.get(number) if isinstance(names, dict) else None
    return known if isinstance(known, str) else f"rule {number}"


PARSER = _Parser()
