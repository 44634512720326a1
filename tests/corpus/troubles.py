"""What can be wrong with an attempt: each trouble makes another attempt out of a recorded one, as if it had happened.

Nothing is taken from what the tool says of an attempt: events and raw bytes are changed, and the log's offsets are laid
out anew, as the guest would have told them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from harness.attempt import Attempt, Event, Kind, Role
from harness.machine import Machine
from harness.observation import Action
from harness.products.fake_log import line_of

Trouble = Callable[[Attempt], Attempt]
Wanted = Callable[[Event], bool]

MODULE, MAIN, LOG = "hts_comm.dll", "DemoHTS.exe", "logs\\hts.log"
ELSEWHERE = "/usr/lib/wine/stranger.so"
#: The beginning of a program for i386. Source: Microsoft, "PE Format", MS-DOS Stub and COFF File Header.
HEADER_OF_32_BITS = (
    b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + (0x14C).to_bytes(2, "little") + bytes(99)
)
GARBAGE = b"\xff\xfe no JSON"


def rebuilt(attempt: Attempt, events: list[Event], blobs: Mapping[str, bytes], *, offsets: bool = True) -> Attempt:
    """Number events anew, and lay the pieces of each log out one behind the other."""
    every = Layered(blobs, attempt)
    ends: dict[str, int] = {}
    numbered = []
    for seq, event in enumerate(events):
        changes: dict[str, Any] = {"seq": seq}
        if event.kind is Kind.LOG and offsets and event.blob is not None and not event.data.get("reset"):
            offset = ends.get(event.subject, 0)
            ends[event.subject] = offset + len(every.get(event.blob))
            changes["data"] = {**event.data, "offset": offset}
        numbered.append(event.model_copy(update=changes))
    return replace(attempt, events=tuple(numbered), blobs=every)


class Layered:
    """New blobs over those of the attempt that was changed."""

    def __init__(self, new: Mapping[str, bytes], under: Attempt) -> None:
        self._new, self._under = dict(new), under.blobs

    def get(self, sha256: str) -> bytes:
        return self._new[sha256] if sha256 in self._new else self._under.get(sha256)


def changed(attempt: Attempt, wanted: Wanted, content: Callable[[bytes], bytes], **more: Any) -> Attempt:
    """Change the bytes of the events that are wanted (all of them), and nothing else but ``more`` of their fields."""
    blobs: dict[str, bytes] = {}
    events = []
    hit = 0
    for event in attempt.events:
        if wanted(event):
            hit += 1
            new = content(attempt.blobs.get(event.blob)) if event.blob is not None else b""
            name = hashlib.sha256(new).hexdigest()
            blobs[name] = new
            events.append(event.model_copy(update={"blob": name, **more}))
        else:
            events.append(event)
    assert hit, "the trouble found nothing to change"
    return rebuilt(attempt, events, blobs)


def without(attempt: Attempt, unwanted: Wanted) -> Attempt:
    """Leave events out."""
    kept = [event for event in attempt.events if not unwanted(event)]
    assert len(kept) < len(attempt.events), "the trouble found nothing to leave out"
    return rebuilt(attempt, kept, {})


def marked(attempt: Attempt, wanted: Wanted, **changes: Any) -> Attempt:
    """Change fields of events, offsets of logs among them."""
    events = [event.model_copy(update=changes) if wanted(event) else event for event in attempt.events]
    assert events != list(attempt.events), "the trouble found nothing to change"
    return rebuilt(attempt, events, {}, offsets=False)


# --- which events -----------------------------------------------------------------------------------------------------


def of(kind: Kind, subject: str | None = None, **data: Any) -> Wanted:
    """Want the events of a kind, by subject (its end) and by their data."""

    def wanted(event: Event) -> bool:
        fits = event.kind is kind and (subject is None or event.subject.endswith(subject))
        return fits and all(event.data.get(key) == value for key, value in data.items())

    return wanted


def sample_at(border: int) -> Wanted:
    return of(Kind.SAMPLE, border=border)


def canary_at(when: str) -> Wanted:
    return of(Kind.CANARY, when=when)


def log_of(attempt: Attempt) -> str:
    """Name the log in which a product says what it found."""
    logs = {"clamav": "clamd.log", "fapolicyd": "decisions.log", "fake": "fake.log", "guard": "guard.log"}
    return logs[attempt.cell.product.name]


# --- the end, and the guest -------------------------------------------------------------------------------------------


def unfinished(attempt: Attempt) -> Attempt:
    return without(attempt, of(Kind.END))


def lost(step: int | None, *, crashed: bool) -> Trouble:
    """The guest is gone during a step (None: before the first)."""

    def trouble(attempt: Attempt) -> Attempt:
        at = -1 if step is None else step
        kept = [e for e in attempt.events if _place(e) < at or (_place(e) == at and e.kind is Kind.STEP_BEGIN)]
        kept = kept or [attempt.events[0]]
        last = kept[-1]
        gone = Event(
            seq=0,
            host_mono_s=last.host_mono_s + 1,
            step=step,
            kind=Kind.TROUBLE,
            subject="The guest is gone.",
            data={"retryable": True, "guest_crashed": crashed},
        )
        return rebuilt(attempt, [*kept, gone], {})

    return trouble


def _place(event: Event) -> int:
    return -1 if event.step is None else event.step


# --- proof of life ----------------------------------------------------------------------------------------------------


def answers(wanted: Wanted, item: int, **fields: Any) -> Trouble:
    """The guest answers otherwise about one planted object; ``item`` counts from 0, and from the end when negative."""

    def content(raw: bytes) -> bytes:
        value = json.loads(raw)
        value["items"][item].update(fields)
        return json.dumps(value).encode()

    return lambda attempt: changed(attempt, wanted, content)


def own_marker(border: int, **fields: Any) -> Trouble:
    """The guest answers otherwise about the marker of the set that is loaded."""
    return lambda attempt: answers(sample_at(border), _refused_item(attempt, border), **fields)(attempt)


def other_marker(border: int, **fields: Any) -> Trouble:
    """The guest answers otherwise about a marker of another set."""

    def trouble(attempt: Attempt) -> Attempt:
        count = len(_items(attempt, border))
        own = _refused_item(attempt, border)
        return answers(sample_at(border), next(n for n in range(count) if n != own), **fields)(attempt)

    return trouble


def _items(attempt: Attempt, border: int) -> list[dict[str, Any]]:
    event = next(e for e in attempt.events if sample_at(border)(e))
    items: list[dict[str, Any]] = json.loads(attempt.blobs.get(event.blob or ""))["items"]
    return items


def _refused_item(attempt: Attempt, border: int) -> int:
    return next(n for n, i in enumerate(_items(attempt, border)) if 1 in {i["open_errno"], i.get("exec_errno")})


def nonsense(wanted: Wanted) -> Trouble:
    return lambda attempt: changed(attempt, wanted, lambda _raw: GARBAGE)


def opened(attempt: Attempt) -> dict[str, Any]:
    """What the guest answers when nobody minds an object, whichever layer the product's canary tries."""
    ran = {"exec_errno": 0} if attempt.cell.product.name == "fapolicyd" else {}
    return {"open_errno": 0, "bytes_read": 68, **ran}


def minded_by_nobody(when: str, item: int = 0) -> Trouble:
    return lambda attempt: answers(canary_at(when), item, **opened(attempt))(attempt)


def marker_minded_by_nobody(border: int) -> Trouble:
    return lambda attempt: own_marker(border, **opened(attempt))(attempt)


def unrecorded(wanted: Wanted, item: int = 0) -> Trouble:
    """The object was refused, and the product wrote nothing about it."""

    def trouble(attempt: Attempt) -> Attempt:
        event = next(e for e in attempt.events if wanted(e))
        items = event.data["items"]
        assert isinstance(items, list)
        at = item if event.kind is Kind.CANARY else _refused_item(attempt, int(str(event.data["border"])))
        place = items[at]
        assert isinstance(place, dict)
        name = str(place["path"]).rpartition("/")[2].encode()
        return changed(
            attempt,
            of(Kind.LOG),
            lambda raw: b"".join(line for line in raw.splitlines(keepends=True) if name not in line),
        )

    return trouble


# --- what the product wrote -------------------------------------------------------------------------------------------


def wrote(step: int | None, line: Callable[[Attempt], Mapping[str, bytes]]) -> Trouble:
    """The product's logs hold more lines: in front of what was read at the border behind a step."""

    def trouble(attempt: Attempt) -> Attempt:
        done = attempt
        for name, text in line(attempt).items():
            pieces = [e for e in done.events if of(Kind.LOG, name)(e) and e.step == step]
            if pieces:
                done = changed(done, lambda e, seq=pieces[0].seq: e.seq == seq, lambda raw, text=text: text + raw)  # type: ignore[misc]  # bound early
                continue
            # The last look's own piece: nothing had been written when this attempt was made.
            at = next(n for n, e in enumerate(done.events) if e.kind is Kind.END)
            path = next(e.subject for e in done.events if of(Kind.LOG, name)(e))
            sha256 = hashlib.sha256(text).hexdigest()
            event = Event(
                seq=0,
                host_mono_s=done.events[at].host_mono_s,
                step=step,
                source=f"product:{done.cell.product.name}",
                kind=Kind.LOG,
                subject=path,
                data={"offset": 0, "reset": False, "error": None},
                blob=sha256,
            )
            done = rebuilt(done, [*done.events[:at], event, *done.events[at:]], {sha256: text})
        return done

    return trouble


def act(action: Action, file: str = MODULE, *, path: str | None = None, pid: int = 9999) -> Any:
    """Write what each product writes when it acts on a file of the build, or on another path."""

    def line(attempt: Attempt) -> Mapping[str, bytes]:
        build = attempt.cell.build
        target = path or attempt.cell.image.guest_path(build.installed_path(file))
        match attempt.cell.product.name:
            case "clamav":
                found = f"Thu Nov 26 00:30:00 2026 -> {target}: Win.Trojan.Test.UNOFFICIAL({'0' * 32}:9) FOUND\n"
                moved = f"{target}: moved to '/run/hts-compat/clamav/quarantine/x'\n"
                took = {"clamonacc.log": moved.encode()} if action is Action.QUARANTINED else {}
                return {"clamd.log": found.encode(), **took}
            case "fapolicyd":
                return {
                    "decisions.log": f"rule=1 dec=deny_log perm=open auid=-1 pid={pid} exe=/usr/lib/wine/wine64 :"
                    f" path={target} ftype=application/x-sharedlib trust=0\n".encode()
                }
            case "guard":
                record = {"action": str(action), "threat": "Test.Trojan", "path": target, "pid": pid, "mono_s": 1.0}
                return {"guard.log": json.dumps(record).encode() + b"\n"}
            case _:
                return {"fake.log": line_of(action, "Test.Trojan", "0" * 64, target)}

    return line


def recorded(
    action: Action, step: int | None, file: str = MODULE, *, path: str | None = None, pid: int = 9999
) -> Trouble:
    return wrote(step, act(action, file, path=path, pid=pid))


def log_line(text: str, *, step: int = 6, log: str | None = None) -> Trouble:
    """A line more in the product's log, whatever it says; ``{module}`` and the like stand for this attempt's own."""
    return wrote(step, lambda attempt: {log or log_of(attempt): text.format_map(own(attempt)).encode()})


def own(attempt: Attempt) -> dict[str, str]:
    """Give what an attempt's files and processes are called in the guest."""
    cell = attempt.cell
    module = next(f for f in cell.build.files if f.path == MODULE)
    looked = next(e for e in attempt.events if of(Kind.LOOK, "processes")(e))
    processes = json.loads(attempt.blobs.get(looked.blob or ""))["processes"]["items"]
    return {
        "module": _installed(attempt, MODULE),
        "module_md5": module.md5 or "",
        "install": cell.image.guest_path(cell.build.install_dir),
        "drive": cell.image.drives["C"],
        "setup": cell.build.installer.file_name,
        "program_pid": next(str(p["pid"]) for p in processes if p["run"] == "launch"),
    }


def last_piece(attempt: Attempt) -> Wanted:
    seq = max(e.seq for e in attempt.events if of(Kind.LOG, log_of(attempt))(e))
    return lambda event: event.seq == seq


def last_piece_is(**changes: Any) -> Trouble:
    """Something is said of the last piece of the product's log: it was cut, or could not be read."""
    return lambda attempt: marked(attempt, last_piece(attempt), **changes)


def last_piece_says(**data: Any) -> Trouble:
    def trouble(attempt: Attempt) -> Attempt:
        piece = next(e for e in attempt.events if last_piece(attempt)(e))
        return marked(attempt, last_piece(attempt), data={**piece.data, **data})

    return trouble


# --- steps ------------------------------------------------------------------------------------------------------------


def failed(
    step: int,
    *,
    expectation: str = "window",
    code: int | None = None,
    timed_out: bool = False,
    times: float | None = None,
    alone: bool = False,
) -> Trouble:
    """A step fails, after so many times its time; of what comes behind it only the last proofs and the last look do."""

    def trouble(attempt: Attempt) -> Attempt:
        last = len(attempt.cell.scenario.steps)
        after = next((e.seq for e in attempt.events if canary_at("after")(e)), last_look(attempt))
        planted = max((e.seq for e in attempt.events if e.kind is Kind.PLANTED and e.seq < after), default=after)
        events = []
        for event in attempt.events:
            if event.seq >= min(planted, after):
                events.append(event if event.step == last else event.model_copy(update={"step": step}))
            elif _place(event) <= step:
                events.append(event)
        end = next(n for n, e in enumerate(events) if e.kind is Kind.STEP_END and e.step == step)
        begin = next(e for e in events if e.kind is Kind.STEP_BEGIN and e.step == step)
        data = {
            "passed": False,
            "expectation": expectation,
            "code": code,
            "timed_out": timed_out,
            "detail": "It failed.",
        }
        took_s = (events[end].host_mono_s - begin.host_mono_s) * (times or 1.0)
        took = {"host_mono_s": begin.host_mono_s + took_s}
        events[end] = events[end].model_copy(update={"data": {**events[end].data, **data}, **took})
        made = rebuilt(attempt, events, {})
        return replace(made, meta=made.meta.model_copy(update={"alone": alone}))

    return trouble


def not_run_here(step: int) -> Trouble:
    """The launched program does not start; its header says 32 bits, which its installer did not, and the image 64."""

    def trouble(attempt: Attempt) -> Attempt:
        assert attempt.cell.image.machines == (Machine.X64,), "the image does not say what it runs"
        head = base64.b64encode(HEADER_OF_32_BITS).decode("ascii")
        return file_is(MAIN, head_b64=head)(failed(step, expectation="started", code=193)(attempt))

    return trouble


def last_look(attempt: Attempt) -> int:
    """Give the number of the event with which the last look begins."""
    last = len(attempt.cell.scenario.steps)
    return next(e.seq for e in attempt.events if e.step == last)


def slow(step: int, seconds: float) -> Trouble:
    """A step takes longer, and all that comes behind it comes later."""

    def trouble(attempt: Attempt) -> Attempt:
        end = next(e.seq for e in attempt.events if e.kind is Kind.STEP_END and e.step == step)
        events = [
            e.model_copy(update={"host_mono_s": e.host_mono_s + seconds}) if e.seq >= end else e for e in attempt.events
        ]
        return rebuilt(attempt, events, {})

    return trouble


def never_ran(step: int) -> Trouble:
    """A step and all behind it never ran, and nobody says why."""

    def unwanted(event: Event) -> bool:
        return event.kind in {Kind.STEP_BEGIN, Kind.STEP_END} and _place(event) >= step

    def trouble(attempt: Attempt) -> Attempt:
        behind = range(step, len(attempt.cell.scenario.steps))
        return without(attempt, lambda e: unwanted(e) or (e.kind is Kind.SAMPLE and e.data["border"] in behind))

    return trouble


# --- the last look ----------------------------------------------------------------------------------------------------


def inspected(change: Callable[[list[dict[str, Any]], Attempt], list[dict[str, Any]]], *, cut: bool = False) -> Trouble:
    """Our last look finds other files."""

    def trouble(attempt: Attempt) -> Attempt:
        def content(raw: bytes) -> bytes:
            value = json.loads(raw)
            value["files"] = change(value["files"], attempt)
            value["truncated"] = cut
            return json.dumps(value).encode()

        return changed(attempt, of(Kind.INSPECTION), content)

    return trouble


def file_gone(name: str = MODULE) -> Trouble:
    return inspected(lambda files, attempt: [f for f in files if f["path"] != _installed(attempt, name)])


def file_is(name: str = MODULE, **fields: Any) -> Trouble:
    return inspected(
        lambda files, attempt: [{**f, **fields} if f["path"] == _installed(attempt, name) else f for f in files]
    )


def file_more(name: str) -> Trouble:
    return inspected(
        lambda files, attempt: [
            *files,
            {"path": _installed(attempt, name), "size": 1, "sha256": "e" * 64, "errno": None},
        ]
    )


def _installed(attempt: Attempt, name: str) -> str:
    return attempt.cell.image.guest_path(attempt.cell.build.installed_path(name))


def module_more(path: str) -> Trouble:
    """One module more is mapped into the program."""

    def content(raw: bytes) -> bytes:
        value = json.loads(raw)
        value["images"][0]["files"].append({"path": path, "deleted": False})
        return json.dumps(value).encode()

    return lambda attempt: changed(attempt, of(Kind.LOOK, "modules"), content)


def bytes_missing(wanted: Wanted) -> Trouble:
    """The bytes of an event are not there any more."""

    def trouble(attempt: Attempt) -> Attempt:
        return marked(attempt, wanted, blob="f" * 64)

    return trouble


def settings(text: str) -> Trouble:
    """The product's settings hold a line more when they are read back."""

    def trouble(attempt: Attempt) -> Attempt:
        more = text.format_map(own(attempt)).encode()
        return changed(attempt, of(Kind.PRODUCT, "settings"), lambda raw: raw + more)

    return trouble


# --- controls ---------------------------------------------------------------------------------------------------------


def renamed(attempt: Attempt, name: str, *, role: Role | None = None, later_s: float = 0.0) -> Attempt:
    """Give the same attempt under another name, in another role, made later."""
    moved = timedelta(seconds=later_s)
    meta = attempt.meta
    finished = meta.finished_at + moved if meta.finished_at is not None else None
    changes = {"id": name, "role": role or meta.role, "started_at": meta.started_at + moved, "finished_at": finished}
    return replace(attempt, meta=meta.model_copy(update=changes))
