"""Driver. GitHub Actions around a command: its job summary and its annotations, where the environment asks for them.

Neither can change what a command decides: a summary that cannot be written is a note, never another exit code.

Source: GitHub documentation, "Variables reference" (GITHUB_ACTIONS, GITHUB_STEP_SUMMARY, GITHUB_WORKSPACE).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli import say
from harness.renderers.github import Annotation, At, commands
from harness.renderers.job_summary import MAX_BYTES
from harness.yaml_source import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class GitHub:
    """What a command tells GitHub. ``summary`` is the step's file, None when there is none to write."""

    annotates: bool = False
    summary: Path | None = None
    workspace: Path | None = None

    @property
    def is_heard(self) -> bool:
        """Tell whether there is anything to say to."""
        return self.annotates or self.summary is not None

    def annotate(self, annotations: Sequence[Annotation]) -> None:
        """Print annotations as workflow commands."""
        if self.annotates:
            say.commands(commands(annotations))

    def summarise(self, draw: Callable[[int], str]) -> None:
        """Add to the step's summary what ``draw`` makes of the bytes that are left in it."""
        if self.summary is None:
            return
        try:
            taken = self.summary.stat().st_size if self.summary.exists() else 0
            text = draw(max(MAX_BYTES - taken, 0))
            if not text:
                say.note(f"the job summary '{self.summary}' is full; nothing was added")
                return
            with self.summary.open("ab") as stream:
                stream.write(text.encode())
        except OSError as error:
            say.note(f"the job summary '{self.summary}' could not be written ({error.strerror or error})")

    def at(self, place: Place) -> At:
        """Give a place as GitHub knows it: relative to the workspace where the file lies in it."""
        path = Path(place.file).absolute()
        inside = self.workspace is not None and path.is_relative_to(self.workspace)
        shown = path.relative_to(self.workspace) if inside and self.workspace is not None else path
        return At(file=shown.as_posix(), line=place.line)


def github(asked: bool | None, environ: Mapping[str, str] = os.environ) -> GitHub:
    """Say what to tell GitHub.

    Args:
        asked: True annotates anywhere, False tells nothing, None does what the environment says.
        environ: The process's environment.
    """
    if asked is False:
        return GitHub()
    summary, workspace = environ.get("GITHUB_STEP_SUMMARY"), environ.get("GITHUB_WORKSPACE")
    return GitHub(
        annotates=asked is True or environ.get("GITHUB_ACTIONS") == "true",
        summary=Path(summary) if summary else None,
        workspace=Path(workspace).absolute() if workspace else None,
    )
