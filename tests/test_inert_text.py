from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.inert_text import inert_json, is_obeyed, visible
from tests.renderers.runner_rules import obeyed_in

#: Pieces of commands, so that chance meets them.
PIECES = st.lists(
    st.sampled_from(["::", ":", "##[", "#", "add-mask", "set-output name=a", "]", "\n", "\r", "\u3000", "\t", " ", "x"])
    | st.text(max_size=3),
    max_size=14,
).map("".join)


@pytest.mark.parametrize(
    "text",
    [
        "::add-mask::secret",
        "seen\n::set-output name=code::0",
        "seen\r\n  \t::stop-commands::x",
        "\u3000::error::x",
        "seen ##[add-mask]secret",
        "####[set-env name=PATH]x",
    ],
)
def test_a_command_for_a_runner_becomes_text(text: str) -> None:
    assert obeyed_in(text)
    assert is_obeyed(text)
    assert obeyed_in(visible(text, lines=True)) == []
    assert obeyed_in(visible(text)) == []


@pytest.mark.parametrize("text", ["std::vector", "::1", "a::b::c", "# [x]", "##", "10:20::30"])
def test_what_no_runner_obeys_is_left_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert not is_obeyed(text)


@given(PIECES)
def test_no_visible_text_is_obeyed(text: str) -> None:
    for shown in (visible(text), visible(text, lines=True)):
        assert obeyed_in(shown) == []
        assert not is_obeyed(shown)


@given(PIECES)
def test_what_a_runner_obeys_is_known(text: str) -> None:
    assert is_obeyed(text) or obeyed_in(text) == []


@given(st.text() | PIECES)
def test_json_is_the_same_value_in_letters_that_nothing_obeys(text: str) -> None:
    shown = inert_json(json.dumps({text: [text]}, ensure_ascii=False, indent=1))
    assert json.loads(shown) == {text: [text]}
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert "##[" not in shown
