"""Driver. An attempt as a folder that can be sent, kept and judged anywhere; a labelled corpus is a folder of these.

Layout: ``attempt.json`` (who and what), ``events.jsonl`` (what happened), ``blobs/<sha256>`` (raw bytes).

1. A bundle may come from anyone. Names in it are checked before they become paths; links and devices are not opened.
2. A bundle is read whole or not at all: a missing or altered blob is an error when it is loaded, not when it is judged.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.attempt import Attempt, AttemptMeta, Event, from_jsonl, to_jsonl
from harness.errors import InputError, StoreError
from harness.stores.api import AttemptStore
from harness.stores.as_json import names_of, write_evidence
from harness.stores.blobs import checked, fsync, is_name

META = "attempt.json"
EVENTS = "events.jsonl"
BLOBS = "blobs"

#: No single file of an attempt comes near this; a bundle with a larger one is refused before it fills the memory.
MAX_FILE_BYTES = 256 * 1024**2

#: An attempt's id in a bundle; it may become a file name elsewhere.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class BundleBlobs:
    """The blobs of one bundle, read and checked when asked for."""

    folder: Path

    def get(self, sha256: str) -> bytes:
        """Give the bytes; raise ``KeyError`` when they are missing and ``ValueError`` when they are not these bytes."""
        if not is_name(sha256):
            raise KeyError(sha256)
        try:
            data = _read(self.folder / sha256)
        except OSError as error:
            raise KeyError(sha256) from error
        return checked(sha256, data)


def export_attempt(store: AttemptStore, attempt_id: str, folder: Path) -> None:
    """Write one attempt of a store as a bundle: ``write_bundle``, and ``StoreError`` when the store has none such."""
    write_bundle(store.attempts_by_id([attempt_id])[0], folder)


def write_bundle(attempt: Attempt, folder: Path) -> None:
    """Write an attempt as a bundle, which appears whole or not at all.

    Args:
        attempt: Any attempt.
        folder: Where the bundle will be; nothing may be there yet. Folders above it are made.

    Raises:
        InputError: There is something at the folder's place, or it cannot be written.
        StoreError: The attempt's own bytes are missing or damaged.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(f"There is something at '{folder}' already.", hint="Name a folder that does not exist.")
    try:
        evidence = write_evidence(attempt)
    except ValueError as error:
        raise StoreError(
            f"The evidence of attempt '{attempt.meta.id}' is missing or damaged.", detail=str(error)
        ) from error
    del evidence.blobs[evidence.events_sha256]
    begun = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        (begun / BLOBS).mkdir(parents=True)
        for sha256, data in evidence.blobs.items():
            _write(begun / BLOBS / sha256, data)
        _write(begun / EVENTS, to_jsonl(attempt.events))
        meta = attempt.meta.model_dump(mode="json")
        _write(begun / META, json.dumps(meta, indent=1, ensure_ascii=False).encode() + b"\n")
        begun.rename(folder)
        fsync(folder.parent)
    except OSError as error:
        shutil.rmtree(begun, ignore_errors=True)
        raise InputError(f"The bundle '{folder}' cannot be written.", detail=str(error)) from error


def load_bundle(folder: Path) -> Attempt:
    """Read a bundle, and check every byte of it.

    Raises:
        InputError: A file is missing, altered, of the wrong form, too large, or no plain file; a name is unsafe.
    """
    blobs = folder / BLOBS
    if blobs.is_symlink():
        raise _bad(folder, f"'{BLOBS}' is a link")
    try:
        meta = AttemptMeta.model_validate_json(_read(folder / META))
        events = from_jsonl(_read(folder / EVENTS))
    except ValidationError as error:
        raise _bad(folder, f"it has a value of the wrong form ({error.error_count()} problems)", str(error)) from error
    except (OSError, ValueError) as error:
        raise _bad(folder, f"{error}") from error
    if _ID.fullmatch(meta.id) is None:
        raise _bad(folder, f"its id {meta.id!r:.80} is no plain name")
    _check_blobs(folder, events, BundleBlobs(blobs))
    return Attempt(meta=meta, events=events, blobs=BundleBlobs(blobs))


def _check_blobs(folder: Path, events: tuple[Event, ...], blobs: BundleBlobs) -> None:
    for sha256 in names_of(events):
        if not is_name(sha256):
            raise _bad(folder, f"it names a blob {sha256!r:.80}, which is no sha256")
        try:
            blobs.get(sha256)
        except KeyError as error:
            raise _bad(folder, f"blob {sha256} is missing or no plain file", str(error.__cause__)) from error
        except ValueError as error:
            raise _bad(folder, f"blob {sha256} was altered") from error


def _read(path: Path) -> bytes:
    """Read a plain file. Never follows a link, waits for a pipe, or reads without end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_FILE_BYTES:
            msg = f"'{path.name}' is no plain file of at most {MAX_FILE_BYTES} bytes"
            raise OSError(msg)
        return file.read(MAX_FILE_BYTES)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    fsync(path)


def _bad(folder: Path, why: str, detail: str = "") -> InputError:
    return InputError(
        f"The bundle '{folder}' cannot be read: {why}.",
        detail=detail,
        hint="Export the attempt again where it was made.",
    )
