"""Effects. Makes attempts of a run on fresh guests, one after the other or several at once, and keeps each.

1. An attempt is durable before anything is concluded from it.
2. A bug of ours is lab trouble of its attempt, never a product's doing.
"""

from __future__ import annotations

import logging
import secrets
import threading
import traceback
from datetime import UTC, datetime

from harness import __version__
from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.errors import HostDown, InputError
from harness.happening import Happening, Tell
from harness.plan import Cell
from harness.recorder import Recorder
from harness.run_cell import Rig, run_cell
from harness.slots import Slots
from harness.stop_switch import Clock, StopSwitch
from harness.stores.api import Store
from harness.turns import Turns

log = logging.getLogger(__name__)


class Stopped(Exception):
    """No new guest may be leased."""


class AttemptMaker:
    """Makes the attempts of one run.

    Args:
        rig: Where guests come from.
        store: Where attempts are kept.
        run_id, provider: Written into each attempt.
        jobs: So many guests at once.
        turns: Says when a host or an image must be left alone.
        stop: After it was asked, no guest is leased any more.
        clock: Dates what fails.
        tell: Is told of each attempt and its stages.
    """

    def __init__(
        self,
        *,
        rig: Rig,
        store: Store,
        run_id: str,
        provider: str,
        jobs: int,
        turns: Turns,
        stop: StopSwitch,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._rig = rig
        self._store = store
        self._run_id = run_id
        self._provider = provider
        self._jobs = jobs
        self._slots = Slots(jobs)
        self._turns = turns
        self._stop = stop
        self._clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self.made = 0

    def attempt(self, cell: Cell, *, role: Role, ordinal: int, alone: bool = False) -> Attempt:
        """Make one attempt on a fresh guest and keep it; wait before, when its host or its image fails often.

        Raises:
            Stopped: The run was asked to end.
            SetAside: The image was set aside.
            HostDown: The engine was waited for in vain.
            DiskFull: There is no room for it.
        """
        while True:
            self._turns.wait_for(cell)
            began = self._clock.monotonic()
            try:
                return self._attempt(cell, role=role, ordinal=ordinal, alone=alone)
            except HostDown as error:
                self._turns.host_failed(error, began)

    def _attempt(self, cell: Cell, *, role: Role, ordinal: int, alone: bool) -> Attempt:
        with self._slots.take(alone=alone):
            if self._stop.requested:
                raise Stopped
            claim = self._store.claim(self._run_id, cell, role=role, ordinal=ordinal)
            meta = AttemptMeta(
                id=claim.attempt_id,
                cell=cell,
                role=role,
                ordinal=ordinal,
                alone=alone or self._jobs == 1,
                nonce=secrets.token_hex(6),
                provider=self._provider,
                tool_version=__version__,
                started_at=datetime.now(UTC),
            )
            self._tell(Happening.ATTEMPT_STARTED, cell=cell, role=role, attempt_id=meta.id)
            began = self._clock.monotonic()
            try:
                attempt = self._run_cell(meta)
            except HostDown:
                self._tell(Happening.ATTEMPT_FINISHED, cell=cell, role=role, attempt_id=meta.id)
                raise
            with self._lock:
                self.made += 1
            self._turns.host_worked()
            self._turns.count(attempt, began)
            self._store.save(claim, attempt)
            self._tell(Happening.ATTEMPT_FINISHED, cell=cell, role=role, attempt_id=meta.id)
            return attempt

    def _run_cell(self, meta: AttemptMeta) -> Attempt:
        def on_stage(stage: str) -> None:
            self._tell(Happening.STAGE, cell=meta.cell, role=meta.role, attempt_id=meta.id, text=stage)

        recorder = Recorder(meta, mask=self._rig.mask)
        try:
            return run_cell(meta, self._rig, run_id=self._run_id, on_stage=on_stage, recorder=recorder)
        except (InputError, HostDown):
            raise
        except Exception as error:  # a bug of ours is lab trouble of this attempt, never a product's doing
            log.exception("attempt %s of %s failed in the harness itself", meta.id, meta.cell.id)
            recorder.record(
                Kind.TROUBLE,
                f"The harness itself failed ({type(error).__name__}).",
                data={"retryable": False, "guest_crashed": False},
                blob=traceback.format_exc().encode(errors="replace"),
            )
            return recorder.attempt()
