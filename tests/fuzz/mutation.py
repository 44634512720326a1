"""Inputs that are almost right: real ones, and what a few edits make of them.

Most bytes at random are refused by a reader's first check. These get behind it. What is drawn is said once, for two
kinds of dice: hypothesis' (they shrink what they find) and Python's own (a hundred times as quick).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Dice(Protocol):
    """Whatever decides what an input is."""

    def number(self, low: int, high: int) -> int:
        """Give a number between two, both included."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """Give one of some things."""
        ...

    def raw(self) -> bytes:
        """Give up to eight bytes."""
        ...

    def text(self) -> str:
        """Give up to nine characters."""
        ...


class Drawn:
    """Hypothesis' dice."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def number(self, low: int, high: int) -> int:
        """See ``Dice``."""
        return self._draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        """See ``Dice``."""
        return self._draw(st.sampled_from(list(options)))

    def raw(self) -> bytes:
        """See ``Dice``."""
        return self._draw(st.binary(max_size=8))

    def text(self) -> str:
        """See ``Dice``."""
        return self._draw(st.text(max_size=9))


class Thrown:
    """Python's own dice; the same seed throws the same."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def number(self, low: int, high: int) -> int:
        """See ``Dice``."""
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        """See ``Dice``."""
        return self._random.choice(options)

    def raw(self) -> bytes:
        """See ``Dice``."""
        return self._random.randbytes(self._random.randint(0, 8))

    def text(self) -> str:
        """See ``Dice``: letters, marks of all kinds, and now and then what UTF-8 cannot hold."""
        tops = (0x7F, 0x7F, 0x2FF, 0x2070, 0xFFFF, 0x10FFFF)
        return "".join(chr(self._random.randint(0, self._random.choice(tops))) for _ in range(self.number(0, 9)))


@st.composite
def drawn(draw: st.DrawFn, make: Callable[[Dice], T]) -> T:
    """Draw what ``make`` makes of hypothesis' dice."""
    return make(Drawn(draw))


#: What readers trip over: ends, escapes, marks that hide or turn text, numbers at the edges, another notation's signs.
TOKENS = (
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\x1b[31m",
    b"\x1b]0;title\x07",
    "\u202egnp.exe\u202c".encode(),
    "\u2028".encode(),
    "\ud800".encode("utf-8", "surrogatepass"),
    "삼성".encode("cp949"),
    b"../../etc/passwd",
    b"..\\..\\windows",
    b"/dev/zero",
    b"<script>alert(1)</script>",
    b"</template>",
    b"=cmd|' /C calc'!A0",
    b"%0a::error::x",
    b"&a *a",
    b"*a",
    b"!!python/object:os.system",
    b"<<: ",
    b"{",
    b"}",
    b"[" * 40,
    b'"',
    b"'",
    b": ",
    b"- ",
    b"null",
    b"true",
    b"NaN",
    b"1e400",
    b"-1",
    b"9" * 30,
    b"2026-11-31",
    b" FOUND\n",
    b": moved to '/q'\n",
    b" (deleted)",
    b"dec=deny ",
    b"A" * 5000,
)

_EDITS = ("put", "cut", "twice", "end", "flip", "swap")


def mutated(dice: Dice, seeds: Sequence[bytes], *, most: int = 5) -> bytes:
    """Give one of ``seeds`` with up to ``most`` edits: a token put in, bytes cut, doubled, swapped or flipped."""
    raw = bytearray(dice.pick(seeds))
    for _ in range(dice.number(0, most)):
        kind = dice.pick(_EDITS)
        at = dice.number(0, len(raw))
        to = min(len(raw), at + dice.number(0, 24))
        piece = bytes(raw[at:to])
        if kind == "put":
            raw[at:at] = dice.pick(TOKENS) if dice.number(0, 1) else dice.raw()
        elif kind == "cut":
            del raw[at:to]
        elif kind == "twice":
            raw[at:at] = piece * dice.number(1, 4)
        elif kind == "end":
            del raw[to:]
        elif kind == "flip" and at < len(raw):
            raw[at] ^= 1 << dice.number(0, 7)
        elif kind == "swap":
            raw[at:to] = piece[::-1]
    return bytes(raw)


#: Values at the edges of what JSON holds.
_SCALARS = (
    *(None, True, False, 0, 1, -1, 2**63, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "\ud800", "running", "ESTABLISHED", "ENOENT", "file", "QUJD", "None", "BAD_REQUEST", "\u202egnp"),
)


def json_value(dice: Dice, keys: Sequence[str], *, depth: int = 3) -> object:
    """Give a value that JSON holds: a leaf, or a list or an object with some of ``keys``."""
    kind = dice.number(0, 4 if depth else 2)
    if kind == 3:
        return [json_value(dice, keys, depth=depth - 1) for _ in range(dice.number(0, 3))]
    if kind == 4:
        return json_object(dice, keys, depth=depth - 1)
    if kind == 2:
        return dice.pick((dice.text(), dice.number(-(2**70), 2**70)))
    return dice.pick(_SCALARS)


def json_object(dice: Dice, keys: Sequence[str], *, depth: int = 3) -> dict[str, object]:
    """Give an object with up to six of ``keys``."""
    return {dice.pick(keys): json_value(dice, keys, depth=depth) for _ in range(dice.number(0, 6))}
