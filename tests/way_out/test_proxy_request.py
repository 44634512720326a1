r"""Heads of requests to the proxy: what is read, what never is, and that no two readers come to two hosts."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.egress import Pair
from harness.way_out.proxy_request import MAX_HEAD_BYTES, MAX_HEADERS, BadRequest, ProxyRequest, read_request

END = b"\r\n\r\n"


def read(head: bytes) -> ProxyRequest:
    request = read_request(head)
    assert request is not None
    return request


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        (b"CONNECT quotes.example.kr:443 HTTP/1.1", Pair("quotes.example.kr", 443)),
        (b"CONNECT QUOTES.example.kr.:443 HTTP/1.0", Pair("quotes.example.kr", 443)),
        (b"CONNECT [2606:4700:0::1]:443 HTTP/1.1", Pair("2606:4700::1", 443)),
        (b"CONNECT 93.184.216.34:1 HTTP/1.1", Pair("93.184.216.34", 1)),
        (b"GET http://quotes.example.kr HTTP/1.1", Pair("quotes.example.kr", 80)),
        (b"GET http://quotes.example.kr:/ HTTP/1.1", Pair("quotes.example.kr", 80)),
        (b"GET HTTP://quotes.example.kr:8080/a HTTP/1.1", Pair("quotes.example.kr", 8080)),
        (b"GET http://[2606:4700::1]/a HTTP/1.1", Pair("2606:4700::1", 80)),
    ],
)
def test_a_target_is_read_in_one_form(line: bytes, pair: Pair) -> None:
    request = read(line + END)
    assert (request.pair, request.tunnel, request.size_bytes) == (pair, line.startswith(b"CONNECT"), len(line) + 4)


def test_the_other_side_gets_the_origin_form_and_nothing_that_was_for_us() -> None:
    head = (
        b"POST http://quotes.example.kr/a?b=c#d HTTP/1.1\r\nHost: QUOTES.example.kr\r\nProxy-Connection: keep-alive\r\n"
        b"Proxy-Authorization: x\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nContent-Length: 3\r\nA: */*\r\n\r\nabc"
    )
    request = read(head)
    assert request.head == (
        b"POST /a?b=c HTTP/1.1\r\nHost: quotes.example.kr\r\nContent-Length: 3\r\nA: */*\r\nConnection: close\r\n\r\n"
    )
    assert (request.body_bytes, head[request.size_bytes :]) == (3, b"abc")


def test_a_connection_header_cannot_take_the_length_away() -> None:
    request = read(b"POST http://a.kr/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3" + END)
    assert b"Content-Length: 3\r\n" in request.head


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: a.kr", "neither 'http://...' nor of CONNECT"),
        (b"GET https://a.kr/ HTTP/1.1", "neither 'http://...' nor of CONNECT"),
        (b"GET ftp://a.kr/ HTTP/1.1", "neither 'http://...' nor of CONNECT"),
        (b"OPTIONS * HTTP/1.1", "neither 'http://...' nor of CONNECT"),
        (b"CONNECT a.kr HTTP/1.1", "port is none"),
        (b"CONNECT a.kr: HTTP/1.1", "port is none"),
        (b"CONNECT a.kr:0 HTTP/1.1", "port is none"),
        (b"CONNECT a.kr:99999 HTTP/1.1", "port is none"),
        (b"CONNECT a.kr:+443 HTTP/1.1", "port is none"),
        (b"CONNECT http://a.kr:443 HTTP/1.1", "port is none"),
        (b"CONNECT a.kr:443:443 HTTP/1.1", "port is none"),
        (b"CONNECT user@a.kr:443 HTTP/1.1", "no host and port"),
        (b"GET http://b.kr@a.kr/ HTTP/1.1", "no host and port"),
        (b"GET http://a.kr\\@b.kr/ HTTP/1.1", "no host and port"),
        (b"CONNECT 2606:4700::1:443 HTTP/1.1", "port is none"),
        (b"CONNECT [fe80::1%25eth0]:443 HTTP/1.1", "no host and port"),
        (b"CONNECT [127.0.0.1]:443 HTTP/1.1", "no host name"),
        (b"CONNECT 127.1:443 HTTP/1.1", "no host name"),
        (b"CONNECT 0x7f.0.0.1:443 HTTP/1.1", "no host name"),
        (b"CONNECT :443 HTTP/1.1", "no host name"),
        (b"CONNECT a.kr:443 HTTP/2.0", "no HTTP/1.1 request"),
        (b"CONNECT  a.kr:443 HTTP/1.1", "no HTTP/1.1 request"),
        (b"CONNECT\ta.kr:443 HTTP/1.1", "no HTTP/1.1 request"),
        (b" CONNECT a.kr:443 HTTP/1.1", "no HTTP/1.1 request"),
        (b"\r\nCONNECT a.kr:443 HTTP/1.1", "no HTTP/1.1 request"),
        (b"CONNECT a.kr\x00:443 HTTP/1.1", "bytes that none has"),
        (b"CONNECT \xea\xb0\x80.kr:443 HTTP/1.1", "bytes that none has"),
        (b"CONNECT a.kr:443 HTTP/1.1\r\nHost: b.kr:443", "Host is not the host"),
        (b"CONNECT a.kr:443 HTTP/1.1\r\nHost: a.kr:80", "Host is not the host"),
        (b"GET http://a.kr/ HTTP/1.1\r\nHost: b.kr", "Host is not the host"),
        (b"GET http://a.kr:81/ HTTP/1.1\r\nHost: a.kr", "Host is not the host"),
        (b"GET http://a.kr/ HTTP/1.1\r\nHost: a.kr\r\nHost: b.kr", "more than one Host"),
        (b"GET http://a.kr/ HTTP/1.1\r\nHost : b.kr", "a header of it is none"),
        (b"GET http://a.kr/ HTTP/1.1\r\nA: b\r\n Host: b.kr", "a header of it is none"),
        (b"GET http://a.kr/ HTTP/1.1\r\nA: b\rHost: b.kr", "CR LF"),
        (b"GET http://a.kr/ HTTP/1.1\nHost: b.kr", "CR LF"),
        (b"GET http://a.kr/ HTTP/1.1\r\nA: b\x00c", "a header of it is none"),
        (b"GET http://a.kr/ HTTP/1.1\r\nTransfer-Encoding: chunked", "Transfer-Encoding"),
        (b"GET http://a.kr/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2", "length of its body"),
        (b"GET http://a.kr/ HTTP/1.1\r\nContent-Length: -1", "length of its body"),
        (b"GET http://a.kr/ HTTP/1.1\r\nContent-Length: 1, 1", "length of its body"),
        (b"GET http://a.kr/ HTTP/1.1" + b"\r\nA: b" * (MAX_HEADERS + 1), "too many headers"),
        (b"GET http://a.kr/" + b"a" * MAX_HEAD_BYTES, "too long"),
    ],
)
def test_what_two_readers_could_read_in_two_ways_is_no_request(head: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why.replace("*", r"\*")):
        read_request(head + END)


def test_what_it_seems_to_ask_for_is_kept_for_the_record() -> None:
    with pytest.raises(BadRequest) as caught:
        read_request(b"CONNECT a.kr:443 HTTP/1.1\r\nHost: b.kr" + END)
    assert caught.value.wanted == "a.kr:443"


TEXT = st.text(st.characters(codec="latin-1"), max_size=40).map(lambda text: text.encode("latin-1"))
PIECES = st.sampled_from(
    [b"CONNECT ", b"GET ", b"http://", b"a.kr", b"b.kr", b":443", b":80", b" HTTP/1.1", b"\r\n", b"\n", b"\r",
     b"Host: ", b"Content-Length: ", b"Transfer-Encoding: chunked", b"@", b"/", b"[::1]", b"\x00", b"127.0.0.1",
     b" ", b"\t", b"0"]
)  # fmt: skip
HOSTILE = st.lists(PIECES | TEXT, max_size=30).map(b"".join)


@given(HOSTILE)
@example(b"")
@example(b"\r\n\r\n")
def test_any_bytes_are_a_request_or_none_and_never_an_accident(data: bytes) -> None:
    for head in (data, data + END):
        try:
            request = read_request(head)
        except BadRequest:
            continue
        if request is not None:
            assert 1 <= request.pair.port <= 65535
            assert request.tunnel or b"\r\nHost: " in request.head
            assert b"\n" not in request.head.replace(b"\r\n", b"")
            assert request.head.count(END) == (0 if request.tunnel else 1)


@given(
    st.lists(st.sampled_from([b"a.kr", b"b.kr:443", b"a.kr:443", b"A.KR.", b"", b"a.kr:", b"a.kr, b.kr"]), max_size=3)
)
def test_whatever_the_hosts_say_the_pair_is_the_one_of_the_line(hosts: list[bytes]) -> None:
    head = b"CONNECT a.kr:443 HTTP/1.1" + b"".join(b"\r\nHost: " + host for host in hosts) + END
    try:
        request = read_request(head)
    except BadRequest:
        return
    assert request is not None
    assert request.pair == Pair("a.kr", 443)
    assert set(hosts) <= {b"a.kr", b"a.kr:443", b"A.KR.", b"a.kr:"}


@given(HOSTILE, st.integers(0, 200))
def test_a_head_is_read_alike_however_it_comes_in_pieces(data: bytes, cut: int) -> None:
    def outcome(head: bytes) -> object:
        try:
            return read_request(head)
        except BadRequest as error:
            return str(error)

    early = outcome(data[:cut])
    if early is not None:
        whole = outcome(data)
        assert isinstance(early, ProxyRequest) == isinstance(whole, ProxyRequest)


def test_an_unfinished_head_is_waited_for() -> None:
    assert read_request(b"CONNECT a.kr:443 HTTP/1.1\r\nHost: a.kr\r\n") is None
    assert read_request(b"") is None
