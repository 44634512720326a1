"""Blows at random moments of cells on real guests: ``python -m tests.faults.chaos_guests [--cells 60] [--seed 0]``,
with ``--provider qemu`` at virtual machines.

Each cell is run by the session as any cell is, with its control made beforehand; one of its guests is struck at a
random call into it. A verdict is wrong when it is neither what the same cell is documented to be without a blow nor
INCONCLUSIVE; and an attempt that is called good although its protection was hurt before the last canary is a wrong
green whatever the cell's verdict. Ends with 1 on a wrong verdict, a loss or a leak. ``--only N`` makes the N-th cell
again. With ``--journal FILE`` what has been done is written down, and not done again by the same seed: stopped and
called again, it goes on.

Not done here, and why: the host's disk and engine are shared (the store's full disk is a small tmpfs, in the tests);
a container has the host's clock.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.images import Images
from harness.judge import judge
from harness.load import LoadedSuite, load_suite
from harness.plan import Cell, Plan, ProductChoice, expand
from harness.products import ADAPTERS, parser_of
from harness.providers.api import Endpoint
from harness.providers.docker import DockerProvider
from harness.rig import ROOT, make_rig
from harness.run_cell import Rig, run_cell
from harness.session import Options, run
from harness.stores.api import RunInfo, RunState
from harness.stores.memory import MemoryStore
from harness.systems.api import GuestSystem
from harness.transports.api import CommandResult, Transport
from harness.verdict import GOOD, Outcome
from tests.faults.blows import Arm, Blow, blows
from tests.faults.journal import Journal
from tests.faults.machine_blows import MachineArm, machine_blows
from tests.faults.machine_remains import remains
from tests.faults.report import end
from tests.faults.spoiled_layers import spoiled
from tests.faults.struck import CELLS, Case, Struck, by_blow, summary

DOCKER = "docker"

#: What a step may take here: a program that is frozen for good is not waited for a minute.
STEPS_S = {DOCKER: 20.0, "qemu": 90.0}

#: Threads that live as long as the process, and no longer than it.
LASTING = frozenset({"monitors", "spare guests"})

FRESH, UPDATED = "fresh-install", "released-then-updated"

#: The cells that are struck, and what each is documented to be (scenarios/suites/full.expected.yaml).
TRUE: Mapping[tuple[str, str, str, str], Outcome] = {
    ("1.0.0", "clamav", "2026-11-04", FRESH): Outcome.COMPATIBLE,
    ("1.0.0", "clamav", "2026-11-05", FRESH): Outcome.QUARANTINED,
    ("1.0.0", "clamav", "2026-11-04+2026-11-05", UPDATED): Outcome.QUARANTINED,
    ("1.0.0", "clamav", "2026-11-04+2026-11-08", UPDATED): Outcome.COMPATIBLE,
    ("1.2.0", "clamav", "2026-11-04", FRESH): Outcome.BUILD_FAULT,
    ("1.0.0", "fapolicyd", "baseline", FRESH): Outcome.COMPATIBLE,
    ("1.0.0", "fapolicyd", "strict-1", FRESH): Outcome.BLOCKED,
}

#: What the demo's suite freezes: the product and its first set.
FROZEN = frozenset({("clamav", "2026-11-04"), ("fapolicyd", "baseline")})


class StruckTransport:
    """A way into a guest that lets a blow fall at the so many-th call behind one with certain words in it."""

    def __init__(self, inner: Transport, fall: Callable[[], None], *, behind: str) -> None:
        self._inner, self._fall, self._behind = inner, fall, behind
        self.calls: int | None = None
        self.falls_at: int | None = None

    def run(self, argv: Sequence[str], **more: object) -> CommandResult:
        self._count(" ".join(argv), more.get("stdin"))
        return self._inner.run(argv, **more)  # type: ignore[arg-type]  # handed on

    def push(self, content: bytes, path: str, **more: object) -> None:
        self._count(path)
        self._inner.push(content, path, **more)  # type: ignore[arg-type]  # handed on

    def pull(self, path: str, **more: object) -> tuple[bytes, bool]:
        self._count(path)
        return self._inner.pull(path, **more)  # type: ignore[arg-type]  # handed on

    def close(self) -> None:
        self._inner.close()

    def _count(self, words: str, stdin: object = None) -> None:
        if self.calls is not None:
            self.calls += 1
        elif self._behind in words or (isinstance(stdin, bytes) and self._behind.encode() in stdin):
            self.calls = 0
        if self.calls is not None and self.calls == self.falls_at:
            self._fall()


class Lab:
    """Real guests, the cells that are struck in them, and their controls."""

    def __init__(self, provider: str = DOCKER) -> None:
        suite = ROOT / "scenarios" / "suites" / "full.yaml"
        images = Images(ROOT / "vm_images", provider=provider)
        self.loaded: LoadedSuite = load_suite(suite, images=images, known_products=tuple(ADAPTERS), progress=_silent)
        self.provider = provider
        self.rig = make_rig(provider, self.loaded)
        made = self.rig.provider
        self.arm: Arm | MachineArm = Arm(made.client) if isinstance(made, DockerProvider) else MachineArm()
        self.blows = blows if isinstance(made, DockerProvider) else machine_blows
        cells = [_hasty(cell, STEPS_S[provider]) for cell in expand(self.loaded.suite).cells]
        self.cells = {key: next(c for c in cells if _key(c) == key) for key in TRUE}
        self._controls: dict[str, list[Attempt]] = {}

    def controls_of(self, cell: Cell, run_id: str) -> list[Attempt]:
        """Make a cell's controls once: two, as a build that fails by itself needs."""
        control = cell.control()
        key = control.execution_key()
        if key not in self._controls:
            made: list[Attempt] = []
            while len(made) < 2:
                meta = AttemptMeta(
                    id=f"control-{len(made)}",
                    cell=control,
                    role=Role.CONTROL,
                    ordinal=len(made) + 1,
                    nonce=secrets.token_hex(6),
                    provider=self.provider,
                    tool_version="chaos",
                    started_at=datetime.now(UTC),
                )
                made.append(run_cell(meta, self.rig, run_id=run_id))
            self._controls[key] = made
        return self._controls[key]

    def strike(self, case: Case) -> Struck:
        """Run one case to its verdict."""
        struck = Struck(case=case)
        begun = time.monotonic()
        threads, before = set(threading.enumerate()), self._machines()
        run_id = f"chaos-{case.number}-{secrets.token_hex(3)}"
        store = MemoryStore()
        # The guests of an admission would be struck in the cell's place: they come first.
        asked = {"retries": 1, "confirm": 2, "admission": False}
        plan = Plan(suite=self.loaded.suite.model_copy(update=asked), cells=(case.cell,))
        if not case.third:
            self._begin(store, plan, run_id, self.controls_of(case.cell, run_id))
        rig = self._struck_rig(case, struck)
        options = Options(run_id=run_id, jobs=1, provider=self.provider, fresh=True, resume=not case.third)
        with self._its_layer(case, struck):
            done = run(plan, rig=rig, store=store, parsers=parser_of, options=options)
        self.arm.rest()
        judgement = done.judgements.get(case.cell.id)
        struck.guests = done.attempts_made
        if judgement is not None:
            struck.outcome, struck.stage = judgement.outcome, judgement.stage
            struck.rule, struck.reason = judgement.rule, judgement.reason
            struck.false_proof = self._false_proof(case, struck, store, run_id)
        left = self.rig.provider.sweep(run_id)
        threads_left = [t.name for t in threading.enumerate() if t not in threads and t.name not in LASTING]
        machines = () if self.provider == DOCKER else remains(before=before)
        struck.leaks = (*[f"{left} guests"] * bool(left), *[f"thread {name}" for name in threads_left], *machines)
        struck.took_s = time.monotonic() - begun
        return struck

    def _machines(self) -> tuple[str, ...]:
        """Name what there is of machines that are not this run's; its own spares end with it."""
        return () if self.provider == DOCKER else remains(within_s=0)

    @contextmanager
    def _its_layer(self, case: Case, struck: Struck) -> Iterator[None]:
        """Damage the layer that the cell would begin in, when that is the blow."""
        if case.blow.layer is None:
            yield
            return
        layer = self.rig.layer(case.cell)
        if layer is None:
            struck.blow_said = "there is no layer of its protection"
            yield
            return
        with spoiled(Path(layer.image.reference), case.blow.layer):
            struck.blow_said, struck.fell_at = "done before the guest", time.time()
            yield

    def _begin(self, store: MemoryStore, plan: Plan, run_id: str, controls: Iterable[Attempt]) -> None:
        """Begin a run that has its controls already, as one that was interrupted behind them would."""
        info = RunInfo(
            id=run_id,
            suite="chaos",
            lab="reference",
            provider=self.provider,
            tool_version="chaos",
            started_at=datetime.now(UTC),
            finished_at=None,
            state=RunState.RUNNING,
            drill=True,
            expected_cells=len(plan.cells),
        )
        store.start_run(info, plan)
        for made in controls:
            claim = store.claim(run_id, made.cell, role=made.meta.role, ordinal=made.meta.ordinal)
            store.save(claim, replace(made, meta=made.meta.model_copy(update={"id": claim.attempt_id})))

    def _struck_rig(self, case: Case, struck: Struck) -> Rig:
        guests: Counter[bool] = Counter()
        own = {case.cell.execution_key(), case.cell.control().execution_key()}
        opened: list[StruckTransport] = []

        def connect(endpoint: Endpoint) -> Transport:
            inner = self.rig.connect(endpoint)

            def fall() -> None:
                now = time.time()
                fell, struck.blow_said = self.arm.strike(endpoint.address, case.blow, inner)
                struck.fell_at = now if fell else None

            opened.append(StruckTransport(inner, fall, behind=case.blow.behind))
            return opened[-1]

        def system(cell: Cell, transport: Transport) -> GuestSystem:
            assert cell.execution_key() in own, f"a guest of {cell.id} would be struck"
            guests[cell.is_control] += 1
            number = guests[cell.is_control]
            meant = number % 3 == 1 if case.third else number == case.guest
            if meant and cell.is_control is case.third and case.blow.layer is None:
                opened[-1].falls_at = case.at  # opened just now for this guest; its system may have it inside another
            return self.rig.system(cell, transport)

        return replace(self.rig, connect=connect, system=system)

    def _false_proof(self, case: Case, struck: Struck, store: MemoryStore, run_id: str) -> str:
        """Say which attempt is called good although its protection was hurt before its last canary."""
        at = struck.fell_at
        if not case.blow.hurts_protection or at is None:
            return ""
        attempts = store.attempts(run_id, case.cell)
        controls = store.attempts(run_id, case.cell.control())
        findings = judge(attempts, controls, parsers=parser_of).findings
        for attempt, finding in zip(attempts, findings, strict=True):
            began = attempt.meta.started_at.timestamp()
            ended = attempt.meta.finished_at.timestamp() if attempt.meta.finished_at is not None else began
            canaries = attempt.of(Kind.CANARY)
            last = began + canaries[-1].host_mono_s if canaries else began
            if began <= at <= ended and at < last and finding.outcome in GOOD:
                return f"{finding.outcome} {last - at:.1f} s before the last canary"
        return ""


def _silent(_text: str) -> None:
    return None


def _key(cell: Cell) -> tuple[str, str, str, str]:
    labels = "+".join(signature.label for signature in cell.product.schedule)
    return cell.build.version, cell.product.name, labels, cell.scenario.name


def _hasty(cell: Cell, step_s: float) -> Cell:
    """Give the same cell with steps that are soon out of time."""
    steps = tuple(
        step.model_copy(
            update={step.kind: step.action.model_copy(update={"timeout_s": min(step.action.timeout_s, step_s)})}
        )
        for step in cell.scenario.steps
    )
    return cell.model_copy(update={"scenario": cell.scenario.model_copy(update={"steps": steps})})


def cases(
    cells: Mapping[tuple[str, str, str, str], Cell],
    *,
    many: int,
    seed: int,
    blows: Callable[[ProductChoice], tuple[Blow, ...]] = blows,
) -> list[Case]:
    """Draw cases: every blow comes up once before any comes up again, each at a random moment of a random cell."""
    dice = random.Random(f"guests/{seed}")  # noqa: S311 - repeatable on purpose
    pairs: list[tuple[Blow, tuple[str, str, str, str]]] = []
    names = sorted({blow.name for cell in cells.values() for blow in blows(cell.product)})
    drawn: list[Case] = []
    while len(drawn) < many:
        if not pairs:
            for name in names:
                fitting = [
                    (blow, key)
                    for key, cell in sorted(cells.items())
                    for blow in blows(cell.product)
                    if blow.name == name and _makes_sense(blow, cell)
                ]
                pairs.append(dice.choice(fitting))
            dice.shuffle(pairs)
            third = ("1.0.0", "clamav", "2026-11-04", FRESH)
            kill = next(b for b in blows(cells[third].product) if b.name == "kill the program")
            drawn.append(_case(len(drawn), cells[third], third, kill, dice, third=True))
            continue
        blow, key = pairs.pop()
        drawn.append(_case(len(drawn), cells[key], key, blow, dice))
    return drawn


def _makes_sense(blow: Blow, cell: Cell) -> bool:
    chosen = cell.product
    if blow.layer is not None:
        return (chosen.name, chosen.schedule[0].label) in FROZEN
    return not blow.updates or len(chosen.schedule) > 1


def _case(
    number: int, cell: Cell, key: tuple[str, str, str, str], blow: Blow, dice: random.Random, *, third: bool = False
) -> Case:
    at = dice.randint(1, 6 if third else blow.within)  # a control is called less often
    return Case(number=number, cell=cell, true=TRUE[key], blow=blow, at=at, guest=1, third=third)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--provider", choices=sorted(STEPS_S), default=DOCKER)
    parser.add_argument("--only", type=int, metavar="N", help="the N-th case of the seed alone")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="keep what is done there, and do not do it again")
    asked = parser.parse_args(arguments)
    lab = Lab(asked.provider)
    drawn = cases(lab.cells, many=asked.cells, seed=asked.seed, blows=lab.blows)
    done = struck_all(
        drawn if asked.only is None else [drawn[asked.only]],
        lab.strike,
        Journal(asked.journal),
        about=f"{asked.provider}/{asked.seed}",
    )
    print(by_blow(done))
    return end(summary(done, seed=asked.seed, took_s=sum(struck.took_s for struck in done)))


def struck_all(
    drawn: Sequence[Case], strike: Callable[[Case], Struck], journal: Journal, *, about: str
) -> list[Struck]:
    """Strike all cases that the journal does not have, and say what came of each."""
    done: list[Struck] = []
    for case in drawn:
        key = f"{about} {case}"
        known = journal.row(key)
        struck = strike(case) if known is None else Struck.of_row(case, known)
        if known is None:
            journal.write(key, struck.row())
        done.append(struck)
        print(
            f"{struck.verdict:12} {case} ({struck.blow_said}) -> {struck.outcome} {struck.stage or ''}"
            f" ({struck.rule}) {struck.reason} {struck.false_proof} {' '.join(struck.leaks)}"
            f" [{struck.guests} guests, {struck.took_s:.0f} s{', before' if known else ''}]",
            flush=True,
        )
    return done


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # of this process, and so not in main(), which tests call
    sys.exit(main())
