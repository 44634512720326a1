"""Pure. Which cells of a plan a person means: a filter expression, or a cell's name."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plan import Cell, Plan


def select(plan: Plan, expression: str | None) -> Plan:
    """Keep the cells whose id fits a filter of words, ``and``, ``or``, ``not`` and brackets.

    Args:
        plan: Any plan.
        expression: Words that must occur in the id, as in pytest's ``-k``; None or blank keeps all.

    Raises:
        ValueError: The expression does not parse.
    """
    if expression is None or not expression.strip():
        return plan
    keep = _Filter(expression)
    return plan.model_copy(update={"cells": tuple(cell for cell in plan.cells if keep(cell.id))})


def find(cells: Iterable[Cell], name: str) -> list[Cell]:
    """Find the cells whose id is a name, or else starts with it."""
    everything = list(cells)
    exact = [cell for cell in everything if cell.id == name]
    return exact or [cell for cell in everything if cell.id.startswith(name)]


class _Filter:
    """A filter expression as a predicate over ids: recursive descent over ``or``, ``and``, ``not``, brackets, words."""

    def __init__(self, expression: str) -> None:
        self._tokens = expression.replace("(", " ( ").replace(")", " ) ").split()
        self._at = 0
        self._tree = self._either()
        if self._at != len(self._tokens):
            msg = f"unexpected '{self._tokens[self._at]}' in the filter '{expression}'"
            raise ValueError(msg)

    def __call__(self, text: str) -> bool:
        return _evaluate(self._tree, text.casefold())

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _either(self) -> tuple[object, ...]:
        parts = [self._both()]
        while self._peek() == "or":
            self._at += 1
            parts.append(self._both())
        return ("or", *parts)

    def _both(self) -> tuple[object, ...]:
        parts = [self._single()]
        while self._peek() == "and":
            self._at += 1
            parts.append(self._single())
        return ("and", *parts)

    def _single(self) -> tuple[object, ...]:
        word = self._peek()
        if word is None or word in {")", "and", "or"}:
            msg = f"a word is missing {'before ' + repr(word) if word else 'at the end'} of the filter"
            raise ValueError(msg)
        self._at += 1
        if word == "not":
            return ("not", self._single())
        if word == "(":
            inner = self._either()
            if self._peek() != ")":
                msg = "a bracket of the filter is not closed"
                raise ValueError(msg)
            self._at += 1
            return inner
        return ("word", word.casefold())


def _evaluate(tree: tuple[object, ...], text: str) -> bool:
    kind, *parts = tree
    if kind == "word":
        return str(parts[0]) in text
    values = [_evaluate(part, text) for part in parts if isinstance(part, tuple)]
    if kind == "not":
        return not values[0]
    return all(values) if kind == "and" else any(values)
