"""Effects. One attempt, from a pristine guest to an immutable bundle. The plot of the whole tool.

Whatever goes wrong, an attempt comes out: what was seen until then is evidence (a guest that is lost after a quarantine
is still a quarantine). Only the host's own trouble (an engine that makes no guest, a disk that is full) is raised.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from harness import look
from harness.attempt import LAUNCH_JOB, LAYER, SAMPLED_BEHIND, Attempt, AttemptMeta, Kind
from harness.build import Build
from harness.deadline import Deadline
from harness.errors import HarnessError, HostDown, InputError
from harness.facts import When
from harness.image import Folder
from harness.plan import Cell
from harness.probes import installer_of
from harness.products import adapter_of
from harness.products.api import ComesUp, Product, Record, Resumes, Tools
from harness.protection import Layer
from harness.providers.api import Endpoint, Lease, LendsDiscs, Provider, Reboots, ShowsScreen, TakesInput
from harness.recorder import Recorder
from harness.scenario import Step
from harness.secret import Mask, Secret
from harness.signature import Signature
from harness.step_run import MACHINE_ANEW, StepEnd, StepRunner, tested_folders
from harness.systems.api import GuestSystem
from harness.transports.api import Transport, Wire
from harness.transports.payload import Payload, Verified
from harness.transports.way_in import WayIn
from harness.way_out.open_way import WayOut, open_way_out

#: What a cell may take beside its steps: leasing, arming, canaries, samples, the last look.
OVERHEAD_S = 240.0

#: Steps after which the screen is worth a picture that the guest has to make, also when they pass. One from outside
#: costs milliseconds, and is made behind every step.
PICTURED = frozenset({"launch", "connect", "dwell"})


class CarriesOut(Protocol):
    """See ``CarriesWayOut.carry``."""

    def __call__(self, endpoint: Endpoint, argv: Sequence[str], *, transport: Transport, deadline: Deadline) -> Wire:
        """Start a program in a guest, and give its standard input and output."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """What a cell is run with: where guests come from, how they are reached, what its files are.

    Attributes:
        connect: Makes the transport that an endpoint names.
        system: Makes the guest system that an image names.
        installer: Gives a build's installer.
        service_files: Gives the files of one service of a cell, by file name.
        secrets: What scenarios enter into fields, by name.
        layer: Gives what a cell's guest is leased from so that its protection is up already; None where there is none.
        carry: Carries a guest's way out (``CarriesWayOut.carry``); None when the provider can do nothing of the kind.
    """

    provider: Provider
    connect: Callable[[Endpoint], Transport]
    system: Callable[[Cell, Transport], GuestSystem]
    product: Callable[[str, Tools], Product] = adapter_of
    installer: Callable[[Build], Payload]
    service_files: Callable[[Cell, str], Mapping[str, bytes]]
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    layer: Callable[[Cell], Layer | None] = lambda _cell: None
    carry: CarriesOut | None = None

    @property
    def mask(self) -> Mask:
        """Give what takes the secrets out of records."""
        return Mask(self.secrets.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A guest as it is behind a step, for who wants to look at it himself: how the step ended, and the lease."""

    index: int
    step: Step
    end: StepEnd
    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Where an attempt is to end so that a person can look at its guest: behind a stage, or behind one that fails.

    ``at`` is called there, with nobody connected to the guest; when it returns the guest is gone.
    """

    stage: str
    at: Callable[[Behind], None]


class _Held(Exception):
    """The attempt ends here, because somebody wanted to look at the guest; nothing is proven and nothing collected."""


class _Holding(NamedTuple):
    """The guest of an attempt, and where it is to be held."""

    hold: Hold | None
    lease: Lease
    transport: Transport

    @property
    def screen(self) -> ShowsScreen | None:
        """Give what shows the guest's screen from outside."""
        return self.lease if isinstance(self.lease, ShowsScreen) else None

    @property
    def hands(self) -> TakesInput | None:
        """Give what gives the guest keys and clicks from outside."""
        return self.lease if isinstance(self.lease, TakesInput) else None

    @property
    def discs(self) -> LendsDiscs | None:
        """Give what puts discs into the guest's drive."""
        return self.lease if isinstance(self.lease, LendsDiscs) else None

    def border(self, index: int, step: Step, end: StepEnd) -> None:
        """Hold the guest behind a step when that was asked for; raises ``_Held`` when it was let go."""
        if self.hold is None or (step.kind != self.hold.stage and end.expectation is None):
            return
        self.transport.close()
        self.hold.at(Behind(index=index, step=step, end=end, lease=self.lease))
        raise _Held


def run_cell(
    meta: AttemptMeta,
    rig: Rig,
    *,
    run_id: str,
    on_stage: Callable[[str], None] = lambda _stage: None,
    recorder: Recorder | None = None,
    hold: Hold | None = None,
) -> Attempt:
    """Make one attempt of a cell on a guest of its own.

    Args:
        meta: Who, what and why; its cell says all that is asked.
        rig: Where guests come from.
        run_id: Marks the guest for ``sweep``.
        on_stage: Told the name of each stage as it begins; for progress.
        recorder: Collects the attempt. A caller that gives one keeps what was seen, even when this raises.
        hold: Ends the attempt behind a step; it is never complete then, so that no verdict can come of it.

    Returns:
        The attempt, complete (its last event says so) or not (its trouble is recorded).

    Raises:
        InputError: What was asked turned out wrong.
        HostDown: There was no engine to make the guest.
    """
    cell = meta.cell
    recorder = recorder or Recorder(meta, mask=rig.mask)
    record = recorder.record
    record(Kind.BEGIN, data={"role": meta.role.value, "alone": meta.alone})
    deadline = Deadline.after(OVERHEAD_S + sum(step.action.timeout_s for step in cell.scenario.steps))
    try:
        with contextlib.suppress(_Held), ExitStack() as stack:
            on_stage("lease")
            name = f"{run_id}-{meta.nonce}"
            # An engine that is down makes no attempt at all: nothing was seen, and the guest is asked for again later.
            layer = rig.layer(cell)
            image = cell.image if layer is None else layer.image
            lease = stack.enter_context(rig.provider.lease(image, run_id=run_id, name=name, deadline=deadline))
            # Inside the lease: once that is over, every guest looks lost.
            stack.enter_context(_trouble_recorded(recorder, lease))
            connect = partial(rig.connect, lease.endpoint)
            transport = WayIn(connect) if isinstance(lease, Reboots) else connect()
            stack.callback(transport.close)
            guest = rig.system(cell, transport)
            record(Kind.GUEST, "session", blob=guest.await_ready(deadline=deadline.sooner(90.0)))

            way_out = _way_out(meta, rig, guest, lease.endpoint, recorder, deadline=deadline)
            if way_out is not None:
                stack.callback(way_out.close, failed=False)

            on_stage("protect")
            tools = Tools(
                guest=guest,
                record=recorder.for_source(f"product:{cell.product.name}"),
                profile=cell.product.profile,
                nonce=meta.nonce,
                known=cell.product.known or cell.product.schedule,
            )
            product = rig.product(cell.product.name, tools)
            _protect(product, cell.product.schedule[0], layer, record, deadline)
            _start_services(cell, guest, rig, deadline)
            product.canary(tested_folders(cell, installed=False), when=When.BEFORE, deadline=deadline)
            product.sample(border=-1, deadline=deadline)

            reboot = None
            if isinstance(lease, Reboots) and isinstance(transport, WayIn):
                reboot = _Machine(
                    lease=lease,
                    way_in=transport,
                    way_out=way_out,
                    cell=cell,
                    guest=guest,
                    product=product,
                    record=record,
                    rig=rig,
                ).reboot
            installed = _run_steps(
                cell,
                guest,
                product,
                recorder,
                rig,
                holding=_Holding(hold, lease, transport),
                reboot=reboot,
                deadline=deadline,
                on_stage=on_stage,
            )

            on_stage("prove")
            if way_out is not None:
                way_out.prove(deadline=deadline)
            product.canary(tested_folders(cell, installed=installed.still), when=When.AFTER, deadline=deadline)
            recorder.step = len(cell.scenario.steps)
            if installed.ever:
                on_stage("inspect")
                looked = guest.inspect(cell.build.install_dir, deadline=deadline)
                record(Kind.INSPECTION, "files", data={SAMPLED_BEHIND: True}, blob=looked)
                # What the look provoked counts only under the set that is loaded then, and when it was read to its end.
                product.sample(border=recorder.step, deadline=deadline)
            product.collect(deadline=deadline)
            _record_last(recorder, lease, way_out, failed=installed.failed)
    except (InputError, HostDown):
        raise
    except (HarnessError, look.LookError) as error:
        _record_trouble(recorder, error, None)
    return recorder.attempt()


def no_way_out(provider: str) -> InputError:
    """Say that a suite opens what a provider cannot carry."""
    msg = f"The provider '{provider}' can give its guests no way out, and the suite's 'egress' opens one."
    return InputError(msg, hint="Use '--provider docker' or '--provider qemu', or write 'egress: none'.")


def _way_out(
    meta: AttemptMeta, rig: Rig, guest: GuestSystem, endpoint: Endpoint, recorder: Recorder, *, deadline: Deadline
) -> WayOut | None:
    """Open what the cell's guest may reach; before any product is up, which may ask its vendor at once."""
    if meta.cell.egress is None:
        return None
    if rig.carry is None:
        raise no_way_out(meta.provider)
    return open_way_out(
        meta.cell.egress,
        guest,
        carry=partial(rig.carry, endpoint, transport=guest.admin),
        nonce=meta.nonce,
        record=recorder.record,
        step=lambda: recorder.step,
        deadline=deadline,
    )


def _record_last(recorder: Recorder, lease: Lease, way_out: WayOut | None, *, failed: bool) -> None:
    """Record what went out of the guest, and that the attempt is complete, unless either makes it uncertain."""
    doubts = way_out.close(failed=failed) if way_out is not None else ()
    for doubt in doubts:
        recorder.record(Kind.TROUBLE, doubt, data={"retryable": True, "guest_crashed": False})
    lost = lease.lost()
    if lost is not None:
        recorder.record(Kind.TROUBLE, lost.summary, data={"retryable": True, "guest_crashed": lost.crashed})
    elif not doubts:
        recorder.record(Kind.END)


def _protect(product: Product, signature: Signature, layer: Layer | None, record: Record, deadline: Deadline) -> None:
    """Set the product up, or take it over where it is up already; either proves which set is loaded."""
    if layer is None or not isinstance(product, Resumes):
        product.arm(signature, deadline=deadline)
        return
    up = layer.protection
    named = {"product": up.product, "profile": up.profile, "signature": up.signature.label, "code": up.code}
    record(Kind.GUEST, LAYER, data={"content": layer.image.content, **named})
    # Planted by us as well: the product's log, which is read from its beginning, has records of it.
    record(Kind.PLANTED, data={"items": [dict(place) for place in layer.planted]})
    product.resume(signature, deadline=deadline)


def _checked(installer: Callable[[Build], Payload]) -> Callable[[Build], Payload]:
    """Give a build's installer only when it is the one that the cell names: another would be judged under its name."""

    def given(build: Build) -> Payload:
        complaint = InputError(
            f"The installer of build {build.version} is not the one that the run began with.",
            hint="It was changed meanwhile, or could not be read whole. Start a new run for a new build.",
        )
        return Verified(installer_of(build) or installer(build), sha256=build.installer.sha256, complaint=complaint)

    return given


@contextmanager
def _trouble_recorded(recorder: Recorder, lease: Lease) -> Iterator[None]:
    """Turn trouble inside into an event, while the guest can still be asked whether it died of it."""
    try:
        yield
    except InputError:
        raise
    except (HarnessError, look.LookError) as error:
        _record_trouble(recorder, error, lease)


class _Installed(NamedTuple):
    """Whether the build has been installed, whether it still is, and whether a step failed."""

    ever: bool
    still: bool
    failed: bool = False


def _run_steps(
    cell: Cell,
    guest: GuestSystem,
    product: Product,
    recorder: Recorder,
    rig: Rig,
    *,
    holding: _Holding,
    reboot: Callable[[int, Deadline], None] | None,
    deadline: Deadline,
    on_stage: Callable[[str], None],
) -> _Installed:
    """Run the steps up to the first that fails, sampling protection behind each; tell what became of the build."""
    runner = StepRunner(
        cell,
        guest,
        product,
        recorder.record,
        installer=_checked(rig.installer),
        secrets=rig.secrets,
        screen=holding.screen,
        hands=holding.hands,
        discs=holding.discs,
        reboot=reboot,
    )
    installed = _Installed(ever=False, still=False)
    for index, step in enumerate(cell.scenario.steps):
        on_stage(step.kind)
        recorder.step = index
        if step.launch is not None and installed.still:
            product.canary({Folder.INSTALL: cell.build.install_dir}, when=When.STEP, deadline=deadline)
        recorder.record(Kind.STEP_BEGIN, step.kind)
        end = runner.run(index, step, deadline=deadline)
        _record_end(recorder, step, end)
        if holding.screen is not None or step.kind in PICTURED or end.expectation is not None:
            runner.screenshot(deadline=deadline)
        if runner.running and step.kind == "launch":
            _record_modules(guest, recorder, deadline)
        product.sample(border=index, deadline=deadline)
        holding.border(index, step, end)
        if end.expectation is not None:
            return installed._replace(failed=True)
        if step.kind in {"install", "update", "uninstall"}:
            installed = _Installed(ever=True, still=step.kind != "uninstall")
    return installed


def _start_services(cell: Cell, guest: GuestSystem, rig: Rig, deadline: Deadline) -> None:
    for service in cell.scenario.services:
        guest.start_service(service, rig.service_files(cell, service.name), deadline=deadline)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """A guest whose machine can be started anew, with all that a cell began with in it."""

    lease: Reboots
    way_in: WayIn
    way_out: WayOut | None
    cell: Cell
    guest: GuestSystem
    product: Product
    record: Record
    rig: Rig

    def reboot(self, index: int, deadline: Deadline) -> None:
        """Start it anew, and then what stands outside it, or is in it and no service of its system.

        That protection is there again is for the next sample and the next canaries to prove, as everywhere.
        """
        if self.way_out is not None:
            self.way_out.pause()
        self.way_in.close()
        done = self.lease.reboot(deadline=deadline)
        self.way_in.reopen(deadline=deadline)
        boots: dict[str, JsonValue] = {"boot_before": done.boot_before, "boot_after": done.boot_after}
        self.record(Kind.GUEST, "reboot", data={**MACHINE_ANEW, **boots})
        self.record(Kind.GUEST, "session", data=MACHINE_ANEW, blob=self.guest.await_ready(deadline=deadline))
        if self.way_out is not None:
            self.way_out.resume(deadline=deadline)
        if isinstance(self.product, ComesUp):
            self.product.come_up(self.cell.scheduled(index, after=True), deadline=deadline)
        _start_services(self.cell, self.guest, self.rig, deadline)


def _record_end(recorder: Recorder, step: Step, end: StepEnd) -> None:
    recorder.record(
        Kind.STEP_END,
        step.kind,
        data={
            "passed": end.expectation is None,
            "expectation": end.expectation,
            "code": end.code,
            "timed_out": end.timed_out,
            "detail": end.detail,
            "dialog": end.dialog,
            "observed_s": end.observed_s,
        },
    )


def _record_modules(guest: GuestSystem, recorder: Recorder, deadline: Deadline) -> None:
    """Record which files are mapped into the program's processes: its modules, as the system sees them."""
    processes = guest.observe({"processes": True}, deadline=deadline)
    pids = look.run_pids(processes, LAUNCH_JOB)
    recorder.record(Kind.LOOK, "processes", blob=processes)
    recorder.record(Kind.LOOK, "modules", blob=guest.observe({"images": list(pids)}, deadline=deadline))


def _record_trouble(recorder: Recorder, error: Exception, lease: Lease | None) -> None:
    """Record what went wrong, and whether the guest died of it."""
    lost = None
    if lease is not None:
        with contextlib.suppress(HarnessError):
            lost = lease.lost()
    summary = error.summary if isinstance(error, HarnessError) else f"{error}."
    detail = "".join(traceback.format_exception(error)) + (error.detail if isinstance(error, HarnessError) else "")
    recorder.record(
        Kind.TROUBLE,
        f"{summary} ({lost.summary})" if lost is not None else summary,
        data={
            "retryable": getattr(error, "retryable", True),
            "guest_crashed": lost is not None and lost.crashed,
            "error": type(error).__name__,
        },
        blob=detail.encode(errors="replace"),
    )
