"""Driver. Where the values of secrets come from: the environment, or a file outside every repository.

``HTS_SECRET_<NAME>`` holds the value itself; ``HTS_SECRET_<NAME>_FILE`` names a file that holds nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from harness.errors import InputError
from harness.secret import MAX_CHARACTERS, MIN_CHARACTERS, Secret
from harness.yaml_source import Place

PREFIX = "HTS_SECRET_"
FILE = "_FILE"


def secrets_for(asked: Mapping[str, Place], environment: Mapping[str, str] | None = None) -> dict[str, Secret]:
    """Give the secrets that scenarios ask for, by name.

    Args:
        asked: Name of each secret, and where it is asked for first.
        environment: Instead of this process's own.

    Raises:
        InputError: One is missing or cannot be used; ``detail`` has a line for each, with file, line and column.
    """
    environment = os.environ if environment is None else environment
    found: dict[str, Secret] = {}
    wrong: list[str] = []
    for name, place in asked.items():
        value, why = _value(name, environment)
        if value is None:
            wrong.append(f"{place}: the secret '{name}' {why}")
        else:
            found[name] = Secret(name, value)
    if wrong:
        count = "A secret is" if len(wrong) == 1 else f"{len(wrong)} secrets are"
        raise InputError(
            f"{count} not there.",
            detail="\n".join(wrong),
            hint=f"Nothing was started. Set {PREFIX}NAME, or {PREFIX}NAME{FILE} to a file that holds the value alone.",
        )
    return found


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Give an environment for programs that have no business with secrets."""
    return {name: value for name, value in environment.items() if not name.startswith(PREFIX)}


def _value(name: str, environment: Mapping[str, str]) -> tuple[str | None, str]:
    """Give a secret's value, or None and why there is none. No reason ever has a part of the value in it."""
    text, path = environment.get(f"{PREFIX}{name}"), environment.get(f"{PREFIX}{name}{FILE}")
    if text is not None and path is not None:
        return None, f"is given twice, as {PREFIX}{name} and as a file"
    if text is None and path is None:
        return None, f"is not set ({PREFIX}{name}, or {PREFIX}{name}{FILE})"
    if path is not None:
        text, why = _content(Path(path))
        if text is None:
            return None, why
    assert text is not None  # noqa: S101 - one of the two is there
    if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
        return None, f"has {len(text)} characters; {MIN_CHARACTERS} to {MAX_CHARACTERS} can be kept out of records"
    if not text.isprintable() or text != text.strip():
        return None, "has control characters, line ends or blanks around it"
    return text, ""


def _content(path: Path) -> tuple[str | None, str]:
    repository = _repository_of(path)
    if repository is not None:
        return None, f"lies in '{path}', inside the repository '{repository}'; keep it outside"
    try:
        with path.open("rb") as stream:
            raw = stream.read(4 * MAX_CHARACTERS + 2)
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r"), ""
    except OSError as error:
        return None, f"cannot be read from '{path}' ({error.strerror or 'no reason given'})"
    except UnicodeDecodeError:
        return None, f"cannot be read from '{path}' (it is no UTF-8)"


def _repository_of(path: Path) -> Path | None:
    """Give the repository that a file lies in: what is in one gets committed some day."""
    return next((folder for folder in path.resolve().parents if (folder / ".git").exists()), None)
