"""Pure. Signature sets as the guard reads them: what it knows by sha256 and size, and what it does about each."""

from __future__ import annotations

import hashlib
import json

from harness.behaviour import Act, Behaviour
from harness.signature import Signature

CANARY_NAME = "Test.Guard.Canary"
MARKER_PREFIX = "Test.Guard.Set."
CANARY_TEXT = "hts-compat test guard: canary\n"


def marker_text(label: str) -> str:
    """Give the harmless text that only the set of this label knows."""
    return f"hts-compat test guard: set marker {label}\n"


def set_of(signature: Signature) -> bytes:
    """Write a set as JSON: its label, the label that it claims, and what it knows."""
    known = [_known(marker_text(signature.marker).encode(), MARKER_PREFIX + signature.marker)]
    if signature.knows_canary:
        known.append(_known(CANARY_TEXT.encode(), CANARY_NAME))
    known += [
        _item(file.sha256, file.size_bytes, file.threat, file.behaviour or Behaviour()) for file in signature.known
    ]
    value = {"label": signature.label, "says": signature.says or signature.label, "known": known}
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def _known(content: bytes, threat: str) -> dict[str, object]:
    """Give an object of ours, which is always refused and stays: the harness takes it away itself."""
    return _item(hashlib.sha256(content).hexdigest(), len(content), threat, Behaviour(does=Act.DENY))


def _item(sha256: str, size_bytes: int, threat: str, behaviour: Behaviour) -> dict[str, object]:
    return {"sha256": sha256, "size": size_bytes, "threat": threat, **behaviour.model_dump(mode="json")}
