"""Effects. Guests that are ready before they are wanted, and the host's memory, given in the order of asking.

1. A spare is a clone that was restored, has answered, and stands still. It is used once or thrown away.
2. Whoever wants a guest waits in one line for memory. A spare holds nobody back: it is thrown away when the first
   of the line lacks memory, and none is made while somebody waits, or where no guest would be admitted.
3. What counts is what guests keep for themselves (measured), and what those that run may still take.
4. Spares are made in a thread of their own that lives as long as the process, for a machine is ended with the thread
   that started it (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from harness.deadline import Deadline
from harness.errors import LabError

log = logging.getLogger(__name__)

#: What a clone keeps for itself at most, seen after whole cells, beside its share of the template.
PRIVATE_MIB = 400
#: What is left to the host.
RESERVE_MIB = 512

#: No more spares of one template than this, however many guests ran at once.
MAX_SPARES = 4
#: Spares are not tried again after so many failures in a row; leases then tell what is wrong.
MAX_FAILURES = 3

#: How often the host's memory is looked at, by who waits for it and by who makes spares.
LOOK_S = 0.25
REFILL_LOOK_S = 2.0


class Machine(Protocol):
    """A guest as the pool sees it."""

    def lives(self) -> bool:
        """Tell whether its process runs."""
        ...

    def private_mib(self) -> int:
        """Give what it keeps for itself, in MiB; 0 when it is gone."""
        ...

    def end(self) -> None:
        """End it and delete what it has; never raises."""
        ...


MachineT = TypeVar("MachineT", bound=Machine)


@dataclass(eq=False, slots=True)
class Room(Generic[MachineT]):
    """Memory for one guest. ``machine`` is its clone: a spare, or set by whoever had to make one."""

    machine: MachineT | None = None

    def may_still_take_mib(self) -> int:
        """Give what the guest may yet ask of the host."""
        return max(0, PRIVATE_MIB - (self.machine.private_mib() if self.machine else 0))


@dataclass(eq=False, slots=True)
class _Shelf(Generic[MachineT]):
    """The spares of one template, and how more are made."""

    make: Callable[[], MachineT]
    spares: deque[MachineT] = field(default_factory=deque)
    running: int = 0
    depth: int = 0
    failures: int = 0
    resting: bool = False


class Pool(Generic[MachineT]):
    """Spares by template, and the line for memory.

    Args:
        available_mib: Gives the host's available memory.
        max_spares: No more spares of one template than this; as many as ran at once otherwise.
    """

    def __init__(self, available_mib: Callable[[], int], *, max_spares: int = MAX_SPARES) -> None:
        self._available_mib = available_mib
        self._max_spares = max_spares
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        self._rooms: list[Room[MachineT]] = []
        self._shelves: dict[str, _Shelf[MachineT]] = {}
        self._filler: threading.Thread | None = None
        self._making = False

    @contextmanager
    def room(self, template: str, *, make: Callable[[], MachineT], deadline: Deadline) -> Iterator[Room[MachineT]]:
        """Give the memory of one guest, and its spare where there is one, for the time of the context.

        Args:
            template: Content of what the guest is to be a clone of.
            make: Makes a spare of it, for those that come later.
            deadline: Bounds the wait.

        Raises:
            LabError: The host had no memory for it in time.
        """
        room = self._admitted(template, make, deadline)
        try:
            yield room
        finally:
            with self._changed:
                self._rooms.remove(room)
                shelf = self._shelves.get(template)
                if shelf is not None:
                    shelf.running -= 1
                self._changed.notify_all()

    def spares(self, template: str) -> int:
        """Give how many spares of a template are ready."""
        with self._changed:
            shelf = self._shelves.get(template)
            return len(shelf.spares) if shelf else 0

    def empty(self, template: str) -> None:
        """Throw away what is ready of a template, and make no more until it is asked for again."""
        with self._changed:
            shelf = self._shelves.pop(template, None)
        for spare in shelf.spares if shelf else ():
            spare.end()

    def close(self) -> None:
        """Throw away all that is ready, also what is being made. A guest that is wanted later is given as ever."""
        with self._changed:
            shelves = list(self._shelves.values())
            self._shelves.clear()
            self._changed.wait_for(lambda: not self._making)
        for shelf in shelves:
            for spare in shelf.spares:
                spare.end()

    def _admitted(self, template: str, make: Callable[[], MachineT], deadline: Deadline) -> Room[MachineT]:
        turn = object()
        free = 0
        with self._changed:
            self._line.append(turn)
        try:
            while True:
                spare: MachineT | None = None
                with self._changed:
                    first = self._line[0] is turn
                    if first:
                        free = self._free_mib()
                        ready = self._ready(template)
                        if free + (ready.private_mib() if ready else 0) >= PRIVATE_MIB:
                            return self._given(template, make, ready)
                        spare = self._least_wanted(template)
                    if spare is None:
                        if deadline.expired:
                            break
                        self._changed.wait(min(LOOK_S, deadline.remaining_s))
                if spare is not None:
                    log.info("a spare guest is thrown away, for memory is short")
                    spare.end()
        finally:
            with self._changed:
                if turn in self._line:
                    self._line.remove(turn)
                self._changed.notify_all()
        msg = "The host has no memory left for one more virtual machine."
        detail = f"{free} MiB are free beside what running guests may still take, {PRIVATE_MIB} are needed"
        if not first:
            detail = "others that came before were still waiting for theirs"
        raise LabError(msg, detail=detail, hint="Run with fewer '--jobs'.")

    def _free_mib(self) -> int:
        """Give what is free beside what running guests may still take; they are measured only where that decides."""
        free = self._available_mib() - RESERVE_MIB
        at_worst = free - PRIVATE_MIB * len(self._rooms)
        return at_worst if at_worst >= PRIVATE_MIB else free - sum(room.may_still_take_mib() for room in self._rooms)

    def _ready(self, template: str) -> MachineT | None:
        """Give the spare that is to be used next, throwing away those that have died."""
        shelf = self._shelves.get(template)
        while shelf is not None and shelf.spares:
            if shelf.spares[0].lives():
                return shelf.spares[0]
            log.warning("a spare guest has died; it is thrown away")
            shelf.spares.popleft().end()
        return None

    def _least_wanted(self, template: str) -> MachineT | None:
        """Take a spare that is to be thrown away: another template's before this one's."""
        stocked = [(name == template, shelf) for name, shelf in self._shelves.items() if shelf.spares]
        return min(stocked, key=lambda one: one[0])[1].spares.pop() if stocked else None

    def _given(self, template: str, make: Callable[[], MachineT], ready: MachineT | None) -> Room[MachineT]:
        shelf = self._shelves.setdefault(template, _Shelf(make=make))
        shelf.make = make
        shelf.resting = shelf.failures >= MAX_FAILURES
        shelf.running += 1
        shelf.depth = max(shelf.depth, shelf.running)
        if ready is not None:
            shelf.spares.popleft()
        room = Room(ready)
        self._rooms.append(room)
        if self._filler is None:
            self._filler = threading.Thread(target=self._fill, name="spare guests", daemon=True)
            self._filler.start()
            atexit.register(self.close)  # for whoever does not close it
        return room

    def _lacks(self, shelf: _Shelf[MachineT]) -> bool:
        return len(shelf.spares) < min(shelf.depth, self._max_spares) and not shelf.resting

    def _fill(self) -> None:
        while True:
            with self._changed:
                shelf = next((s for s in self._shelves.values() if self._lacks(s)), None)
                if shelf is None or self._line or self._free_mib() < PRIVATE_MIB:
                    # What other programs leave free is told by nobody.
                    self._changed.wait(None if shelf is None else REFILL_LOOK_S)
                    continue
                self._making, make = True, shelf.make
            made = _made(make)
            with self._changed:
                shelf.failures = 0 if made else shelf.failures + 1
                shelf.resting = made is None  # until the next guest is wanted
                wanted = shelf in self._shelves.values()
                if made is not None and wanted:
                    shelf.spares.append(made)
            if made is not None and not wanted:
                made.end()
            with self._changed:
                self._making = False
                self._changed.notify_all()


def _made(make: Callable[[], MachineT]) -> MachineT | None:
    try:
        return make()
    except Exception as error:  # noqa: BLE001 - the machines that this thread started end with it
        log.warning("a spare guest could not be made (%s: %s)", type(error).__name__, error)
    return None
