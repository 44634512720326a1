"""A guest's answers are hostile: whatever they are, a value comes out or ``LookError``, and never anything else."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import look

READERS: dict[str, Callable[[bytes], object]] = {
    "answer": look.answer,
    "windows": look.windows,
    "established_ports": look.established_ports,
    "listening_ports": look.listening_ports,
    "entries": look.entries,
    "chunks": look.chunks,
    "mapped_files": look.mapped_files,
    "run_pids": lambda raw: look.run_pids(raw, "launch"),
    "planted": lambda raw: look.planted(raw, 1),
    "job": look.job,
    "digests": look.digests,
    "written": look.written,
}

#: Every key that a reader looks for, so that generated answers get past the first check.
NAMES = (
    "windows json title class image pid hung children text tcp items state remote_port local_port list entries errors "
    "error path type size truncated tail data_b64 offset inode reset images files processes run open_errno exec_errno "
    "control_open_errno control_exec_errno create_errno write_errno bytes_read finished elapsed_s exit_code "
    "windows_error start_errno sha256 errno detail exit signal trouble"
)
KEYS = NAMES.split()

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63, -(2**63), 10**400, 1e308, float("nan"), float("inf")]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["\ud800", "running", "ESTABLISHED", "ENOENT", "file", "QUJD", "None", "BAD_REQUEST"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)


def tolerated(raw: bytes) -> None:
    for reader in READERS.values():
        with contextlib.suppress(look.LookError):
            reader(raw)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_answer_only_ever_raise_look_error(raw: bytes) -> None:
    tolerated(raw)


@given(objects)
def test_objects_of_any_shape_only_ever_raise_look_error(value: dict[str, object]) -> None:
    tolerated(json.dumps(value).encode())


HOSTILE = {
    "nothing": b"",
    "no JSON": b"<html>",
    "an array": b"[]",
    "a number": b"1",
    "a text": b'"x"',
    "null": b"null",
    "cut": b'{"items": [{"open_errno": 1',
    "nested a million deep": b"[" * 1_000_000,
    "an object nested deep": b'{"windows":' * 100_000,
    "more digits than Python reads": b'{"a": ' + b"9" * 5000 + b"}",
    "invalid UTF-8": b'{"a": "\xff"}',
    "UTF-16 cut within a character": b"\xff\xfe{",
    "two objects": b"{}{}",
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_what_is_no_json_object_is_refused(reader: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(look.LookError):
        reader(raw)


@pytest.mark.parametrize("reader", [r for name, r in READERS.items() if name != "answer"])
def test_an_object_without_what_was_asked_is_refused(reader: Callable[[bytes], object]) -> None:
    for raw in (b"{}", b'{"error": "BAD_REQUEST", "detail": "KeyError"}'):
        with pytest.raises(look.LookError):
            reader(raw)


def raw(**value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_refused_request_says_why() -> None:
    with pytest.raises(look.LookError, match="KeyError: 'items'"):
        look.answer(raw(error="BAD_REQUEST", detail="KeyError: 'items'"))


MISSHAPEN = {
    "windows": [raw(windows={"json": None}), raw(windows={"json": {}}), raw(windows=[]), raw(windows={"json": ["x"]})],
    "established_ports": [raw(tcp={"items": None}), raw(tcp={"items": {"state": "ESTABLISHED"}}), raw(tcp={})],
    "entries": [
        raw(list=None),
        raw(list={}),
        raw(list=[{"root": "/a"}]),
        raw(list=[{"entries": ["/a"]}]),
        raw(list=[{"entries": [], "errors": [{"path": "/a", "error": "EACCES"}]}]),
        raw(list=[{"entries": [], "errors": [{"path": "/a"}]}]),
    ],
    "chunks": [
        raw(tail=[{"path": "/a"}]),
        raw(tail=[{"path": "/a", "data_b64": None}]),
        raw(tail=[{"path": "/a", "data_b64": 1234}]),
        raw(tail=[{"path": "/a", "data_b64": "%%%%"}]),
        raw(tail=[{"path": "/a", "data_b64": "한글"}]),
        raw(tail="x"),
    ],
    "mapped_files": [raw(images=[{"files": [], "truncated": True}]), raw(images=[{"error": "EACCES"}])],
    "run_pids": [raw(processes={"items": [1]})],
    "planted": [raw(items=[]), raw(items=[{}, {}]), raw(items=[[]]), raw(items=[{"open_errno": 1, "finished": True}])],
    "job": [raw(state="RUNNING"), raw(state=None), raw(state=["running"])],
    "digests": [raw(files=None), raw(files=[None])],
    "written": [
        raw(trouble="the disc cannot be used: its file is cut"),
        raw(exit=0, signal=None, trouble=""),
        raw(exit=None, signal=None),
        raw(exit=0, signal=9),
        raw(exit=False),
        raw(exit="0"),
        raw(exit=0.0),
    ],
}


@pytest.mark.parametrize(("reader", "bad"), [(READERS[name], bad) for name, bads in MISSHAPEN.items() for bad in bads])
def test_a_part_that_does_not_fit_is_refused_and_never_dropped(reader: Callable[[bytes], object], bad: bytes) -> None:
    with pytest.raises(look.LookError):
        reader(bad)


def item(**changes: object) -> dict[str, Any]:
    return {"create_errno": 0, "write_errno": 0, "open_errno": 1, "bytes_read": 0, "finished": True} | changes


@pytest.mark.parametrize("value", [True, False, "0", 0.0, [], {}, None, 2**63, 10**400])
def test_only_whole_numbers_of_a_sensible_size_are_numbers(value: object) -> None:
    assert look.number(value) is None
    [seen] = look.planted(raw(items=[item(open_errno=value, create_errno=value)]), 1)
    assert (seen.open_errno, seen.written) == (None, False)


@pytest.mark.parametrize("value", [None, "68", True, 1.5])
def test_an_unknown_amount_read_is_not_zero(value: object) -> None:
    with pytest.raises(look.LookError, match="how much"):
        look.planted(raw(items=[item(bytes_read=value)]), 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1e10, 10**400, True, "3", None])
def test_seconds_that_make_no_sense_are_zero(value: object) -> None:
    assert look.seconds(value) == 0.0


def test_texts_are_capped_and_can_always_be_written_as_utf8() -> None:
    assert look.text("\ud800주문\udfff") == "?주문?"
    assert len(look.text("가" * 10_000)) == look.MAX_TEXT
    assert look.text(5) == look.text(None) == ""


def test_windows_are_read_with_the_texts_of_their_children() -> None:
    listed = [
        {
            "title": "데모증권 HTS",
            "class": "#32770",
            "image": "C:\\DemoHTS\\DemoHTS.exe",
            "pid": 32,
            "hung": False,
            "children": [{"text": "hts_comm.dll 오류 126"}, {"text": None}, {"text": "확인"}],
        }
    ]
    [window] = look.windows(raw(windows={"exit_code": 0, "json": listed}))
    assert window.text == "데모증권 HTS\nhts_comm.dll 오류 126\n확인"
    assert (window.class_name, window.windows_pid, window.hung) == ("#32770", 32, False)


def test_a_missing_folder_is_empty_and_a_vanished_file_is_no_trouble() -> None:
    errors = [{"path": "/a", "error": "ENOENT"}]
    assert look.entries(raw(list=[{"root": "/a", "entries": [], "errors": errors, "truncated": False}])) == ((), False)


def test_a_cut_listing_says_so() -> None:
    entry = {"path": "/a/b", "type": "file", "size": 3}
    found, cut = look.entries(raw(list=[{"entries": [entry], "errors": [], "truncated": True}]))
    assert (found, cut) == ((look.Entry(path="/a/b", is_file=True, size_bytes=3),), True)


def test_a_piece_of_log_is_read_as_bytes() -> None:
    data = base64.b64encode(b"\xff FOUND\n").decode()
    answer = raw(tail=[{"path": "/l", "data_b64": data, "offset": 8, "inode": 5, "truncated": False, "reset": True}])
    [chunk] = look.chunks(answer)
    assert (chunk.content, chunk.next_offset, chunk.inode) == (b"\xff FOUND\n", 8, 5)
    assert (chunk.reset, chunk.truncated, chunk.error) == (True, False, None)


@pytest.mark.parametrize(("error", "said"), [("ENOENT", "ENOENT"), ("", "no reason given"), (None, "no reason given")])
def test_a_log_that_could_not_be_opened_says_so_even_without_a_reason(error: object, said: str) -> None:
    [chunk] = look.chunks(raw(tail=[{"path": "/l", "error": error}]))
    assert (chunk.error, chunk.content) == (said, b"")


def test_ports_of_established_connections_and_of_listeners_are_told_apart() -> None:
    items = [
        {"state": "ESTABLISHED", "local_port": 4000, "remote_port": 9001},
        {"state": "LISTEN", "local_port": 9001, "remote_port": 0},
    ]
    assert look.established_ports(raw(tcp={"items": items})) == {9001}
    assert look.listening_ports(raw(tcp={"items": items})) == {9001}


def test_a_jobs_code_is_its_exit_code_or_why_it_did_not_start() -> None:
    assert look.job(raw(state="ended", exit_code=0xC0000005)).code == 0xC0000005
    assert look.job(raw(state="failed", windows_error=5)).code == 5
    assert look.job(raw(state="failed", start_errno=13)).code == 13
    assert look.job(raw(state="running")).code is None


def test_mapped_files_are_those_of_all_processes_that_are_still_there() -> None:
    processes = [
        {"pid": 1, "files": [{"path": "/b"}, {"path": "/a"}], "truncated": False},
        {"pid": 2, "error": "ESRCH"},
        {"pid": 3, "files": [{"path": "/a"}], "truncated": False},
    ]
    assert look.mapped_files(raw(images=processes)) == ("/a", "/b")


def test_processes_are_found_by_a_jobs_mark_whichever_start_of_it() -> None:
    marks = ["launch", "launch-2", "launcher", "xlaunch", "launch-", None, 5]
    items = [{"pid": at, "run": run} for at, run in enumerate(marks)]
    assert look.run_pids(raw(processes={"items": items}), "launch") == (0, 1)


def test_all_processes_of_the_marked_ones_users_are_beside_them() -> None:
    items = [
        {"pid": 10, "uid": 1000, "run": "launch-2"},
        {"pid": 11, "uid": 1000, "run": None},
        {"pid": 12, "uid": 0, "run": None},
    ]
    raw = json.dumps({"processes": {"items": items}}).encode()
    assert look.pids_beside(raw, "launch") == (10, 11)
    assert look.pids_beside(raw, "install") == ()


def test_how_a_disc_s_file_was_written_is_the_writer_s_end() -> None:
    assert look.written(raw(exit=2, signal=None, error="sh: cannot create")) == look.Written(
        exit_code=2, signal=None, error="sh: cannot create"
    )
    assert look.written(raw(exit=None, signal=9)).signal == 9


def test_a_disc_that_could_not_be_read_says_why() -> None:
    with pytest.raises(look.LookError, match="another digest"):
        look.written(raw(trouble="the disc cannot be used: its file has another digest"))
