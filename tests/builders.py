"""Small, valid values for tests: name what the test is about, and the rest is filled in.

Everything is deterministic: equal arguments give equal values, so that keys and digests are equal as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from harness.attempt import Attempt, AttemptMeta, Event, Kind, MemoryBlobs, Role
from harness.build import Artifact, Build, BuildFile, Component
from harness.egress import Egress, VendorCloud
from harness.egress_seen import EgressSeen, PairUse, RefusedTarget
from harness.image import Folder, Image, Lab
from harness.judgement import Judgement
from harness.matrix import Assurance, MatrixBuild, MatrixCell, MatrixEgress, Protection
from harness.plan import Cell, LeftOut, Plan, ProductChoice, Suite, expand
from harness.scenario import Connect, Deliver, Install, Launch, Scenario, Step, Update, VendorUpdate, VerifyFiles
from harness.signature import KnownFile, Signature
from harness.stores.api import Claim, RunInfo, RunState
from harness.verdict import BAD, Outcome

#: What the QEMU of a test says of itself.
QEMU_VERSION = "QEMU emulator version 7.2 (of a test)"

#: When everything in tests happens, unless a test says otherwise.
NOON = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Give the time so many seconds after ``NOON``."""
    return NOON + timedelta(seconds=seconds)


def sha256_of(data: bytes) -> str:
    """Give the sha256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def md5_of(data: bytes) -> str:
    """Give the md5 of bytes, which some products' records state."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def make_file(path: str, *, component: Component = Component.MODULE, content: bytes | None = None) -> BuildFile:
    """Make a file of a build's manifest; its bytes are its path unless given."""
    data = path.encode() if content is None else content
    return BuildFile(path=path, sha256=sha256_of(data), md5=md5_of(data), size_bytes=len(data), component=component)


def make_build(version: str = "1.0.0", *, name: str = "DemoHTS", host_path: str = "") -> Build:
    """Make a build with a main program, an updater and the module of the incident."""
    setup = f"{name} {version} setup".encode()
    return Build(
        name=name,
        version=version,
        installer=Artifact(
            file_name=f"{name}-{version}-setup.exe",
            host_path=host_path,
            sha256=sha256_of(setup),
            md5=md5_of(setup),
            size_bytes=len(setup),
        ),
        install_dir=r"C:\DemoHTS",
        files=(
            make_file("DemoHTS.exe", component=Component.MAIN, content=f"main {version}".encode()),
            make_file("hts_update.exe", component=Component.UPDATER, content=f"updater {version}".encode()),
            make_file("hts_comm.dll", content=f"comm {version}".encode()),
        ),
    )


def make_image(
    name: str = "reference", *, content: str = "sha256:0123456789abcdef", recipe: str | None = None, reference: str = ""
) -> Image:
    """Make an image of the reference lab."""
    return Image(
        name=name,
        content=content,
        recipe=recipe,
        lab=Lab.REFERENCE,
        system="wine",
        provider="docker",
        reference=reference,
        user="trader",
        folders={
            Folder.DOWNLOADS: r"C:\users\trader\Downloads",
            Folder.TEMP: r"C:\users\trader\Temp",
            Folder.INSTALL_PARENT: "C:\\",
            Folder.APPDATA: r"C:\users\trader\AppData\Roaming",
        },
        drives={"C": "/home/trader/.wine/drive_c"},
    )


def make_signature(
    label: str = "2026-11-04", *, known: Sequence[BuildFile] = (), marker: str | None = None
) -> Signature:
    """Make a signature set that knows some files of builds."""
    return Signature(
        label=label,
        known=tuple(
            KnownFile(threat=f"Test.{f.path}", sha256=f.sha256 or "", md5=f.md5 or "", size_bytes=f.size_bytes or 0)
            for f in known
        ),
        marker=marker or label,
    )


def make_product(name: str = "clamav", *labels: str, profile: str = "standard") -> ProductChoice:
    """Make a product with a schedule of sets; one set when no label is given."""
    return ProductChoice(
        name=name, profile=profile, schedule=tuple(make_signature(label) for label in labels or ("2026-11-04",))
    )


def make_scenario(name: str = "fresh-install", *, steps: Sequence[Step] | None = None) -> Scenario:
    """Make a scenario: deliver, install, verify, launch and connect, unless its steps are given."""
    return Scenario(
        name=name,
        steps=tuple(
            steps
            or (
                Step(deliver=Deliver()),
                Step(install=Install()),
                Step(verify_files=VerifyFiles()),
                Step(launch=Launch(program="DemoHTS.exe", window="데모증권 HTS")),
                Step(connect=Connect(window="연결됨")),
            )
        ),
    )


def make_update_scenario(name: str = "released-then-updated") -> Scenario:
    """Make the scenario of the incident: installed, then the vendor's update, then launch and connect."""
    first, second, third, *rest = make_scenario().steps
    return make_scenario(name, steps=(first, second, third, Step(vendor_update=VendorUpdate()), *rest))


def make_over_older_scenario(name: str = "over-older") -> Scenario:
    """Make the scenario of an update: an older build is installed and started, then the cell's own put over it."""
    older = (Step(deliver=Deliver(build="older")), Step(install=Install()), make_scenario().steps[3])
    return make_scenario(
        name, steps=(*older, Step(deliver=Deliver()), Step(update=Update()), *make_scenario().steps[2:])
    )


def make_cell(
    *,
    build: Build | None = None,
    image: Image | None = None,
    product: ProductChoice | None = None,
    scenario: Scenario | None = None,
    older: Build | None = None,
    unsupported: str | None = None,
) -> Cell:
    """Make a cell: build 1.0.0 beside clamav with one set, in ``fresh-install``."""
    return Cell(
        build=build or make_build(),
        image=image or make_image(),
        product=product or make_product(),
        scenario=scenario or make_scenario(),
        older=older,
        unsupported=unsupported,
    )


def make_suite(
    name: str = "smoke",
    *,
    builds: Sequence[Build] | None = None,
    products: Sequence[ProductChoice] | None = None,
    scenarios: Sequence[Scenario] | None = None,
    leave_out: Sequence[LeftOut] = (),
    drill: bool = False,
) -> Suite:
    """Make a suite over one image."""
    return Suite(
        name=name,
        lab=Lab.REFERENCE,
        builds=tuple(builds or (make_build(),)),
        images=(make_image(),),
        products=tuple(products or (make_product(),)),
        scenarios=tuple(scenarios or (make_scenario(),)),
        leave_out=tuple(leave_out),
        drill=drill,
    )


def make_plan(*cells: Cell, suite: Suite | None = None) -> Plan:
    """Make a plan of given cells, or of all cells of a suite."""
    suite = suite or make_suite()
    return Plan(suite=suite, cells=cells) if cells else expand(suite)


class EventLog:
    """Builds an attempt's events in order, and keeps the bytes that they name.

    Example:
        >>> log = EventLog()
        >>> log.add(Kind.BEGIN).seq, log.add(Kind.LOG, raw=b"FOUND").seq
        (0, 1)
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.blobs: dict[str, bytes] = {}

    def add(
        self,
        kind: Kind,
        subject: str = "",
        *,
        step: int | None = None,
        raw: bytes | None = None,
        source: str = "harness",
        **data: JsonValue,
    ) -> Event:
        """Record one event, one second after the one before it."""
        name = None if raw is None else sha256_of(raw)
        if name is not None and raw is not None:
            self.blobs[name] = raw
        seq = len(self.events)
        event = Event(
            seq=seq,
            host_mono_s=float(seq),
            step=step,
            source=source,
            kind=kind,
            subject=subject,
            data=data,
            blob=name,
        )
        self.events.append(event)
        return event


def make_attempt(
    cell: Cell | None = None,
    *,
    id: str = "attempt-1",  # noqa: A002 - the field's own name
    role: Role = Role.FIRST,
    ordinal: int = 1,
    raws: Iterable[bytes] = (b"clamd: OK\n",),
    complete: bool = True,
    started_at: datetime = NOON,
) -> Attempt:
    """Make an attempt that recorded some raw logs between its beginning and its end."""
    log = EventLog()
    log.add(Kind.BEGIN)
    for raw in raws:
        log.add(Kind.LOG, "scanner", step=0, raw=raw, source="product:clamav")
    if complete:
        log.add(Kind.END)
    return Attempt(
        meta=AttemptMeta(
            id=id,
            cell=cell or make_cell(),
            role=role,
            ordinal=ordinal,
            nonce="abcdef0123456789",
            provider="docker",
            tool_version="0.0.0",
            started_at=started_at,
            finished_at=started_at + timedelta(seconds=60),
        ),
        events=tuple(log.events),
        blobs=MemoryBlobs(log.blobs),
    )


def attempt_for(claim: Claim, cell: Cell, *, raws: Iterable[bytes] = (b"clamd: OK\n",)) -> Attempt:
    """Make the attempt that a claim is for."""
    return make_attempt(cell, id=claim.attempt_id, role=claim.role, ordinal=claim.ordinal, raws=raws)


def make_run(
    id: str = "run-1",  # noqa: A002 - the field's own name
    *,
    started_at: datetime = NOON,
    drill: bool = False,
    expected_cells: int = 1,
) -> RunInfo:
    """Make a run that has begun."""
    return RunInfo(
        id=id,
        suite="smoke",
        lab="reference",
        provider="docker",
        tool_version="0.0.0",
        started_at=started_at,
        finished_at=None,
        state=RunState.RUNNING,
        drill=drill,
        expected_cells=expected_cells,
    )


def make_judgement(
    outcome: Outcome = Outcome.COMPATIBLE,
    *,
    reason: str = "Every step passed.",
    attempts: Sequence[str] = (),
    controls: Sequence[str] = (),
    judged_at: datetime = NOON,
    attempted_at: datetime | None = None,
) -> Judgement:
    """Make a judgement."""
    return Judgement(
        outcome=outcome,
        rule="all_passed" if outcome is Outcome.COMPATIBLE else "test",
        reason=reason,
        attempts=tuple(attempts),
        controls=tuple(controls),
        rules_version=1,
        parser_version=1,
        judged_at=judged_at,
        attempted_at=attempted_at,
        cell={"outcome": outcome.value, "slowdown": 1.25, "stage": None},
    )


def make_matrix_cell(
    outcome: Outcome = Outcome.COMPATIBLE,
    version: str = "1.0.0",
    product: str = "defender",
    signature: str = "2026-11-04",
    scenario: str = "fresh-install",
    **changes: object,
) -> MatrixCell:
    """Make a cell of a matrix, on Windows unless changed; bad at ``connect`` when it is bad."""
    known: dict[str, object] = {
        "key": f"{version}-{product}-{signature}-{scenario}",
        "id": f"{version}/win11/{product}-standard/{signature}/{scenario}",
        "build": MatrixBuild(name="DemoHTS", version=version, sha256="0" * 64),
        "image": "win11",
        "image_content": "content-1",
        "provider": "qemu",
        "lab": Lab.WINDOWS,
        "product": product,
        "profile": "standard",
        "product_version": None,
        "signature": signature,
        "signature_from": None,
        "signature_components": {},
        "scenario": scenario,
        "outcome": outcome,
        "stage": "connect" if outcome in BAD else None,
        "rule": "all.passed",
        "reason": f"Says {outcome}.",
        "assurance": Assurance.REPORTED,
        "blame": None,
        "mechanism": None,
        "flaky": False,
        "confirmed": True,
        "slowdown": None,
        "attempts": (),
        "control": None,
        "cached": False,
        "cached_from": None,
        "observed_s": 60.0,
        "cause": None,
        "failed_step": None,
        "detections": (),
        "protection": Protection(),
        "evidence": (),
        "decided_by": None,
        "started_at": NOON,
        "duration_s": 20.0,
    }
    return MatrixCell.model_validate({**known, **changes})


def cell_with_a_way_out(**changes: object) -> MatrixCell:
    """Make a cell whose guests could reach two hosts of the program and a vendor's cloud."""
    seen = EgressSeen(
        used=(
            PairUse(
                pair="quotes.example.kr:443",
                cloud=None,
                connections=2,
                failed=1,
                why="Connection refused",
                sent_bytes=1200,
                received_bytes=34567,
            ),
            PairUse(
                pair="cloud.example.com:443",
                cloud="a-cloud",
                connections=1,
                failed=0,
                why=None,
                sent_bytes=10,
                received_bytes=20,
            ),
        ),
        refused=(RefusedTarget(target="evil.example:80", why="it is not open", times=3),),
        refused_more=5,
        uncounted=2,
        proven=True,
    )
    opened = Egress(
        hosts=("quotes.example.kr:443",),
        private_hosts=("test.internal:8443",),
        vendor_clouds=(VendorCloud(name="a-cloud", product="defender", hosts=("cloud.example.com:443",)),),
    )
    egress = MatrixEgress(opened=opened, asks_a_cloud=True, seen=seen)
    return make_matrix_cell(**{"egress": egress, **changes})  # type: ignore[arg-type]
