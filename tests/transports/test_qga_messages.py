"""What the guest agent's bytes mean, and that no bytes of a hostile guest mean anything else."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports import qga_messages
from harness.transports.api import OUTPUT_CAP_BYTES
from harness.transports.frames import ProtocolError
from harness.transports.qga_messages import AnswerReader, Ended, Refused, ended_in, pid_in, reply_in


def answer(**members: object) -> bytes:
    return json.dumps(members).encode() + b"\n"


def fed(*pieces: bytes, max_bytes: int = 1000) -> AnswerReader:
    reader = AnswerReader(max_bytes)
    for piece in pieces:
        reader.feed(piece)
    return reader


@given(garbage=st.binary(max_size=400), cut=st.integers(0, 40), number=st.integers(1, 2**40))
def test_the_answer_to_a_sync_is_found_behind_any_garbage(garbage: bytes, cut: int, number: int) -> None:
    right = qga_messages.DELIMITER + answer(**{"return": number}) + answer(id=9, **{"return": {}})
    reader = AnswerReader()
    found = False
    for piece in (garbage, right[:cut], right[cut:]):
        reader.feed(piece)
        found = found or reader.after_sync(number)
    assert found
    assert reader.next_answer(9) == {}


@pytest.mark.parametrize(
    "said",
    [
        answer(**{"return": 7}),
        qga_messages.DELIMITER + answer(**{"return": 8}),
        qga_messages.DELIMITER + answer(**{"return": True}),
        qga_messages.DELIMITER + b"7\n",
        qga_messages.DELIMITER + b'{"return": 7}',
        qga_messages.DELIMITER * 500,
    ],
    ids=["no delimiter", "another's", "no number", "no object", "not whole", "delimiters"],
)
def test_what_is_no_answer_to_a_sync_is_none(said: bytes) -> None:
    assert not fed(said).after_sync(7)


def test_what_is_dropped_before_a_sync_is_not_kept() -> None:
    reader = AnswerReader()
    for _ in range(100):
        reader.feed(bytes(100_000))
        assert not reader.after_sync(1)
    assert len(reader._buffer) < 1000


def test_answers_come_in_any_pieces() -> None:
    both = answer(id=1, **{"return": {"pid": 5}}) + answer(id=2, **{"return": {"exited": False}})
    reader, found = AnswerReader(), list[object]()
    for at in range(len(both)):
        reader.feed(both[at : at + 1])
        returned = reader.next_answer(len(found) + 1)
        if returned is not None:
            found.append(returned)
    assert found == [{"pid": 5}, {"exited": False}]


@pytest.mark.parametrize(
    "line",
    [
        answer(id=2, **{"return": {}}),
        answer(**{"return": {}}),
        answer(id=True, **{"return": {}}),
        answer(id=1),
        b"[1]\n",
        b"\xff\xfe\n",
        b'{"id": 1\n',
        b"[" * 900 + b"\n",
        b"x" * 1001,
    ],
    ids=["another id", "no id", "id true", "nothing", "no object", "no text", "no json", "deep", "too long"],
)
def test_what_is_no_answer_to_this_call_is_no_answer(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        fed(line).next_answer(1)


def test_an_error_of_the_agent_is_told_in_its_words_and_not_endlessly() -> None:
    with pytest.raises(Refused) as told:
        fed(answer(id=1, error={"class": "GenericError", "desc": "x" * 900})).next_answer(1)
    assert str(told.value) == "x" * 300


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_answer_or_be_refused(said: bytes) -> None:
    reader = fed(said + b"\n")
    try:
        reader.next_answer(1)
    except (ProtocolError, Refused):
        return


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
statuses = st.dictionaries(
    st.sampled_from(("exited", "exitcode", "signal", "out-data", "err-data", "out-truncated", "err-truncated")),
    json_values,
)


@given(json_values | statuses)
def test_no_value_is_taken_for_a_process_or_an_end_that_it_is_not(value: object) -> None:
    for read in (pid_in, ended_in):
        try:
            read(value)
        except ProtocolError:
            continue


@pytest.mark.parametrize("data", ["*", "QQ", "é", 5, base64.b64encode(bytes(OUTPUT_CAP_BYTES + 1)).decode()])
def test_an_output_that_is_none_or_beyond_the_cap_is_refused(data: object) -> None:
    with pytest.raises(ProtocolError, match="'out-data' is no output"):
        ended_in({"exited": True, "exitcode": 0, "out-data": data})


def ended(stderr: bytes, *, exit_code: int | None = 0, out_cut: bool = False, err_cut: bool = False) -> Ended:
    return Ended(exit_code=exit_code, stdout=b"out", stderr=stderr, stdout_truncated=out_cut, stderr_truncated=err_cut)


HEAD = json.dumps({"id": 3, "exit": 4, "duration_s": 1.5})


def test_the_helper_s_last_line_says_how_the_program_ended() -> None:
    reply = reply_in(ended(b"a\n\nb\n" + HEAD.encode() + b"\n"), 3)
    assert (reply.result.exit_code, reply.result.stdout, reply.result.stderr) == (4, b"out", b"a\n\nb")


def test_an_output_that_the_agent_cut_is_said_to_be_cut() -> None:
    result = reply_in(ended(b"\n" + HEAD.encode() + b"\n", out_cut=True), 3).result
    assert (result.stdout_truncated, result.stderr_truncated) == (True, False)


@pytest.mark.parametrize(
    "end",
    [
        ended(b""),
        ended(b"Traceback", exit_code=1),
        ended(b"\n" + HEAD.encode(), exit_code=None),
        ended(b"\n" + HEAD.encode(), err_cut=True),
        ended(b"\n" + HEAD.encode().replace(b"3", b"4") + b"\n"),
    ],
    ids=["nothing", "failed", "killed", "cut", "another's"],
)
def test_a_helper_that_did_not_say_how_the_program_ended_is_lab_trouble(end: Ended) -> None:
    with pytest.raises(ProtocolError):
        reply_in(end, 3)
