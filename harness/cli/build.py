"""Driver. ``build inspect``: what is in a build, and a first scenario and suite for it."""

from __future__ import annotations

import os
from pathlib import Path

from harness.cli import say
from harness.errors import InputError
from harness.inspection.draft import draft_scenario, draft_suite, slug
from harness.inspection.inspect_build import inspect_build
from harness.inspection.report import as_json, as_lines
from harness.rig import ROOT


def inspect(path: Path, *, draft: Path | None, json_wanted: bool) -> int:
    """Say what is in a build; write a scenario to ``draft`` and a suite beside it when that is asked for."""
    written: tuple[Path, ...] = ()
    if draft is not None:
        _refuse_overwriting(draft, suite_beside(draft))
    found = inspect_build(path)
    if draft is not None:
        suite = suite_beside(draft)
        folder = draft.absolute().parent
        texts = {
            draft: draft_scenario(found, name=slug(draft.stem)),
            suite: draft_suite(
                found,
                name=slug(draft.stem),
                scenario=draft.name,
                build=_relative(path, folder),
                signature_sets=_relative(ROOT / "seeds" / "signatures" / "your-own.yaml", folder),
            ),
        }
        written = tuple(_write(file, text) for file, text in texts.items())
    if json_wanted:
        say.data({**as_json(found), "written": [str(file) for file in written]})
        return 0
    for line in as_lines(found):
        say.line(line)
    for file in written:
        say.line(f"{'written':18} {file}")
    if written:
        say.line("Fill in what is marked TODO, then: hts-compat run " + str(written[1]))
    return 0


def suite_beside(draft: Path) -> Path:
    """Give the path of the suite that is written beside a drafted scenario."""
    return draft.with_name(f"{draft.stem}.suite.yaml")


def _refuse_overwriting(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise InputError(f"'{file}' is there already, and is not overwritten.", hint="Give --draft another name.")


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.absolute(), folder)


def _write(file: Path, text: str) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InputError(
            f"'{file}' cannot be written ({error.strerror}).", hint="Give --draft another name."
        ) from error
    return file
