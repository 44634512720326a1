"""The frames of the in-guest agent, against a reference encoder that says what the agent says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.transports.api import CommandResult
from harness.transports.frames import (
    MAX_HEADER_BYTES,
    ProtocolError,
    Reply,
    ReplyReader,
    encode_greeting,
    encode_request,
)


def reply_bytes(number: int, stdout: bytes = b"", stderr: bytes = b"", **more: object) -> bytes:
    """Encode a reply as vm_images/reference/guest/agent.py does."""
    header = {
        "id": number,
        "exit": 0,
        "signal": None,
        "errno": None,
        "timed_out": False,
        "out": len(stdout),
        "err": len(stderr),
        "out_cut": False,
        "err_cut": False,
        "duration_s": 0.25,
    }
    return json.dumps(header | more).encode() + b"\n" + stdout + stderr


def test_a_request_is_one_line_of_json_before_its_input() -> None:
    sent = encode_request(7, ["echo", "주문"], user="trader", timeout_s=1.23456, stdin_bytes=2, cap=10)
    line, _, rest = sent.partition(b"\n")
    assert rest == b""
    assert json.loads(line) == {
        "id": 7,
        "argv": ["echo", "주문"],
        "user": "trader",
        "timeout_s": 1.235,
        "cap": 10,
        "stdin": 2,
    }


def test_a_greeting_is_one_line_and_names_no_program() -> None:
    assert encode_greeting(7, clock_s=1.5, file="/run/a nonce", cap=10) == b"greet 7 1.500000 10 /run/a nonce\n"
    assert encode_greeting(7, clock_s=None, file="/run/nonce", cap=10) == b"greet 7 - 10 /run/nonce\n"
    with pytest.raises(ValueError, match="second"):
        encode_greeting(7, clock_s=None, file="/run/nonce\nsecond", cap=10)


replies = st.builds(
    Reply,
    result=st.builds(
        CommandResult,
        exit_code=st.none() | st.integers(0, 255),
        stdout=st.binary(max_size=30),
        stderr=st.binary(max_size=30),
        stdout_truncated=st.booleans(),
        stderr_truncated=st.booleans(),
        signal=st.none() | st.integers(1, 64),
        errno=st.none() | st.integers(1, 133),
        duration_s=st.floats(0, 1e6),
    ),
    timed_out=st.booleans(),
)


def encoded(number: int, reply: Reply) -> bytes:
    r = reply.result
    return reply_bytes(
        number,
        r.stdout,
        r.stderr,
        exit=r.exit_code,
        signal=r.signal,
        errno=r.errno,
        out_cut=r.stdout_truncated,
        err_cut=r.stderr_truncated,
        timed_out=reply.timed_out,
        duration_s=r.duration_s,
    )


@given(st.lists(replies, min_size=1, max_size=3), st.data())
def test_replies_come_out_as_they_went_in_wherever_the_stream_is_split(sent: list[Reply], data: st.DataObject) -> None:
    stream = b"".join(encoded(number, reply) for number, reply in enumerate(sent))
    reader = ReplyReader()
    seen: list[Reply] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        reader.feed(stream[:size])
        stream = stream[size:]
        while len(seen) < len(sent) and (reply := reader.next_reply(len(seen))) is not None:
            seen.append(reply)
    assert seen == sent


def test_every_single_split_of_a_reply_gives_nothing_until_it_is_whole() -> None:
    whole = reply_bytes(3, b"a\nb", b"\n")
    for at in range(len(whole)):
        reader = ReplyReader()
        reader.feed(whole[:at])
        assert reader.next_reply(3) is None
        reader.feed(whole[at:])
        reply = reader.next_reply(3)
        assert reply is not None
        assert (reply.result.stdout, reply.result.stderr) == (b"a\nb", b"\n")


HOSTILE = {
    "no JSON": b"Segmentation fault\n",
    "an empty line": b"\n",
    "an array": b"[1]\n",
    "null": b"null\n",
    "invalid UTF-8": b'{"id": "\xff"}\n',
    "nested deep": b"[" * 60_000 + b"\n",
    "more digits than Python reads": b'{"id": ' + b"9" * 5000 + b"}\n",
    "another id": reply_bytes(2),
    "no id": reply_bytes(1, id=None),
    "an id that is true": reply_bytes(1, id=True),
    "an id that is a float": reply_bytes(1, id=1.0),
    "more than the cap": reply_bytes(1, out=101),
    "less than nothing": reply_bytes(1, out=-1),
    "a length that is no number": reply_bytes(1, err="3"),
    "a length that is true": reply_bytes(1, err=True),
    "a length that is a float": reply_bytes(1, err=1.0),
    "no length": reply_bytes(1, out=None),
    "an exit code that is text": reply_bytes(1, exit="0"),
    "an exit code that is false and would read as success": reply_bytes(1, exit=False),
    "an exit code of 400 digits": reply_bytes(1, exit=10**400),
    "a signal that is a list": reply_bytes(1, signal=[9]),
    "a time that is no number": reply_bytes(1, duration_s="1"),
    "a time that is NaN": reply_bytes(1, duration_s=float("nan")),
    "a time that is infinite": reply_bytes(1, duration_s=float("inf")),
    "a time that no float can hold": reply_bytes(1, duration_s=10**400),
    "a time before the beginning": reply_bytes(1, duration_s=-1),
    "a first line without an end": b"x" * (MAX_HEADER_BYTES + 1),
    "a first line that is too long": b"[" + b" " * MAX_HEADER_BYTES + b"]\n",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_reply_to_the_request_is_a_protocol_error(raw: bytes) -> None:
    reader = ReplyReader(cap=100)
    reader.feed(raw)
    with pytest.raises(ProtocolError):
        reader.next_reply(1)


@given(st.binary(max_size=80))
def test_any_bytes_give_a_reply_nothing_yet_or_a_protocol_error(raw: bytes) -> None:
    reader = ReplyReader()
    reader.feed(raw + b"\n")
    with pytest.raises(ProtocolError):
        reader.next_reply(1)


def test_flags_count_only_when_they_are_true() -> None:
    reader = ReplyReader()
    reader.feed(reply_bytes(1, timed_out=1, out_cut="true"))
    reply = reader.next_reply(1)
    assert reply is not None
    assert (reply.timed_out, reply.result.stdout_truncated) == (False, False)


def test_at_the_cap_a_reply_is_still_read() -> None:
    reader = ReplyReader(cap=4)
    reader.feed(reply_bytes(1, b"1234", b"5678"))
    reply = reader.next_reply(1)
    assert reply is not None
    assert reply.result.stdout + reply.result.stderr == b"12345678"
