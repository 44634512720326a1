"""Faults at any seam: wraps whatever satisfies a Protocol, and lets the so many-th call go wrong.

1. The wrapped object has the methods of its target and nothing else changes: a fault is a call's, never a type's.
2. Calls are counted for each seam over a whole run, all guests together, so one fault hits one moment of one guest.
3. What a fault raises is what the seam's ``api.py`` says that it may raise. A call that has a deadline hangs until it.
4. A fault that finds nothing to act on (no bytes to cut) waits for the next call that has some.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache, partial
from typing import Any, TypeVar

from harness.deadline import Deadline
from harness.errors import (
    DiskFull,
    GuestCommandTimeout,
    GuestUnreachable,
    HarnessError,
    LabError,
    ProtectionNotProven,
    StoreError,
)
from harness.transports.api import CommandResult
from tests.faults.clock import SimulatedClock

T = TypeVar("T")


class Seam(StrEnum):
    """Where a fault strikes."""

    PROVIDER = "provider"
    TRANSPORT = "transport"
    SYSTEM = "system"
    PRODUCT = "product"
    STORE = "store"
    CLOCK = "clock"
    DISK = "disk"
    NETWORK = "network"
    INSTALLER = "installer"
    GUEST_DISK = "guest_disk"


class Fault(StrEnum):
    """What goes wrong with a call."""

    FAIL = "fail"
    HANG = "hang"
    TRUNCATE = "truncate"
    DELAY = "delay"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One fault. ``at`` counts the seam's calls from 1; ``where`` is the part of the bytes at which they are hurt."""

    seam: Seam
    fault: Fault
    at: int
    seconds: float = 5.0
    where: float = 0.5

    def __str__(self) -> str:
        return f"{self.fault} at {self.seam}#{self.at}"


#: What a failing and a hanging call of a seam raises.
ERRORS: dict[Seam, tuple[Callable[[], HarnessError], Callable[[], HarnessError]]] = {
    Seam.PROVIDER: (lambda: LabError("Injected: the engine failed."), lambda: LabError("Injected: the engine hung.")),
    Seam.TRANSPORT: (
        lambda: GuestUnreachable("Injected: the guest cannot be reached."),
        lambda: GuestCommandTimeout("Injected: a program did not end in time."),
    ),
    Seam.SYSTEM: (
        lambda: GuestUnreachable("Injected: the guest cannot be reached."),
        lambda: GuestCommandTimeout("Injected: a program did not end in time."),
    ),
    Seam.PRODUCT: (
        lambda: ProtectionNotProven("Injected: the product did not react."),
        lambda: ProtectionNotProven("Injected: the product did not react in time."),
    ),
    Seam.STORE: (lambda: StoreError("Injected: the store failed."), lambda: StoreError("Injected: the store hung.")),
    Seam.DISK: (lambda: DiskFull("Injected: the disk is full."), lambda: DiskFull("Injected: the disk hung.")),
}


@dataclass(slots=True)
class Injector:
    """Knows which faults are to come, and tells which have struck."""

    injections: tuple[Injection, ...]
    clock: SimulatedClock
    calls: Counter[Seam] = field(default_factory=Counter)
    struck: list[str] = field(default_factory=list)
    _waiting: list[Injection] = field(default_factory=list)

    def due(self, seam: Seam) -> Injection | None:
        """Count a call; give the fault that strikes it. The clock goes on with every call of any seam."""
        self._tick()
        self.calls[seam] += 1
        self._waiting += [i for i in self.injections if i.seam is seam and i.at == self.calls[seam]]
        return next((i for i in self._waiting if i.seam is seam), None)

    def _tick(self) -> None:
        self.calls[Seam.CLOCK] += 1
        for injection in self.injections:
            if injection.seam is Seam.CLOCK and injection.at == self.calls[Seam.CLOCK]:
                self.struck.append(str(injection))
                match injection.fault:
                    case Fault.DELAY | Fault.HANG:
                        self.clock.sleep(60 * injection.seconds)  # the host was suspended
                    case Fault.FAIL | Fault.REORDER:
                        self.clock.jump_wall(-3600.0)
                    case _:
                        self.clock.jump_wall(3600.0)

    def strikes(self, injection: Injection, method: str) -> None:
        """Note that a fault has done its work; it does it once."""
        self._waiting.remove(injection)
        self.struck.append(f"{injection} ({method})")


def faulty(target: T, seam: Seam, injector: Injector, *, more: Mapping[str, object] | None = None) -> T:
    """Give a stand-in for ``target`` whose public methods go wrong as ``injector`` says.

    Args:
        target: Satisfies some Protocol.
        seam: Under which its calls are counted.
        injector: Says what strikes when.
        more: Attributes that the stand-in has instead of the target's, such as a way in that is faulty itself.
    """
    kind: type = type(target)
    stand_in: T = _class_of(kind)(target, seam, injector, dict(more or {}))
    return stand_in


def target_of(stand_in: object) -> Any:
    """Give what a stand-in stands for."""
    return object.__getattribute__(stand_in, "_target")


@cache
def _class_of(kind: type) -> Any:
    """Make the stand-in's class: real methods, so that ``isinstance`` with a Protocol of abilities answers the same."""
    names = [n for n in dir(kind) if not n.startswith("_") and callable(getattr(kind, n))]
    return type(f"Faulty{kind.__name__}", (_StandIn,), {name: _method(name) for name in names})


class _StandIn:
    def __init__(self, target: object, seam: Seam, injector: Injector, more: dict[str, object]) -> None:
        self._target, self._seam, self._injector, self._more = target, seam, injector, more
        self._answers: dict[str, object] = {}

    def __getattr__(self, name: str) -> Any:
        more = object.__getattribute__(self, "_more")
        return more[name] if name in more else getattr(object.__getattribute__(self, "_target"), name)


def _method(name: str) -> Callable[..., Any]:
    def call(self: _StandIn, *args: Any, **kwargs: Any) -> Any:
        real = getattr(self._target, name)
        injection = self._injector.due(self._seam)
        before = self._answers.get(name)
        made = partial(real, *args, **kwargs)
        answer = made() if injection is None else _struck(self._injector, injection, name, made, before=before)
        self._answers[name] = answer
        if isinstance(answer, AbstractContextManager):
            return _inside(answer, self._seam, self._injector)
        return answer

    return call


@contextmanager
def _inside(manager: AbstractContextManager[T], seam: Seam, injector: Injector) -> Iterator[T]:
    """Let what a context gives (a lease) be faulty as well."""
    with manager as given:
        yield faulty(given, seam, injector)


def _struck(injector: Injector, injection: Injection, name: str, call: partial[Any], *, before: object) -> Any:
    """Let one call go wrong; ``before`` is the answer to the call of the same name before it."""
    fails, hangs = ERRORS[injection.seam]
    match injection.fault:
        case Fault.FAIL:
            injector.strikes(injection, name)
            raise fails()
        case Fault.HANG:
            injector.strikes(injection, name)
            deadline = call.keywords.get("deadline")
            wait_s = deadline.remaining_s if isinstance(deadline, Deadline) else injection.seconds
            injector.clock.sleep(wait_s + 0.01)
            raise hangs()
        case Fault.DELAY:
            injector.strikes(injection, name)
            injector.clock.sleep(injection.seconds)
            return call()
        case Fault.DUPLICATE:
            injector.strikes(injection, name)
            first = call()
            if isinstance(first, AbstractContextManager):
                return first  # a lease that nobody enters is none
            return call()
        case Fault.REORDER:
            answer = call()
            if before is None or type(before) is not type(answer) or isinstance(answer, AbstractContextManager):
                return answer
            injector.strikes(injection, name)
            return before  # the answer to the question before this one
        case Fault.TRUNCATE | Fault.CORRUPT:
            return _hurt(injector, injection, name, call)


def _hurt(injector: Injector, injection: Injection, name: str, call: partial[Any]) -> Any:
    """Cut or alter the bytes of an answer; of a call without any, those that it carries to the other side."""
    cut = injection.fault is Fault.TRUNCATE
    args = call.args
    if args and isinstance(args[0], bytes) and args[0]:
        injector.strikes(injection, name)
        return call.func(hurt(args[0], cut=cut, where=injection.where), *args[1:], **call.keywords)
    answer = call()
    match answer:
        case bytes() if answer:
            changed: object = hurt(answer, cut=cut, where=injection.where)
        case CommandResult(stdout=stdout) if stdout:
            # A transport says what it cut; what it alters it does not know.
            changed = replace(answer, stdout=hurt(stdout, cut=cut, where=injection.where), stdout_truncated=cut)
        case (bytes() as content, bool() as was_cut) if content:
            changed = hurt(content, cut=cut, where=injection.where), was_cut or cut
        case _:
            return answer
    injector.strikes(injection, name)
    return changed


def hurt(content: bytes, *, cut: bool, where: float) -> bytes:
    """Cut bytes off at a part of their length, or flip the lowest bit of the byte that is there."""
    at = min(int(len(content) * where), len(content) - 1)
    if cut:
        return content[:at]
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
