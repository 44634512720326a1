"""Pure. Cells, suites and attempts as JSON documents, such that reading gives exactly what was written.

A cell is kept in two parts: the question, which its execution key covers and which is stored once for all runs, and
what is local to one run (paths on this host, the image's provenance, why the cell is unsupported).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from harness.attempt import Attempt, AttemptMeta, Blobs, Event, from_jsonl, to_jsonl
from harness.build import Build
from harness.errors import UnusableStore
from harness.plan import Cell, Suite

#: What a parsed JSON object is; only this module handles it unvalidated.
Json = dict[str, Any]


class CellDocument(NamedTuple):
    """A cell, written down."""

    question: str
    local: str


def write_cell(cell: Cell) -> CellDocument:
    """Write a cell down in its two parts."""
    question = cell.model_dump(mode="json", exclude={"unsupported": True, "image": {"recipe", "reference"}})
    local = {
        "unsupported": cell.unsupported,
        "image": {"recipe": cell.image.recipe, "reference": cell.image.reference},
        "build": _host_paths(cell.build),
    }
    return CellDocument(_text(question), _text(local))


def read_cell(document: CellDocument) -> Cell:
    """Read a cell back."""
    value, local = json.loads(document.question), json.loads(document.local)
    value["unsupported"] = local["unsupported"]
    value["image"].update(local["image"])
    _put_host_paths(value["build"], local["build"])
    return Cell.model_validate(value)


def write_suite(suite: Suite) -> str:
    """Write a suite down, its builds' paths on this host included."""
    value: Json = suite.model_dump(mode="json")
    for written, build in zip(value["builds"], suite.builds, strict=True):
        _put_host_paths(written, _host_paths(build))
    return _text(value)


def read_suite(text: str) -> Suite:
    """Read a suite back."""
    return Suite.model_validate_json(text)


def write_meta(meta: AttemptMeta) -> str:
    """Write down who made an attempt and when; its cell stands elsewhere."""
    return meta.model_dump_json(exclude={"cell"})


def read_meta(text: str, cell: Cell) -> AttemptMeta:
    """Read an attempt's head back."""
    value = json.loads(text)
    value["cell"] = cell
    return AttemptMeta.model_validate(value)


class Evidence(NamedTuple):
    """All bytes of an attempt by sha256, its events among them."""

    events_sha256: str
    blobs: dict[str, bytes]


def write_evidence(attempt: Attempt) -> Evidence:
    """Give an attempt's events as JSON lines, together with the bytes that they name.

    Raises:
        ValueError: The attempt lacks a blob that an event names, or an event cannot be written down.
    """
    blobs: dict[str, bytes] = {}
    for sha256 in names_of(attempt.events):
        try:
            blobs[sha256] = attempt.blobs.get(sha256)
        except KeyError as error:
            msg = f"attempt '{attempt.meta.id}' names blob {sha256} and has none such"
            raise ValueError(msg) from error
    raw = to_jsonl(attempt.events)
    events_sha256 = hashlib.sha256(raw).hexdigest()
    blobs[events_sha256] = raw
    return Evidence(events_sha256, blobs)


def read_events(attempt_id: str, sha256: str, blobs: Blobs) -> tuple[Event, ...]:
    """Read an attempt's events out of their blob.

    Raises:
        UnusableStore: The blob is missing, altered or unreadable. What cannot be read whole is not read at all.
    """
    try:
        return from_jsonl(blobs.get(sha256))
    except (KeyError, ValueError) as error:
        raise UnusableStore(
            f"The events of attempt '{attempt_id}' are missing or damaged.",
            detail=str(error),
            hint="Restore the store's folder from a backup, or run the cell again with --fresh.",
        ) from error


def names_of(events: Iterable[Event]) -> list[str]:
    """Give the blobs that events name, once each, in order."""
    return list(dict.fromkeys(event.blob for event in events if event.blob is not None))


def _host_paths(build: Build) -> Json:
    return {"installer": build.installer.host_path, "patch": build.patch_host_dir}


def _put_host_paths(value: Json, paths: Json) -> None:
    value["installer"]["host_path"] = paths["installer"]
    value["patch_host_dir"] = paths["patch"]


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
