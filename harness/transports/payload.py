"""Pure. Bytes on their way into a guest, which need not be in memory all at once: a build has hundreds of mebibytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol, TypeAlias

from harness.errors import HarnessError


class Pieces(Protocol):
    """Bytes of a known number that are read in pieces."""

    @property
    def size_bytes(self) -> int:
        """Give how many bytes there are."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Give them in order, from the beginning each time.

        Raises:
            InputError: They cannot be read, or are not as many.
        """
        ...


#: What goes into a guest.
Payload: TypeAlias = bytes | Pieces


def size_of(payload: Payload) -> int:
    """Give how many bytes a payload has."""
    return len(payload) if isinstance(payload, bytes) else payload.size_bytes


def pieces_of(payload: Payload) -> Iterator[bytes]:
    """Give a payload's bytes in order."""
    return iter((payload,)) if isinstance(payload, bytes) else payload.pieces()


def whole(payload: Payload) -> bytes:
    """Give a payload's bytes at once; for small ones."""
    return b"".join(pieces_of(payload))


class Verified:
    """A payload whose last piece is given only when all of it has a digest; so whoever takes it never has it whole.

    Args:
        payload: What is read.
        sha256: What it must be.
        complaint: Raised when it is something else.
    """

    def __init__(self, payload: Payload, *, sha256: str, complaint: HarnessError) -> None:
        self._payload = payload
        self._sha256 = sha256
        self._complaint = complaint

    @property
    def size_bytes(self) -> int:
        """See ``Pieces``."""
        return size_of(self._payload)

    def pieces(self) -> Iterator[bytes]:
        """See ``Pieces``; raise the complaint instead of giving the last piece."""
        digest, waiting = hashlib.sha256(), b""
        for piece in pieces_of(self._payload):
            digest.update(piece)
            if waiting:
                yield waiting
            waiting = piece
        if digest.hexdigest() != self._sha256:
            raise self._complaint
        yield waiting
