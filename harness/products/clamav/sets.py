"""Pure. Signature sets as ClamAV reads them: one line a known file, by MD5 and size.

Source: ClamAV signature documentation, "Hash-based signatures": ``.hdb`` lines are ``MD5:Size:Name``.
"""

from __future__ import annotations

import hashlib

from harness.signature import Signature

#: The test file's well-known digest and size; the text itself is put together in the guest alone.
#: Source: www.eicar.org, "Intended use".
EICAR_MD5 = "44d88612fea8a8f36de82e1278abb02f"
EICAR_SIZE = 68
CANARY_NAME = "HtsCompat.EICAR"
MARKER_PREFIX = "HtsCompat.Set."


def marker_text(label: str) -> str:
    """Give the harmless text that only the set of this label knows."""
    return f"hts-compat set marker {label}\n"


def marker_name(label: str) -> str:
    """Name the detection of a set's marker."""
    return MARKER_PREFIX + label


def database_of(signature: Signature) -> bytes:
    """Write a set as the content of one ``.hdb`` file."""
    text = marker_text(signature.marker).encode()
    lines = [f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}:{len(text)}:{marker_name(signature.marker)}"]
    if signature.knows_canary:
        lines.append(f"{EICAR_MD5}:{EICAR_SIZE}:{CANARY_NAME}")
    lines += [f"{known.md5}:{known.size_bytes}:{known.threat}" for known in signature.known]
    return ("\n".join(lines) + "\n").encode()
