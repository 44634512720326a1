"""Parsers of products, tested from recordings: one folder a parser, one file a case; a new case needs no Python.

A recording says what it is ``about``, and holds ``events`` (pieces of logs with the step at whose border they were
read, as ``text`` or as ``hex``, with the guest's clock ``read_at``; the ``rules`` or ``settings`` in force; the
``status`` that a product gives of itself; a ``sample``) and every observation that is
``expected`` of them, in order. Of each, the attributes that are named are compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.attempt import Attempt, Kind, MemoryBlobs
from harness.observation import Observation, Unread
from harness.products import PARSERS, parser_of
from tests.builders import EventLog, make_attempt

RECORDED = Path(__file__).parent.parent / "recorded"
CASES = sorted(RECORDED.glob("*/*.yaml"))
READABLE = ("clamav", "fapolicyd", "guard")


def events_of(recording: Mapping[str, Any]) -> EventLog:
    log = EventLog()
    log.add(Kind.BEGIN)
    offsets: Counter[str] = Counter()
    for item in recording["events"]:
        step = item.get("step")
        if "log" in item:
            raw = bytes.fromhex(item["hex"]) if "hex" in item else item["text"].encode()
            path = f"/run/hts-compat/x/{item['log']}"
            clock = {"guest_mono_s": item["read_at"]} if "read_at" in item else {}
            log.add(Kind.LOG, path, step=step, raw=raw, offset=offsets[path], reset=False, error=None, **clock)
            offsets[path] += len(raw)
        elif "rules" in item:
            log.add(Kind.PRODUCT, "rules", step=step, names=item["rules"])
        elif "settings" in item:
            log.add(Kind.PRODUCT, "settings", step=step, raw=item["settings"].encode())
        elif "status" in item:
            log.add(Kind.PRODUCT, "status", step=step, **item["status"])
        else:
            assert item == {"sample": True}
            log.add(Kind.SAMPLE, border=-1, items=[])
    return log


def attempt_of(log: EventLog) -> Attempt:
    return replace(make_attempt(raws=()), events=tuple(log.events), blobs=MemoryBlobs(log.blobs))


def shown(observation: Observation, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give as much of an observation as the recording names, in the recording's shape."""
    kind = type(observation).__name__
    names = [name for name in wanted if name != "kind"] if wanted.get("kind") == kind else []
    return {"kind": kind, **{name: getattr(observation, name) for name in names}}


@pytest.mark.parametrize("path", CASES, ids=[f"{p.parent.name}-{p.stem}" for p in CASES])
def test_a_recording_says_exactly_what_is_expected(path: Path) -> None:
    recording = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(recording) == {"about", "events", "expected"}
    wanted = recording["expected"]
    seen = parser_of(path.parent.name)(attempt_of(events_of(recording)))
    padded = [*wanted, *[{}] * (len(seen) - len(wanted))]
    assert [shown(o, w) for o, w in zip(seen, padded, strict=False)] == wanted
    assert [o.seq for o in seen] == sorted(o.seq for o in seen)


@pytest.mark.parametrize("product", READABLE)
def test_each_parser_that_reads_logs_has_recordings(product: str) -> None:
    assert len([path for path in CASES if path.parent.name == product]) >= 8
    assert set(READABLE) == set(PARSERS) - {"none"}


def test_the_absence_of_a_product_records_nothing() -> None:
    log = EventLog()
    log.add(Kind.LOG, "/x/clamd.log", raw=b"/a: Evil FOUND\n")
    assert list(parser_of("none")(attempt_of(log))) == []


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["clamd.log", "clamonacc.log", "decisions.log", "guard.log"]),
        st.sampled_from([None, 0, 1, 9]),
        st.one_of(
            st.binary(max_size=40),
            st.lists(
                st.sampled_from(
                    [
                        b"Tue Nov 24 20:00:43 2026 -> /a",
                        b": Evil FOUND",
                        b" FOUND",
                        b"\n",
                        b": moved to '/q'",
                        b"Daemon failed to scan: ",
                        b"rule=1 dec=deny",
                        b" perm=open auid=-1 pid=",
                        b"7 exe=/x : path=/a ftype=x trust=0",
                        b"\xff",
                        b" (deleted)",
                        b" ERROR",
                        b'{"action": "denied", "threat": "T", "path": "/a"',
                        b', "mono_s": 1e400',
                        b"}",
                    ]
                ),
                max_size=8,
            ).map(b"".join),
        ),
    ),
    max_size=5,
)


@given(PIECES)
def test_parsers_never_raise_and_are_deterministic(pieces: list[tuple[str, int | None, bytes]]) -> None:
    log = EventLog()
    for name, step, raw in pieces:
        log.add(Kind.LOG, f"/x/{name}", step=step, raw=raw)
    for product in PARSERS:
        assert list(parser_of(product)(attempt_of(log))) == list(parser_of(product)(attempt_of(log)))


@given(PIECES)
def test_what_says_found_or_denied_never_passes_in_silence(pieces: list[tuple[str, int | None, bytes]]) -> None:
    log = EventLog()
    for name, step, raw in pieces:
        log.add(Kind.LOG, f"/x/{name}", step=step, raw=raw)
    texts = {name: b"".join(raw for n, _, raw in pieces if n == name) for name, _, _ in pieces}
    if b" FOUND" in texts.get("clamd.log", b"") + b"|" + texts.get("clamonacc.log", b""):
        assert list(parser_of("clamav")(attempt_of(log)))
    if b"dec=deny" in texts.get("decisions.log", b""):
        assert list(parser_of("fapolicyd")(attempt_of(log)))


def test_settings_that_could_not_be_read_back_whole_are_unread() -> None:
    log = EventLog()
    event = log.add(Kind.PRODUCT, "settings", raw=b"User clamav\n")
    log.events[-1] = event.model_copy(update={"truncated": True})
    log.add(Kind.PRODUCT, "settings")
    seen = list(parser_of("clamav")(attempt_of(log)))
    assert [isinstance(o, Unread) for o in seen] == [True, True]


def test_no_recording_holds_the_test_file_itself() -> None:
    """A scanner on a developer's machine would take it away."""
    whole = b"".join([b"X5O!P%@AP[4\\PZX54(P^)7CC)7}", b"$EICAR", b"-STANDARD-ANTI", b"VIRUS-TEST-FILE!", b"$H+H*"])
    assert not [path for path in RECORDED.rglob("*") if path.is_file() and whole in path.read_bytes()]
