"""Pieces of a log -> lines: whatever the pieces, no line is lost, made up or misplaced in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attempt import Attempt, Kind, MemoryBlobs
from harness.log_lines import Line, lines_of
from harness.observation import Unread
from tests.builders import EventLog, make_attempt

PATH = "/run/x/scan.log"


class Log:
    """Records pieces as the prober does: each with the offset at which it begins."""

    def __init__(self) -> None:
        self.events = EventLog()
        self.offset = 0

    def piece(
        self,
        content: bytes,
        *,
        step: int | None = None,
        truncated: bool = False,
        reset: bool = False,
        error: str | None = None,
    ) -> None:
        event = self.events.add(Kind.LOG, PATH, step=step, raw=content, offset=self.offset, reset=reset, error=error)
        self.events.events[-1] = event.model_copy(update={"truncated": truncated})
        self.offset += len(content)

    def lose(self) -> None:
        """Make the store forget the last piece."""
        del self.events.blobs[self.events.events[-1].blob or ""]

    def attempt(self) -> Attempt:
        made = make_attempt(raws=())
        return replace(made, events=tuple(self.events.events), blobs=MemoryBlobs(self.events.blobs))

    def read(self) -> tuple[list[str], list[str]]:
        items = list(lines_of(self.attempt(), "scan.log"))
        texts = [i.text for i in items if isinstance(i, Line)]
        return texts, [i.what for i in items if isinstance(i, Unread)]


def test_a_line_belongs_to_the_piece_that_holds_its_end() -> None:
    log = Log()
    log.piece(b"one\ntw", step=0)
    log.piece(b"o", step=1)
    log.piece(b"\nthree\n", step=2)
    lines = [i for i in lines_of(log.attempt(), "scan.log") if isinstance(i, Line)]
    assert [(i.text, i.seq, i.step) for i in lines] == [("one", 0, 0), ("two", 2, 2), ("three", 2, 2)]


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=8), max_size=6), st.data())
def test_lines_are_the_same_however_the_log_is_cut_into_pieces(lines: list[str], data: st.DataObject) -> None:
    whole = "".join(line + "\n" for line in lines).encode()
    log = Log()
    rest = whole
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        log.piece(rest[:size])
        rest = rest[size:]
    assert log.read() == (lines, [])


def test_only_the_log_of_that_name_is_read() -> None:
    log = Log()
    log.piece(b"one\n")
    log.events.add(Kind.LOG, "/run/x/otherscan.log", raw=b"other\n")
    log.events.add(Kind.LOOK, PATH, raw=b"look\n")
    assert log.read() == (["one"], [])


def test_a_last_line_without_its_end_is_given_and_said_to_have_none() -> None:
    log = Log()
    log.piece(b"one\nx: Evil FO")
    assert log.read() == (["one", "x: Evil FO"], ["scan.log: its last line has no end"])


def test_a_missing_piece_is_said_and_nothing_is_put_together_across_it() -> None:
    log = Log()
    log.piece(b"one\n/path/hts_comm.dll")
    log.piece(b" is fine\nlost\n/path/")
    log.lose()
    log.piece(b"x: Evil FOUND\nlast\n")
    assert log.read() == (["one", "last"], ["scan.log: a piece is missing or altered"])


def test_a_piece_without_bytes_is_missing() -> None:
    log = Log()
    log.events.add(Kind.LOG, PATH, offset=0)
    assert log.read() == ([], ["scan.log: a piece is missing or altered"])


def test_a_gap_between_pieces_is_said_and_nothing_is_put_together_across_it() -> None:
    log = Log()
    log.piece(b"one\n/path/a")
    log.offset += 100
    log.piece(b"b: Evil FOUND\nlast\n")
    assert log.read() == (["one", "last"], ["scan.log: there is a gap before byte 111"])


def test_a_log_that_is_not_read_from_its_beginning_has_a_gap() -> None:
    log = Log()
    log.offset = 10
    log.piece(b"cut\nwhole\n")
    assert log.read() == (["whole"], ["scan.log: there is a gap before byte 10"])


def test_a_gap_that_ends_within_a_long_line_drops_all_of_that_line() -> None:
    log = Log()
    log.offset = 10
    log.piece(b"x: Evil")
    log.piece(b" FOUND")
    log.piece(b"\nwhole\n")
    assert log.read()[0] == ["whole"]


def test_a_log_that_started_anew_is_said_and_its_first_line_is_whole() -> None:
    log = Log()
    log.piece(b"one\nhalf")
    log.piece(b"new\n", reset=True)
    log.offset = 4
    log.piece(b"next\n")
    assert log.read() == (["one", "new", "next"], ["scan.log: it started anew, so an earlier part may be lost"])


def test_a_log_that_could_not_be_opened_is_said() -> None:
    log = Log()
    log.piece(b"", error="EACCES")
    log.piece(b"one\n")
    assert log.read() == (["one"], ["scan.log: it could not be read (EACCES)"])


def test_a_piece_that_was_cut_is_said_and_its_lines_are_read() -> None:
    log = Log()
    log.piece(b"one\ntwo\n", truncated=True)
    assert log.read() == (["one", "two"], ["scan.log: a piece was cut"])


def test_bytes_that_are_no_utf8_are_kept_as_escapes() -> None:
    log = Log()
    log.piece("/주문/".encode() + b"\xc0\xaf\x00\x1b[31m: Evil FOUND\n")
    [line] = [i for i in lines_of(log.attempt(), "scan.log") if isinstance(i, Line)]
    assert (line.text, line.decoded) == ("/주문/\\xc0\\xaf\x00\x1b[31m: Evil FOUND", False)


def test_a_character_in_two_pieces_is_put_together() -> None:
    log = Log()
    raw = "/데모/가.dll\n".encode()
    log.piece(raw[:2])
    log.piece(raw[2:])
    assert log.read() == (["/데모/가.dll"], [])


def test_a_log_that_could_not_be_read_for_a_while_goes_on_where_it_was() -> None:
    log = Log()
    log.piece(b"one\ntw")
    log.piece(b"", error="EIO")
    log.piece(b"o\n")
    assert log.read() == (["one", "two"], ["scan.log: it could not be read (EIO)"])


def test_a_piece_that_is_read_twice_is_a_gap_and_said() -> None:
    log = Log()
    log.piece(b"one\n")
    log.offset = 0
    log.piece(b"one\ntwo\n")
    lines, unread = log.read()
    assert lines == ["one", "two"]
    assert unread == ["scan.log: there is a gap before byte 0"]


def test_an_empty_log_says_nothing() -> None:
    log = Log()
    log.piece(b"")
    assert log.read() == ([], [])


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    log = Log()
    log.piece(f"one{separator}two\n".encode())
    assert log.read() == ([f"one{separator}two"], [])
