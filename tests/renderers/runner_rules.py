"""What GitHub's runner takes for a command, by its rules, for tests that must not write one by accident.

Source: actions/runner, ``src/Runner.Common/ActionCommand.cs``: ``TryParseV2``, then ``TryParse``.
"""

from __future__ import annotations

from dataclasses import dataclass

REGISTERED = frozenset(
    {
        "add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "internal-set-repo-path",
        "notice", "remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Obeyed:
    name: str
    properties: dict[str, str]
    data: str


def obeyed_in(log: str) -> list[Obeyed]:
    """Give the commands of a log, each line read by itself."""
    lines = log.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [command for line in lines if (command := _second_form(line) or _first_form(line)) is not None]


def _second_form(line: str) -> Obeyed | None:
    text = line.lstrip()
    end = text.find("::", 2)
    if not text.startswith("::") or end < 0:
        return None
    name, _, rest = text[2:end].partition(" ")
    if name.lower() not in REGISTERED:
        return None
    pairs = [pair.partition("=") for pair in rest.strip().split(",") if pair]
    properties = {key: _plain(value, ":", ",") for key, _, value in pairs if key and value}
    return Obeyed(name, properties, _plain(text[end + 2 :]))


def _first_form(line: str) -> Obeyed | None:
    begin = line.find("##[")
    end = line.find("]", begin)
    if begin < 0 or end < 0:
        return None
    name = line[begin + 3 : end].partition(" ")[0]
    return Obeyed(name, {}, line[end + 1 :]) if name.lower() in REGISTERED else None


def _plain(text: str, *more: str) -> str:
    for mark in ("\r", "\n", *more, "%"):
        text = text.replace(f"%{ord(mark):02X}", mark)
    return text
