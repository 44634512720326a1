"""Driver. The recording proxy: a guest's connections, let out to named pairs alone, each of them recorded.

It listens nowhere. What carries a guest's connections is a stream that the harness itself opened into the guest (a
``Wire``), so there is nothing that another program or another guest could connect to, and nothing that outlives the
harness.

1. What comes over the wire is a hostile guest's: whatever breaks the protocol ends the way out, and that is said.
2. Names are resolved here, and the address that a name leads to is looked at before it is connected to; the very same
   address is then used.
3. All is bounded: connections at a time and in all, bytes on their way, bytes in all, time for a head and an answer.
4. Bytes are counted and never kept.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.egress import Egress, Pair, Permit, why_not_there
from harness.egress_seen import MAX_CONNECTIONS, Connection, Fate, How, plain
from harness.transports.api import Wire
from harness.way_out.channels import (
    MAX_CHANNELS,
    WINDOW_BYTES,
    Frame,
    FrameError,
    FrameKind,
    FrameReader,
    data_frames,
    encode,
)
from harness.way_out.proxy_request import MAX_HEAD_BYTES, BadRequest, ProxyRequest, read_request

#: Seconds for a head, for a connection to the other side, and for a guest that does not read on.
HEAD_S, DIAL_S, WIRE_S = 10.0, 10.0, 30.0
#: How long a half-closed connection may go on, and how long threads are waited for at the end.
LINGER_S, END_S = 10.0, 5.0
#: Bytes that one attempt may move, both ways together.
MAX_BYTES = 1024**3
#: How many of a name's addresses are tried.
MAX_ADDRESSES = 4
_PIECE_BYTES = 64 * 1024

Resolve = Callable[[str, int], Sequence[str]]
Dial = Callable[[str, int], socket.socket]


def resolve(host: str, port: int) -> Sequence[str]:
    """Give the addresses that a name leads to on this machine, in the resolver's order; ``OSError`` when none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


def dial(address: str, port: int) -> socket.socket:
    """Connect to an address."""
    return socket.create_connection((address, port), timeout=DIAL_S)


@dataclass(eq=False)
class _Entry:
    """What is known of one connection so far."""

    began_s: float
    step: int | None
    how: How = How.UNKNOWN
    target: str = ""
    fate: Fate = Fate.REFUSED
    cloud: str | None = None
    address: str | None = None
    why: str | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    ended_s: float | None = None


class _Gone(Exception):
    """The connection is over."""


class _Forbidden(Exception):
    """A pair's name leads where it must not."""


class RecordingProxy:
    """The way out of one guest.

    Args:
        wire: Carries the guest's connections; ours from now on.
        egress: What is open.
        step: Gives the index of the step that runs now.
        pairs: What the guest's listeners from 1 on stand for.
        planted: A host that our own try names.
        resolver, dialer: How the outside is reached.
        max_bytes: See ``MAX_BYTES``.
        began_s: What seconds are counted from, on the monotonic clock; now by default.
    """

    def __init__(
        self,
        wire: Wire,
        egress: Egress,
        *,
        step: Callable[[], int | None] = lambda: None,
        pairs: Sequence[Pair] = (),
        planted: str = "",
        resolver: Resolve = resolve,
        dialer: Dial = dial,
        max_bytes: int = MAX_BYTES,
        began_s: float | None = None,
    ) -> None:
        self._wire = wire
        self._egress = egress
        self._step = step
        self._pairs = tuple(pairs)
        self._planted = planted
        self._resolver, self._dialer = resolver, dialer
        self._left_bytes = max_bytes
        self._began_s = time.monotonic() if began_s is None else began_s
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._entries: list[_Entry] = []
        self._uncounted = 0
        self._channels: dict[int, _Channel] = {}
        self._threads: list[threading.Thread] = []
        self._ready = threading.Event()
        self._broken: str | None = None
        self._closing = False
        self._listener = self._spawn(self._hear)

    @property
    def broken(self) -> str | None:
        """Say what ended the way out before it was closed; None while it stands."""
        return self._broken

    @property
    def uncounted(self) -> int:
        """Tell how many connections have no record."""
        return self._uncounted

    def await_ready(self, deadline: Deadline) -> bool:
        """Wait until the guest's part listens."""
        return self._ready.wait(deadline.remaining_s) and self._broken is None

    def connections(self) -> tuple[Connection, ...]:
        """Give every connection so far, in the order in which they came."""
        with self._lock:
            return tuple(self._written(entry) for entry in self._entries)

    def close(self) -> None:
        """End all connections and the way out; what was recorded stays."""
        with self._lock:
            self._closing = True
            channels = list(self._channels.values())
        for channel in channels:
            channel.drop()
        self._wire.close()
        end = Deadline.after(END_S)
        for thread in [*self._threads, self._listener]:
            if thread is not threading.current_thread():
                thread.join(end.remaining_s)

    def _spawn(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name="way-out", daemon=True)
        thread.start()
        return thread

    def _written(self, entry: _Entry) -> Connection:
        ended_s = entry.ended_s if entry.ended_s is not None else time.monotonic()
        return Connection(
            at_s=round(entry.began_s - self._began_s, 4),
            step=entry.step,
            how=entry.how,
            target=entry.target,
            fate=entry.fate,
            cloud=entry.cloud,
            address=entry.address,
            why=entry.why,
            sent_bytes=entry.sent_bytes,
            received_bytes=entry.received_bytes,
            open_s=round(ended_s - entry.began_s, 4),
            planted=bool(self._planted) and entry.target.rpartition(":")[0] == self._planted,
        )

    # --- the wire ---------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        reader = FrameReader()
        try:
            while True:
                try:
                    data = self._wire.receive(patience=Deadline.after(WIRE_S))
                except TimeoutError:
                    continue
                for frame in reader.feed(data):
                    self._take(frame)
        except FrameError as error:
            self._break(f"the guest's part says nonsense ({error})")
        except (OSError, EOFError, ValueError, _Gone):
            self._break("the guest's part ended")

    def _break(self, why: str) -> None:
        with self._lock:
            if self._broken is None and not self._closing:
                self._broken = why
            channels = list(self._channels.values())
        self._ready.set()
        for channel in channels:
            channel.drop()

    def _take(self, frame: Frame) -> None:
        if frame.kind is FrameKind.READY:
            self._ready.set()
            return
        if frame.kind is FrameKind.OPEN:
            self._open(frame)
            return
        channel = self._channels.get(frame.channel)
        if channel is not None:  # one that we have closed meanwhile may still be spoken of
            channel.take(frame)

    def _open(self, frame: Frame) -> None:
        with self._lock:
            if frame.channel in self._channels or frame.number > len(self._pairs):
                msg = "a connection is opened twice, or at no listener"
                raise FrameError(msg)
            refused = self._admit(frame)
        if refused:
            self.say(encode(Frame(frame.channel, FrameKind.CLOSE)))

    def _admit(self, frame: Frame) -> bool:
        """Record a connection and serve it, the lock held; True when there is no room for it."""
        if len(self._entries) >= MAX_CONNECTIONS or self._closing:
            self._uncounted += 1
            if self._uncounted > MAX_CONNECTIONS:
                msg = "it opens connections without end"
                raise FrameError(msg)
            return True
        entry = _Entry(began_s=time.monotonic(), step=self._step())
        self._entries.append(entry)
        if len(self._channels) >= MAX_CHANNELS:
            entry.fate, entry.why = Fate.LIMIT, f"more than {MAX_CHANNELS} connections at a time"
            entry.ended_s = entry.began_s
            return True
        channel = _Channel(self, frame.channel, entry, listener=frame.number)
        self._channels[frame.channel] = channel
        self._threads = [t for t in self._threads if t.is_alive()]
        self._threads.append(self._spawn(channel.serve))
        return False

    # --- what channels use ------------------------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        """Send frames to the guest's part."""
        with self._sending:
            try:
                self._wire.send(data, patience=Deadline.after(WIRE_S))
            except (OSError, EOFError, ValueError) as error:
                self._break("the guest's part takes nothing any more")  # half of a frame may have gone
                raise _Gone from error

    def spawn(self, work: Callable[[], None]) -> threading.Thread:
        """Run a channel's second half."""
        return self._spawn(work)

    def forget(self, number: int) -> None:
        """Let a channel go."""
        with self._lock:
            self._channels.pop(number, None)

    def spend(self, size: int) -> bool:
        """Count bytes; False when there are no more to be had."""
        with self._lock:
            self._left_bytes -= size
            return self._left_bytes >= 0

    def listener_pair(self, listener: int) -> Pair | None:
        """Give the pair that a listener stands for; None is the proxy."""
        return self._pairs[listener - 1] if listener else None

    def permit_for(self, pair: Pair) -> Permit | None:
        """Give what a pair is open for."""
        return self._egress.permit_for(pair)

    def reach(self, permit: Permit, entry: _Entry) -> socket.socket:
        """Connect to where a pair leads, if it may lead there; ``OSError`` says what is wrong."""
        pair = permit.pair
        fixed = pair.address
        addresses = (str(fixed),) if fixed is not None else self._resolver(pair.host, pair.port)
        if not addresses:
            msg = "its name leads nowhere"
            raise OSError(msg)
        problem: OSError | None = None
        for text in addresses:
            why = why_not_there(permit, ipaddress.ip_address(text))
            if why is not None:
                # One address that it must not have is enough: the next look may give that one first.
                raise _Forbidden(why)
        for text in addresses[:MAX_ADDRESSES]:
            if self._closing:
                break
            try:
                connected = self._dialer(text, pair.port)
            except OSError as error:
                problem = error
                continue
            entry.address = text
            return connected
        raise problem or OSError


class _Channel:
    """One connection of the guest, in two threads: to the other side, and back."""

    def __init__(self, proxy: RecordingProxy, number: int, entry: _Entry, *, listener: int) -> None:
        self._proxy = proxy
        self._number = number
        self._entry = entry
        self._listener = listener
        self._changed = threading.Condition()
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._credit = WINDOW_BYTES
        self._ended = False
        self._over = False
        self._upstream: socket.socket | None = None

    # --- called by the proxy's listening thread ---

    def take(self, frame: Frame) -> None:
        """Take what the guest's part says of this connection; never waits."""
        if frame.kind is FrameKind.CLOSE:
            self.drop()
            return
        with self._changed:
            match frame.kind:
                case FrameKind.DATA:
                    self._inbox.append(frame.payload)
                    self._inbox_bytes += len(frame.payload)
                    if self._inbox_bytes > WINDOW_BYTES or self._ended:
                        msg = "a connection sends more than its window"
                        raise FrameError(msg)
                case FrameKind.END:
                    self._ended = True
                case FrameKind.CREDIT:
                    self._credit += frame.number
                    if self._credit > WINDOW_BYTES:
                        msg = "a connection gives back more than it got"
                        raise FrameError(msg)
                case _:
                    pass
            self._changed.notify_all()

    def drop(self) -> None:
        """End the connection now, from any thread."""
        with self._changed:
            self._over = True
            upstream = self._upstream
            self._changed.notify_all()
        if upstream is not None:
            with contextlib.suppress(OSError):
                upstream.shutdown(socket.SHUT_RDWR)

    # --- its own threads ---

    def serve(self) -> None:
        """Find out where the guest wants to go, and let it or not."""
        upstream: socket.socket | None = None
        try:
            with contextlib.suppress(_Gone, OSError):
                request = self._request()
                upstream = self._reach(request)
                if upstream is not None:
                    self._relay(upstream, request)
        finally:
            self.drop()
            if upstream is not None:
                upstream.close()
            self._entry.ended_s = time.monotonic()
            self._proxy.forget(self._number)
            with contextlib.suppress(_Gone):
                self._proxy.say(encode(Frame(self._number, FrameKind.CLOSE)))

    def _request(self) -> ProxyRequest:
        """Read what is wanted; a refusal is answered and recorded here."""
        entry, named = self._entry, self._proxy.listener_pair(self._listener)
        if named is not None:
            entry.how, entry.target = How.NAME, named.text
            return ProxyRequest(pair=named, tunnel=True, head=b"", body_bytes=0, size_bytes=0)
        end = Deadline.after(HEAD_S)
        try:
            while (request := read_request(self._peek())) is None:
                if not self._await_more(end):
                    entry.why = "it asked for nothing in time"
                    raise _Gone
        except BadRequest as error:
            entry.why, entry.target = f"no request that is read: {error}", plain(error.wanted)
            self._answer(400, entry.why)
            raise _Gone from error
        entry.how = How.TUNNEL if request.tunnel else How.HTTP
        entry.target = plain(request.pair.text)
        self._drop_head(request.size_bytes)
        return request

    def _reach(self, request: ProxyRequest) -> socket.socket | None:
        entry, permit = self._entry, self._proxy.permit_for(request.pair)
        if permit is None:
            entry.why = "it is not open"
            self._refuse(403, "This host and port are not open (the suite's 'egress').")
            return None
        entry.cloud = permit.cloud
        try:
            upstream = self._proxy.reach(permit, entry)
        except _Forbidden as error:
            entry.why = plain(str(error))
            self._refuse(403, "This host leads where it must not.")
            return None
        except (OSError, ValueError) as error:
            entry.fate, entry.why = Fate.UNREACHABLE, plain(str(error) or type(error).__name__)
            self._refuse(502, "The host could not be reached.")
            return None
        entry.fate = Fate.OPENED
        upstream.settimeout(None)
        with self._changed:
            self._upstream = upstream
            over = self._over
        if over:
            upstream.close()
            return None
        return upstream

    def _relay(self, upstream: socket.socket, request: ProxyRequest) -> None:
        if self._listener == 0 and request.tunnel:
            self._give(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if request.head:
            self._entry.sent_bytes += len(request.head)
            upstream.sendall(request.head)
        limit = None if request.tunnel else request.body_bytes
        there = self._proxy.spawn(lambda: self._send_on(upstream, limit))
        try:
            while piece := upstream.recv(_PIECE_BYTES):
                self._entry.received_bytes += len(piece)
                self._spend(len(piece))
                self._give(piece)
            self._proxy.say(encode(Frame(self._number, FrameKind.END)))
            there.join(LINGER_S)
        finally:
            self.drop()
            there.join(END_S)

    def _send_on(self, upstream: socket.socket, limit: int | None) -> None:
        """Hand the guest's bytes to the other side; of a plain request only its body."""
        left = limit
        try:
            while left is None or left > 0:
                piece = self._next(left)
                if not piece:
                    break
                self._entry.sent_bytes += len(piece)
                self._spend(len(piece))
                upstream.sendall(piece)
                left = None if left is None else left - len(piece)
            if limit is None:
                upstream.shutdown(socket.SHUT_WR)
        except (_Gone, OSError):
            self.drop()

    def _spend(self, size: int) -> None:
        if not self._proxy.spend(size):
            self._entry.fate, self._entry.why = Fate.LIMIT, "too many bytes"
            raise _Gone

    # --- bytes ---

    def _peek(self) -> bytes:
        with self._changed:
            return b"".join(self._inbox)[:MAX_HEAD_BYTES]

    def _await_more(self, end: Deadline) -> bool:
        with self._changed:
            known = self._inbox_bytes
            self._changed.wait_for(lambda: self._inbox_bytes > known or self._ended or self._over, end.remaining_s)
            return self._inbox_bytes > known and not self._over

    def _drop_head(self, size: int) -> None:
        with self._changed:
            rest = b"".join(self._inbox)[size:]
            self._inbox.clear()
            if rest:
                self._inbox.append(rest)
            self._inbox_bytes = len(rest)
        self._proxy.say(encode(Frame(self._number, FrameKind.CREDIT, size.to_bytes(4, "big"))))

    def _next(self, most: int | None) -> bytes:
        """Give the guest's next bytes, waiting for them; none at its end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._inbox) or self._ended or self._over)
            if self._over:
                raise _Gone
            if not self._inbox:
                return b""
            piece = self._inbox.popleft()
            if most is not None and len(piece) > most:
                self._inbox.appendleft(piece[most:])
                piece = piece[:most]
            self._inbox_bytes -= len(piece)
        self._proxy.say(encode(Frame(self._number, FrameKind.CREDIT, len(piece).to_bytes(4, "big"))))
        return piece

    def _give(self, data: bytes) -> None:
        """Send bytes to the guest, as fast as it takes them."""
        rest = data
        while rest:
            with self._changed:
                self._changed.wait_for(lambda: self._credit > 0 or self._over)
                if self._over:
                    raise _Gone
                piece, rest = rest[: self._credit], rest[self._credit :]
                self._credit -= len(piece)
            for frame in data_frames(self._number, piece):
                self._proxy.say(frame)

    def _refuse(self, status: int, why: str) -> None:
        if self._listener == 0:
            self._answer(status, why)

    def _answer(self, status: int, why: str) -> None:
        words = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway"}[status]
        body = f"{why}\n".encode("ascii", "replace")
        head = f"HTTP/1.1 {status} {words}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        with contextlib.suppress(_Gone):
            self._give(head.encode() + b"Connection: close\r\n\r\n" + body)
            self._proxy.say(encode(Frame(self._number, FrameKind.END)))
