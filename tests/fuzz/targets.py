"""Every reader of what a stranger or a guest wrote, with inputs for it and what must hold whatever they are.

A target's check raises when a promise is broken: another error than the declared one, two answers to one input, text
that acts. It knows nothing else about right answers; those are in the tests beside each reader.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from harness import look
from harness.attempt import Attempt, MemoryBlobs, from_jsonl, to_jsonl
from harness.build_file import build_from_file
from harness.egress import pair_in
from harness.errors import InputError
from harness.evidence import decode, evidence_of
from harness.image import Image
from harness.inspect_pe import NotAProgram, inspect_program
from harness.inspection.tool_lists import innoextract, msi_files, msi_properties, seven_zip
from harness.judge import judge
from harness.load import load_suite
from harness.matrix import MatrixRun
from harness.matrix_cell import matrix_of
from harness.plan import Cell
from harness.portable import NotPortable, manifest_of_zip
from harness.products import PARSERS, parser_of
from harness.renderers.api import RENDERERS, Report, renderer
from harness.renderers.explain import explain
from harness.rig import ROOT
from harness.stores.memory import MemoryStore
from harness.transports.frames import ProtocolError, ReplyReader
from harness.way_out.channels import Frame, FrameError, FrameKind, FrameReader, encode
from harness.way_out.proxy_request import BadRequest, read_request
from harness.written import tried, written
from harness.yaml_files import load_expectations, load_image_definition, load_policy, load_scenario, load_signature_sets
from tests.builders import NOON, make_plan, sha256_of
from tests.fake_lab import CLEAN, INCIDENT, SETUP_KNOWN, FakeLab, cell, parsers, scenario
from tests.fake_project import tiny_program
from tests.fuzz import ways
from tests.fuzz.mutation import TOKENS, Dice, json_object, mutated
from tests.fuzz.target import Target
from tests.products.test_parsers import CASES, attempt_of, events_of
from tests.renderers.sample_run import run_info
from tests.test_look import KEYS, READERS
from tests.zip_files import write_zip, zip_that_promises, zip_with_raw_name

# --- what a guest answers ---------------------------------------------------------------------------------------------


def _answer(dice: Dice, answers: Sequence[bytes]) -> bytes:
    return mutated(dice, answers) if dice.number(0, 7) else b"".join(dice.raw() for _ in range(dice.number(0, 7)))


def _answers(raw: bytes) -> None:
    for reader in READERS.values():
        with contextlib.suppress(look.LookError):
            reader(raw)


_PROXY_REQUESTS = [
    b"CONNECT a.kr:443 HTTP/1.1\r\nHost: a.kr:443\r\n\r\n",
    b"POST http://a.kr:80/x?y HTTP/1.1\r\nHost: a.kr\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
    b"GET http://[2606:4700::1]/ HTTP/1.0\r\n\r\n",
]


def _proxy_request(raw: bytes) -> None:
    try:
        request = read_request(raw)
    except BadRequest:
        return
    if request is None:
        return
    assert pair_in(request.pair.text) == request.pair
    assert raw[: request.size_bytes].endswith(b"\r\n\r\n")
    assert b"\n" not in request.head.replace(b"\r\n", b"")
    again = read_request(request.head.replace(b" /", b" http://" + request.pair.text.encode() + b"/", 1))
    assert request.tunnel or (again is not None and again.pair == request.pair), "the other side reads another host"


_WAY_OUT_FRAMES = [
    b"".join(
        map(encode, (Frame(1, FrameKind.OPEN, b"\0\1"), Frame(1, FrameKind.DATA, b"abc"), Frame(1, FrameKind.END)))
    ),
    encode(Frame(2, FrameKind.CREDIT, b"\0\0\1\0")) + encode(Frame(2, FrameKind.CLOSE)),
]


def _way_out_frames(raw: bytes) -> None:
    reader = FrameReader()
    with contextlib.suppress(FrameError):
        assert sum(len(frame.payload) for frame in reader.feed(raw)) <= len(raw)


def _frames(pieces: list[bytes]) -> None:
    reader = ReplyReader(cap=4096)
    for number, piece in enumerate(pieces, start=1):
        reader.feed(piece)
        try:
            reply = reader.next_reply(number)
        except ProtocolError:
            return
        if reply is not None:
            assert len(reply.result.stdout) + len(reply.result.stderr) <= 2 * 4096


_REPLY = (
    b'{"id": 1, "exit": 0, "signal": null, "timed_out": false, "errno": null, "duration_s": 0.1, "out": 3, "err": 0,'
    b' "out_cut": false, "err_cut": false}\nabc'
)


def _reply_pieces(dice: Dice) -> list[bytes]:
    return [mutated(dice, [_REPLY]) for _ in range(dice.number(1, 3))]


# --- what a product wrote --------------------------------------------------------------------------------------------


@cache
def _recorded() -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in CASES:
        found.setdefault(path.parent.name, []).append(yaml.safe_load(path.read_text(encoding="utf-8")))
    return found


def _log_pieces(product: str) -> Callable[[Dice], tuple[list[str], list[bytes]]]:
    events = [e for case in _recorded()[product] for e in case["events"] if "log" in e]
    names = sorted({e["log"] for e in events})
    raws = [bytes.fromhex(e["hex"]) if "hex" in e else e["text"].encode() for e in events]

    def pieces(dice: Dice) -> tuple[list[str], list[bytes]]:
        many = range(dice.number(1, 3))
        return [dice.pick(names) for _ in many], [mutated(dice, raws) for _ in many]

    return pieces


def _parser(product: str) -> Callable[[tuple[list[str], list[bytes]]], None]:
    parse = parser_of(product)

    def check(given: tuple[list[str], list[bytes]]) -> None:
        names, raws = given
        events = [{"log": n, "step": at, "hex": r.hex()} for at, (n, r) in enumerate(zip(names, raws, strict=True))]
        attempt = attempt_of(events_of({"events": events}))
        seen = list(parse(attempt))
        assert seen == list(parse(attempt))
        assert [o.seq for o in seen] == sorted(o.seq for o in seen)
        said = b"\n".join(raws)
        if any(b" FOUND\n" in r for r in raws) and product == "clamav":
            assert seen, said

    return check


# --- what a stranger wrote in YAML ------------------------------------------------------------------------------------


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="hts-fuzz-"))


def _yaml(pattern: str, load: Callable[[Path], object], name: str = "given.yaml") -> Target:
    seeds = [path.read_bytes() for path in sorted(ROOT.glob(pattern)) if not path.name.endswith(".expected.yaml")]
    if "expected" in pattern:
        seeds = [path.read_bytes() for path in sorted(ROOT.glob(pattern))]
    assert seeds, pattern

    def check(raw: bytes) -> None:
        path = _folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        try:
            load(path)
        except InputError as error:
            _speaks(error)

    kind = load.__name__.removeprefix("load_").removeprefix("_")
    return Target(name=f"yaml {kind}", inputs=partial(mutated, seeds=seeds), check=check, cost=20)


def _speaks(error: InputError) -> None:
    """One sentence, and nothing in it that acts."""
    for text in (error.summary, error.detail, error.hint):
        assert not any(ord(c) < 32 and c not in "\n\t" for c in text), text
    assert error.summary.strip()
    assert "\n" not in error.summary


def _suite(path: Path) -> object:
    images: Mapping[str, Image] = {"reference": cell().image}
    return load_suite(path, images=images, known_products=[*PARSERS])


# --- builds -----------------------------------------------------------------------------------------------------------


@cache
def _builds() -> list[bytes]:
    path = _folder() / "seed.zip"
    portable = write_zip(path, {"app/a.exe": tiny_program(), "app/b.dll": tiny_program(is_dll=True)}).read_bytes()
    return [
        tiny_program(),
        tiny_program(promised_bytes=5000),
        portable,
        zip_that_promises(2**31),
        zip_with_raw_name(b"../x.exe", tiny_program()),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    ]


def _build(raw: bytes) -> None:
    path = _folder() / "given.exe"
    path.write_bytes(raw)
    with contextlib.suppress(NotAProgram):
        inspect_program(path)
    with contextlib.suppress(NotPortable):
        for file in manifest_of_zip(path):
            assert ".." not in file.path.replace("/", "\\").split("\\"), file.path
            assert not file.path.startswith(("/", "\\")), file.path
    try:
        build_from_file(path, install_dir="C:\\X")
    except InputError as error:
        _speaks(error)


_LISTS = (b"Path = a.dll\nSize = 3\n", b"a\tb\ts72\n")


def _tool_lists(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    for reader in (seven_zip, innoextract, msi_files, msi_properties):
        reader(text)


# --- a whole attempt, from its bytes to the page ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seen:
    """An attempt of simulated guests, its control, and which of its events hold what the guest said."""

    attempt: Attempt
    control: Attempt
    asked: Cell
    said: tuple[int, ...]
    spoken: tuple[int, ...]


def _recorded_of(asked: Cell) -> _Seen:
    store = MemoryStore()
    FakeLab().run(make_plan(asked, asked.control()), store)
    attempt = store.attempts("run-1", asked)[0]
    events = list(enumerate(attempt.events))
    return _Seen(
        attempt=attempt,
        control=store.attempts("run-1", asked.control())[0],
        asked=asked,
        said=tuple(at for at, e in events if e.blob is not None),
        spoken=tuple(at for at, e in events if any(k in e.data for k in ("detail", "dialog", "version"))),
    )


@cache
def _seen() -> tuple[_Seen, ...]:
    """Record cells on simulated guests, once: the incident with every kind of step, and short ones that are cheap."""
    whole = scenario()
    short = whole.model_copy(
        update={"services": (), "steps": tuple(s for s in whole.steps if s.kind in {"install", "launch", "deliver"})}
    )
    return tuple(
        _recorded_of(asked)
        for asked in (cell(CLEAN, INCIDENT), *(cell(label, of=short) for label in (CLEAN, INCIDENT, SETUP_KNOWN)))
    )


#: Of so many inputs one is of the long cell.
_LONG_IN = 8


_NASTY = [token.decode("utf-8", "backslashreplace") for token in TOKENS] + ["\ud800", "N" * 5000]


def _hostile(dice: Dice) -> tuple[Attempt, _Seen]:
    """Give an attempt with some of its guest's bytes, and of the texts taken over from it, replaced."""
    long, *short = _seen()
    seen = long if dice.number(1, _LONG_IN) == 1 else dice.pick(short)
    attempt = seen.attempt
    blobs = {e.blob: attempt.blobs.get(e.blob) for e in attempt.events if e.blob is not None}
    events = list(attempt.events)
    for at in {dice.pick(seen.said) for _ in range(dice.number(1, 3))}:
        event = events[at]
        assert event.blob is not None
        old = blobs[event.blob]
        raw = mutated(dice, [old]) if dice.number(0, 1) else _other_leaf(dice, old)
        blobs[sha256_of(raw)] = raw
        events[at] = event.model_copy(update={"blob": sha256_of(raw)})
    for at in {dice.pick(seen.spoken) for _ in range(dice.number(0, 2))} if seen.spoken else ():
        data = {k: dice.pick(_NASTY) if isinstance(v, str) else v for k, v in events[at].data.items()}
        events[at] = events[at].model_copy(update={"data": data})
    return replace(attempt, events=tuple(events), blobs=MemoryBlobs(blobs)), seen


_LEAVES: tuple[Any, ...] = (None, True, False, -1, 0, 1, 2**63, 1e308, [], {}, *_NASTY)


def _other_leaf(dice: Dice, raw: bytes) -> bytes:
    """Replace one leaf of an answer; bytes that are no JSON stay as they are."""
    try:
        leaves = list(_leaves(json.loads(raw)))
    except ValueError:
        return raw
    if not leaves:
        return raw
    return _put(raw, dice.pick(leaves), dice.pick(_LEAVES) if dice.number(0, 2) else dice.text())


def _leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for at, inner in enumerate(value) for leaf in _leaves(inner, (*path, at))]
    return [path] if path else []


def _put(raw: bytes, path: tuple[str | int, ...], value: object) -> bytes:
    whole = json.loads(raw)
    at = whole
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(whole).encode()


def _whole(given: tuple[Attempt, _Seen]) -> None:
    """Judge it, and look at every face of the result."""
    attempt, seen = given
    control, asked = seen.control, seen.asked
    judged = judge([attempt], [control], parsers=parsers, confirm=1)
    assert judged == judge([attempt], [control], parsers=parsers, confirm=1)
    own, beside = tried(judged, [attempt], [control])
    evidence = evidence_of(asked, judged.verdict, own, beside)
    judgement = written(asked, judged, [attempt], [control], parser_version=1, now=NOON)
    info: MatrixRun = run_info(cells=1)
    matrix = matrix_of(info, make_plan(asked), {asked.id: judgement})
    report = Report(matrix=matrix, evidence={asked.id: evidence})
    shown = {name: renderer(name).render(report) for name in RENDERERS}
    for name, raw in shown.items():
        _harmless(name, raw)
    _inert(explain(matrix.cells[0], evidence))
    assert json.loads(shown["json"])["cells"]


#: The data that a page keeps for itself, and its one program.
_SCRIPTS_OF_A_PAGE = (
    renderer("html").render(Report(matrix=matrix_of(run_info(), make_plan(cell()), {}))).count(b"<script")
)


def _harmless(name: str, raw: bytes) -> None:
    text = raw.decode("utf-8")
    if name == "html":
        assert text.count("<script") == _SCRIPTS_OF_A_PAGE, "markup came through"
        assert "\x1b" not in text
    elif name == "csv":
        for row in csv.reader(io.StringIO(text)):
            assert not any(field.startswith(("=", "+", "@", "\t", "\r")) for field in row), row
    elif name == "junit":
        ET.fromstring(raw)  # noqa: S314 - made by ourselves a moment ago
    if name != "html":
        _inert(text if name != "json" else text.replace("\\u001b", ""))


#: Every control character but those that end and indent lines, and three that turn, part or hide text.
_ACTS = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\u202e\u2066\u200b]")


def _inert(text: str) -> None:
    bad = _ACTS.search(text)
    assert bad is None, bad


def _events(raw: bytes) -> None:
    try:
        events = from_jsonl(raw)
    except ValueError:
        return
    assert from_jsonl(to_jsonl(events)) == events


def _text(raw: bytes) -> None:
    text, _, _ = decode(raw)
    text.encode("utf-8")


def targets() -> tuple[Target, ...]:
    """Give every target; recording what they begin from takes a second."""
    attempt = _seen()[0].attempt
    answers = [attempt.blobs.get(e.blob) for e in attempt.events if e.blob is not None]
    return (
        Target(name="answers", inputs=partial(_answer, answers=answers), check=_answers),
        Target(name="answer objects", inputs=lambda d: json.dumps(json_object(d, KEYS)).encode(), check=_answers),
        Target(name="frames", inputs=_reply_pieces, check=_frames),
        Target(name="proxy requests", inputs=partial(mutated, seeds=_PROXY_REQUESTS), check=_proxy_request),
        Target(name="way out frames", inputs=partial(mutated, seeds=_WAY_OUT_FRAMES), check=_way_out_frames),
        Target(name="events", inputs=partial(mutated, seeds=[to_jsonl(attempt.events[:6])]), check=_events),
        Target(name="text", inputs=partial(mutated, seeds=[*answers, "한글 로그\n".encode("cp949")]), check=_text),
        *(Target(name=f"log {name}", inputs=_log_pieces(name), check=_parser(name), cost=2) for name in _recorded()),
        Target(name="lists of tools", inputs=partial(mutated, seeds=_LISTS), check=_tool_lists),
        Target(name="builds", inputs=partial(mutated, seeds=_builds()), check=_build, cost=30),
        _yaml("scenarios/*.yaml", load_scenario),
        _yaml("seeds/signatures/*.yaml", load_signature_sets),
        _yaml("scenarios/policies/*.yaml", load_policy),
        _yaml("scenarios/suites/*.expected.yaml", load_expectations),
        _yaml("vm_images/*/image.yaml", load_image_definition, name="reference/image.yaml"),
        _yaml("scenarios/suites/*.yaml", _suite),
        *ways.targets(),
        # It costs 90; it is the only one that goes from a guest's bytes to the page, and gets nine times its time.
        Target(name="whole attempts", inputs=_hostile, check=_whole, cost=10),
    )
