"""Pure. attempt -> facts -> findings -> verdict. Parsers are handed in, so that packs may come from outside.

A target is the build's when its path lies where the build lives or was delivered, or its digest is one of the build's;
of two builds that live at one place, the digest tells whose it is, else which of them was there at that step. It is
ours when it is exactly a path that we planted; all else is unattributed. The paths that we planted come from our own
requests, never from a guest's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue, ValidationError

from harness import look
from harness.attempt import CONNECTIONS, LAUNCH_JOB, SAMPLED_BEHIND, Attempt, Event, Kind
from harness.build import Build, Component, fold, is_inside
from harness.egress_seen import EgressSeen
from harness.facts import (
    AttributedDetection,
    CanarySeen,
    Claim,
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
from harness.image import Folder
from harness.observation import Action, Detection, Exclusion, Layer, ProductParser, ScanFailure, Statement, Unread
from harness.plan import Cell
from harness.rules import decide
from harness.scenario import INSPECT
from harness.settle import settle
from harness.verdict import Finding, Verdict

Parsers = Callable[[str], ProductParser]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A cell's verdict with what it was computed from, in the order of the attempts."""

    verdict: Verdict
    facts: tuple[Facts, ...]
    findings: tuple[Finding, ...]
    controls: tuple[Facts, ...]
    control_findings: tuple[Finding, ...]


def judge(attempts: Sequence[Attempt], controls: Sequence[Attempt], *, parsers: Parsers, confirm: int = 2) -> Judged:
    """Give a cell's verdict from its attempts and its controls' attempts.

    Args:
        attempts: All attempts of the cell; for a control cell, of the control.
        controls: All attempts of its control; for a control cell the same as ``attempts``.
        parsers: Gives a product's parser by name.
        confirm: How many attempts a bad outcome needs (the suite's).

    Raises:
        ValueError: There is no attempt, or one is of another cell: a verdict about two questions answers neither.
    """
    if not attempts:
        msg = "a cell without attempts has no verdict"
        raise ValueError(msg)
    refuse_strangers(attempts, attempts[0].cell)
    refuse_strangers(controls, attempts[0].cell.control())
    control_facts = [read(control, parsers=parsers) for control in controls]
    created = created_in(control_facts)
    facts = [read(attempt, parsers=parsers, created=created) for attempt in attempts]
    findings = [decide(f, [c for c in control_facts if c.attempt_id != f.attempt_id]) for f in facts]
    stages = [step.kind for step in attempts[0].cell.scenario.steps]
    return Judged(
        verdict=settle(findings, stages=stages, confirm=confirm),
        facts=tuple(facts),
        findings=tuple(findings),
        controls=tuple(control_facts),
        control_findings=tuple(decide(c, [o for o in control_facts if o is not c]) for c in control_facts),
    )


def refuse_strangers(attempts: Sequence[Attempt], cell: Cell) -> None:
    """Hold a store, or whoever collected attempts, to its word that all of them are of one cell.

    Raises:
        ValueError: One is of another.
    """
    for attempt in attempts:
        if attempt.cell != cell and attempt.cell.execution_key() != cell.execution_key():
            msg = f"attempt '{attempt.meta.id}' is of cell '{attempt.cell.id}', and not of '{cell.id}'"
            raise ValueError(msg)


def created_in(controls: Sequence[Facts]) -> frozenset[str]:
    """Give the folded Windows paths of all files that passing controls left below the install folder."""
    return frozenset(fold(f.path) for c in controls if c.passed for f in c.files or ())


def read(attempt: Attempt, *, parsers: Parsers, created: frozenset[str] = frozenset()) -> Facts:
    """Read an attempt into facts. Never raises for what a guest or a product wrote; it says what is unread.

    Args:
        attempt: Complete or not.
        parsers: Gives the product's parser.
        created: Folded paths of files that the build creates without the product; they are the build's too.
    """
    cell = attempt.cell
    reading = _Reading(attempt)
    observations = parsers(cell.product.name)(attempt)
    detections = _without_echoes([o for o in observations if isinstance(o, Detection)], len(cell.scenario.steps))
    planted = reading.planted_paths()
    unread = [o.what for o in observations if isinstance(o, Unread)]
    steps = _steps(attempt)
    samples = _samples(reading, detections)
    canaries = _canaries(reading, detections)
    files, modules = _files(reading), _foreign_modules(reading)
    own_pids = _build_pids(reading)
    return Facts(
        attempt_id=attempt.meta.id,
        cell=cell,
        role=attempt.meta.role,
        ordinal=attempt.meta.ordinal,
        complete=attempt.complete,
        alone=attempt.meta.alone,
        started_order=attempt.meta.started_at.timestamp(),
        ended_order=attempt.meta.finished_at.timestamp() if attempt.meta.finished_at is not None else None,
        steps=steps,
        detections=tuple(
            _attribute(d, attempt, planted=planted, created=created, own_pids=own_pids) for d in detections
        ),
        canaries=canaries,
        samples=samples,
        troubles=tuple(
            Trouble(
                seq=e.seq,
                step=e.step,
                summary=e.subject,
                retryable=e.data.get("retryable") is True,
                guest_crashed=e.data.get("guest_crashed") is True,
            )
            for e in attempt.of(Kind.TROUBLE)
        ),
        unread=(*unread, *reading.unread, *_unfinished_scans(attempt), *_cut_looks(attempt), *_unseen_way_out(attempt)),
        scan_failures=tuple(f"{o.target} ({o.what})" for o in observations if isinstance(o, ScanFailure)),
        exclusions=_exclusions(attempt, [o.path for o in observations if isinstance(o, Exclusion)]),
        claims=tuple(
            Claim(seq=o.seq, border=-1 if o.step is None else o.step, label=o.set_label)
            for o in observations
            if isinstance(o, Statement)
        ),
        files=files,
        sampled_behind=any(e.data.get(SAMPLED_BEHIND) is True for e in attempt.of(Kind.INSPECTION)),
        foreign_modules=modules,
        observed_s=sum(float(_number(e.data.get("observed_s"))) for e in attempt.of(Kind.STEP_END)),
    )


class _Reading:
    """An attempt's blobs, and a list of what could not be read of them."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.unread: list[str] = []

    def blob(self, event: Event) -> bytes | None:
        """Give an event's bytes; what is missing, altered or cut is noted and None."""
        if event.blob is None or event.truncated:
            self.unread.append(f"event {event.seq} ({event.kind.value}) is cut or has no bytes")
            return None
        try:
            return self.attempt.blobs.get(event.blob)
        except (KeyError, ValueError):
            self.unread.append(f"the bytes of event {event.seq} ({event.kind.value}) are missing or altered")
            return None

    def planted_paths(self) -> frozenset[str]:
        """Give every path that we asked to be planted, controls included."""
        return frozenset(
            str(place[key])
            for event in self.attempt.of(Kind.PLANTED)
            for place in places(event)
            for key in ("path", "control")
            if key in place
        )


def places(event: Event) -> list[Mapping[str, JsonValue]]:
    """Give the places of planted objects, as the harness itself wrote them."""
    items = event.data.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _steps(attempt: Attempt) -> tuple[StepSeen, ...]:
    begun = {e.step: e for e in attempt.of(Kind.STEP_BEGIN)}
    seen = []
    for event in attempt.of(Kind.STEP_END):
        if event.step is None:
            continue
        data = event.data
        begin = begun.get(event.step)
        expectation, code, dialog = data.get("expectation"), data.get("code"), data.get("dialog")
        seen.append(
            StepSeen(
                index=event.step,
                kind=event.subject,
                status=StepStatus.PASSED if data.get("passed") is True else StepStatus.FAILED,
                seq=event.seq,
                expectation=expectation if isinstance(expectation, str) else None,
                code=code if isinstance(code, int) else None,
                timed_out=data.get("timed_out") is True,
                duration_s=round(event.host_mono_s - (begin.host_mono_s if begin else event.host_mono_s), 4),
                detail=str(data.get("detail") or ""),
                dialog=dialog if isinstance(dialog, str) else None,
            )
        )
    return tuple(seen)


def _cut_looks(attempt: Attempt) -> list[str]:
    """Name what was looked at and could not be kept whole; the part that is missing may be the one that matters."""
    return [f"event {e.seq} ({e.subject}) is cut" for e in attempt.of(Kind.LOOK) if e.truncated]


def _unseen_way_out(attempt: Attempt) -> list[str]:
    """Name a way out of which nobody knows what went through it, or whether it refused what is not open."""
    if attempt.cell.egress is None or not attempt.complete:
        return []
    seen = egress_seen(attempt)
    if seen is None:
        return ["what went through the guest's way out was not recorded"]
    return [] if seen.proven else ["the guest's way out was not proven to refuse, before and after"]


def egress_seen(attempt: Attempt) -> EgressSeen | None:
    """Give the sum of an attempt's connections out of its guest; None when none was recorded."""
    for event in attempt.of(Kind.EGRESS, subject=CONNECTIONS):
        try:
            return EgressSeen.model_validate(event.data)
        except ValidationError:
            return None
    return None


def _recorded(detections: Sequence[Detection]) -> dict[str, list[Detection]]:
    by_target: dict[str, list[Detection]] = {}
    for detection in detections:
        by_target.setdefault(detection.target, []).append(detection)
    return by_target


def _reactions(reading: _Reading, event: Event) -> list[tuple[Mapping[str, JsonValue], look.Planted | None, str]]:
    """Give each planted place with how the guest reacted, or None and why that cannot be read."""
    wanted = places(event)
    raw = reading.blob(event)
    if raw is None:
        return [(place, None, "the guest's answer is missing") for place in wanted]
    try:
        return [(place, seen, "") for place, seen in zip(wanted, look.planted(raw, len(wanted)), strict=True)]
    except look.LookError as error:
        reading.unread.append(f"event {event.seq}: {error}")
        return [(place, None, str(error)) for place in wanted]


def _refusal(seen: look.Planted, layer: Layer) -> str:
    """Say why a reaction proves nothing; empty when the object was refused and the control beside it was not.

    EPERM is 1 (errno(3)): what fanotify's FAN_DENY gives. Any other errno may be a missing file, which proves nothing.
    """
    if not seen.written:
        return "it could not be written"
    if not seen.finished:
        return "the guest did not answer in time"
    refused = seen.exec_errno == 1 if layer is Layer.EXECUTION else seen.open_errno == 1
    if not refused:
        return "it could be executed" if layer is Layer.EXECUTION and seen.exec_errno == 0 else "it was not refused"
    if seen.bytes_read:
        return "it could be read before it was refused"
    if seen.control_open_errno != 0:
        return "the clean control file beside it could not be opened either"
    if layer is Layer.EXECUTION and seen.control_exec_errno != 0:
        return "the clean control program beside it could not be run either"
    return ""


def _canaries(reading: _Reading, detections: Sequence[Detection]) -> tuple[CanarySeen, ...]:
    recorded = _recorded(detections)
    seen: list[CanarySeen] = []
    for event in reading.attempt.of(Kind.CANARY):
        layer, when = Layer(str(event.data["layer"])), When(str(event.data["when"]))
        for place, reaction, why in _reactions(reading, event):
            reason = why or (_refusal(reaction, layer) if reaction is not None else "")
            if not reason and str(place.get("path")) not in recorded:
                reason = "it was refused, but the product recorded nothing about it"
            seen.append(
                CanarySeen(
                    seq=event.seq,
                    layer=layer,
                    folder=Folder(str(place["folder"])),
                    when=when,
                    reacted=not reason,
                    after_s=reaction.elapsed_s if reaction is not None else None,
                    why_not=reason,
                )
            )
    return tuple(seen)


def _samples(reading: _Reading, detections: Sequence[Detection]) -> tuple[SampleSeen, ...]:
    recorded = _recorded(detections)
    samples: list[SampleSeen] = []
    for event in reading.attempt.of(Kind.SAMPLE):
        fired: list[str] = []
        reasons: list[str] = []
        for place, reaction, why in _reactions(reading, event):
            label = str(place.get("label"))
            if reaction is None:
                reasons.append(why)
                continue
            refused = reaction.open_errno == 1 or reaction.exec_errno == 1
            opened = reaction.open_errno == 0 and reaction.exec_errno in {0, None}
            if not reaction.written or not reaction.finished or not (refused or opened):
                reasons.append(f"the marker of {label} could not be tried")
                continue
            if not refused:
                continue
            if reaction.control_open_errno != 0 or reaction.control_exec_errno not in {0, None}:
                reasons.append("a clean control file could not be opened")
                continue
            records = recorded.get(str(place.get("path")), [])
            named = [d for d in records if d.set_label == label]
            if not named:
                reasons.append(f"the marker of {label} was refused, but not recorded under that name")
                continue
            fired.append(label)
        border = event.data.get("border")
        one = len(fired) == 1 and not reasons
        samples.append(
            SampleSeen(
                seq=event.seq,
                border=border if isinstance(border, int) else -1,
                active=bool(fired),
                label=fired[0] if one else None,
                why_not="; ".join(reasons)
                or ("no marker fired" if not fired else "several markers fired" if not one else ""),
            )
        )
    return tuple(samples)


def _without_echoes(detections: Sequence[Detection], last_look: int) -> list[Detection]:
    """Leave out what our own last look provoked again: a name for an object that a step recorded already.

    An act that is stronger than what was recorded before is news, and stays.
    """
    strength = {action: at for at, action in enumerate(Action)}
    seen: dict[tuple[str, str | None], int] = {}
    for d in detections:
        if d.step is not None and d.step < last_look:
            seen[d.target, d.threat] = max(seen.get((d.target, d.threat), 0), strength[d.action])
    return [d for d in detections if d.step != last_look or strength[d.action] > seen.get((d.target, d.threat), -1)]


def _attribute(
    detection: Detection,
    attempt: Attempt,
    *,
    planted: frozenset[str],
    created: frozenset[str],
    own_pids: frozenset[int],
) -> AttributedDetection:
    cell = attempt.cell
    windows = cell.image.windows_path(detection.target)
    build, component = _whose(detection, windows, cell)
    there = _builds_there(detection, cell)[0]
    if detection.target in planted:
        owner = Owner.PLANTED
    elif component is not None:
        owner = Owner.BUILD if build is cell.build else Owner.OLDER
    elif (windows is not None and fold(windows) in created) or detection.accessed_pid in own_pids:
        # Whatever it is, a process of the build wanted it, or made it.
        owner = Owner.BUILD if there is cell.build else Owner.OLDER
    else:
        owner = Owner.UNATTRIBUTED
    stages = [s.kind for s in cell.scenario.steps]
    at = 0 if detection.step is None else detection.step
    return AttributedDetection(
        detection=detection,
        owner=owner,
        stage=stages[at] if at < len(stages) else INSPECT,
        windows=windows,
        component=component,
        after_s=_after_s(detection, attempt),
    )


def _builds_there(detection: Detection, cell: Cell) -> tuple[Build, ...]:
    """Give the builds whose files may lie in the guest at a detection's step, likeliest first."""
    if cell.older is None or cell.scenario.updated_at is None:
        return (cell.build,)
    first = -1 if detection.step is None else detection.step
    return (cell.older, cell.build) if first < cell.scenario.updated_at else (cell.build, cell.older)


def _whose(detection: Detection, windows: str | None, cell: Cell) -> tuple[Build, Component | None]:
    """Say of which build an object is a part, and which part; the part is None when it is nobody's.

    The cell's own build comes first where both have the same bytes: what is said of them is said of it.
    """
    builds = _builds_there(detection, cell)
    known = [b for b in (cell.build, *builds) if _component_by_digest(detection, b) is not None]
    for build in known or builds:
        component = _component(detection, windows, build, cell)
        if component is not None:
            return (cell.build if _same_file(windows, build, cell.build) else build), component
    return builds[0], None


def _same_file(windows: str | None, one: Build, other: Build) -> bool:
    """Tell whether two builds put the same bytes at a path."""
    mine, theirs = (None, None) if windows is None else (one.file_at(windows), other.file_at(windows))
    return mine is not None and theirs is not None and mine.sha256 is not None and mine.sha256 == theirs.sha256


def _component_by_digest(detection: Detection, build: Build) -> Component | None:
    digests = {d for d in (detection.sha256, detection.md5) if d is not None}
    if digests & {build.installer.sha256, build.installer.md5}:
        return Component.SETUP
    for file in (*build.files, *build.patch):
        if digests & {d for d in (file.sha256, file.md5) if d is not None}:
            return file.component
    return None


def _component(detection: Detection, windows: str | None, build: Build, cell: Cell) -> Component | None:
    """Say which part of a build an object is, by path or by digest; None when it is no part of it."""
    if windows is not None:
        delivered = fold(windows).endswith("\\" + fold(build.installer.file_name))
        if delivered and any(is_inside(windows, folder) for folder in cell.image.folders.values()):
            return Component.SETUP
        file = build.file_at(windows)
        if file is not None:
            return file.component
    by_digest = _component_by_digest(detection, build)
    if by_digest is not None:
        return by_digest
    if windows is not None and is_inside(windows, build.install_dir):
        return Component.DATA
    return None


def _after_s(detection: Detection, attempt: Attempt) -> float | None:
    """Give the seconds from the step's beginning to the act.

    Where the product does not say when that was, to when its record was read: an upper bound, as stamps are coarse.
    """
    begun = next((e for e in attempt.of(Kind.STEP_BEGIN) if e.step == detection.step), None)
    found = next((e for e in attempt.events if e.seq == detection.seq), None)
    if begun is None or found is None:
        return None
    return round(max(found.host_mono_s - (detection.age_s or 0.0) - begun.host_mono_s, 0.0), 2)


def _exclusions(attempt: Attempt, read_back: Sequence[str]) -> tuple[ExclusionSeen, ...]:
    """Give the exclusions that the harness declared (as events), then those that only the product's settings name."""
    events = attempt.of(Kind.EXCLUSION)
    declared = {fold(_guest_path(e.subject, attempt.cell)) for e in events if e.data.get("declared") is True}
    paths = [e.subject for e in events]
    paths += [p for p in dict.fromkeys(read_back) if fold(p) not in {fold(_guest_path(x, attempt.cell)) for x in paths}]
    return tuple(
        ExclusionSeen(
            path=path,
            declared=fold(_guest_path(path, attempt.cell)) in declared,
            covers_tested=_covers_tested(_guest_path(path, attempt.cell), attempt.cell),
        )
        for path in paths
    )


def _covers_tested(excluded: str, cell: Cell) -> bool:
    """Tell whether an excluded guest path holds a tested folder, or lies in one.

    What lies beside the install folder in its parent (which may be a whole drive) is not tested.
    """
    folders = {**cell.image.folders, Folder.INSTALL: cell.build.install_dir}
    tested = {folder: cell.image.guest_path(path) for folder, path in folders.items()}
    holds = not fold(excluded) or any(is_inside(path, excluded) for path in tested.values())
    return holds or any(is_inside(excluded, p) for folder, p in tested.items() if folder is not Folder.INSTALL_PARENT)


def _guest_path(path: str, cell: Cell) -> str:
    return cell.image.guest_path(path) if path[1:2] == ":" and path[:1].upper() in cell.image.drives else path


def _files(reading: _Reading) -> tuple[FileSeen, ...] | None:
    cell = reading.attempt.cell
    inspections = reading.attempt.of(Kind.INSPECTION)
    if not inspections:
        return None
    raw = reading.blob(inspections[-1])
    if raw is None:
        return None
    try:
        found, cut = look.digests(raw)
    except look.LookError as error:
        reading.unread.append(f"event {inspections[-1].seq}: {error}")
        return None
    if cut:
        reading.unread.append("the list of installed files was cut")
    return tuple(
        FileSeen(path=windows, size_bytes=f.size_bytes, sha256=f.sha256, machine=f.machine)
        for f in found
        if (windows := cell.image.windows_path(f.path)) is not None
    )


#: Where an operating system's own modules lie: on Windows below its folder, under wine below its library folder.
_SYSTEM_ROOTS = (
    "/opt/hts-compat/",
    "/usr/",
    "/lib/",
    "/lib64/",
    "/memfd:",
    "/dev/",
    "/SYSV",
    "/run/user/",
)
_MODULE_ENDINGS = (".dll", ".exe", ".ocx", ".drv", ".sys")


def _foreign_modules(reading: _Reading) -> tuple[str, ...]:
    """Name the modules in the program's processes that are neither the system's nor in the install folder."""
    cell = reading.attempt.cell
    foreign: set[str] = set()
    for event in reading.attempt.of(Kind.LOOK, subject="modules"):
        raw = reading.blob(event)
        if raw is None:
            continue
        try:
            mapped = look.mapped_files(raw)
        except look.LookError as error:
            reading.unread.append(f"event {event.seq}: {error}")
            continue
        for path in mapped:
            windows = cell.image.windows_path(path)
            if path.startswith(_SYSTEM_ROOTS) or not path.casefold().endswith(_MODULE_ENDINGS):
                continue
            if windows is None:
                foreign.add(path)
            elif not is_inside(windows, cell.build.install_dir) and not is_inside(windows, "C:\\windows"):
                foreign.add(windows)
    return tuple(sorted(foreign))


def _unfinished_scans(attempt: Attempt) -> tuple[str, ...]:
    """Name the scans on demand that were asked for and did not come to an end: nothing clean follows from them."""
    scans = attempt.of(Kind.LOOK, subject="scan")
    return tuple(
        f"the scan on demand (event {e.seq}) did not finish, or the product has none"
        for e in scans
        if e.data.get("finished") is not True
    )


def _build_pids(reading: _Reading) -> frozenset[int]:
    """Give the processes that descend from the program's start, as far as a look at the processes showed them."""
    pids: set[int] = set()
    for event in reading.attempt.of(Kind.LOOK, subject="processes"):
        raw = reading.blob(event)
        if raw is None:
            continue
        try:
            pids.update(look.run_pids(raw, LAUNCH_JOB))
        except look.LookError as error:
            reading.unread.append(f"event {event.seq}: {error}")
    return frozenset(pids)


def _number(value: JsonValue) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
