"""Pure. matrix.json: the contract, for programs."""

from __future__ import annotations

from harness.renderers.api import Report


class JsonRenderer:
    """Writes the matrix as ``harness/schemas/matrix.schema.json`` describes it."""

    suffix = ".json"

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        return report.matrix.to_json()
