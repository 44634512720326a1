"""What a long drill has done, written down as it does it, so that it can be stopped and taken up again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """Rows in a file, one JSON object a line, each under a key that says all that it depends on.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = json.loads(line)
                    self._rows[row["key"]] = row["row"]
                except (ValueError, KeyError, TypeError):
                    continue  # cut by the end of whoever wrote it: it is made again

    def row(self, key: str) -> dict[str, Any] | None:
        """Give what was written down under a key; None when nothing was."""
        return self._rows.get(key)

    def write(self, key: str, row: Mapping[str, Any]) -> None:
        """Write a row down."""
        self._rows[key] = dict(row)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as stream:
                stream.seek(max(stream.tell() - 1, 0))
                # What was cut would take the next row with it.
                begin = b"" if stream.read(1) in {b"", b"\n"} else b"\n"
                stream.write(begin + json.dumps({"key": key, "row": row}).encode() + b"\n")
