"""Pure. Many connections over one stream of bytes, in frames, each connection with a window of its own.

A frame is a header (channel, kind, length) and its payload. A side may have ``WINDOW_BYTES`` of a channel on their way;
the other gives them back (``CREDIT``) as it hands them on, so that one connection that nobody reads holds up no other,
and neither side ever keeps more than a window of each.

Standard library only: the guest's part is pushed into a guest beside this.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

HEADER = struct.Struct(">IBI")
MAX_PAYLOAD_BYTES = 64 * 1024
WINDOW_BYTES = 256 * 1024
#: Connections at the same time; the guest's part closes what comes beyond.
MAX_CHANNELS = 64


class FrameKind(IntEnum):
    """What a frame says of its channel."""

    READY = 0  # channel 0: the guest's part listens; the payload is empty
    OPEN = 1  # a connection came in; the payload is the number of the listener, two bytes
    DATA = 2
    END = 3  # no more data in this direction
    CLOSE = 4  # the connection is over; nobody says more about the channel
    CREDIT = 5  # so many bytes have been handed on; four bytes


class FrameError(Exception):
    """The other side does not speak this protocol."""


@dataclass(frozen=True)
class Frame:
    """One frame."""

    channel: int
    kind: FrameKind
    payload: bytes = b""

    @property
    def number(self) -> int:
        """Give the number that an ``OPEN`` or a ``CREDIT`` carries."""
        return int.from_bytes(self.payload, "big")


def encode(frame: Frame) -> bytes:
    """Write a frame."""
    return HEADER.pack(frame.channel, frame.kind, len(frame.payload)) + frame.payload


def data_frames(channel: int, data: bytes) -> Iterator[bytes]:
    """Write data as frames."""
    for at in range(0, len(data), MAX_PAYLOAD_BYTES):
        yield encode(Frame(channel, FrameKind.DATA, data[at : at + MAX_PAYLOAD_BYTES]))


_LENGTHS = {FrameKind.READY: 0, FrameKind.OPEN: 2, FrameKind.END: 0, FrameKind.CLOSE: 0, FrameKind.CREDIT: 4}


@dataclass
class FrameReader:
    """Takes bytes as they come and gives whole frames."""

    _raw: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes; give the frames that are whole now.

        Raises:
            FrameError: They are no frames.
        """
        self._raw += data
        while len(self._raw) >= HEADER.size:
            channel, kind, length = HEADER.unpack_from(self._raw)
            try:
                what = FrameKind(kind)
            except ValueError:
                msg = f"there is no frame of kind {kind}"
                raise FrameError(msg) from None
            if length != _LENGTHS.get(what, length) or length > MAX_PAYLOAD_BYTES:
                msg = f"a frame of kind {kind} has {length} bytes"
                raise FrameError(msg)
            end = HEADER.size + length
            if len(self._raw) < end:
                return
            payload = bytes(self._raw[HEADER.size : end])
            del self._raw[:end]
            yield Frame(channel, what, payload)
