"""Pure. The base of every value that is written down (YAML by people, JSON by us): frozen, strict, no unknown keys."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that never changes, takes no unknown key, and has one canonical JSON form."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    def digest(self) -> str:
        """Give the sha256 of the canonical JSON form, as hexadecimal text."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(value: object) -> str:
    """Give the sha256 of any JSON value: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
