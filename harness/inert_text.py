"""Pure. Makes any text safe to look at: control characters and hidden marks are shown instead of obeyed."""

from __future__ import annotations

import json
import re

#: Marks that change the order or hide the presence of text (Unicode 15, bidi and zero-width controls).
_HIDDEN = (0x00AD, 0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
_VISIBLE = {
    **{code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))},
    **{
        code: f"\N{MATHEMATICAL LEFT ANGLE BRACKET}U+{code:04X}\N{MATHEMATICAL RIGHT ANGLE BRACKET}" for code in _HIDDEN
    },
    **dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}"),
}
_VISIBLE_LINES = {code: shown for code, shown in _VISIBLE.items() if code not in {0x09, 0x0A}}

#: Where a CI server would take a line of a log for a command: ``::name`` at a line's beginning, ``##[name`` anywhere.
#: Source: actions/runner, ``src/Runner.Common/ActionCommand.cs`` (TryParseV2 trims the line, TryParse searches in it).
_COMMAND = re.compile(r"^(?P<space>\s*):(?=:[A-Za-z])|#(?=#\[)", re.MULTILINE)


def visible(text: str, *, lines: bool = False) -> str:
    r"""Give text in which every control character can be seen and none acts, nor a CI server's workflow command.

    Args:
        text: Anything that a guest wrote.
        lines: Keep line feeds and tabs, and read ``\r\n`` as one line feed.

    Example:
        >>> print(visible("\x1b[31mred"))
        \x1b[31mred
        >>> print(visible("::add-mask::a"))
        \x3a:add-mask::a
    """
    shown = text.replace("\r\n", "\n").translate(_VISIBLE_LINES) if lines else text.translate(_VISIBLE)
    return _COMMAND.sub(_escaped, shown)


#: What a look at each character is spared: most of a text.
_PLAIN = r"\n\x20-\x7e\uac00-\ud7a3"
_ODD = re.compile(f"[^{_PLAIN}]|##(?=\\[)")


def inert_json(text: str) -> str:
    r"""Give the same JSON with an escape for each character that a terminal, an eye or a CI server would follow.

    Args:
        text: JSON; between its strings there are only spaces and line feeds.

    Example:
        >>> print(inert_json('"\u202egnp.exe"'))
        "\u202egnp.exe"
    """
    return _ODD.sub(_as_escape, text)


def _as_escape(match: re.Match[str]) -> str:
    odd = match.group()
    if odd == "##":
        return "\\u0023#"
    return odd if odd.isprintable() else json.dumps(odd)[1:-1]


def is_obeyed(text: str) -> bool:
    """Tell whether a CI server that read this as a log would take a part of it for a command."""
    return _COMMAND.search(text.replace("\r", "\n")) is not None


def _escaped(match: re.Match[str]) -> str:
    space = match["space"]
    return "\\x23" if space is None else f"{space}\\x3a"
