"""Driver. Guests in memory, for tests: each is leased once, and all that was leased is known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.deadline import Deadline
from harness.errors import HostDown, LabError
from harness.fake_guest import FakeMachine
from harness.frame import Frame
from harness.image import Image
from harness.providers.api import Endpoint, Fitness, Loss, OpenDesktop


@dataclass(frozen=True, slots=True)
class _FakeLease:
    machine: FakeMachine

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(transport="fake", address=self.machine.name)

    def lost(self) -> Loss | None:
        """Answer as an engine would: whoever asks when the lease is over hears that the guest is gone."""
        machine = self.machine
        if machine.ended is None:
            return None
        return Loss(summary=machine.ended, crashed=machine.crashed and not machine.released)


@dataclass(frozen=True, slots=True)
class _ShownLease(_FakeLease):
    """A lease that shows its guest's screen, as a virtual machine's does."""

    def screen(self, *, deadline: Deadline) -> Frame | None:
        """Show what is scripted for the moment that began last; see ``ShowsScreen.screen``."""
        del deadline
        machine = self.machine
        return machine.screen(machine.moments[-1]) if machine.screen and machine.ended is None else None

    def press(self, chord: str, *, deadline: Deadline) -> None:
        """Note down the keys; see ``TakesInput.press``."""
        del deadline
        self.machine.pressed.append(chord)

    def click_at(self, x: int, y: int, *, deadline: Deadline) -> None:
        """Note down the place; see ``TakesInput.click_at``."""
        del deadline
        self.machine.pressed.append((x, y))

    def open_desktop(self, *, deadline: Deadline) -> OpenDesktop:
        """Tell an address at which nobody listens; see ``OpensDesktop.open_desktop``."""
        del deadline
        return OpenDesktop(address="127.0.0.1:5900", password="simulated")  # noqa: S106 - it opens nothing


class FakeProvider:
    """Leases machines that ``make`` gives.

    Args:
        make: Makes a machine of this name; pristine, as its own files say.
        fails_at: The so many-th leases (from 1) fail, as when an engine is overloaded.
        down_at: At the so many-th leases the engine does not answer at all.

    Attributes:
        machines: Every machine that was ever leased, by name.
        most_at_once: How many ran at the same time at most.
    """

    name = "fake"

    def __init__(
        self,
        make: Callable[[str], FakeMachine] = FakeMachine,
        *,
        fails_at: Collection[int] = (),
        down_at: Collection[int] = (),
    ) -> None:
        self._down_at = down_at
        self._make = make
        self._fails_at = fails_at
        self._lock = threading.Lock()
        self._runs: dict[str, str] = {}
        self._asked = 0
        self.machines: dict[str, FakeMachine] = {}
        self.most_at_once = 0

    def check(self) -> tuple[Fitness, ...]:
        """Say that memory is there."""
        return (Fitness(name="memory", ok=True, detail="simulated guests"),)

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[_FakeLease]:
        """Make one machine; see ``Provider.lease``. A name that was leased before is a bug of the caller."""
        if image.reference.endswith(":missing"):
            msg = f"There is no image '{image.reference}'."
            raise LabError(msg, hint="Simulated.")
        with self._lock:
            self._asked += 1
            if self._asked in self._down_at:
                msg = "The simulated engine does not answer."
                raise HostDown(msg, hint="Simulated.")
            if self._asked in self._fails_at or deadline.expired:
                msg = "The simulated engine could not start a guest."
                raise LabError(msg, hint="Try again.")
            if name in self.machines:
                msg = f"the guest {name} was leased before"
                raise AssertionError(msg)
            machine = self.machines[name] = self._make(name)
            self._runs[name] = run_id
            self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            yield _FakeLease(machine) if machine.screen is None else _ShownLease(machine)
        finally:
            self._end(machine)

    @property
    def running(self) -> list[str]:
        """Name the machines whose lease goes on."""
        return [name for name, machine in self.machines.items() if not machine.released]

    def sweep(self, run_id: str | None) -> int:
        """End what is left of a run; see ``Provider.sweep``. Ours is never what another process left."""
        left = [name for name in self.running if self._runs[name] == run_id]
        for name in left:
            self._end(self.machines[name])
        return len(left)

    def _end(self, machine: FakeMachine) -> None:
        machine.released = True
        machine.ended = machine.ended or "the lease is over"
