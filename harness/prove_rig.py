"""Effects. The rig tests itself: runs cells whose end is known, and says which promise the lab does not keep.

1. Its cells run as all others do, from the guest to the verdict; nothing is simulated.
2. They break things on purpose, so their run is a drill: never the latest, never an answer to another run's cell, and
   no report is written of it.
3. A promise is kept by its documented end alone. A lab in which nothing runs keeps none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.errors import InputError
from harness.expectation import Expectations, Kept, promises
from harness.happening import Listener
from harness.judge import Parsers
from harness.plan import Plan
from harness.report import matrix_for
from harness.run_cell import Rig
from harness.session import Options, run
from harness.standing import Patience
from harness.stop_switch import StopSwitch
from harness.stores.api import RunState, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a test of the rig came to. ``whole``: every cell was run to its end."""

    run_id: str
    whole: bool
    promises: tuple[Kept, ...]

    @property
    def kept(self) -> bool:
        """Tell whether there are promises and each was kept."""
        return self.whole and bool(self.promises) and all(p.kept for p in self.promises)


#: A person waits for the answer, and a lab that loses its guests is the answer: no minutes of patience with an image.
PATIENCE = Patience(failures=3, first_s=1.0, cap_s=1.0, waits=1)


def prove_rig(
    plan: Plan,
    expectations: Expectations,
    *,
    rig: Rig,
    store: Store,
    parsers: Parsers,
    options: Options,
    listeners: Sequence[Listener] = (),
    stop: StopSwitch | None = None,
) -> Proven:
    """Run the cells and compare each with its promise.

    Raises:
        InputError: The suite is no drill.
        HarnessError: The run ended early by an error; what was seen is kept.
    """
    if not plan.suite.drill:
        raise InputError(f"The suite '{plan.suite.name}' tests the rig and is no drill.", hint="Write 'drill: true'.")
    options = replace(options, image_patience=PATIENCE)
    result = run(plan, rig=rig, store=store, parsers=parsers, options=options, listeners=listeners, stop=stop)
    if result.trouble is not None:
        raise result.trouble
    matrix = matrix_for(store, store.find_run(result.run_id))
    return Proven(
        run_id=result.run_id,
        whole=result.state is RunState.COMPLETE,
        promises=promises(expectations, matrix.cells),
    )
