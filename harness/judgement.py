"""Pure. A verdict as it is written down: outcome, reason and references, with what it was computed from.

The attempts stay the truth: a judgement can be thrown away and computed again (``rejudge``).
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue

from harness.errors import Blame
from harness.frozen import Frozen
from harness.observation import Mechanism
from harness.verdict import Outcome


class Judgement(Frozen):
    """One verdict of one cell in one run.

    Attributes:
        attempts, controls: Ids of all attempts that were looked at. The judgement key is made of these and of the
            versions.
        cell: The cell's object of matrix.json (contract), ready to be rendered; made by ``matrix_cell.cell_of``.
        cloud: Something in the cell depended on a vendor's cloud; such a cell is never answered from the store.
        cached_from: The run whose attempts answered this cell; None when it was run.
        withdrawn_by: The wrong sentinel attempt that took this verdict back; judging again does not give it back.
        run_id: The run that this judgement was made in.
    """

    outcome: Outcome
    rule: str
    reason: str
    stage: str | None = None
    blame: Blame | None = None
    mechanism: Mechanism | None = None
    flaky: bool = False
    confirmed: bool = False
    decided_by: str | None = None
    attempts: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    rules_version: int
    parser_version: int
    judged_at: datetime
    attempted_at: datetime | None = None
    cloud: bool = False
    cached_from: str | None = None
    withdrawn_by: str | None = None
    run_id: str | None = None
    cell: dict[str, JsonValue] = Field(default_factory=dict)
