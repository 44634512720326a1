"""Pure. Entropy, and what points to a packer or a protector. Names are only hints: anybody can name a section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import log2

from harness.inspection.model import SectionSeen

#: Section names that packers and protectors leave. Sources: UPX (UPX0-2); Oreans, Themida/WinLicense; VMProtect
#: Software; ASPack Software; Enigma Protector; MPRESS; PECompact; Petite; NSPack; Obsidium; StarForce.
SECTION_HINTS = {
    "upx": "UPX",
    ".themida": "Themida",
    ".winlice": "WinLicense",
    ".vmp": "VMProtect",
    ".aspack": "ASPack",
    ".adata": "ASPack",
    ".enigma": "Enigma Protector",
    ".mpress": "MPRESS",
    "pec1": "PECompact",
    "pec2": "PECompact",
    ".petite": "Petite",
    ".nsp": "NSPack",
    ".sforce": "StarForce",
    "obsidium": "Obsidium",
}
#: What is compressed or encrypted is above this; machine code is at 6 to 6.8 bits a byte.
PACKED_ENTROPY = 7.2
_MIN_SAMPLE = 4096


def entropy(data: bytes) -> float:
    """Give Shannon's entropy of bytes, in bits a byte: 0 for one value repeated, 8 for random ones.

    Example:
        >>> entropy(bytes(range(256)))
        8.0
    """
    if not data:
        return 0.0
    shares = (count / len(data) for count in Counter(data).values())
    return round(-sum(share * log2(share) for share in shares), 2) + 0.0


def hints(sections: Iterable[SectionSeen]) -> tuple[str, ...]:
    """Name what points to a packer, each as one sentence."""
    found: dict[str, None] = {}
    for section in sections:
        name = section.name.casefold()
        for mark, packer in SECTION_HINTS.items():
            if name.startswith(mark):
                found[f"{packer}: a section is called '{section.name}' (a name is only a hint)."] = None
        code_or_data = not name.startswith((".rsrc", ".reloc"))
        if code_or_data and section.size_bytes >= _MIN_SAMPLE and section.entropy >= PACKED_ENTROPY:
            found[f"Packed or encrypted: section '{section.name}' has {section.entropy:.2f} bits a byte."] = None
    return tuple(found)
