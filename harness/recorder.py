"""Effects. Writes an attempt down while it happens: numbers events, stamps them, and keeps raw bytes by digest."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from harness.attempt import HARNESS, Attempt, AttemptMeta, Event, Kind, MemoryBlobs
from harness.products.api import Record
from harness.secret import NO_MASK, Mask

#: More raw bytes than this in one attempt are not kept; what is dropped is said, so that it can never read as complete.
MAX_ATTEMPT_BYTES = 256 * 1024**2


class Recorder:
    """Collects one attempt. ``step`` is set by ``run_cell`` and stamped on every event.

    Everything that an attempt will hold comes through here, so this is the one place where secrets are taken out.
    """

    def __init__(self, meta: AttemptMeta, *, max_bytes: int = MAX_ATTEMPT_BYTES, mask: Mask = NO_MASK) -> None:
        self._mask = mask
        self._max_bytes = max_bytes
        self.step: int | None = None
        self._meta = meta
        self._begun = time.monotonic()
        self._events: list[Event] = []
        self._blobs: dict[str, bytes] = {}
        self._kept_bytes = 0

    def for_source(self, source: str) -> Record:
        """Give the function by which one source records."""

        def record(
            kind: Kind,
            subject: str = "",
            *,
            data: Mapping[str, JsonValue] | None = None,
            blob: bytes | None = None,
            truncated: bool = False,
        ) -> None:
            self._record(source, kind, subject, data=data, blob=blob, truncated=truncated)

        return record

    @property
    def record(self) -> Record:
        """Give the function by which the harness itself records."""
        return self.for_source(HARNESS)

    def attempt(self) -> Attempt:
        """Close the book: give everything that was recorded so far as an immutable attempt."""
        meta = self._meta.model_copy(update={"finished_at": datetime.now(UTC)})
        return Attempt(meta=meta, events=tuple(self._events), blobs=MemoryBlobs(dict(self._blobs)))

    def _record(
        self,
        source: str,
        kind: Kind,
        subject: str,
        *,
        data: Mapping[str, JsonValue] | None,
        blob: bytes | None,
        truncated: bool,
    ) -> None:
        digest = None
        if blob is not None:
            digest, cut = self._keep(self._mask.blob(blob))
            truncated = truncated or cut
        self._events.append(
            Event(
                seq=len(self._events),
                host_mono_s=round(time.monotonic() - self._begun, 4),
                step=self.step,
                source=source,
                kind=kind,
                subject=self._mask.text(subject),
                data=self._mask.data(data or {}),
                blob=digest,
                truncated=truncated,
            )
        )

    def _keep(self, blob: bytes) -> tuple[str, bool]:
        """Keep bytes as far as there is room; give their digest and whether they were cut. Known bytes need no room."""
        digest = hashlib.sha256(blob).hexdigest()
        if digest in self._blobs:
            return digest, False
        kept = blob[: max(self._max_bytes - self._kept_bytes, 0)]
        digest = hashlib.sha256(kept).hexdigest()
        if digest not in self._blobs:
            self._blobs[digest] = kept
            self._kept_bytes += len(kept)
        return digest, len(kept) < len(blob)
