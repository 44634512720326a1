"""Pure. The matrix as a table for spreadsheets: one line a cell, one column a fact.

1. UTF-8 with a byte order mark: without it Excel reads Korean as another code page.
2. No cell of the table can act: text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP,
   "CSV Injection"), and control characters are made visible.
"""

from __future__ import annotations

import csv
import io
from datetime import datetime

from harness.inert_text import visible
from harness.matrix import MatrixCell
from harness.renderers.api import Report

#: What a spreadsheet takes for the beginning of a formula; the full-width forms count in East Asian editions.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Value = str | float | bool | None

COLUMNS = (
    "run", "build", "build_version", "build_sha256", "image", "lab", "product", "profile", "product_version",
    "test_product", "signature_from", "signature", "scenario", "outcome", "stage", "rule", "reason", "assurance",
    "blame", "mechanism", "flaky", "confirmed", "cached", "slowdown", "observed_s", "threat", "target", "component",
    "action", "after_s", "failed_expectation", "failed_code", "dialog", "canaries_reacted", "canaries_tried",
    "signature_before", "signature_after", "control_outcome", "attempts", "cause", "started_at", "duration_s", "egress",
    "cloud", "cell", "key",
)  # fmt: skip


class CsvRenderer:
    """Writes one line a cell under a line of column names."""

    suffix = ".csv"

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for cell in report.matrix.cells:
            facts = row(cell) | {"run": report.matrix.run.id}
            writer.writerow([inert(facts[name]) for name in COLUMNS])
        return b"\xef\xbb\xbf" + out.getvalue().encode()


def inert(value: Value) -> str | float:
    """Give a value as a spreadsheet shows it and never runs it. Unknown is an empty field."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return value
    suspicious = value.lstrip(" ").startswith(_FORMULA) or value.startswith(_FORMULA)
    shown = visible(value, lines=True)
    return "'" + shown if suspicious else shown


def row(cell: MatrixCell) -> dict[str, Value]:
    """Give the facts of one cell by column name."""
    found = next(iter(cell.detections), None)
    step = cell.failed_step
    protection = cell.protection
    tried = [c for c in protection.canaries if not c.excluded]
    return {
        "build": cell.build.name,
        "build_version": cell.build.version,
        "build_sha256": cell.build.sha256,
        "image": cell.image,
        "lab": cell.lab.value,
        "product": cell.product,
        "profile": cell.profile,
        "product_version": cell.product_version,
        "test_product": cell.test_product,
        "signature_from": cell.signature_from,
        "signature": cell.signature,
        "scenario": cell.scenario,
        "outcome": cell.outcome.value,
        "stage": cell.stage,
        "rule": cell.rule,
        "reason": cell.reason,
        "assurance": cell.assurance.value if cell.assurance is not None else None,
        "blame": cell.blame.value if cell.blame is not None else None,
        "mechanism": cell.mechanism.value if cell.mechanism is not None else None,
        "flaky": cell.flaky,
        "confirmed": cell.confirmed,
        "cached": cell.cached,
        "slowdown": cell.slowdown,
        "observed_s": cell.observed_s,
        "threat": found.threat if found is not None else None,
        "target": found.target if found is not None else None,
        "component": found.component.value if found is not None and found.component is not None else None,
        "action": found.action.value if found is not None else None,
        "after_s": found.after_s if found is not None else None,
        "failed_expectation": step.expectation if step is not None else None,
        "failed_code": step.code if step is not None else None,
        "dialog": step.dialog if step is not None else None,
        "canaries_reacted": sum(c.reacted for c in tried),
        "canaries_tried": len(tried),
        "signature_before": protection.signature_before,
        "signature_after": protection.signature_after,
        "control_outcome": cell.control.outcome.value if cell.control is not None else None,
        "attempts": len(cell.attempts),
        "cause": cell.cause.value if cell.cause is not None else None,
        "started_at": _time(cell.started_at),
        "duration_s": cell.duration_s,
        "egress": " ".join(p.pair.text for p in cell.egress.opened.permits()) if cell.egress is not None else None,
        "cloud": cell.egress.asks_a_cloud if cell.egress is not None else False,
        "cell": cell.id,
        "key": cell.key,
    }


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat(timespec="seconds").replace("+00:00", "Z")
