"""The whole engine on simulated guests: what a test scripts, and what came of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from harness.fake_guest import FakeMachine, FakeProgram, Mischief
from harness.happening import Listener, SessionEvent
from harness.image import Folder, Image
from harness.judgement import Judgement
from harness.observation import ProductParser
from harness.plan import NO_PRODUCT, Cell, Plan, ProductChoice
from harness.probes import is_probe
from harness.products.api import Product, Tools
from harness.products.fake import FakeGuard, FakeProduct
from harness.products.fake_log import NAME, PARSER
from harness.products.none.adapter import NoProduct
from harness.products.none.parse import PARSER as NONE_PARSER
from harness.providers.fake import FakeProvider
from harness.run_cell import Rig
from harness.scenario import (
    Click,
    Connect,
    Deliver,
    Dwell,
    Install,
    Launch,
    LogLine,
    ReadyPort,
    Run,
    Scenario,
    SelfUpdate,
    Service,
    Step,
    VendorUpdate,
    VerifyFiles,
)
from harness.session import Options, RunResult, run
from harness.signature import KnownFile, Signature
from harness.standing import Patience
from harness.stop_switch import Clock, StopSwitch
from harness.stores.api import Store
from harness.systems import fake as desktop
from harness.systems.fake import FakeSystem
from harness.transports.api import Transport
from harness.transports.fake import FakeTransport
from tests.builders import make_build, make_cell, make_signature, make_suite

CLEAN, INCIDENT, SETUP_KNOWN, STRICT = "2026-11-04", "2026-11-05", "2026-11-06", "strict-1"
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")

#: A run that takes longer has stopped: everything here is done in milliseconds.
WATCHDOG_S = 25.0

Script = Callable[[Cell, int], Mischief]

#: Seconds that a step of a simulated guest may take: no load of this machine makes a good one take so long.
STEP_S = 20.0

#: Images are not set aside unless a test asks for it: most scripts lose guests on purpose.
ENDLESS = Patience(failures=10**6, first_s=0.0, cap_s=0.0, waits=None)

#: The same where a step is scripted to hang, and so does take so long. A good one must stay far below a third of it.
HANG_S = 0.25


def scenario(
    name: str = "fresh-install",
    *,
    command: tuple[str, ...] | None = None,
    more: tuple[Step, ...] = (),
    step_s: float = STEP_S,
) -> Scenario:
    """Give a scenario with every kind of step; ``released-then-updated`` has the vendor's update before ``connect``."""
    update = [Step(vendor_update=VendorUpdate(timeout_s=step_s))] if name == "released-then-updated" else []
    extra = [Step(run=Run(command=command, timeout_s=step_s))] if command else []
    return Scenario(
        name=name,
        services=(Service(name="trading", command=("serve",), ready=ReadyPort(tcp=desktop.SERVER_PORT)),),
        volatile=("logs\\*",),
        steps=(
            Step(deliver=Deliver(timeout_s=step_s)),
            Step(install=Install(timeout_s=step_s)),
            Step(verify_files=VerifyFiles(timeout_s=step_s)),
            Step(launch=Launch(program="DemoHTS.exe", window=desktop.MAIN_WINDOW, timeout_s=step_s)),
            Step(
                self_update=SelfUpdate(
                    click=Click(window=desktop.MAIN_WINDOW, button=desktop.UPDATE_BUTTON),
                    log=LogLine(file="logs\\hts.log", matches="update done exit=0"),
                    error_windows=(desktop.UPDATE_ERROR,),
                    timeout_s=step_s,
                )
            ),
            *update,
            Step(
                connect=Connect(
                    click=Click(window=desktop.MAIN_WINDOW, button=desktop.LOGIN_BUTTON),
                    window=desktop.CONNECTED,
                    log=LogLine(file="logs\\hts.log", matches="connected server="),
                    tcp_port=desktop.SERVER_PORT,
                    error_windows=(desktop.CONNECT_ERROR,),
                    timeout_s=step_s,
                )
            ),
            Step(dwell=Dwell(seconds=0.004, error_windows=(desktop.CONNECT_ERROR,))),
            *extra,
            *more,
        ),
    )


def signature(label: str) -> Signature:
    """Give one of the sets of the story, concrete for all builds."""
    builds = [make_build(version) for version in VERSIONS]
    paths = {INCIDENT: "hts_comm.dll", SETUP_KNOWN: "hts_comm.dll", STRICT: "hts_update.exe"}
    made = make_signature(label, known=[f for b in builds for f in b.files if f.path == paths.get(label)])
    if label != SETUP_KNOWN:
        return made
    setup = builds[1].installer
    known = KnownFile(threat="Test.Setup", sha256=setup.sha256, md5=setup.md5, size_bytes=setup.size_bytes)
    return made.model_copy(update={"known": (*made.known, known)})


def product(*labels: str) -> ProductChoice:
    """Give the simulated product with a schedule of sets."""
    labels = labels or (CLEAN,)
    every = dict.fromkeys((CLEAN, INCIDENT, SETUP_KNOWN, STRICT, *labels))
    return ProductChoice(
        name=NAME,
        schedule=tuple(signature(label) for label in labels),
        known=tuple(signature(label) for label in every),
    )


def cell(*labels: str, version: str = "1.0.0", of: Scenario | None = None) -> Cell:
    """Give a cell of the simulated product; two labels make it the incident's scenario."""
    name = "released-then-updated" if len(labels) > 1 else "fresh-install"
    return make_cell(build=make_build(version), product=product(*labels), scenario=of or scenario(name))


def hasty(label: str = CLEAN, *, version: str = "1.0.0", command: tuple[str, ...] | None = None) -> Cell:
    """Give a cell whose steps are soon out of time."""
    return cell(label, version=version, of=scenario("hasty", command=command, step_s=HANG_S))


def control(version: str = "1.0.0") -> Cell:
    """Give a control cell."""
    return make_cell(build=make_build(version), product=NO_PRODUCT, scenario=scenario())


def plan(*cells: Cell, confirm: int = 2, retries: int = 1, max_age_s: float = 72000.0, recheck: float = 0.0) -> Plan:
    """Give a plan of cells."""
    suite = make_suite().model_copy(
        update={"confirm": confirm, "retries": retries, "max_age_s": max_age_s, "recheck_share": recheck}
    )
    return Plan(suite=suite, cells=cells)


def parsers(name: str) -> ProductParser:
    """Give the parser of the simulated product, or of none."""
    known: dict[str, ProductParser] = {NAME: PARSER, "none": NONE_PARSER}
    return known[name]


def well(_cell: Cell, _number: int) -> Mischief:
    """Script guests in which nothing goes wrong."""
    return Mischief()


def with_product(mischief: Mischief, *, guests: Sequence[int] = range(1, 99)) -> Script:
    """Script mischief for some guests of each cell that has a product (counted from 1), and for no control."""
    return lambda cell, number: Mischief() if cell.is_control or number not in guests else mischief


def in_every_guest(mischief: Mischief) -> Script:
    """Script the same mischief for every guest."""
    return lambda _cell, _number: mischief


@dataclass
class Heard:
    """A listener that remembers."""

    events: list[SessionEvent] = field(default_factory=list)

    def on(self, event: SessionEvent) -> None:
        self.events.append(event)


class FakeLab:
    """Simulated guests, and what they are scripted to do.

    Args:
        script: Gives the mischief of the so many-th guest (from 1) of a cell.
        faults: Build version to the moment at which it fails by its own fault.
    """

    def __init__(
        self,
        script: Script = well,
        *,
        faults: dict[str, str] | None = None,
        provider: FakeProvider | None = None,
        adapter: Callable[[Tools], Product] = FakeProduct,
        before_guest: Callable[[Cell, int], None] = lambda cell, number: None,
    ) -> None:
        self._script = script
        self._faults = faults or {}
        self._adapter = adapter
        self._before_guest = before_guest
        self._lock = threading.Lock()
        self._last: Counter[str] = Counter()
        self.provider = provider or FakeProvider(guarded_machine)
        self.desktop: Callable[[Image, FakeTransport, FakeProgram], FakeSystem] = FakeSystem

    @property
    def guests(self) -> int:
        """Count the guests that were ever leased."""
        return len(self.provider.machines)

    def guests_of(self, cell: Cell) -> int:
        """Count the guests of one cell."""
        return self._last[cell.id]

    def rig(self) -> Rig:
        """Give the rig of these guests."""
        adapters: dict[str, Callable[[Tools], Product]] = {NAME: self._adapter, "none": NoProduct}
        return Rig(
            provider=self.provider,
            connect=lambda endpoint: FakeTransport(self.provider.machines[endpoint.address]),
            system=self._system,
            product=lambda name, tools: adapters[name](tools),
            installer=lambda build: f"DemoHTS {build.version} setup".encode(),
            service_files=lambda cell, name: {"server.py": f"{name} {cell.id}".encode()},
        )

    def run(
        self,
        asked: Plan,
        store: Store,
        *,
        run_id: str = "run-1",
        jobs: int = 2,
        fresh: bool = False,
        resume: bool = False,
        listeners: Sequence[Listener] = (),
        stop: StopSwitch | None = None,
        image_patience: Patience = ENDLESS,
        clock: Clock | None = None,
    ) -> RunResult:
        """Run a plan under a watchdog, and check that every lease was released and used once."""
        options = Options(
            run_id=run_id, jobs=jobs, provider="fake", fresh=fresh, resume=resume, image_patience=image_patience
        )
        came: list[RunResult | BaseException] = []

        def work() -> None:
            try:
                rig = self.rig()
                came.append(
                    run(
                        asked,
                        rig=rig,
                        store=store,
                        parsers=parsers,
                        options=options,
                        listeners=listeners,
                        stop=stop,
                        clock=clock,
                    )
                )
            except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
                came.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(WATCHDOG_S)
        if not came:
            _stuck(thread)
        if isinstance(came[0], BaseException):
            raise came[0]
        assert self.provider.running == []
        assert not any(machine.late_calls for machine in self.provider.machines.values())
        assert self.provider.most_at_once <= jobs
        return came[0]

    def _system(self, cell: Cell, transport: Transport) -> FakeSystem:
        assert isinstance(transport, FakeTransport)
        with self._lock:
            self._last[cell.id] += 1
            number = self._last[cell.id]
        self._before_guest(cell, number)
        transport.machine.mischief = self._script(cell, number)
        if is_probe(cell):  # no trading program: what is in its zip is unpacked
            return FakeSystem(cell.image, transport)
        return self.desktop(cell.image, transport, _program(cell, self._faults.get(cell.build.version)))


def judged(result: RunResult, cell: Cell) -> Judgement:
    """Give a cell's judgement."""
    return result.judgements[cell.id]


def installed(name: str) -> str:
    """Give the guest path of an installed file."""
    given = cell()
    return given.image.guest_path(given.build.installed_path(name))


def folder(which: Folder) -> str:
    """Give the guest path of a class of folder."""
    image = cell().image
    return image.guest_path(image.folders[which])


def _program(cell: Cell, fault: str | None) -> FakeProgram:
    version = cell.build.version
    files = {
        "DemoHTS.exe": f"main {version}",
        "hts_update.exe": f"updater {version}",
        "hts_comm.dll": f"comm {version}",
    }
    return FakeProgram(
        install_dir=cell.build.install_dir,
        files={name: text.encode() for name, text in files.items()},
        fault_at=fault,
    )


def guarded_machine(name: str) -> FakeMachine:
    """Make a machine with the simulated product in it, not started yet."""
    machine = FakeMachine(name)
    FakeGuard(machine)
    return machine


def _stuck(thread: threading.Thread) -> NoReturn:
    import sys
    import traceback

    frames = sys._current_frames()
    told = "".join(
        f"\n--- {t.name}\n" + "".join(traceback.format_stack(frames[t.ident]))
        for t in threading.enumerate()
        if t.ident in frames
    )
    msg = f"the run is stuck in {thread.name}:{told}"
    raise AssertionError(msg)
