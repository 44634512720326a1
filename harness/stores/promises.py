"""Pure. What every store refuses, and in which order it answers: one wording for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.attempt import Attempt, Role
from harness.errors import InputError, StoreError
from harness.plan import Cell, Plan
from harness.probes import cells_of, probes_of
from harness.stores.api import Claim, RunHeld, RunInfo, RunState, StaleClaim, StaleRun

_ROLES = list(Role)


class Expected(NamedTuple):
    """One cell that a run expects. ``listed``: it is in the plan, not only a control that the plan needs."""

    key: str
    cell: Cell
    listed: bool


def expected_of(plan: Plan) -> list[Expected]:
    """Give all cells that a run of a plan expects: the plan's own in their order, then controls and probes beside them.

    Raises:
        InputError: Two different cells have the same id.
    """
    listed = [Expected(cell.execution_key(), cell, listed=True) for cell in plan.cells]
    known = {e.key for e in listed}
    controls = [
        Expected(cell.execution_key(), cell, listed=False) for cell in (*plan.controls(), *cells_of(probes_of(plan)))
    ]
    beside = {control.key: control for control in controls if control.key not in known}
    expected = [*listed, *beside.values()]
    key_by_id: dict[str, str] = {}
    for e in expected:
        if key_by_id.setdefault(e.cell.id, e.key) != e.key:
            raise InputError(
                f"Two different cells of the plan have the same name '{e.cell.id}'.",
                hint="Give the builds, images and signatures of the suite names of their own.",
            )
    return expected


def newest_in_order(finished: Iterable[tuple[int, Attempt]]) -> list[Attempt]:
    """Order attempts by role and ordinal; of several under one ordinal, only the one with the highest fence counts.

    Args:
        finished: Attempts of one cell in one run, each with its fence.
    """
    ordered = sorted(finished, key=lambda pair: (*_place(pair[1]), pair[0]))
    return list({_place(attempt): attempt for _, attempt in ordered}.values())


def _place(attempt: Attempt) -> tuple[int, int]:
    return _ROLES.index(attempt.meta.role), attempt.meta.ordinal


def refuse_open_end(state: RunState) -> None:
    """Refuse RUNNING as a final state."""
    if state is RunState.RUNNING:
        msg = "'running' is no final state"
        raise ValueError(msg)


def refuse_complete(info: RunInfo) -> None:
    """Refuse to change the state of a run that is complete."""
    if info.state is RunState.COMPLETE:
        raise StoreError(f"Run '{info.id}' is complete already.")


def refuse_foreign(claim: Claim, attempt: Attempt) -> None:
    """Refuse to save an attempt under a claim of another."""
    meta = attempt.meta
    made = (meta.id, meta.role, meta.ordinal, meta.cell.execution_key())
    if made != (claim.attempt_id, claim.role, claim.ordinal, claim.cell_key):
        msg = f"attempt '{meta.id}' ({meta.role} {meta.ordinal}) is not the one claimed as '{claim.attempt_id}'"
        raise ValueError(msg)


def refuse_gaps(run_id: str, missing: Sequence[Cell]) -> None:
    """Refuse to call a run complete that lacks judgements."""
    if missing:
        raise StoreError(
            f"Run '{run_id}' is not complete: {len(missing)} expected cells have no judgement.",
            detail="\n".join(cell.id for cell in missing),
            hint=f"Go on with 'hts-compat run --resume {run_id}'.",
        )


def refuse_missing(attempt_ids: Iterable[str]) -> None:
    """Refuse to go on without attempts that were named."""
    missing = sorted(set(attempt_ids))
    if missing:
        raise StoreError(f"The store has no finished attempt '{missing[0]}'.", detail="\n".join(missing[1:]))


def no_such_run(run_id: str) -> StoreError:
    """Make the error for a run that the store does not have."""
    return StoreError(f"There is no run '{run_id}' in the store.")


def run_exists(run_id: str) -> StoreError:
    """Make the error for a second run with the same id."""
    return StoreError(f"There is a run '{run_id}' in the store already.", hint="Go on with --resume, or start anew.")


def not_expected(run_id: str, cell: Cell) -> StoreError:
    """Make the error for a cell that a run does not expect."""
    return StoreError(f"Run '{run_id}' does not expect the cell '{cell.id}'.")


def run_held(run_id: str, owner: str) -> RunHeld:
    """Make the error for a run that another process drives; ``owner`` is its number, empty when unknown."""
    process = f"process {owner}" if owner.isdigit() else "another process"
    return RunHeld(
        f"Run '{run_id}' is being driven by {process}.",
        hint=f"Wait for its end, or end {process} and go on with --resume.",
    )


def run_taken_over(run_id: str) -> StaleRun:
    """Make the error for a process whose run was taken up by another one."""
    return StaleRun(
        f"Run '{run_id}' was taken up by another process; what this one still had in hand is thrown away.",
        hint="The other process finishes the run.",
    )


def superseded(cell: Cell, attempt_ids: Iterable[str]) -> StaleClaim:
    """Make the error for a judgement by attempts that were made anew."""
    named = ", ".join(sorted(attempt_ids))
    return StaleClaim(f"The judgement of '{cell.id}' rests on attempts that were made anew since ({named}).")


def stale(claim: Claim) -> StaleClaim:
    """Make the error for a worker that comes too late."""
    return StaleClaim(
        f"Attempt '{claim.attempt_id}' ({claim.role} {claim.ordinal}) was claimed again or saved already; this copy"
        " is thrown away."
    )
