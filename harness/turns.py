"""Effects. Whose turn it is: a host or an image that fails often is left alone for a while, then given up.

1. An engine that is down is waited for, and ends the run when it does not come back: what is open can be resumed.
2. An image whose guests are lost again and again is set aside (``standing``); other images go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from harness.attempt import Attempt, Kind
from harness.errors import HostDown, ProtectionNotProven
from harness.happening import Happening, Tell
from harness.image import Image
from harness.plan import Cell
from harness.standing import Patience, Standing, failed, worked
from harness.stop_switch import Clock, StopSwitch

log = logging.getLogger(__name__)

#: The rule of a cell whose image was set aside before it could be tried.
SET_ASIDE_RULE = "lab.set_aside"

#: Trouble of a product that does not get ready is no loss of a guest; every cell proves or disproves that by itself.
_NO_LOSS = frozenset({ProtectionNotProven.__name__})


class SetAside(Exception):
    """No new guest may be leased from this image; the text says why."""


class Turns:
    """How the host and the images of one run stand.

    Args:
        clock: By which is waited.
        stop: Ends a wait.
        tell: Is told of waits, and of images that are set aside.
        host: When an engine is given up.
        image: When an image is set aside.
        run_id: Named to who may go on with the run later.
    """

    def __init__(
        self, *, clock: Clock, stop: StopSwitch, tell: Tell, host: Patience, image: Patience, run_id: str
    ) -> None:
        self._clock = clock
        self._stop = stop
        self._tell = tell
        self._host_patience = host
        self._image_patience = image
        self._run_id = run_id
        self._lock = threading.Lock()
        self._host = Standing()
        self._images: dict[str, Standing] = {}

    def wait_for(self, cell: Cell) -> None:
        """Wait as long as the host and the cell's image must be left alone.

        Raises:
            SetAside: The image was set aside.
        """
        while not self._stop.requested:
            with self._lock:
                host, image = self._host, self._images.get(cell.image.content, Standing())
            if image.set_aside:
                raise SetAside(_told(cell.image.name, image))
            now = self._clock.monotonic()
            wait_s = max(host.wait_s(now), image.wait_s(now))
            if wait_s <= 0:
                return
            why = host.why if host.wait_s(now) else image.why
            self._tell(Happening.WAITING, cell=cell, text=f"{wait_s:.0f} s: {why}")
            self._clock.wait(wait_s, self._stop)

    def host_failed(self, error: HostDown, began: float) -> None:
        """Count an engine that was down for an attempt that was begun at ``began`` (the clock's seconds).

        Raises:
            HostDown: It was waited for in vain.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._host = failed(self._host, self._host_patience, began=began, now=now, why=error.summary)
            given_up = self._host.set_aside
        if given_up:
            raise HostDown(
                f"{error.summary} It was waited for in vain.",
                detail=error.detail,
                hint=f"Start it, then go on with --resume {self._run_id}; what was seen is kept.",
            ) from error

    def host_worked(self) -> None:
        """Forget what the host failed before."""
        with self._lock:
            self._host = worked(self._host)

    def count(self, attempt: Attempt, began: float) -> None:
        """Count a guest that was lost for its image, or forget the losses before one that was not."""
        image = attempt.cell.image
        trouble = next(iter(attempt.of(Kind.TROUBLE)), None)
        if trouble is not None and (trouble.data.get("guest_crashed") or trouble.data.get("error") in _NO_LOSS):
            return  # may be the product's or the build's doing
        with self._lock:
            before = self._images.get(image.content, Standing())
            if trouble is None:
                after = worked(before)
            else:
                now = self._clock.monotonic()
                after = failed(before, self._image_patience, began=began, now=now, why=trouble.subject)
            self._images[image.content] = after
        if after.set_aside and not before.set_aside:
            log.error("image %s is set aside", image.name)
            self._tell(Happening.SET_ASIDE, cell=attempt.cell, text=_told(image.name, after))

    def why_set_aside(self, image: Image) -> str | None:
        """Say why an image was set aside; None when it was not."""
        with self._lock:
            standing = self._images.get(image.content, Standing())
        return _told(image.name, standing) if standing.set_aside else None

    def set_aside(self, images: Iterable[Image]) -> dict[str, str]:
        """Give the names of those that were set aside, each with why."""
        told = {image.name: self.why_set_aside(image) for image in images}
        return {name: why for name, why in told.items() if why is not None}


def _told(image: str, standing: Standing) -> str:
    return (
        f"The image '{image}' was set aside: {standing.failures} guests in a row were lost, the last one so:"
        f" {standing.why}"
    )
