r"""Pure. The head of a request to our proxy: bytes of a guest -> which pair it wants, or why it is no request.

Read strictly, because two readers of one head must never come to two hosts: lines end in CR LF and nothing else does,
every name is a token, no header is continued, ``Host`` says what the request line says, and what would end a body
elsewhere than its length says is refused.

Source: RFC 9110 (7.2 Host, 9.3.6 CONNECT), RFC 9112 (2.2, 3.2.2 absolute-form, 3.2.3 authority-form, 5, 6.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.egress import Pair, host_in

#: A head is no longer than this, in bytes; nor are there more headers.
MAX_HEAD_BYTES, MAX_HEADERS = 16 * 1024, 100

_END = b"\r\n\r\n"
_HTTP_PORT = 80
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
#: Bytes of a header's value; those above 0x7f are nobody's business.
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,12}")
_PORT = re.compile(r"[0-9]{1,5}")
#: Of this connection alone, or of the proxy. Source: RFC 9110, 7.6.1.
_HOP = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"te", b"trailer", b"upgrade",
                  b"proxy-authorization", b"proxy-authenticate"})  # fmt: skip


class BadRequest(ValueError):
    """The bytes are no request that we read; the text is a clause. ``wanted`` is what they seem to ask for."""

    def __init__(self, why: str, *, wanted: str = "") -> None:
        """Keep both."""
        super().__init__(why)
        self.wanted = wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRequest:
    """What a guest wants.

    Attributes:
        pair: Where to.
        tunnel: ``CONNECT``: all that follows is for the other side. Else one plain request.
        head: What the other side gets of the head; empty for a tunnel.
        body_bytes: How much of what follows belongs to the plain request.
        size_bytes: How long the head was.
    """

    pair: Pair
    tunnel: bool
    head: bytes
    body_bytes: int
    size_bytes: int


def read_request(data: bytes) -> ProxyRequest | None:
    """Read the head at the beginning of what a guest sent; None while it is not whole.

    Raises:
        BadRequest: It never will be a request.
    """
    end = data.find(_END, 0, MAX_HEAD_BYTES)
    if end < 0:
        if len(data) >= MAX_HEAD_BYTES:
            msg = "its head is too long"
            raise BadRequest(msg)
        if b"\n" in data.replace(b"\r\n", b""):
            msg = "a line of it does not end in CR LF"
            raise BadRequest(msg)
        return None
    lines = data[:end].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line for line in lines):
        msg = "a line of it does not end in CR LF"
        raise BadRequest(msg)
    method, target = _request_line(lines[0])
    wanted = target.decode("ascii")
    try:
        headers = _headers(lines[1:])
        size = end + len(_END)
        if method == b"CONNECT":
            pair = _authority(wanted, None)
            _check_host(headers, pair, None)
            return ProxyRequest(pair=pair, tunnel=True, head=b"", body_bytes=0, size_bytes=size)
        pair, path = _absolute(wanted)
        _check_host(headers, pair, _HTTP_PORT)
        body = _body_bytes(headers)
    except BadRequest as error:
        raise BadRequest(str(error), wanted=wanted) from error
    kept = [(name, value) for name, value in headers if name.lower() not in _HOP | _named_in(headers) | {b"host"}]
    authority = pair.text.removesuffix(f":{_HTTP_PORT}").encode()
    out = [b"%s %s HTTP/1.1" % (method, path.encode()), b"Host: " + authority]
    out += [b"%s: %s" % pair for pair in kept] + [b"Connection: close"]
    return ProxyRequest(pair=pair, tunnel=False, head=b"\r\n".join(out) + _END, body_bytes=body, size_bytes=size)


def _request_line(line: bytes) -> tuple[bytes, bytes]:
    words = line.split(b" ")
    if len(words) != 3 or not _TOKEN.fullmatch(words[0]) or words[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:  # noqa: PLR2004
        msg = "it is no HTTP/1.1 request"
        raise BadRequest(msg)
    if not re.fullmatch(rb"[\x21-\x7e]+", words[1]):
        msg = "its target has bytes that none has"
        raise BadRequest(msg)
    return words[0], words[1]


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    if len(lines) > MAX_HEADERS:
        msg = "it has too many headers"
        raise BadRequest(msg)
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            msg = "a header of it is none"
            raise BadRequest(msg)
        headers.append((name, value.strip(b" \t")))
    return headers


def _named_in(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Give the headers that ``Connection`` declares to be of this connection alone."""
    listed = b",".join(value for name, value in headers if name.lower() == b"connection")
    return frozenset(word.strip().lower() for word in listed.split(b",")) - {b"content-length"}


def _absolute(target: str) -> tuple[Pair, str]:
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() != "http":
        msg = "its target is neither 'http://...' nor of CONNECT"
        raise BadRequest(msg)
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = rest[len(authority) :].partition("#")[0]
    return _authority(authority, _HTTP_PORT), path if path.startswith("/") else f"/{path}"


def _authority(text: str, port: int | None) -> Pair:
    """Read ``host[:port]``; without a default the port must be there."""
    match = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.]*\]|[^\[\]:@/?#\\]*)(?::(?P<port>.*))?", text)
    if match is None:
        msg = "its authority is no host and port"
        raise BadRequest(msg)
    said = match["port"]
    if (said is None and port is None) or (
        said is not None and not (said == "" and port) and not _PORT.fullmatch(said)
    ):
        msg = "its port is none"
        raise BadRequest(msg)
    number = int(said) if said else port or 0
    if not 1 <= number <= 65535:  # noqa: PLR2004 - TCP's ports
        msg = "its port is none"
        raise BadRequest(msg)
    try:
        return Pair(host_in(match["host"]), number)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _check_host(headers: list[tuple[bytes, bytes]], pair: Pair, port: int | None) -> None:
    """``Host`` names the same host, and the same port where it names one."""
    said = [value for name, value in headers if name.lower() == b"host"]
    if len(said) > 1:
        msg = "it has more than one Host"
        raise BadRequest(msg)
    if not said:
        return
    try:
        named = _authority(said[0].decode("ascii"), port or pair.port)
    except UnicodeDecodeError as error:
        msg = "its Host is no host"
        raise BadRequest(msg) from error
    if named != pair:
        msg = "its Host is not the host that it asks for"
        raise BadRequest(msg)


def _body_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    lengths = {value for name, value in headers if name.lower() == b"content-length"}
    if any(name.lower() == b"transfer-encoding" for name, _ in headers):
        msg = "its body has no length (Transfer-Encoding); a tunnel takes it"
        raise BadRequest(msg)
    if len(lengths) > 1 or any(not _LENGTH.fullmatch(value) for value in lengths):
        msg = "the length of its body is none"
        raise BadRequest(msg)
    return int(lengths.pop()) if lengths else 0
