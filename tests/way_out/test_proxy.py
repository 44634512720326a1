"""The recording proxy, with the real part of the guest's and real little servers: what goes out, and what does not."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from harness.deadline import Deadline
from harness.egress import Egress, Pair, VendorCloud
from harness.egress_seen import Fate, How, doubts, summed
from harness.transports.socket_stream import SocketStream
from harness.way_out import proxy as proxy_module
from harness.way_out.channels import WINDOW_BYTES, Frame, FrameKind, FrameReader, encode
from harness.way_out.proxy import RecordingProxy
from tests.way_out.guest_end import LIMIT_S, all_of, echo, head_of, opened, server

QUOTES = Pair("quotes.example.kr", 443)


def local(port: int) -> Egress:
    return Egress(private_hosts=(f"localhost:{port}",))


def connect_to(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()


def answers(connected: socket.socket) -> None:
    connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + head_of(connected))


# --- what goes out ----------------------------------------------------------------------------------------------------


def test_a_tunnel_to_an_open_pair_carries_bytes_both_ways_and_is_recorded_by_their_number() -> None:
    with server(echo) as port, opened(local(port), step=lambda: 3) as way:
        with way.connect() as connected:
            connected.settimeout(LIMIT_S)
            connected.sendall(connect_to(f"localhost:{port}"))
            assert connected.recv(100).startswith(b"HTTP/1.1 200 ")
            connected.sendall(b"price?")
            assert connected.recv(100) == b"price?"
            connected.shutdown(socket.SHUT_WR)
            assert all_of(connected) == b""
        (seen,) = way.settled()
    assert (seen.how, seen.fate, seen.target) == (How.TUNNEL, Fate.OPENED, f"localhost:{port}")
    assert (seen.sent_bytes, seen.received_bytes, seen.step, seen.cloud) == (6, 6, 3, None)
    assert ip_address(seen.address or "").is_loopback


def test_what_was_sent_behind_the_head_is_not_lost() -> None:
    with server(echo) as port, opened(local(port)) as way, way.connect() as connected:
        connected.settimeout(LIMIT_S)
        connected.sendall(connect_to(f"localhost:{port}") + b"at once")
        connected.shutdown(socket.SHUT_WR)
        assert all_of(connected).endswith(b"\r\n\r\nat once")


def test_a_plain_request_goes_out_in_origin_form_and_only_its_body_follows() -> None:
    with server(answers) as port, opened(local(port)) as way:
        asked = f"POST http://localhost:{port}/a?b HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 2\r\n\r\nhi"
        answer = way.ask(asked.encode() + f"GET http://other:{port}/ HTTP/1.1\r\n\r\n".encode())
        (seen,) = way.settled()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"POST /a?b HTTP/1.1\r\n" in answer
    assert b"other" not in answer
    assert (seen.how, seen.fate) == (How.HTTP, Fate.OPENED)


def test_a_program_that_knows_no_proxy_reaches_a_pair_by_its_listener() -> None:
    with server(echo) as port:
        egress = Egress(private_hosts=(QUOTES.text,))
        way_there = {
            "resolver": lambda _h, _p: ("127.0.0.1",),
            "dialer": lambda a, _p: socket.create_connection((a, port)),
        }
        with opened(egress, pairs=(QUOTES,), **way_there) as way:
            with way.connect(1) as connected:
                connected.settimeout(LIMIT_S)
                connected.sendall(b"\x01\x02raw")
                assert connected.recv(100) == b"\x01\x02raw"
            (seen,) = way.settled()
    assert (seen.how, seen.fate, seen.target, seen.sent_bytes) == (How.NAME, Fate.OPENED, QUOTES.text, 5)


def test_more_than_a_window_goes_both_ways_whole() -> None:
    data = bytes(range(256)) * 16 * 1024
    assert len(data) > 8 * WINDOW_BYTES
    with server(echo) as port, opened(local(port)) as way, way.connect() as connected:
        connected.settimeout(LIMIT_S)
        connected.sendall(connect_to(f"localhost:{port}"))

        def send() -> None:
            connected.sendall(data)
            connected.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = all_of(connected)
        sender.join(LIMIT_S)
    assert got.partition(b"\r\n\r\n")[2] == data


def test_a_connection_that_nobody_reads_holds_up_no_other() -> None:
    def floods(connected: socket.socket) -> None:
        connected.sendall(b"x" * 16 * WINDOW_BYTES)

    with server(floods) as flood, server(echo) as port:
        egress = Egress(private_hosts=(f"localhost:{flood}", f"localhost:{port}"))
        with opened(egress) as way, way.connect() as stuck:
            stuck.sendall(connect_to(f"localhost:{flood}"))
            with way.connect() as other:
                other.settimeout(LIMIT_S)
                other.sendall(connect_to(f"localhost:{port}") + b"still here")
                other.shutdown(socket.SHUT_WR)
                assert all_of(other).endswith(b"still here")


# --- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["localhost:1", "example.com:443", "127.0.0.1:{port}", "[::1]:{port}"])
def test_what_is_not_named_is_refused_and_recorded_and_nobody_is_asked(target: str) -> None:
    asked: list[str] = []

    def resolver(host: str, _port: int) -> tuple[str, ...]:
        asked.append(host)
        return ()

    with server(echo) as port:
        wanted = target.format(port=port)
        with opened(local(port), resolver=resolver) as way:
            answer = way.ask(connect_to(wanted))
            (seen,) = way.settled()
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert (seen.fate, seen.target, seen.why, seen.address, asked) == (Fate.REFUSED, wanted, "it is not open", None, [])


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "this machine or its network"),
        ("10.1.2.3", "this machine or its network"),
        ("::1", "this machine or its network"),
        ("::ffff:127.0.0.1", "this machine or its network"),
        ("64:ff9b::7f00:1", "this machine or its network"),
        ("fd12:3456::1", "this machine or its network"),
        ("100.64.0.1", "this machine or its network"),
        ("169.254.169.254", "metadata"),
        ("::ffff:169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("fe80::1", "metadata"),
        ("168.63.129.16", "metadata"),
        ("0.0.0.0", "no address of a machine"),  # noqa: S104 - nothing is bound
        ("255.255.255.255", "no address of a machine"),
    ],
)
def test_a_public_name_that_leads_inside_is_refused_whatever_else_it_leads_to(address: str, why: str) -> None:
    dialled: list[str] = []

    def dial(at: str, _port: int) -> socket.socket:
        dialled.append(at)
        raise OSError

    with opened(Egress(hosts=(QUOTES.text,)), resolver=lambda _h, _p: ("93.184.216.34", address), dialer=dial) as way:
        assert way.ask(connect_to(QUOTES.text)).startswith(b"HTTP/1.1 403 ")
        (seen,) = way.settled()
    assert seen.fate is Fate.REFUSED
    assert why in (seen.why or "")
    assert dialled == []


def test_not_even_a_private_host_leads_to_metadata() -> None:
    egress = Egress(private_hosts=(QUOTES.text,))
    with opened(egress, resolver=lambda _h, _p: ("169.254.169.254",)) as way:
        assert way.ask(connect_to(QUOTES.text)).startswith(b"HTTP/1.1 403 ")
        assert way.settled()[0].fate is Fate.REFUSED


def test_the_address_that_was_looked_at_is_the_one_that_is_used() -> None:
    answers_of_a_rebinding_server = iter([("93.184.216.34",), ("127.0.0.1",)])
    dialled: list[str] = []

    def dial(at: str, _port: int) -> socket.socket:
        dialled.append(at)
        raise ConnectionRefusedError(111, "Connection refused")

    egress = Egress(hosts=(QUOTES.text,))
    with opened(egress, resolver=lambda _h, _p: next(answers_of_a_rebinding_server), dialer=dial) as way:
        assert way.ask(connect_to(QUOTES.text)).startswith(b"HTTP/1.1 502 ")
        (seen,) = way.settled()
    assert dialled == ["93.184.216.34"]
    assert (seen.fate, seen.why) == (Fate.UNREACHABLE, "[Errno 111] Connection refused")


def test_a_name_with_very_many_addresses_is_not_tried_for_ever() -> None:
    dialled: list[str] = []

    def dial(at: str, _port: int) -> socket.socket:
        dialled.append(at)
        raise TimeoutError("timed out")

    many = tuple(f"93.184.216.{n}" for n in range(1, 100))
    with opened(Egress(hosts=(QUOTES.text,)), resolver=lambda _h, _p: many, dialer=dial) as way:
        assert way.ask(connect_to(QUOTES.text)).startswith(b"HTTP/1.1 502 ")
    assert dialled == list(many[: proxy_module.MAX_ADDRESSES])


def no_name(_host: str, _port: int) -> tuple[str, ...]:
    raise socket.gaierror(-2, "Name or service not known")


def test_a_vendor_s_cloud_is_recorded_by_its_name() -> None:
    cloud = VendorCloud(name="vendor-cloud", product="clamav", hosts=("cloud.example.com:443",))
    with opened(Egress(vendor_clouds=(cloud,)), resolver=no_name) as way:
        way.ask(connect_to("cloud.example.com:443"))
        (seen,) = way.settled()
    assert (seen.cloud, seen.fate) == ("vendor-cloud", Fate.UNREACHABLE)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"CONNECT localhost:443 HTTP/1.1\nHost: a\n\n",
        b"CONNECT " + b"a" * 20000,
    ],
)
def test_what_is_no_request_is_refused_and_recorded(head: bytes) -> None:
    with opened(local(443)) as way:
        assert way.ask(head).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        (seen,) = way.settled()
    assert (seen.how, seen.fate) == (How.UNKNOWN, Fate.REFUSED)
    assert (seen.why or "").startswith("no request that is read: ")


def test_a_hostile_name_is_recorded_in_plain_ascii_and_cut() -> None:
    with opened(local(443)) as way:
        way.ask(b"CONNECT " + b"<script>" * 200 + b":443 HTTP/1.1\r\n\r\n")
        (seen,) = way.settled()
    assert len(seen.target) < 300
    assert seen.target.isascii()


def test_who_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "HEAD_S", 0.05)
    with opened(local(443)) as way:
        assert way.ask(b"CONNECT loc") == b""
        assert way.settled()[0].why == "it asked for nothing in time"


# --- floods -----------------------------------------------------------------------------------------------------------


def test_connections_beyond_the_number_of_records_are_let_nowhere_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 3)
    with server(echo) as port, opened(local(port)) as way:
        for _ in range(3):
            way.ask(connect_to("example.com:443"))
        assert way.ask(connect_to(f"localhost:{port}")) == b""
        assert (len(way.settled(3)), way.proxy.uncounted) == (3, 1)


def test_a_guest_that_opens_connections_without_end_has_no_way_out_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CONNECTIONS", 2)
    proxy, close = said_by_a_guest(*(Frame(n, FrameKind.OPEN, b"\0\1") for n in range(1, 7)))
    broken = next((proxy.broken for _ in Deadline.after(LIMIT_S).poll(0.005) if proxy.broken is not None), None)
    close()
    assert "without end" in (broken or "")
    assert len(proxy.connections()) == 2


def test_connections_beyond_those_at_a_time_are_let_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "MAX_CHANNELS", 1)
    with server(echo) as port, opened(local(port)) as way, way.connect() as first:
        first.settimeout(LIMIT_S)
        first.sendall(connect_to(f"localhost:{port}"))
        assert first.recv(100).startswith(b"HTTP/1.1 200 ")
        assert way.ask(connect_to(f"localhost:{port}")) == b""
        seen = way.proxy.connections()
    assert [c.fate for c in seen] == [Fate.OPENED, Fate.LIMIT]
    assert doubts(seen, uncounted=0, failed=False)


def test_bytes_beyond_the_most_end_the_connection_and_leave_a_doubt() -> None:
    with server(echo) as port, opened(local(port), max_bytes=100_000) as way:
        way.ask(connect_to(f"localhost:{port}") + b"x" * 200_000)
        seen = way.settled()
    assert (seen[0].fate, seen[0].why) == (Fate.LIMIT, "too many bytes")
    assert summed(seen).used[0].failed == 1


# --- a guest that lies ------------------------------------------------------------------------------------------------


def said_by_a_guest(*frames: Frame | bytes) -> tuple[RecordingProxy, Callable[[], None]]:
    ours, guest = socket.socketpair()
    over = threading.Event()

    def never(_host: str, _port: int) -> tuple[str, ...]:
        over.wait(LIMIT_S)  # the connection stands, and nobody takes what is sent
        return ()

    egress = Egress(private_hosts=(QUOTES.text,))
    proxy = RecordingProxy(SocketStream(ours), egress, pairs=(QUOTES,), resolver=never)
    for frame in frames:
        guest.sendall(frame if isinstance(frame, bytes) else encode(frame))

    def close() -> None:
        over.set()
        proxy.close()
        guest.close()

    return proxy, close


OPEN = Frame(7, FrameKind.OPEN, b"\0\1")


@pytest.mark.parametrize(
    "frames",
    [
        (OPEN, OPEN),
        (Frame(7, FrameKind.OPEN, b"\0\5"),),
        (OPEN, Frame(7, FrameKind.CREDIT, struct.pack(">I", 1))),
        (OPEN, *(Frame(7, FrameKind.DATA, b"x" * 65536),) * 5),
        (OPEN, Frame(7, FrameKind.END), Frame(7, FrameKind.DATA, b"x")),
        (struct.pack(">IBI", 7, 99, 0),),
        (struct.pack(">IBI", 7, FrameKind.DATA, 1 << 31),),
        (struct.pack(">IBI", 7, FrameKind.CREDIT, 1) + b"x",),
        (b"Traceback (most recent call last):\n",),
    ],
    ids=["opened twice", "no listener", "credit", "window", "after the end", "kind", "length", "no number", "text"],
)
def test_a_guest_that_breaks_the_protocol_has_no_way_out_any_more(frames: tuple[Frame | bytes, ...]) -> None:
    proxy, close = said_by_a_guest(*frames)
    broken = next((proxy.broken for _ in Deadline.after(LIMIT_S).poll(0.005) if proxy.broken is not None), None)
    close()
    assert broken is not None
    assert "nonsense" in broken


def test_a_guest_s_part_that_ends_is_noticed() -> None:
    ours, guest = socket.socketpair()
    proxy = RecordingProxy(SocketStream(ours), local(443))
    guest.close()
    assert not proxy.await_ready(Deadline.after(LIMIT_S))
    assert proxy.broken == "the guest's part ended"
    proxy.close()


def test_frames_come_whole_however_they_are_cut() -> None:
    frames = [Frame(1, FrameKind.OPEN, b"\0\1"), Frame(1, FrameKind.DATA, b"abc"), Frame(1, FrameKind.END)]
    reader, found = FrameReader(), list[Frame]()
    for byte in b"".join(map(encode, frames)):
        found += reader.feed(bytes([byte]))
    assert found == frames


def test_closing_ends_all_connections_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with server(echo) as port, opened(local(port)) as way, way.connect() as connected:
        connected.settimeout(LIMIT_S)
        connected.sendall(connect_to(f"localhost:{port}"))
        assert connected.recv(100).startswith(b"HTTP/1.1 200 ")
        way.proxy.close()
        assert all_of(connected) == b""
        assert way.proxy.connections()[0].fate is Fate.OPENED
    assert threading.active_count() == before
