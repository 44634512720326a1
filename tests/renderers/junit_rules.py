"""The rules of Jenkins' schema for JUnit XML (``junit-10.xsd`` of its xUnit plugin), as far as anybody of us writes it.

Written down from reading the schema, so that its file need not be here. Attributes that it does not name are refused.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

#: Element -> attributes that it may have, attributes that it must have, elements that may stand in it, text allowed.
GRAMMAR: dict[str, tuple[set[str], set[str], set[str], bool]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}, False),
    "testsuite": (
        {
            "name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package",
            "file", "log", "url",
        },
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
        False,
    ),
    "properties": (set(), set(), {"property"}, False),
    "property": ({"name", "value"}, {"name", "value"}, set(), False),
    "testcase": (
        {"name", "time", "classname", "group"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
        False,
    ),
    "failure": ({"type", "message"}, set(), set(), True),
    "error": ({"type", "message"}, set(), set(), True),
    "skipped": ({"type", "message"}, set(), set(), True),
    "system-out": (set(), set(), set(), True),
    "system-err": (set(), set(), set(), True),
}  # fmt: skip

_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def broken_rules(raw: bytes) -> list[str]:
    """Give every rule that a file breaks."""
    root = ET.fromstring(raw)  # noqa: S314 - our own bytes
    start = [] if root.tag in {"testsuites", "testsuite"} else [f"<{root.tag}> is no beginning"]
    return [*start, *(problem for element in root.iter() for problem in _problems(element))]


def _problems(element: ET.Element) -> Iterator[str]:
    if element.tag not in GRAMMAR:
        yield f"<{element.tag}> is unknown"
        return
    allowed, needed, inside, text = GRAMMAR[element.tag]
    has = set(element.attrib)
    yield from (f"<{element.tag}> may not have '{name}'" for name in sorted(has - allowed))
    yield from (f"<{element.tag}> lacks '{name}'" for name in sorted(needed - has))
    yield from (f"<{child.tag}> may not stand in <{element.tag}>" for child in element if child.tag not in inside)
    if element.tag in {"testsuite", "testsuites"} and not _TIME.fullmatch(element.get("time", "")):
        yield f"<{element.tag}> has the time '{element.get('time')}'"
    if not text and any((piece or "").strip() for piece in (element.text, *(child.tail for child in element))):
        yield f"<{element.tag}> has text of its own"
