"""Driver. A YAML file -> one of the flow's types, with every mismatch told at its line and column.

Each kind of file says what it is in its first key, ``schema: hts-compat/<kind>/1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from harness.frozen import Frozen
from harness.scenario import STEP_KINDS
from harness.yaml_source import Location, Place, Problems, Source, Value, read_source

SCHEMA = "schema"

ModelT = TypeVar("ModelT", bound=Frozen)


def schema_name(kind: str) -> str:
    """Give the text that a file of this kind has under ``schema``."""
    return f"hts-compat/{kind}/1"


def read_typed(
    path: Path,
    kind: str,
    model: type[ModelT],
    problems: Problems,
    *,
    hidden: frozenset[str] = frozenset(),
    asked_at: Place | None = None,
    stand_ins: Mapping[str, Value] | None = None,
) -> tuple[ModelT, Source] | None:
    """Read a file as a model.

    Args:
        path: The file.
        kind: What the file must say that it is.
        model: What the rest of the file must be.
        problems: Takes all that is wrong.
        hidden: Fields of the model that no file may set.
        asked_at: Where another file names this one.
        stand_ins: Values of the keys that must be there. When given, a file with problems still gives what is right in
            it, so that what it refers to can be checked for the same report.

    Returns:
        The value and the file that it came from; None when anything is wrong (and nothing could stand in).
    """
    source = read_source(path, problems, asked_at=asked_at)
    if source is None:
        return None
    if not isinstance(source.data, dict):
        problems.add(source.at(), f"the file must be a mapping that begins with '{SCHEMA}: {schema_name(kind)}'")
        return None
    before = len(problems.found)
    body = {name: value for name, value in source.data.items() if name != SCHEMA}
    _check_schema_line(source, kind, problems)
    known = [SCHEMA, *(name for name in model.model_fields if name not in hidden)]
    for name in [name for name in body if name in hidden]:
        problems.add(source.at(name, key=True), unknown_key(name, known))
        del body[name]
    try:
        value = model.model_validate(_bare_steps(body))
    except ValidationError as error:
        for place, text in _explain(error, source, model, known):
            problems.add(place, text)
        if stand_ins is None:
            return None
        wrong = {detail["loc"][0] for detail in error.errors(include_url=False) if detail["loc"]}
        right = {name: found for name, found in body.items() if name not in wrong}
        return model.model_validate({**stand_ins, **right}), source
    return (value, source) if stand_ins is not None or len(problems.found) == before else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Give ``; did you mean 'x'?`` when a known word is close, else nothing."""
    choices = {choice.casefold(): choice for choice in known}
    close = get_close_matches(word.casefold(), choices, n=1, cutoff=0.6)
    return f"; did you mean '{choices[close[0]]}'?" if close else ""


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """Say that a name is unknown, and which ones are known."""
    names = sorted(known)
    hint = did_you_mean(word, names)
    listed = f"known: {', '.join(names)}" if names else "none is known"
    return f"unknown {what} '{word}'{hint}" if hint else f"unknown {what} '{word}' ({listed})"


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, and which ones may stand there."""
    return unknown("key", name, known)


def _check_schema_line(source: Source, kind: str, problems: Problems) -> None:
    wanted = schema_name(kind)
    found = source.get(SCHEMA) if isinstance(source.data, dict) and SCHEMA in source.data else None
    if found is None:
        problems.add(source.at(), f"the key '{SCHEMA}' is missing; begin the file with '{SCHEMA}: {wanted}'")
    elif found != wanted:
        problems.add(source.at(SCHEMA), f"the file says that it is '{found}', and '{wanted}' is wanted here")


def _bare_steps(body: dict[str, Value]) -> dict[str, Value]:
    """Let ``- verify_files:`` without settings mean all defaults."""
    steps = body.get("steps")
    if not isinstance(steps, list):
        return body
    return {**body, "steps": [_bare_step(step) for step in steps]}


def _bare_step(step: Value) -> Value:
    if not isinstance(step, dict):
        return step
    return {kind: {} if value is None and kind in STEP_KINDS else value for kind, value in step.items()}


def _explain(
    error: ValidationError, source: Source, model: type[BaseModel], known: list[str]
) -> Iterator[tuple[Place, str]]:
    for detail in error.errors(include_url=False):
        location: Location = tuple(detail["loc"])
        if detail["type"] == "extra_forbidden":
            name = str(location[-1])
            choices = known if len(location) == 1 else _fields_at(model, location[:-1])
            yield source.at(*location, key=True), unknown_key(name, choices)
        elif detail["type"] == "missing":
            yield source.at(*location[:-1]), f"the key '{location[-1]}' is missing"
        else:
            yield source.at(*location, key=location[-1:] == ("[key]",)), _sentence(detail, source.get(*location))


#: What pydantic calls a mismatch -> what a person who writes YAML understands.
_SENTENCES = {
    "model_type": "should be a mapping (key: value)",
    "dict_type": "should be a mapping (key: value)",
    "model_attributes_type": "should be a mapping (key: value)",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "string_type": "should be a text",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "date_from_datetime_parsing": "should be a date such as 2027-01-31",
    "date_type": "should be a date such as 2027-01-31",
    "string_too_short": "should not be empty",
    "too_short": "should not be empty",
}


def _sentence(detail: Any, value: Value) -> str:  # noqa: ANN401 - pydantic's ErrorDetails lives in pydantic_core
    kind, context = detail["type"], detail.get("ctx", {})
    where = ".".join(str(part) for part in detail["loc"] if not isinstance(part, int) and part != "[key]")
    name = f"'{where}' " if where else ""
    if kind == "value_error":
        return str(context["error"])
    if kind in {"enum", "literal_error"}:
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        word = str(detail["input"])
        return f"{name}should be one of {', '.join(choices)}, and is '{word}'{did_you_mean(word, choices)}"
    if kind == "string_pattern_mismatch":
        return f"{name}is '{value}', which does not fit {context['pattern']}"
    wanted = _SENTENCES.get(kind) or str(detail["msg"]).replace("Input should", "should")
    return f"{name}{wanted}{_shown(value)}"


def _shown(value: Value) -> str:
    match value:
        case None:
            return ", and is empty"
        case str() if value in STEP_KINDS:
            return f", and is '{value}'; is a colon missing after it?"
        case str():
            return f", and is '{value}'"
        case []:
            return ", and is an empty list"
        case list():
            return ", and is a list"
        case _:
            return ", and is a mapping"


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Give the keys that may stand at a location of a model."""
    current = model
    for part in location:
        found = current.model_fields.get(part) if isinstance(part, str) else None
        if found is not None:
            current = _model_in(found.annotation) or current
    return list(current.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in get_args(annotation))
    return next((found for found in inner if found is not None), None)
