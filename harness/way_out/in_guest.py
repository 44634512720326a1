"""Driver. The guest's end of its way out, run there by the guest's Python; standard library only.

``in_guest.py USER HOST:PORT ...`` listens on addresses of the guest's loopback and hands every connection on as frames
(``channels``) on its standard output; what comes on its standard input goes back. It decides nothing: which connection
leads where is decided and recorded on the host, out of reach of whatever runs in the guest.

1. Listener 0 is the proxy. The others each stand for one pair, so that a program that knows no proxy reaches it by its
   name, which /etc/hosts leads to the listener.
2. The end of the input ends it: when the harness has gone, so has the way out.
3. It listens as root, where a port below 1024 wants that, and serves as USER.

Source: RFC 1122 (all of 127/8 is the machine itself); hosts(5).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import selectors
import socket
import sys
from collections import deque
from collections.abc import Sequence

from harness.way_out.channels import (
    MAX_CHANNELS,
    MAX_PAYLOAD_BYTES,
    WINDOW_BYTES,
    Frame,
    FrameKind,
    FrameReader,
    data_frames,
    encode,
)

IN, OUT = selectors.EVENT_READ, selectors.EVENT_WRITE


class Channel:
    """One connection of a program in the guest."""

    def __init__(self, number: int, connected: socket.socket) -> None:
        self.number = number
        self.socket = connected
        self.credit = WINDOW_BYTES  # what the host takes of it now
        self.waiting: deque[bytes] = deque()  # what came from the host for it
        self.said_all = False  # by the program
        self.heard_all = False  # by the host
        self.shut = False
        self.closing = False  # by the host, once it has all that waits

    def wanted(self) -> int:
        """Give the events to wait for."""
        reading = IN if self.credit and not self.said_all else 0
        return reading | (OUT if self.waiting else 0)


class Switch:
    """Takes connections in and moves their bytes, in one thread."""

    def __init__(self, listeners: Sequence[socket.socket], source: int, sink: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._source, self._sink = source, sink
        self._reader = FrameReader()
        self._out = bytearray()
        self._channels: dict[int, Channel] = {}
        self._last = 0
        self._writing = False
        for number, listener in enumerate(listeners):
            listener.setblocking(False)  # noqa: FBT003 - the standard library's own form
            self._selector.register(listener, IN, number)
        for descriptor in {source, sink}:
            os.set_blocking(descriptor, False)
        self._selector.register(source, IN, "source")
        self._say(Frame(0, FrameKind.READY))

    def run(self) -> None:
        """Serve until the input ends."""
        while True:
            for key, events in self._selector.select():
                match key.data:
                    case "source":
                        if events & IN and not self._hear():
                            return
                        if events & OUT:
                            self._flush()
                    case "sink":
                        self._flush()
                    case int() as listener:
                        self._accept(key.fileobj, listener)
                    case channel:
                        self._serve(channel, events)

    def close(self) -> None:
        """Let go of every connection; the listeners stay the caller's."""
        for channel in list(self._channels.values()):
            self._close(channel)
        self._selector.close()

    def _say(self, *frames: Frame) -> None:
        for frame in frames:
            self._out += encode(frame)
        self._flush()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._out:
                del self._out[: os.write(self._sink, self._out[: 256 * 1024])]
        if bool(self._out) == self._writing:
            return
        self._writing = bool(self._out)
        if self._source == self._sink:
            self._selector.modify(self._source, IN | (OUT if self._writing else 0), "source")
        elif self._writing:
            self._selector.register(self._sink, OUT, "sink")
        else:
            self._selector.unregister(self._sink)

    def _hear(self) -> bool:
        try:
            data = os.read(self._source, 256 * 1024)
        except BlockingIOError:
            return True
        for frame in self._reader.feed(data):
            channel = self._channels.get(frame.channel)
            if channel is not None:
                self._take(channel, frame)
        return bool(data)

    def _take(self, channel: Channel, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.DATA:
                channel.waiting.append(frame.payload)
            case FrameKind.END:
                channel.heard_all = True
                self._end_when_told(channel)
            case FrameKind.CREDIT:
                channel.credit += frame.number
            case _:
                channel.closing = channel.said_all = True
                if not channel.waiting:
                    self._close(channel)
        self._watch(channel)

    def _accept(self, listener: object, number: int) -> None:
        assert isinstance(listener, socket.socket)  # noqa: S101 - registered above
        try:
            connected, _ = listener.accept()
        except OSError:
            return
        self._last += 1
        if len(self._channels) >= MAX_CHANNELS:
            connected.close()  # the host is told, so that it is recorded
            self._say(Frame(self._last, FrameKind.OPEN, number.to_bytes(2, "big")), Frame(self._last, FrameKind.CLOSE))
            return
        connected.setblocking(False)  # noqa: FBT003 - the standard library's own form
        channel = self._channels[self._last] = Channel(self._last, connected)
        self._selector.register(connected, IN, channel)
        self._say(Frame(channel.number, FrameKind.OPEN, number.to_bytes(2, "big")))

    def _serve(self, channel: Channel, events: int) -> None:
        try:
            if events & OUT:
                self._hand_on(channel)
            if events & IN and channel.credit and not channel.said_all and not channel.closing:
                self._read(channel)
        except BlockingIOError:
            pass
        except OSError:
            self._say(Frame(channel.number, FrameKind.CLOSE))
            self._close(channel)
            return
        self._watch(channel)

    def _hand_on(self, channel: Channel) -> None:
        while channel.waiting:
            piece = channel.waiting[0]
            sent = channel.socket.send(piece)
            self._say(Frame(channel.number, FrameKind.CREDIT, sent.to_bytes(4, "big")))
            if sent < len(piece):
                channel.waiting[0] = piece[sent:]
                return
            channel.waiting.popleft()
        self._end_when_told(channel)
        if channel.closing:
            self._close(channel)

    def _end_when_told(self, channel: Channel) -> None:
        if channel.heard_all and not channel.waiting and not channel.shut:
            channel.shut = True
            with contextlib.suppress(OSError):
                channel.socket.shutdown(socket.SHUT_WR)

    def _read(self, channel: Channel) -> None:
        data = channel.socket.recv(min(channel.credit, MAX_PAYLOAD_BYTES))
        if not data:
            channel.said_all = True
            self._say(Frame(channel.number, FrameKind.END))
            return
        channel.credit -= len(data)
        for frame in data_frames(channel.number, data):
            self._out += frame
        self._flush()

    def _watch(self, channel: Channel) -> None:
        if channel.number not in self._channels:
            return
        wanted = channel.wanted()
        known = channel.socket in self._selector.get_map()
        if not wanted and known:
            self._selector.unregister(channel.socket)
        elif wanted and known:
            self._selector.modify(channel.socket, wanted, channel)
        elif wanted:
            self._selector.register(channel.socket, wanted, channel)

    def _close(self, channel: Channel) -> None:
        if self._channels.pop(channel.number, None) is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(channel.socket)
            with contextlib.suppress(OSError):
                channel.socket.close()


def listen(places: Sequence[str]) -> list[socket.socket]:
    """Listen at each ``address:port``."""
    made = []
    for place in places:
        host, _, port = place.rpartition(":")
        made.append(socket.create_server((host, int(port)), backlog=MAX_CHANNELS))
    return made


def become(user: str) -> None:
    """Be an ordinary user from now on, where we are root."""
    if os.getuid() == 0:
        found = pwd.getpwnam(user)
        os.setgroups([])
        os.setresgid(found.pw_gid, found.pw_gid, found.pw_gid)
        os.setresuid(found.pw_uid, found.pw_uid, found.pw_uid)


def main() -> None:
    """Listen, become the user, and serve."""
    standing = listen(sys.argv[2:])
    become(sys.argv[1])
    with contextlib.suppress(OSError):
        Switch(standing, 0, 1).run()
