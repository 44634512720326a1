"""The book of an attempt: events in order, bytes by digest, and nothing that reads as whole when it is not."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from harness.attempt import AttemptMeta, Kind, Role, from_jsonl, to_jsonl
from harness.recorder import Recorder
from harness.secret import Mask, Secret
from tests.builders import NOON, make_cell, sha256_of

META = AttemptMeta(
    id="a",
    cell=make_cell(),
    role=Role.FIRST,
    ordinal=1,
    nonce="0" * 12,
    provider="fake",
    tool_version="0",
    started_at=NOON,
)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(META)


@pytest.fixture
def small() -> Recorder:
    return Recorder(META, max_bytes=10)


def test_events_are_numbered_stamped_and_carry_step_and_source(recorder: Recorder) -> None:
    recorder.record(Kind.BEGIN)
    recorder.step = 2
    recorder.for_source("product:clamav")(Kind.LOG, "/a", data={"offset": 0}, blob=b"x")
    first, second = recorder.attempt().events
    assert [(e.seq, e.step, e.source) for e in (first, second)] == [(0, None, "harness"), (1, 2, "product:clamav")]
    assert (second.kind, second.subject, second.data, second.blob) == (Kind.LOG, "/a", {"offset": 0}, sha256_of(b"x"))
    assert 0 <= first.host_mono_s <= second.host_mono_s


def test_a_secret_is_in_no_subject_data_or_bytes_of_an_attempt() -> None:
    recorder = Recorder(META, mask=Mask([Secret("ACCOUNT", "hong-1234")]))
    data: dict[str, JsonValue] = {"dialog": "no user hong-1234", "hong-1234": [{"deep": "HONG-1234"}], "code": 7}
    recorder.record(Kind.LOOK, "window hong-1234", data=data, blob=b"user=hong-1234")
    attempt = recorder.attempt()
    [event] = attempt.events
    assert "hong-1234" not in event.model_dump_json().casefold()
    assert (event.data["code"], event.subject) == (7, "window *********")
    assert attempt.blobs.get(event.blob or "") == b"user=*********"
    assert event.blob == sha256_of(b"user=*********")


def test_no_bytes_and_empty_bytes_are_two_things(recorder: Recorder) -> None:
    recorder.record(Kind.LOG)
    recorder.record(Kind.LOG, blob=b"")
    attempt = recorder.attempt()
    assert [e.blob for e in attempt.events] == [None, sha256_of(b"")]
    assert attempt.blobs.get(sha256_of(b"")) == b""


def test_equal_bytes_are_kept_once(small: Recorder) -> None:
    for _ in range(5):
        small.record(Kind.LOG, blob=b"12345678")
    attempt = small.attempt()
    assert {e.blob for e in attempt.events} == {sha256_of(b"12345678")}
    assert attempt.blobs.get(sha256_of(b"12345678")) == b"12345678"
    assert [e.truncated for e in attempt.events] == [False] * 5


def test_bytes_beyond_the_cap_are_cut_and_said(small: Recorder) -> None:
    for raw in (b"12345678", b"abcdef", b"more"):
        small.record(Kind.LOG, blob=raw)
    attempt = small.attempt()
    kept = [attempt.blobs.get(e.blob or "") for e in attempt.events]
    assert kept == [b"12345678", b"ab", b""]
    assert [e.truncated for e in attempt.events] == [False, True, True]


def test_what_its_source_cut_stays_cut(recorder: Recorder) -> None:
    recorder.record(Kind.LOG, blob=b"x", truncated=True)
    assert recorder.attempt().events[0].truncated


def test_an_attempt_that_was_closed_does_not_change_any_more(recorder: Recorder) -> None:
    data = {"offset": 0}
    recorder.record(Kind.LOG, data=dict(data), blob=b"x")
    early = recorder.attempt()
    recorder.record(Kind.END, blob=b"y")
    assert len(early.events) == 1
    assert not early.complete
    assert recorder.attempt().complete
    with pytest.raises(KeyError):
        early.blobs.get(sha256_of(b"y"))


def test_what_was_recorded_can_be_written_and_read_again(recorder: Recorder) -> None:
    recorder.record(Kind.LOG, "/한글 a", data={"error": None, "n": 1.5}, blob=b"\xff")
    recorder.record(Kind.END)
    events = recorder.attempt().events
    assert from_jsonl(to_jsonl(events)) == events


def test_events_with_a_gap_are_not_read_at_all(recorder: Recorder) -> None:
    for _ in range(3):
        recorder.record(Kind.LOG)
    lines = to_jsonl(recorder.attempt().events).splitlines(keepends=True)
    with pytest.raises(ValueError, match="without gaps"):
        from_jsonl(lines[0] + lines[2])
    with pytest.raises(ValueError, match="JSON"):
        from_jsonl(lines[0] + lines[1][:-5])
