"""Writes attempts as ``run_cell`` and the adapters write them: the raw answers of plant.py, observe.py and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from pydantic import JsonValue

from harness.attempt import LAUNCH_JOB, Attempt, AttemptMeta, Event, Kind, MemoryBlobs, Role
from harness.facts import Facts, When
from harness.image import Folder
from harness.judge import read
from harness.observation import Action, Detection, Layer, Mechanism, Observation, ProductParser
from harness.plan import Cell
from tests.builders import NOON, EventLog, make_cell

NONCE = "abcdef0123456789"
DRIVE = "/home/trader/.wine/drive_c"
DOWNLOADS = f"{DRIVE}/users/trader/Downloads"
EPERM, ENOENT, EACCES = 1, 2, 13

Answer = dict[str, JsonValue]


def refused(**changes: JsonValue) -> Answer:
    """What plant.py answers about a file that could not be opened while its control could."""
    return {
        "create_errno": 0,
        "write_errno": 0,
        "open_errno": EPERM,
        "exec_errno": None,
        "control_create_errno": 0,
        "control_open_errno": 0,
        "control_exec_errno": None,
        "bytes_read": 0,
        "finished": True,
        "elapsed_s": 0.25,
        **changes,
    }


def opened(**changes: JsonValue) -> Answer:
    """What plant.py answers about a file that nobody minded."""
    return refused(**{"open_errno": 0, "bytes_read": 68, **changes})


def items(*answers: Answer) -> bytes:
    """The answer of plant.py."""
    return json.dumps({"nonce": NONCE, "items": answers}).encode()


class Listed:
    """A parser that knows what it will find: for tests of what is made of it."""

    version = 1

    def __init__(self, observations: Sequence[Observation]) -> None:
        self.observations = observations

    def __call__(self, attempt: Attempt) -> Sequence[Observation]:
        return self.observations


def parsers(*observations: Observation) -> Callable[[str], ProductParser]:
    """Give the same parser for every product."""
    return lambda _name: Listed(observations)


def record(
    target: str,
    *,
    seq: int = 0,
    step: int | None = 3,
    threat: str | None = "Win.Trojan.Comm",
    action: Action = Action.DENIED,
    sha256: str | None = None,
    md5: str | None = None,
    pid: int | None = None,
    set_label: str | None = None,
) -> Detection:
    """What a product wrote about an object."""
    return Detection(
        seq=seq,
        step=step,
        threat=threat,
        action=action,
        target=target,
        mechanism=Mechanism.SIGNATURE,
        sha256=sha256,
        md5=md5,
        accessed_pid=pid,
        set_label=set_label,
    )


class Script:
    """One attempt while it is written; every method records one event and gives it."""

    def __init__(self, cell: Cell | None = None) -> None:
        self.cell = cell or make_cell()
        self.log = EventLog()
        self.log.add(Kind.BEGIN)

    def planted(self, *paths: str, controls: Sequence[str] = ()) -> Event:
        """Our own note of what we are about to plant."""
        pairs = zip(paths, [*controls, *[f"{p}.control" for p in paths[len(controls) :]]], strict=True)
        places: list[JsonValue] = [{"path": path, "control": beside} for path, beside in pairs]
        return self.log.add(Kind.PLANTED, items=places, source="product:clamav")

    def canary(
        self,
        raw: bytes | None,
        path: str = f"{DOWNLOADS}/hts-probe-1.com",
        *,
        folder: Folder = Folder.DOWNLOADS,
        when: When = When.BEFORE,
        layer: Layer = Layer.FILE,
    ) -> Event:
        """A canary, and how the guest reacted."""
        return self.log.add(
            Kind.CANARY,
            layer.value,
            raw=raw,
            when=when.value,
            layer=layer.value,
            items=[{"folder": folder.value, "path": path, "control": f"{path}.control"}],
        )

    def sample(self, raw: bytes | None, paths: Mapping[str, str], *, border: int = -1) -> Event:
        """The markers of some sets, by label, and how the guest reacted to each."""
        places: list[JsonValue] = [{"label": label, "path": path} for label, path in paths.items()]
        return self.log.add(Kind.SAMPLE, raw=raw, border=border, items=places)

    def step(self, index: int, *, passed: bool = True, **data: JsonValue) -> Event:
        """A step's beginning and end."""
        kind = self.cell.scenario.steps[index].kind
        self.log.add(Kind.STEP_BEGIN, kind, step=index)
        end: Answer = {"passed": passed, **data}
        return self.log.add(Kind.STEP_END, kind, step=index, **end)  # type: ignore[arg-type]  # no key of ours is in it

    def looked(self, subject: str, value: JsonValue, *, step: int | None = 3, **data: JsonValue) -> Event:
        """A look into the guest."""
        raw = json.dumps(value).encode()
        return self.log.add(Kind.LOOK, subject, step=step, raw=raw, **data)  # type: ignore[arg-type]  # see ``step``

    def processes(self, *pids: int, run: str = LAUNCH_JOB) -> Event:
        """A look at the processes that carry a job's mark, beside one that carries none."""
        listed: list[JsonValue] = [{"pid": pid, "run": run} for pid in pids]
        return self.looked("processes", {"processes": {"items": [*listed, {"pid": 1, "run": None}]}})

    def inspection(self, *files: Answer, truncated: bool = False) -> Event:
        """Our own last look at the installed files."""
        raw = json.dumps({"files": files, "truncated": truncated}).encode()
        return self.log.add(Kind.INSPECTION, "files", step=len(self.cell.scenario.steps), raw=raw)

    def attempt(
        self,
        *,
        complete: bool = True,
        id: str = "attempt-1",  # noqa: A002 - the field's own name
        role: Role = Role.FIRST,
        alone: bool = False,
    ) -> Attempt:
        """Close the book."""
        if complete:
            self.log.add(Kind.END)
        meta = AttemptMeta(
            id=id,
            cell=self.cell,
            role=role,
            ordinal=1,
            alone=alone,
            nonce=NONCE,
            provider="docker",
            tool_version="0.0.0",
            started_at=NOON,
        )
        return Attempt(meta=meta, events=tuple(self.log.events), blobs=MemoryBlobs(self.log.blobs))

    def facts(self, *observations: Observation, complete: bool = True, created: frozenset[str] = frozenset()) -> Facts:
        """Close the book and read it, with a parser that found these."""
        return read(self.attempt(complete=complete), parsers=parsers(*observations), created=created)
