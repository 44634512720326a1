"""Inputs that are almost right: real ones, and what a few edits make of them.

Most bytes at random are refused by a reader's first check. These get behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

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


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], *, most: int = 5) -> bytes:
    """Draw one of ``seeds`` with up to ``most`` edits: a token put in, bytes cut, doubled, swapped or flipped."""
    raw = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(0, most))):
        kind = draw(st.sampled_from(_EDITS))
        at = draw(st.integers(0, len(raw)))
        to = min(len(raw), at + draw(st.integers(0, 24)))
        piece = bytes(raw[at:to])
        if kind == "put":
            raw[at:at] = draw(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8)))
        elif kind == "cut":
            del raw[at:to]
        elif kind == "twice":
            raw[at:at] = piece * draw(st.integers(1, 4))
        elif kind == "end":
            del raw[to:]
        elif kind == "flip" and at < len(raw):
            raw[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "swap":
            raw[at:to] = piece[::-1]
    return bytes(raw)
