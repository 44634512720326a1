"""A realistic run, made by hand: the incident, every outcome once, controls, raw logs and pictures.

The facts are written down here; the verdicts are the real ``decide`` and ``settle`` over them.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from pydantic import JsonValue

from harness.attempt import Attempt, AttemptMeta, Event, Kind, MemoryBlobs, Role
from harness.build import Artifact, Build, BuildFile, Component
from harness.evidence import CellEvidence, evidence_of
from harness.facts import (
    AttributedDetection,
    CanarySeen,
    ExclusionSeen,
    Facts,
    FileSeen,
    Owner,
    SampleSeen,
    StepSeen,
    StepStatus,
    Trouble,
    When,
)
from harness.image import Folder, Image, Lab
from harness.judgement import Judgement
from harness.matrix import MatrixRun
from harness.matrix_cell import Tried, cell_of, matrix_of
from harness.observation import Action, Detection, Layer, Mechanism
from harness.plan import NO_PRODUCT, Cell, LeftOut, Plan, ProductChoice, Suite, expand
from harness.renderers.api import Report
from harness.rules import RULES_VERSION, decide
from harness.scenario import Scenario
from harness.settle import settle
from harness.signature import Signature
from harness.verdict import Verdict

BEGAN = datetime(2026, 11, 24, 6, 0, 12, 345000, tzinfo=UTC)
DIALOG = "데모증권 HTS\nhts_comm.dll을(를) 불러올 수 없습니다. (오류 126)\n확인"
HOSTILE = "<script>alert(1)</script>\x1b[31mred\x1b[0m \u202egnp.exe\u202c \x00 '\" & </template>"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def build(version: str) -> Build:
    names = {
        "DemoHTS.exe": Component.MAIN,
        "hts_core.dll": Component.MODULE,
        "hts_comm.dll": Component.MODULE,
        "hts_update.exe": Component.UPDATER,
    }
    return Build(
        name="DemoHTS",
        version=version,
        installer=Artifact(
            file_name=f"DemoHTS-{version}-setup.exe",
            sha256=digest(f"setup {version}"),
            md5=digest(f"setup {version}")[:32],
            size_bytes=184_320,
        ),
        install_dir="C:\\Program Files\\DemoHTS",
        files=tuple(
            BuildFile(path=name, sha256=digest(name + version), md5=digest(name)[:32], size_bytes=4096, component=part)
            for name, part in names.items()
        ),
    )


IMAGE = Image(
    name="reference",
    content="sha256:" + digest("image"),
    lab=Lab.REFERENCE,
    system="wine",
    provider="docker",
    user="trader",
    folders={folder: f"C:\\{folder}" for folder in Folder if folder is not Folder.INSTALL},
    drives={"C": "/home/trader/.wine/drive_c"},
)

_COMMON: list[dict[str, object]] = [
    {"deliver": {}},
    {"install": {}},
    {"verify_files": {}},
    {"launch": {"program": "DemoHTS.exe", "window": "데모증권 HTS"}},
    {"self_update": {}},
    {"connect": {"tcp_port": 9001}},
    {"dwell": {"seconds": 5}},
]


def scenario(name: str) -> Scenario:
    steps = list(_COMMON)
    if name == "released-then-updated":
        steps = [*_COMMON[:3], {"vendor_update": {}}, *_COMMON[3:]]
    return Scenario.model_validate({"name": name, "steps": steps, "volatile": ["*.log"], "patch_set": ["hts_core.dll"]})


def product(name: str, *labels: str, profile: str = "standard") -> ProductChoice:
    return ProductChoice(
        name=name, profile=profile, schedule=tuple(Signature(label=label, marker=label) for label in labels)
    )


def png(*, dialog: bool, shade: int = 0) -> bytes:
    """Draw a desktop with a window of a quote table, and an error dialog over it when asked."""
    width, height = 640, 400
    rows = []
    for y in range(height):
        row = bytearray(bytes((0, 90 + shade, 110)) * width)
        if 40 <= y < 340:
            inside = bytes((24, 60, 120)) if y < 64 else bytes((250, 250, 250)) if y % 18 else bytes((210, 214, 220))
            row[60 * 3 : 540 * 3] = inside * 480
            if y >= 70 and y % 18 in range(6, 12):
                for column in range(5):
                    colour = bytes((190, 40, 40)) if (y // 18 + column) % 3 else bytes((30, 80, 180))
                    row[(80 + column * 90) * 3 : (130 + column * 90) * 3] = colour * 50
        if dialog and 150 <= y < 270:
            body = bytes((24, 60, 120)) if y < 172 else bytes((240, 240, 240))
            row[180 * 3 : 480 * 3] = body * 300
            if 190 <= y < 222:
                row[200 * 3 : 232 * 3] = bytes((200, 30, 30)) * 32
            if y in range(196, 202) or y in range(210, 216):
                row[248 * 3 : 450 * 3] = bytes((40, 40, 40)) * 202
            if 236 <= y < 258:
                row[380 * 3 : 460 * 3] = bytes((205, 208, 214)) * 80
        rows.append(b"\0" + bytes(row))
    return _png(width, height, b"".join(rows))


def _png(width: int, height: int, raw: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


@dataclass(frozen=True, kw_only=True)
class Story:
    """What goes otherwise than well in an attempt."""

    fails: str | None = None
    expectation: str = "window"
    code: int | None = None
    timed_out: bool = False
    detail: str = ""
    dialog: str | None = None
    acted: Action | None = None
    target: str = "hts_comm.dll"
    threat: str | None = "HtsDemo.FalsePositive.Comm"
    component: Component | None = Component.MODULE
    mechanism: Mechanism = Mechanism.SIGNATURE
    at: str = "connect"
    silent: Folder | None = None
    drift: str | None = None
    missing: str | None = None
    trouble: str | None = None


WELL = Story()
TAKEN = Story(
    fails="connect",
    expectation="no_error_window",
    code=126,
    detail="An error window appeared: 데모증권 HTS",
    dialog=DIALOG,
    acted=Action.QUARANTINED,
    missing="hts_comm.dll",
)
SETUP_TAKEN = Story(
    fails="deliver",
    expectation="written",
    code=5,
    detail="The installer was gone 0.4 s after it was written.",
    acted=Action.QUARANTINED,
    target="DemoHTS-1.1.0-setup.exe",
    threat="HtsDemo.FalsePositive.Setup",
    component=Component.SETUP,
    at="deliver",
)
DENIED = Story(
    fails="self_update",
    expectation="no_error_window",
    code=5,
    detail="The updater could not be started: access is denied.",
    dialog="데모증권 HTS\n업데이트 프로그램을 실행할 수 없습니다. (오류 5)\n확인",
    acted=Action.DENIED,
    target="hts_update.exe",
    threat=None,
    component=Component.UPDATER,
    mechanism=Mechanism.POLICY,
    at="self_update",
)
REFUSED = Story(
    fails="connect",
    expectation="log_line",
    code=10061,
    detail="The server refused protocol version 3.",
    dialog="데모증권 HTS\n서버가 이 버전을 지원하지 않습니다.\n확인",
)
CHANGED = Story(missing="hts_core_extra.dll")


def story(cell: Cell) -> Story:
    """Say what happens in a cell of the sample run."""
    version, name, label = cell.build.version, cell.product.name, cell.product.schedule[-1].label
    if cell.product.profile == "strict":
        return {"1.0.0": Story(acted=Action.ALERTED, threat="Heuristics.Packed", mechanism=Mechanism.HEURISTIC)}.get(
            version, CHANGED
        )
    if name == "clamav" and label == "2026-11-06" and version == "1.1.0":
        return SETUP_TAKEN
    if name == "clamav" and label in {"2026-11-05", "2026-11-06"}:
        return TAKEN
    if name == "fapolicyd" and label == "strict-1":
        return DENIED
    if version == "1.2.0":
        return REFUSED
    if name == "clamav" and label == "2026-11-08" and version == "1.1.0" and cell.scenario.name == "fresh-install":
        return Story(silent=Folder.APPDATA)
    return WELL


class Maker:
    """Makes attempts: events and blobs as the engine records them, and the facts that ``judge`` would read."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.count = 0

    def tried(
        self,
        cell: Cell,
        told: Story,
        *,
        role: Role = Role.FIRST,
        ordinal: int = 1,
        controls: Sequence[Facts] = (),
        change: Callable[[Facts], Facts] = lambda facts: facts,
    ) -> Tried:
        self.count += 1
        facts = change(self._facts(cell, told, role=role, ordinal=ordinal))
        attempt = self._attempt(cell, told, facts)
        return Tried(attempt, facts, decide(facts, controls))

    def _facts(self, cell: Cell, told: Story, *, role: Role, ordinal: int) -> Facts:
        kinds = [step.kind for step in cell.scenario.steps]
        ends = kinds.index(told.fails) if told.fails is not None else len(kinds)
        steps = [
            StepSeen(index=i, kind=kind, status=StepStatus.PASSED, seq=3 + 5 * i, duration_s=_TIMES.get(kind, 1.0))
            for i, kind in enumerate(kinds[:ends])
        ]
        if told.fails is not None:
            steps.append(
                StepSeen(
                    index=ends,
                    kind=told.fails,
                    status=StepStatus.FAILED,
                    seq=3 + 5 * ends,
                    expectation=told.expectation,
                    code=told.code,
                    timed_out=told.timed_out,
                    duration_s=8.21,
                    detail=told.detail,
                    dialog=told.dialog,
                )
            )
        controlled = cell.is_control
        acts = told.acted is not None and not controlled
        installed = ends > 1
        return Facts(
            attempt_id=f"a{self.count:04d}-{digest(cell.id)[:6]}",
            cell=cell,
            role=role,
            ordinal=ordinal,
            complete=True,
            started_order=float(self.count),
            steps=tuple(steps),
            detections=(self._detection(cell, told, kinds),) if acts else (),
            canaries=() if controlled else _canaries(told, installed=installed),
            samples=() if controlled else _samples(cell, told, len(steps)),
            troubles=(Trouble(seq=4, step=1, summary=told.trouble),) if told.trouble is not None else (),
            exclusions=()
            if controlled or cell.product.name != "clamav"
            else (ExclusionSeen(path="C:\\windows", declared=True, covers_tested=False),),
            files=tuple(
                FileSeen(path=name, size_bytes=4096, sha256=digest(name))
                for name in ("DemoHTS.exe", "hts_comm.dll", "hts_core.dll", "hts_core_extra.dll", "hts_update.exe")
                if controlled or name != told.missing
            )
            if installed
            else (),
            observed_s=sum(step.duration_s for step in steps),
        )

    def _detection(self, cell: Cell, told: Story, kinds: list[str]) -> AttributedDetection:
        step = kinds.index(told.at)
        folder = "C:\\users\\trader\\Downloads" if told.component is Component.SETUP else cell.build.install_dir
        windows = f"{folder}\\{told.target}"
        assert told.acted is not None
        return AttributedDetection(
            detection=Detection(
                seq=4 + 3 * step,
                step=step,
                threat=told.threat,
                action=told.acted,
                target=IMAGE.guest_path(windows),
                mechanism=told.mechanism,
                sha256=digest(told.target),
                at="Tue Nov 24 15:00:41 2026",
                accessed_by="/usr/lib/wine/wineserver64",
            ),
            owner=Owner.BUILD,
            stage=told.at,
            windows=windows,
            component=told.component,
            after_s=0.342,
        )

    def _attempt(self, cell: Cell, told: Story, facts: Facts) -> Attempt:
        began = BEGAN + timedelta(seconds=20 * self.count)
        events: list[Event] = []
        clock = 0.0

        def add(kind: Kind, subject: str = "", *, step: int | None = None, **more: object) -> None:
            raw = more.pop("raw", None)
            blob = self.keep(raw) if isinstance(raw, bytes) else None
            seq = len(events)
            event = {"seq": seq, "host_mono_s": clock, "step": step, "kind": kind, "subject": subject, "blob": blob}
            events.append(Event.model_validate(event | more))

        said: dict[str, JsonValue] = {"version": "1.4.6", "components": {"engine": "1.4.6"}}
        if cell.product.name == "fapolicyd":
            said = {"version": "1.1.7", "components": {"engine": "1.1.7", "policy": cell.product.schedule[-1].label}}
        add(Kind.BEGIN)
        if not cell.is_control:
            add(Kind.PRODUCT, cell.product.name, source=f"product:{cell.product.name}", data=said)
        for step in facts.steps:
            clock += 0.4
            add(Kind.STEP_BEGIN, step.kind, step=step.index)
            clock += step.duration_s
            failed = step.status is StepStatus.FAILED
            add(Kind.STEP_END, step.kind, step=step.index, data={"status": step.status.value})
            if not cell.is_control:
                raw = _log(cell, told, step)
                add(Kind.LOG, _LOGS[cell.product.name], step=step.index, source=f"product:{cell.product.name}", raw=raw)
            if step.kind == "connect" or failed:
                shot = png(dialog=step.dialog is not None, shade=len(cell.build.version) % 40)
                add(Kind.SCREENSHOT, f"{'failure' if failed else 'end'} of {step.kind}", step=step.index, raw=shot)
        last = len(cell.scenario.steps)
        add(Kind.INSPECTION, "files", step=last, raw=json.dumps([f.path for f in facts.files or ()]).encode())
        hts = "2026-11-24 15:00:41 접속 시작\r\n2026-11-24 15:00:42 hts_comm.dll 로드\r\n".encode("cp949")
        add(Kind.LOG, "hts.log", step=last, raw=hts)
        add(Kind.END)
        meta = AttemptMeta(
            id=facts.attempt_id,
            cell=cell,
            role=facts.role,
            ordinal=facts.ordinal,
            nonce="n" + digest(facts.attempt_id)[:11],
            provider="docker",
            tool_version="0.1.0",
            started_at=began,
            finished_at=began + timedelta(seconds=clock),
        )
        return Attempt(meta=meta, events=tuple(events), blobs=MemoryBlobs(self.blobs))

    def keep(self, raw: bytes) -> str:
        sha256 = hashlib.sha256(raw).hexdigest()
        self.blobs[sha256] = raw
        return sha256


_TIMES = {"deliver": 0.31, "install": 0.92, "verify_files": 0.05, "launch": 1.84, "self_update": 1.12, "dwell": 5.01}
_LOGS = {"clamav": "clamd.log", "fapolicyd": "fapolicyd.log"}


def _log(cell: Cell, told: Story, step: StepSeen) -> bytes:
    path = f"/home/trader/.wine/drive_c/Program Files/DemoHTS/{told.target}"
    if told.acted is None or told.at != step.kind:
        return f"Tue Nov 24 15:00:{step.index:02d} 2026 -> SelfCheck: Database status OK.\n".encode()
    if cell.product.name == "fapolicyd":
        return f"rule=3 dec=deny_log perm=open auid=-1 pid=412 exe=/usr/lib/wine/wineserver64 : path={path}\n".encode()
    found = f"Tue Nov 24 15:00:41 2026 -> {path}: {told.threat}.UNOFFICIAL(7b5e...:40960) FOUND\n"
    return f"{found}\x1b[31m{path}: moved to '/run/hts-compat/clamav/q/{told.target}'\x1b[0m\n".encode(
        "utf-8", "replace"
    )


def _canaries(told: Story, *, installed: bool) -> tuple[CanarySeen, ...]:
    folders: list[Folder] = [f for f in Folder if f is not Folder.INSTALL]
    planned: list[tuple[When, Folder]] = [(When.BEFORE, f) for f in folders]
    if installed:
        planned.append((When.STEP, Folder.INSTALL))
    planned += [(When.AFTER, f) for f in ([*folders, Folder.INSTALL] if installed else folders)]
    return tuple(
        CanarySeen(
            seq=100 + i,
            layer=Layer.FILE,
            folder=folder,
            when=when,
            reacted=not (when is When.AFTER and folder is told.silent),
            after_s=0.031,
            why_not="the product recorded nothing" if when is When.AFTER and folder is told.silent else "",
        )
        for i, (when, folder) in enumerate(planned)
    )


def _samples(cell: Cell, told: Story, ran: int) -> tuple[SampleSeen, ...]:
    schedule = cell.product.schedule
    labels = [schedule[0].label, *(cell.scheduled(i, after=True).label for i in range(ran))]
    if told.drift is not None:
        labels[-1] = told.drift
    return tuple(SampleSeen(seq=200 + i, border=i - 1, active=True, label=label) for i, label in enumerate(labels))


def plan(lab: Lab = Lab.REFERENCE) -> Plan:
    clamav = [product("clamav", f"2026-11-0{day}") for day in (4, 5, 6, 8)]
    incident = [product("clamav", "2026-11-04", label) for label in ("2026-11-05", "2026-11-08")]
    rules = [product("fapolicyd", label) for label in ("baseline", "strict-1")]
    strict = [product("clamav", "2026-11-08", profile="strict")]
    reason = "1.2.0 was never released, so no vendor update can meet it in the field."
    return expand(
        Suite(
            name="full",
            lab=lab,
            builds=tuple(build(v) for v in ("1.0.0", "1.1.0", "1.2.0")),
            images=(IMAGE.model_copy(update={"lab": lab}),),
            products=(NO_PRODUCT, *clamav, *strict, *rules, *incident),
            scenarios=(scenario("released-then-updated"), scenario("fresh-install")),
            leave_out=(LeftOut(build="1.2.0", scenario="released-then-updated", reason=reason),),
        )
    )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A cell with its verdict and everything that it was made from."""

    cell: Cell
    verdict: Verdict
    attempts: tuple[Tried, ...]
    controls: tuple[Tried, ...]

    @property
    def judgement(self) -> Judgement:
        v = self.verdict
        return Judgement(
            outcome=v.outcome,
            rule=v.rule,
            reason=v.reason,
            stage=v.stage,
            blame=v.blame,
            mechanism=v.mechanism,
            flaky=v.flaky,
            confirmed=v.confirmed,
            decided_by=v.decided_by,
            attempts=tuple(t.facts.attempt_id for t in self.attempts),
            controls=tuple(t.facts.attempt_id for t in self.controls),
            rules_version=RULES_VERSION,
            parser_version=1,
            judged_at=BEGAN,
            cell=cell_of(
                self.cell, v, attempts=self.attempts, controls=() if self.cell.is_control else self.controls
            ).to_value(),
        )

    @property
    def evidence(self) -> CellEvidence:
        return evidence_of(self.cell, self.verdict, self.attempts, () if self.cell.is_control else self.controls)


def judge(maker: Maker, cell: Cell, told: Story, controls: tuple[Tried, ...]) -> Judged:
    facts = [t.facts for t in controls]
    stages = [step.kind for step in cell.scenario.steps]
    if cell.is_control:
        attempts = controls
    else:
        again = told.acted in {Action.QUARANTINED, Action.DENIED} or told is CHANGED
        roles = (Role.FIRST, Role.CONFIRM) if again else (Role.FIRST,)
        attempts = tuple(maker.tried(cell, told, role=role, controls=facts) for role in roles)
    return Judged(
        cell=cell, verdict=settle([t.finding for t in attempts], stages=stages), attempts=attempts, controls=controls
    )


def control_runs(maker: Maker, cell: Cell) -> tuple[Tried, ...]:
    """Give the control of a cell and the fresh control after it, each judged beside the other."""
    told = story(cell.control())
    pair = [maker.tried(cell.control(), told, role=r) for r in (Role.CONTROL, Role.CONTROL_AFTER)]
    facts = [t.facts for t in pair]
    return tuple(Tried(t.attempt, t.facts, decide(t.facts, facts)) for t in pair)


@cache
def judged_run() -> tuple[Plan, tuple[Judged, ...]]:
    """Judge every cell of the sample run but one, which was never finished."""
    planned, maker = plan(), Maker()
    controls: dict[str, tuple[Tried, ...]] = {}
    judged = []
    for cell in planned.cells:
        unfinished = cell.product.profile == "strict" and cell.build.version == "1.2.0"
        if cell.unsupported is not None or unfinished:
            continue
        key = cell.control().id
        if key not in controls:
            controls[key] = control_runs(maker, cell)
        judged.append(judge(maker, cell, story(cell), controls[key]))
    return planned, tuple(judged)


def run_info(lab: Lab = Lab.REFERENCE, cells: int = 0) -> MatrixRun:
    return MatrixRun(
        id="20261124-0600-full",
        started_at=BEGAN,
        finished_at=BEGAN + timedelta(minutes=11, seconds=42),
        suite="full",
        tool_version="0.1.0",
        lab=lab,
        expected_cells=cells,
        provider="docker",
        state="complete",
    )


@cache
def sample_report() -> Report:
    planned, judged = judged_run()
    matrix = matrix_of(run_info(cells=len(planned.cells)), planned, {j.cell.id: j.judgement for j in judged})
    return Report(matrix=matrix, evidence={j.cell.id: j.evidence for j in judged})


def judged_cell(name: str) -> Judged:
    """Find a judged cell of the sample run by its id."""
    return next(j for j in judged_run()[1] if j.cell.id == name)


def hostile_report() -> Report:
    """A run in which the build, the detection, the dialog, the log and the control all try to act."""
    maker = Maker()
    evil = build("1.0.0").model_copy(update={"name": HOSTILE, "version": HOSTILE[:40] + "V" * 4096})
    chosen = product("clamav", "2026-11-05")
    cell = Cell(build=evil, image=IMAGE, product=chosen, scenario=scenario("fresh-install"))
    told = replace(
        TAKEN, threat=HOSTILE, target=HOSTILE.replace("/", "_") + "N" * 4096, detail=HOSTILE, dialog=HOSTILE + DIALOG
    )
    judged = judge(maker, cell, told, control_runs(maker, cell))
    suite = plan().suite.model_copy(update={"builds": (evil,), "products": (chosen,)})
    matrix = matrix_of(
        run_info(cells=1).model_copy(update={"suite": HOSTILE}),
        Plan(suite=suite, cells=(cell,)),
        {cell.id: judged.judgement},
    )
    return Report(matrix=matrix, evidence={cell.id: judged.evidence})
