"""A secret is printed nowhere, and a mask takes it out of whatever is recorded, in the forms that programs write."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.secret import NO_MASK, Mask, Secret

VALUES = ("hong-1234", "p@ss w/ord+1", "홍길동계정-1", 'quo"te<&>\\x')
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "cp949")


def mask(value: str) -> Mask:
    return Mask([Secret("ACCOUNT", value)])


@pytest.mark.parametrize("show", [str, repr, "{}".format, lambda secret: f"{[secret]}"])
def test_a_secret_shows_its_name_alone(show: object) -> None:
    assert callable(show)
    text = str(show(Secret("ACCOUNT", "hong-1234")))
    assert "ACCOUNT" in text
    assert "hong" not in text


@pytest.mark.parametrize("write", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_copied(write: object) -> None:
    assert callable(write)
    with pytest.raises(TypeError, match="ACCOUNT is not copied"):
        write(Secret("ACCOUNT", "hong-1234"))


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bytes_are_masked_in_every_encoding_and_keep_their_length(value: str, encoding: str) -> None:
    raw = f"login user={value};".encode(encoding)
    masked = mask(value).blob(raw)
    assert value.encode(encoding) not in masked
    assert len(masked) == len(raw)
    assert masked.decode(encoding).startswith("login user=*")
    assert masked.decode(encoding).endswith("*;")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "write",
    [
        quote,
        quote_plus,
        lambda v: quote(v, safe=""),
        lambda v: quote(v, safe="").lower(),
        lambda v: quote(v, encoding="cp949", safe=""),
        json.dumps,
        lambda v: json.dumps(v, ensure_ascii=False),
        html.escape,
        str.upper,
        str.lower,
    ],
)
def test_what_programs_make_of_a_text_is_masked_too(value: str, write: object) -> None:
    assert callable(write)
    written = str(write(value))
    for masked in (mask(value).text(f"x={written}&"), mask(value).blob(f"x={written}&".encode()).decode()):
        assert written.strip('"') not in masked
        assert set(masked.strip('"')) - set('x=&"') == {"*"}


@given(st.sampled_from(VALUES), st.binary(max_size=5), st.binary(max_size=5), st.sampled_from(ENCODINGS[:2]))
def test_base64_of_what_holds_a_secret_gives_nothing_of_it_back(
    value: str, before: bytes, after: bytes, encoding: str
) -> None:
    raw = value.encode(encoding)
    coded = base64.b64encode(before + raw + after)
    masked = mask(value).blob(b'{"data_b64": "' + coded + b'"}')
    back = base64.b64decode(json.loads(masked.decode())["data_b64"], validate=True)
    assert len(back) == len(before + raw + after)
    assert raw not in back
    assert raw[:4] not in back
    assert raw[-4:] not in back[len(before) :]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("cut", [4, 6, 8])
def test_a_piece_of_a_secret_at_a_records_cut_is_masked(cut: int, encoding: str) -> None:
    raw = "user=hong-1234".encode(encoding)
    unit = len("x".encode(encoding))
    head, tail = raw[: (5 + cut) * unit], raw[(5 + 9 - cut) * unit :]
    assert "hong".encode(encoding) not in mask("hong-1234").blob(head)
    assert "1234".encode(encoding) not in mask("hong-1234").blob(tail)


def test_json_stays_json_at_any_depth() -> None:
    data = {"a": [{"b": "hong-1234 x", "n": 1, "none": None, "yes": True}], "hong-1234": "c"}
    masked = mask("hong-1234").data(data)  # type: ignore[arg-type]  # JSON
    assert masked == {"a": [{"b": "********* x", "n": 1, "none": None, "yes": True}], "*********": "c"}


@given(st.binary(max_size=200))
def test_without_secrets_nothing_changes(raw: bytes) -> None:
    assert NO_MASK.blob(raw) == raw
    assert NO_MASK.text(raw.decode("latin-1")) == raw.decode("latin-1")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_without_the_secret_stay_as_they_are(raw: bytes) -> None:
    assert mask("hong-1234-longer").blob(raw) == raw
