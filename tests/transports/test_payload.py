"""What goes into a guest need not be in memory, and is whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.transports.payload import Verified, pieces_of, size_of, whole


@dataclass
class Given:
    parts: list[bytes]

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.parts))

    def pieces(self) -> Iterator[bytes]:
        return iter(self.parts)


def verified(payload: bytes | Given, content: bytes) -> Verified:
    return Verified(payload, sha256=hashlib.sha256(content).hexdigest(), complaint=InputError("It is another."))


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=6))
def test_a_verified_payload_is_what_it_was_and_may_be_read_again(parts: list[bytes]) -> None:
    content = b"".join(parts)
    for payload in (Given(parts), content):
        checked = verified(payload, content)
        assert size_of(checked) == size_of(payload) == len(content)
        assert whole(checked) == whole(checked) == whole(payload) == content


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6))
def test_another_payload_is_never_given_whole(parts: list[bytes]) -> None:
    taken = 0
    with pytest.raises(InputError, match="It is another"):  # noqa: PT012 - it gives pieces until it does not
        for piece in pieces_of(verified(Given(parts), b"what was promised, and is not there")):
            taken += len(piece)
    assert taken == len(b"".join(parts[:-1]))
