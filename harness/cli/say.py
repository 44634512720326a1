"""Driver. What the command line prints: plain text that a terminal cannot be tricked with, errors, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from harness.errors import HarnessError
from harness.inert_text import inert_json, visible


def line(text: str = "") -> None:
    """Print a line; control characters from guests and files are made visible, so no terminal obeys them."""
    sys.stdout.write(visible(text, lines=True) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line of progress, on standard error."""
    sys.stderr.write(visible(text, lines=True) + "\n")
    sys.stderr.flush()


def data(value: Mapping[str, object]) -> None:
    """Print one JSON object; a character that a terminal might obey stands as its JSON escape."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    sys.stdout.write(inert_json(text) + "\n")
    sys.stdout.flush()


def commands(lines: Sequence[str]) -> None:
    """Print lines that a CI server obeys, on standard error: standard output may be a file's bytes or JSON.

    Args:
        lines: Made by ``renderers.github``; printed as they are, unless a line break in one would begin another.
    """
    for text in lines:
        sys.stderr.write("".join(text.splitlines()) + "\n")
    sys.stderr.flush()


def problem(error: HarnessError) -> None:
    """Print an error: one sentence, its details, and what to do next."""
    note(f"error: {error.summary}")
    if error.detail:
        note("\n".join("  " + part for part in error.detail.rstrip().splitlines()))
    if error.hint:
        note(f"hint: {error.hint}")
