"""Recorded attempts in one small file: cells, blobs and attempts as JSON lines, compressed; every blob once.

``python -m tests.corpus.archive STORE FILE`` writes all attempts of a store. Pictures are left out: no rule looks at
them, and they would be most of the file. Everything else is as it was recorded, byte for byte.
"""

from __future__ import annotations

import base64
import json
import lzma
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.attempt import Attempt, AttemptMeta, Event, Kind, MemoryBlobs
from harness.plan import Cell
from harness.stores.api import Store
from harness.stores.blobs import checked
from harness.stores.sqlite import SqliteStore

Json = dict[str, Any]


def pack(attempts: Iterable[Attempt]) -> bytes:
    """Write attempts as the bytes of an archive."""
    lines: list[Json] = []
    cells: dict[str, str] = {}
    blobs: set[str] = set()
    for attempt in map(without_pictures, attempts):
        key = attempt.cell.execution_key()
        if key not in cells:
            cells[key] = attempt.cell.id
            lines.append({"cell": key, "is": attempt.cell.model_dump(mode="json", exclude_defaults=True)})
        for event in attempt.events:
            if event.blob is not None and event.blob not in blobs:
                blobs.add(event.blob)
                lines.append({"blob": event.blob, **_written(attempt.blobs.get(event.blob))})
        meta = attempt.meta.model_dump(mode="json", exclude={"cell"})
        events = [event.model_dump(mode="json", exclude_defaults=True) for event in attempt.events]
        lines.append({"attempt": meta, "of": key, "events": events})
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def unpack(raw: bytes) -> list[Attempt]:
    """Read an archive's attempts, in their order; a blob that is not what its name says raises ``ValueError``."""
    cells: dict[str, Cell] = {}
    blobs: dict[str, bytes] = {}
    attempts = []
    for line in lzma.decompress(raw).splitlines():
        value = json.loads(line)
        if "cell" in value:
            cells[value["cell"]] = Cell.model_validate(value["is"])
        elif "blob" in value:
            blobs[value["blob"]] = checked(value["blob"], _read(value))
        else:
            meta = AttemptMeta.model_validate({**value["attempt"], "cell": cells[value["of"]]})
            events = tuple(Event.model_validate(event) for event in value["events"])
            attempts.append(Attempt(meta=meta, events=events, blobs=MemoryBlobs(blobs)))
    return attempts


def without_pictures(attempt: Attempt) -> Attempt:
    """Leave the pictures out, and number the events anew."""
    kept = [event for event in attempt.events if event.kind is not Kind.SCREENSHOT]
    events = tuple(event.model_copy(update={"seq": seq}) for seq, event in enumerate(kept))
    return replace(attempt, events=events)


def attempts_in(store: Store) -> list[Attempt]:
    """Give all attempts of a store, by run, cell, role and ordinal."""
    found = []
    for info in sorted(store.runs(), key=lambda run: run.started_at):
        plan = store.plan_of(info.id)
        cells = {cell.execution_key(): cell for cell in (*plan.cells, *plan.controls())}
        found += [attempt for cell in cells.values() for attempt in store.attempts(info.id, cell)]
    return found


def _written(content: bytes) -> Json:
    try:
        return {"text": content.decode()}
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(content).decode("ascii")}


def _read(value: Json) -> bytes:
    return value["text"].encode() if "text" in value else base64.b64decode(value["b64"])


def main(arguments: Sequence[str]) -> int:
    folder, file = map(Path, arguments)
    store = SqliteStore(folder)
    file.write_bytes(pack(attempts_in(store)))
    store.close()
    print(f"{file}: {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
