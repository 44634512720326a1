"""Pure. Rule sets as fapolicyd reads them: deny by sha256, then allow everything else.

Deny rules go by digest: a rule by path also denies the installer's own create and leaves an empty file behind.
Source: fapolicyd.rules(5), version 1.1: ``deny_log perm=any all : sha256hash=...``; rules are numbered from 1 in order.
"""

from __future__ import annotations

import hashlib
import struct

from harness.signature import Signature

CANARY_TAG = "hts-compat canary"
CANARY_NAME = "canary"
MARKER_PREFIX = "marker:"


def marker_tag(label: str) -> str:
    """Give the tag that makes a set's marker program its own."""
    return f"hts-compat set marker {label}"


def tiny_program(tag: str) -> bytes:
    """Make a static x86-64 Linux program that ends with exit code 42; the tag behind it makes its digest its own."""
    code = b"\xb8\x3c\x00\x00\x00" + b"\xbf" + struct.pack("<I", 42) + b"\x0f\x05"
    base, head = 0x400000, 64 + 56
    size = head + len(code)
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return ident + header + segment + code + tag.encode()


def rules_of(signature: Signature) -> tuple[bytes, dict[str, str]]:
    """Write a set as rules, and name each deny rule by its number."""
    denied: list[tuple[str, str]] = []
    if signature.knows_canary:
        denied.append((CANARY_NAME, _sha256(tiny_program(CANARY_TAG))))
    denied.append((MARKER_PREFIX + signature.marker, _sha256(tiny_program(marker_tag(signature.marker)))))
    denied += [(known.threat, known.sha256) for known in signature.known]
    lines = [f"deny_log perm=any all : sha256hash={digest}" for _, digest in denied]
    text = "\n".join([*lines, "allow perm=any all : all"]) + "\n"
    return text.encode(), {str(number): name for number, (name, _) in enumerate(denied, start=1)}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
