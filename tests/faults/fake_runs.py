"""One cell on simulated guests, with faults at every seam, and whether its verdict is right.

What is true is known, as it is scripted: a *story* says what the guests really do, and which outcomes are true of it.
INCONCLUSIVE is never wrong. Any other outcome that is not true of the story is a wrong green or a wrong red.
"""

from __future__ import annotations

import errno
import json
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from harness.build import Build
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.fake_guest import FakeProgram, Mischief
from harness.image import Folder, Image
from harness.observation import ProductParser
from harness.plan import Cell
from harness.run_cell import Rig
from harness.session import Options, run
from harness.stores.api import RunState, Store
from harness.stores.memory import MemoryStore
from harness.systems.fake import FakeSystem
from harness.transports.api import CommandResult, Transport
from harness.transports.fake import FakeTransport
from harness.transports.payload import Payload, size_of, whole
from harness.verdict import GOOD, Outcome
from tests.fake_lab import (
    CLEAN,
    ENDLESS,
    INCIDENT,
    SETUP_KNOWN,
    STRICT,
    FakeLab,
    Script,
    cell,
    folder,
    hasty,
    in_every_guest,
    installed,
    parsers,
    plan,
    well,
    with_product,
)
from tests.faults.clock import simulated
from tests.faults.wrap import Fault, Injection, Injector, Seam, faulty, hurt, target_of

RUN_ID = "faulted"

#: So often a run that a fault ended is taken up again; a fault strikes once, so it ends.
RESUMES = 8

C, D, Q, B = Outcome.COMPATIBLE, Outcome.DETECTED, Outcome.QUARANTINED, Outcome.BLOCKED
BROKEN, FAULT, UNKNOWN = Outcome.BROKEN, Outcome.BUILD_FAULT, Outcome.INCONCLUSIVE


@dataclass(frozen=True, kw_only=True)
class Story:
    """What really happens in the guests. ``true`` are the outcomes that may be told of it beside INCONCLUSIVE."""

    of: Cell
    script: Script = well
    faults: Mapping[str, str] = field(default_factory=dict)
    true: frozenset[Outcome]


def _story(of: Cell, *true: Outcome, script: Script = well, faults: Mapping[str, str] | None = None) -> Story:
    return Story(of=of, script=script, faults=faults or {}, true=frozenset(true))


def _every_third_control(mischief: Mischief, beside: Mischief | None = None) -> Script:
    def script(of: Cell, number: int) -> Mischief:
        if not of.is_control:
            return beside or Mischief()
        return mischief if number % 3 == 0 else Mischief()

    return script


STORIES: dict[str, Story] = {
    "all is well": _story(cell(), C),
    "the vendor withdraws": _story(cell(INCIDENT, CLEAN), C),
    "the incident": _story(cell(CLEAN, INCIDENT), Q),
    "a known module": _story(cell(INCIDENT), Q),
    "a known installer": _story(cell(SETUP_KNOWN, version="1.1.0"), Q),
    "a denied updater": _story(cell(STRICT), B, script=with_product(Mischief(only_denies=True))),
    "an alert alone": _story(cell(INCIDENT), D, script=with_product(Mischief(only_alerts=True))),
    "an alert, and it dies": _story(
        cell(INCIDENT), B, script=with_product(Mischief(only_alerts=True, dies_at="connect"))
    ),
    "taken late": _story(cell(INCIDENT), Q, script=with_product(Mischief(acts_at="self_update"))),
    "taken at the last look": _story(cell(STRICT), Q, script=with_product(Mischief(acts_at="inspect"))),
    "taken, then the guest dies": _story(
        cell(INCIDENT), Q, script=with_product(Mischief(acts_at="launch", lost_at="connect"))
    ),
    "it dies beside the product": _story(cell(), BROKEN, script=with_product(Mischief(dies_at="connect"))),
    "it hangs beside the product": _story(hasty(), BROKEN, script=with_product(Mischief(hangs_at="connect"))),
    "the guest crashes beside the product": _story(cell(), BROKEN, script=with_product(Mischief(lost_at="launch"))),
    "a file vanishes beside the product": _story(
        cell(), BROKEN, script=with_product(Mischief(vanishes=("inspect", installed("hts_comm.dll"))))
    ),
    "the build fails by itself": _story(cell(version="1.2.0"), FAULT, faults={"1.2.0": "connect"}),
    "the installer fails by itself": _story(cell(version="1.2.0"), FAULT, faults={"1.2.0": "install"}),
    "a control fails once in three": _story(cell(), C, script=_every_third_control(Mischief(dies_at="connect"))),
    "a control fails once in three, and the product breaks it": _story(
        cell(),
        BROKEN,
        script=_every_third_control(Mischief(dies_at="connect"), Mischief(dies_at="launch")),
    ),
    "it dies once": _story(cell(), C, script=with_product(Mischief(dies_at="launch"), guests=[1])),
    "the guest is lost once": _story(cell(), C, script=with_product(Mischief(killed_at="connect"), guests=[1])),
    "protection ends": _story(cell(), script=with_product(Mischief(stops_at="self_update"))),
    "protection ends, and the incident": _story(
        cell(CLEAN, INCIDENT), script=with_product(Mischief(stops_at="self_update"))
    ),
    "protection pauses, and is back": _story(cell(INCIDENT), Q, script=with_product(Mischief(pauses_during="connect"))),
    "a reload that silently fails": _story(cell(CLEAN, INCIDENT), script=with_product(Mischief(keeps_old_set=True))),
    "an excluded folder": _story(cell(), script=with_product(Mischief(unwatched=folder(Folder.DOWNLOADS)))),
    "the log is cut": _story(cell(), script=with_product(Mischief(log_cut_from="launch"))),
    "a stranger is denied": _story(cell(), script=with_product(Mischief(stranger_at="launch"))),
    "the observer lies": _story(cell(), script=in_every_guest(Mischief(garbled_from="connect"))),
}

#: Up to which call of a seam a fault may strike: about as many as a cell with its controls makes.
REACH = {
    Seam.PROVIDER: 8,
    Seam.TRANSPORT: 10,
    Seam.SYSTEM: 160,
    Seam.PRODUCT: 30,
    Seam.STORE: 24,
    Seam.CLOCK: 220,
    Seam.DISK: 24,
    Seam.NETWORK: 16,
    Seam.INSTALLER: 4,
    Seam.GUEST_DISK: 40,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of one faulted cell. ``outcome`` is None when no verdict came at all, which is a loss."""

    seed: int
    story: str
    injections: tuple[Injection, ...]
    struck: tuple[str, ...]
    outcome: Outcome | None
    stage: str | None
    rule: str
    reason: str
    right: bool
    leased: int
    leaks: tuple[str, ...]

    @property
    def wrong_green(self) -> bool:
        """Good news that is not true."""
        return not self.right and self.outcome in GOOD

    @property
    def wrong_red(self) -> bool:
        """Bad news that is not true."""
        return not self.right and self.outcome not in {*GOOD, UNKNOWN, None}

    @property
    def line(self) -> str:
        """Say all in one line, from which the same run can be made again."""
        faults = "; ".join(map(str, self.injections))
        return (
            f"seed {self.seed}: {self.story} [{faults}] struck {len(self.struck)} -> {self.outcome}"
            f" {self.stage or ''} ({self.rule}) {self.reason}{' LEAKED ' + ', '.join(self.leaks) if self.leaks else ''}"
        )


def draw(seed: int) -> tuple[str, tuple[Injection, ...]]:
    """Draw a story and one to three faults."""
    dice = random.Random(f"faults/{seed}")  # noqa: S311 - repeatable on purpose
    story = dice.choice(sorted(STORIES))
    injections = []
    for _ in range(dice.randint(1, 3)):
        seam = dice.choice(list(Seam))
        injections.append(
            Injection(
                seam=seam,
                fault=dice.choice(list(Fault)),
                at=dice.randint(1, REACH[seam]),
                seconds=dice.choice([0.5, 5.0, 60.0]),
                where=dice.random(),
            )
        )
    return story, tuple(injections)


def run_seed(seed: int) -> Ran:
    """Run what a seed draws."""
    return run_story(*draw(seed), seed=seed)


def run_story(name: str, injections: Sequence[Injection], *, seed: int = 0) -> Ran:
    """Run one story's cell with faults, to its verdict."""
    story = STORIES[name]
    threads = set(threading.enumerate())
    with simulated(f"{seed}") as clock:
        injector = Injector(tuple(injections), clock)
        lab = FaultedLab(story.script, injector, faults=dict(story.faults))
        sound: Store = MemoryStore()
        store = faulty(faulty(sound, Seam.STORE, injector), Seam.DISK, injector)
        for _ in range(RESUMES):
            _go(story.of, lab, store, resume=bool(sound.runs()))
            if sound.runs() and sound.find_run(RUN_ID).state is RunState.COMPLETE:
                break
        verdict = sound.judgements(RUN_ID).get(story.of.id) if sound.runs() else None
    leaks = [f"guest {name}" for name in lab.provider.running]
    leaks += [f"thread {t.name}" for t in threading.enumerate() if t not in threads]
    leaks += [f"late call into {m.name}" for m in lab.provider.machines.values() if m.late_calls]
    outcome = verdict.outcome if verdict is not None else None
    return Ran(
        seed=seed,
        story=name,
        injections=tuple(injections),
        struck=tuple(injector.struck),
        outcome=outcome,
        stage=verdict.stage if verdict is not None else None,
        rule=verdict.rule if verdict is not None else "",
        reason=verdict.reason if verdict is not None else "",
        right=outcome is not None and outcome in {*story.true, UNKNOWN},
        leased=lab.guests,
        leaks=tuple(leaks),
    )


def _go(of: Cell, lab: FaultedLab, store: Store, *, resume: bool) -> None:
    """Run, or take up again; whatever a fault raises ends this try as it would end a command."""
    options = Options(run_id=RUN_ID, jobs=1, provider="fake", resume=resume, image_patience=ENDLESS)
    try:
        run(plan(of), rig=lab.rig(), store=store, parsers=parsers_of, options=options)
    except HarnessError:
        return


def parsers_of(name: str) -> ProductParser:
    return parsers(name)


class WeakSystem(FakeSystem):
    """A desktop whose network and disk are weak: connections drop, and what is written finds no room."""

    def __init__(self, image: Image, transport: FakeTransport, program: FakeProgram, *, injector: Injector) -> None:
        super().__init__(image, transport, program)
        self._injector = injector

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        if "tcp" in request:
            injection = self._injector.due(Seam.NETWORK)
            if injection is not None:
                self._injector.strikes(injection, "drop")
                self._connected = False
        return super().observe(request, deadline=deadline)

    def plant(self, nonce: str, items: Sequence[Mapping[str, object]], *, deadline: Deadline) -> bytes:
        injection = self._injector.due(Seam.GUEST_DISK)
        if injection is None:
            return super().plant(nonce, items, deadline=deadline)
        self._injector.strikes(injection, "plant")
        full = {"create_errno": 0, "write_errno": errno.ENOSPC, "open_errno": 0, "exec_errno": None, "bytes_read": 0}
        answer = {**full, "control_open_errno": 0, "control_exec_errno": None, "finished": True, "elapsed_s": 0.001}
        return json.dumps({"items": [answer for _ in items]}).encode()

    def deliver(self, content: Payload, path: str, *, deadline: Deadline) -> CommandResult:
        injection = self._injector.due(Seam.GUEST_DISK)
        if injection is None:
            return super().deliver(content, path, deadline=deadline)
        self._injector.strikes(injection, "deliver")
        super().deliver(whole(content)[: size_of(content) // 2], path, deadline=deadline)
        return CommandResult(exit_code=1, stderr=b"cat: write error: No space left on device")


class FaultedLab(FakeLab):
    """Simulated guests behind seams that fail."""

    def __init__(self, script: Script, injector: Injector, *, faults: dict[str, str]) -> None:
        super().__init__(script, faults=faults)
        self._injector = injector
        self.desktop = partial(WeakSystem, injector=injector)

    def rig(self) -> Rig:
        sound = super().rig()
        injector = self._injector

        def connect(endpoint: object) -> Transport:
            return faulty(sound.connect(endpoint), Seam.TRANSPORT, injector)  # type: ignore[arg-type]  # handed on

        def system(of: Cell, transport: Transport) -> FakeSystem:
            made = self._system(of, target_of(transport))
            return faulty(made, Seam.SYSTEM, injector, more={"admin": transport})

        def installer(of: Build) -> bytes:
            injection = injector.due(Seam.INSTALLER)
            content = whole(sound.installer(of))
            if injection is None:
                return content
            injector.strikes(injection, "installer")
            return hurt(content, cut=injection.fault is Fault.TRUNCATE, where=injection.where)

        return Rig(
            provider=faulty(sound.provider, Seam.PROVIDER, injector),
            connect=connect,
            system=system,
            product=lambda name, tools: faulty(sound.product(name, tools), Seam.PRODUCT, injector),
            installer=installer,
            service_files=sound.service_files,
        )
