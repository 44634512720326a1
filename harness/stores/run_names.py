"""Driver. How a person names a run: ``latest``, its id, the beginning of its id, or the folder of its report.

A report's folder holds ``run.json`` with ``{"run": id}``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.errors import InputError
from harness.stores.api import RunInfo, RunState

LATEST = "latest"
MARKER = "run.json"

_LIST = "Name one of the store's runs by its id, or 'latest'."


def mark_folder(folder: Path, run_id: str) -> None:
    """Write which run a report's folder shows. The folder exists."""
    (folder / MARKER).write_text(json.dumps({"run": run_id}) + "\n", encoding="utf-8")


def pick(runs: Sequence[RunInfo], name: str) -> RunInfo:
    """Find the run that a person means.

    Args:
        runs: All runs, newest first.
        name: ``latest`` (the newest complete run that is no drill), an id, a folder, or a unique prefix of an id.

    Raises:
        InputError: There is none, or the prefix is not unique.
    """
    if name == LATEST:
        complete = next((run for run in runs if run.state is RunState.COMPLETE and not run.drill), None)
        if complete is None:
            raise InputError("The store has no complete run.", hint="Start one with 'hts-compat run', or name its id.")
        return complete
    exact = _with_id(runs, name)
    if exact is not None:
        return exact
    if name and (Path(name) / MARKER).is_file():
        marked = _read_marker(Path(name) / MARKER)
        shown = _with_id(runs, marked)
        if shown is None:
            raise InputError(f"The folder '{name}' shows the run '{marked}', which is not in the store.", hint=_LIST)
        return shown
    begun = [run for run in runs if name and run.id.startswith(name)]
    if not begun:
        raise InputError(f"There is no run '{name}' in the store.", hint=_LIST)
    if len(begun) > 1:
        raise InputError(
            f"The name '{name}' fits {len(begun)} runs.", detail="\n".join(run.id for run in begun), hint=_LIST
        )
    return begun[0]


def _with_id(runs: Sequence[RunInfo], run_id: str) -> RunInfo | None:
    return next((run for run in runs if run.id == run_id), None)


def _read_marker(path: Path) -> str:
    try:
        run_id = json.loads(path.read_bytes())["run"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"The file '{path}' does not name a run.", detail=str(error), hint=_LIST) from error
    if not isinstance(run_id, str):
        raise InputError(f"The file '{path}' does not name a run.", hint=_LIST)
    return run_id
