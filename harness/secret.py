"""Pure. Values that a program must be told and nobody may read: a test account. Kept from every record by masking.

1. A secret is written nowhere in clear: its text forms are its name, and only ``reveal`` gives the value.
2. A mask takes the value out of all that is recorded, in the forms in which programs and our own scripts write it down.
3. What is masked keeps its length, so that offsets, JSON and base64 around it stay what they were.
"""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn
from urllib.parse import quote, quote_plus

from pydantic import JsonValue

#: Shorter ones stand in evidence by chance, and masking would tear holes into it.
MIN_CHARACTERS = 6
MAX_CHARACTERS = 256

#: A cut record may end or begin within a secret: so many of its characters are enough to be masked.
_MIN_PIECE = 4

#: Windows programs in Korea write UTF-8, UTF-16 or the system's code page.
_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "cp949")
_BASE64_CHARACTER = rb"[A-Za-z0-9+/]"
_BASE64_STARS = base64.b64encode(b"***")


class Secret:
    """A named value. Whatever prints it (a log, an exception, a debugger's list of variables) prints the name."""

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """Give the value, to whom it is for."""
        return self._value

    def __repr__(self) -> str:
        """Give the name alone."""
        return f"<secret {self.name}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be written anywhere by pickle or copy."""
        msg = f"the secret {self.name} is not copied"
        raise TypeError(msg)


class Mask:
    """Takes secrets out of texts and bytes; without secrets, nothing is looked at."""

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        values = sorted({form for secret in secrets for form in _spellings(secret.reveal())}, key=len, reverse=True)
        self._texts = _any_of([re.escape(v) for v in values])
        self._bytes = [(_any_of_bytes([re.escape(v) for v in group]), star) for group, star in _binary(values)]
        self._base64 = _any_of_bytes([p for v in values for p in _in_base64(v)], ignore_case=False)
        self._pieces = [v.encode(encoding, "ignore") for v in values for encoding in ("utf-8", "utf-16-le")]
        self._on = bool(values)

    def text(self, text: str) -> str:
        """Give a text without the secrets."""
        return self._texts.sub(lambda found: "*" * len(found[0]), text) if self._on else text

    def data(self, data: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Give JSON data without the secrets, in keys and values, at any depth."""
        return {self.text(key): self._value(value) for key, value in data.items()}

    def blob(self, blob: bytes) -> bytes:
        """Give bytes without the secrets, whatever they are; also without a piece of one at either end."""
        if not self._on:
            return blob
        for pattern, star in self._bytes:
            blob = pattern.sub(lambda found, star=star: star * (len(found[0]) // len(star)), blob)  # type: ignore[misc]
        blob = self._base64.sub(lambda found: (_BASE64_STARS * len(found[0]))[: len(found[0])], blob)
        for value in self._pieces:
            blob = _without_ends(blob, value)
        return blob

    def _value(self, value: JsonValue) -> JsonValue:
        match value:
            case str():
                return self.text(value)
            case dict():
                return self.data(value)
            case list():
                return [self._value(item) for item in value]
            case _:
                return value


def _spellings(value: str) -> Iterator[str]:
    """Give the ways in which programs write a text into other texts: as it is, in URLs, in JSON, in markup."""
    for form in {value, unicodedata.normalize("NFC", value), unicodedata.normalize("NFD", value)}:
        yield from (form, quote(form, safe=""), quote(form), quote_plus(form))
        yield from (json.dumps(form)[1:-1], json.dumps(form, ensure_ascii=False)[1:-1], html.escape(form))
        try:
            yield quote(form, safe="", encoding="cp949")
        except UnicodeEncodeError:
            continue


def _binary(values: Iterable[str]) -> Iterator[tuple[list[bytes], bytes]]:
    """Give the encoded forms of all spellings, and what one masked unit is in that encoding."""
    for encoding in _ENCODINGS:
        forms = [v.encode(encoding, "ignore") for v in values if v.encode(encoding, "ignore").decode(encoding) == v]
        if forms:
            yield sorted(forms, key=len, reverse=True), "*".encode(encoding)


def _in_base64(value: str) -> Iterator[bytes]:
    """Give patterns of a value within longer base64: its bytes fall into the groups of three in one of three ways.

    Characters at the ends hold bits of the neighbours too, so any may stand there.
    """
    for encoding in _ENCODINGS[:2]:
        raw = value.encode(encoding, "ignore")
        for before in range(3):
            coded = base64.b64encode(bytes(before) + raw)
            first = -(-before * 4 // 3) if before else 0
            whole = (before + len(raw)) * 8 // 6
            edge_before = _BASE64_CHARACTER if before else b""
            edge_after = _BASE64_CHARACTER if (before + len(raw)) % 3 else b""
            yield edge_before + re.escape(coded[first:whole]) + edge_after


def _without_ends(blob: bytes, value: bytes) -> bytes:
    longest = min(len(value) - 1, len(blob))
    for size in range(longest, _MIN_PIECE - 1, -1):
        if blob.endswith(value[:size]):
            blob = blob[:-size] + b"*" * size
            break
    for size in range(longest, _MIN_PIECE - 1, -1):
        if blob.startswith(value[-size:]):
            return b"*" * size + blob[size:]
    return blob


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns) or r"(?!)", re.IGNORECASE)


def _any_of_bytes(patterns: list[bytes], *, ignore_case: bool = True) -> re.Pattern[bytes]:
    return re.compile(b"|".join(patterns) or rb"(?!)", re.IGNORECASE if ignore_case else 0)


#: Masks nothing.
NO_MASK = Mask()
