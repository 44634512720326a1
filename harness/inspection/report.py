"""Pure. An inspection as lines for a person, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from harness.inspection.kinds import NAMES
from harness.inspection.model import Inspection, Signed, Trust

SHOWN_FILES = 40
#: Longest text of a stranger's that is shown on a line.
SHOWN_TEXT = 200

_TRUST = {
    Trust.UNSIGNED: "not signed",
    Trust.VALID: "signed, the file is unaltered and the chain ends at a known root (offline; revocation is not asked)",
    Trust.ALTERED: "SIGNED, AND THE FILE HAS BEEN CHANGED SINCE",
    Trust.UNPROVEN: "signed and unaltered; its chain or countersignature does not reach a root that is known here",
    Trust.INVALID: "signed, but the signature does not hold",
    Trust.UNREADABLE: "there is a signature that cannot be read",
    Trust.UNCHECKED: "not checked",
}


def as_json(found: Inspection) -> dict[str, object]:
    """Give everything, by the names of ``Inspection``."""
    texts = {"product": found.product, "version": found.version, "texts": dict(found.texts)}
    return {"schema": "hts-compat/inspection/1", **asdict(found), **texts}


def as_lines(found: Inspection, *, all_files: bool = False) -> Iterator[str]:
    """Give the lines that a person reads. They are not inert yet: whoever prints them makes them so."""
    yield _row("file", found.path)
    kind = NAMES[found.kind]
    yield _row("kind", f"{kind}, {found.machine} ({found.bits}-bit)" if found.machine else kind)
    yield _row("size", f"{found.size_bytes} bytes")
    yield _row("sha256", found.sha256)
    yield _row("md5", found.md5)
    if found.windowed is not None:
        yield _row("runs", "with windows" if found.windowed else "in the console")
    if found.elevation is not None:
        yield _row("asks for", f"{found.elevation} (manifest)")
    for name, text in found.texts:
        yield _row(name, text)
    yield from _signature(found.signed)
    for section in found.sections:
        yield _row("section", f"{section.name:10} {section.size_bytes:>12} bytes  {section.entropy:.2f} bits a byte")
    if found.overlay_bytes:
        yield _row("overlay", f"{found.overlay_bytes} bytes behind the program")
    for hint in found.hints:
        yield _row("packer?", hint)
    yield from _files(found, all_files=all_files)
    for module in found.modules:
        silent = f"; silent by {module.silent}" if module.silent else ""
        yield _row("module?", f"{module.module} ({_short(module.path)}){silent}: known by its file name only")
    for note in found.notes:
        yield _row("note", note)
    yield _row("run takes it", "yes" if found.refused is None else f"no: {found.refused}")


def _signature(signed: Signed) -> Iterator[str]:
    yield _row("signature", _TRUST[signed.trust])
    if signed.detail:
        yield _row("", signed.detail)
    for signer in signed.signers:
        yield _row("signer", f"{signer.subject}, {signer.valid_from} to {signer.valid_to}")
        yield _row("", f"issued by {signer.issuer}")


def _files(found: Inspection, *, all_files: bool) -> Iterator[str]:
    inside = found.contents
    if inside.why_not:
        yield _row("inside", inside.why_not)
    if not inside.files:
        return
    total = sum(file.size_bytes or 0 for file in inside.files)
    yield _row("inside", f"{len(inside.files)} files, {total} bytes, listed by {inside.by}")
    shown = inside.files if all_files else inside.files[:SHOWN_FILES]
    for file in shown:
        size = "?" if file.size_bytes is None else str(file.size_bytes)
        yield _row("", f"{size:>12}  {file.path}")
    if len(shown) < len(inside.files):
        yield _row("", f"{'':12}  ... and {len(inside.files) - len(shown)} more (--json has them all)")


def _row(name: str, text: str) -> str:
    return f"{_short(name)[:17]:18} {_short(text)}"


def _short(text: str) -> str:
    """Give a stranger's text on one line of bounded length."""
    one_line = text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
    return one_line if len(one_line) <= SHOWN_TEXT else one_line[: SHOWN_TEXT - 3] + "..."
