from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attempt import Attempt, Kind, MemoryBlobs
from harness.evidence import (
    HEAD_BYTES,
    MAX_EXCERPTS,
    TAIL_BYTES,
    AttemptEvidence,
    attempt_evidence,
    decode,
    evidence_of,
)
from harness.facts import StepStatus, Trouble
from harness.inert_text import visible
from tests.renderers.sample_run import DIALOG, judged_cell

INCIDENT = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"
GREEN = "1.0.0/reference/clamav-standard/2026-11-04/fresh-install"


def shown(name: str) -> AttemptEvidence:
    decider = judged_cell(name).evidence.decider
    assert decider is not None
    return decider


def with_blobs(attempt: Attempt, raw: bytes, *, kind: Kind) -> Attempt:
    """Give the attempt with every blob of a kind holding these bytes."""
    changed = {e.blob: raw for e in attempt.events if e.kind is kind and e.blob}
    old = {e.blob: attempt.blobs.get(e.blob) for e in attempt.events if e.blob}
    return replace(attempt, blobs=MemoryBlobs(old | changed))


def test_the_timeline_has_a_line_for_every_step_also_for_those_never_reached() -> None:
    steps = shown(INCIDENT).steps
    assert [s.kind for s in steps][3:] == ["vendor_update", "launch", "self_update", "connect", "dwell"]
    assert [s.status for s in steps[-2:]] == [StepStatus.FAILED, StepStatus.NOT_RUN]
    assert steps[-2].code_text is not None
    assert steps[-1].duration_s is None
    begins = [s.began_s for s in steps if s.began_s is not None]
    assert begins == sorted(begins)


def test_the_dialog_the_picture_and_the_deciding_log_are_there() -> None:
    attempt = shown(INCIDENT)
    assert attempt.dialog == DIALOG
    assert [p.stage for p in attempt.pictures] == ["connect"]
    assert attempt.pictures[0].png is not None
    decisive = [x for x in attempt.excerpts if x.decisive]
    assert len(decisive) == 1
    assert "HtsDemo.FalsePositive.Comm.UNOFFICIAL" in decisive[0].text


def test_the_vanished_file_is_named_against_the_control() -> None:
    changes = judged_cell(INCIDENT).evidence.file_changes
    assert changes is not None
    assert [(c.path, c.change) for c in changes] == [("hts_comm.dll", "gone")]


def test_without_a_control_there_is_nothing_to_compare_which_is_not_the_same_as_no_change() -> None:
    judged = judged_cell(GREEN)
    assert judged.evidence.file_changes == ()
    assert evidence_of(judged.cell, judged.verdict, judged.attempts, ()).file_changes is None


def test_the_last_finished_control_stands_beside() -> None:
    evidence = judged_cell(GREEN).evidence
    assert evidence.control is not None
    assert evidence.control.role == "control_after"


def test_the_programs_own_korean_log_is_read_as_code_page_949() -> None:
    log = next(x for x in shown(GREEN).excerpts if x.name == "hts.log")
    assert (log.encoding, "접속 시작" in log.text) == ("cp949", True)


def test_a_missing_blob_is_shown_as_missing() -> None:
    tried = judged_cell(INCIDENT).attempts[0]
    bare = attempt_evidence(tried._replace(attempt=replace(tried.attempt, blobs=MemoryBlobs({}))))
    assert all(p.png is None and p.why_not for p in bare.pictures)
    assert all(x.why_not and x.size_bytes is None for x in bare.excerpts)


class _Damaged:
    def get(self, sha256: str) -> bytes:
        raise ValueError(sha256)


def test_a_damaged_blob_is_shown_as_damaged() -> None:
    tried = judged_cell(INCIDENT).attempts[0]
    bare = attempt_evidence(tried._replace(attempt=replace(tried.attempt, blobs=_Damaged())))
    assert {x.why_not for x in bare.excerpts} == {"the bytes in the store are not those that were recorded"}


@pytest.mark.parametrize("raw", [b"<svg onload=alert(1)>", b"", b"\x89PNG\r\n\x1a\n" + bytes(5 * 1024 * 1024)])
def test_what_is_no_picture_or_too_large_a_one_is_not_shown_and_says_why(raw: bytes) -> None:
    tried = judged_cell(INCIDENT).attempts[0]
    spoilt = with_blobs(tried.attempt, raw, kind=Kind.SCREENSHOT)
    picture = attempt_evidence(tried._replace(attempt=spoilt)).pictures[0]
    assert picture.png is None
    assert picture.why_not


def test_trouble_is_told_with_its_stage() -> None:
    tried = judged_cell(GREEN).attempts[0]
    facts = replace(tried.facts, troubles=(Trouble(seq=9, step=3, summary="The guest is gone.", guest_crashed=True),))
    line = attempt_evidence(tried._replace(facts=facts)).troubles[0]
    assert (line.stage, line.summary, line.guest_crashed) == ("launch", "The guest is gone.", True)


def test_too_many_blobs_keep_those_that_decided() -> None:
    tried = judged_cell(INCIDENT).attempts[0]
    log = next(e for e in tried.attempt.events if e.kind is Kind.LOG)
    many = tuple(log.model_copy(update={"seq": i}) for i in range(MAX_EXCERPTS + 20))
    finding = replace(tried.finding, refs=(MAX_EXCERPTS + 19,))
    evidence = attempt_evidence(tried._replace(attempt=replace(tried.attempt, events=many), finding=finding))
    assert len(evidence.excerpts) == MAX_EXCERPTS
    assert evidence.excerpts_left_out == 20
    assert evidence.excerpts[-1].decisive


def test_a_long_log_is_cut_and_says_how_much_is_left_out() -> None:
    raw = b"first line\n" + b"x" * 100_000 + b"\nlast line"
    text, encoding, cut = decode(raw)
    assert (encoding, cut) == ("utf-8", True)
    assert text.startswith("first line")
    assert text.endswith("last line")
    assert f"{len(raw) - HEAD_BYTES - TAIL_BYTES} bytes are left out" in text


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        ("오류".encode(), "오류", "utf-8"),
        ("오류".encode("cp949"), "오류", "cp949"),
        (b"\xff\xfe" + "오류".encode("utf-16-le"), "오류", "utf-16-le"),
        (b"\xfe\xff" + "오류".encode("utf-16-be"), "오류", "utf-16-be"),
        ("오류".encode()[:-1], "오\N{REPLACEMENT CHARACTER}", "utf-8"),
        (b"\xff\xff\x80", "\N{REPLACEMENT CHARACTER}" * 3, "utf-8"),
        (b"", "", "utf-8"),
    ],
)
def test_bytes_are_read_in_a_named_encoding(raw: bytes, text: str, encoding: str) -> None:
    assert decode(raw) == (text, encoding, False)


@given(st.binary(max_size=20_000))
def test_any_bytes_become_text_that_utf8_can_hold(raw: bytes) -> None:
    text, _, cut = decode(raw)
    assert text.encode().decode() == text
    assert cut == (len(raw) > HEAD_BYTES + TAIL_BYTES)


@given(st.text(max_size=200))
def test_visible_text_holds_nothing_that_acts(text: str) -> None:
    once = visible(text)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u200e\u200f\u202e\u2066\ufeff" for c in once)
    assert visible(once) == once


def test_visible_keeps_lines_only_when_asked() -> None:
    assert visible("a\r\nb\tc", lines=True) == "a\nb\tc"
    assert visible("a\nb") == "a\\x0ab"
    assert visible("\x1b[31mred\x00") == "\\x1b[31mred\\x00"
    assert visible("\u202egnp.exe") == "⟨U+202E⟩gnp.exe"
