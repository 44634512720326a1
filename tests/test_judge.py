"""An attempt, read: whose object a record is about, what a canary proves, which set was loaded, and what is unread."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import JsonValue

from harness.attempt import INSTALL_JOB, Attempt, Kind, MemoryBlobs, Role
from harness.build import Component
from harness.facts import CanarySeen, Claim, Facts, Owner, SampleSeen, StepStatus
from harness.image import Folder
from harness.judge import created_in, judge, read
from harness.machine import Machine
from harness.observation import Action, Exclusion, Layer, ScanFailure, Statement, Unread
from harness.verdict import Outcome
from tests.attempt_script import (
    DOWNLOADS,
    DRIVE,
    EACCES,
    ENOENT,
    EPERM,
    Answer,
    Script,
    items,
    opened,
    parsers,
    record,
    refused,
)
from tests.builders import make_build, make_cell, make_file, make_over_older_scenario, make_product, sha256_of
from tests.fake_project import tiny_program

CELL = make_cell()
BUILD = CELL.build
COMM_HOST = f"{DRIVE}/DemoHTS/hts_comm.dll"
COMM_WINDOWS = r"C:\DemoHTS\hts_comm.dll"
PROBE = f"{DOWNLOADS}/hts-probe-1.com"
LAST = len(CELL.scenario.steps)


def whose(facts: Facts) -> tuple[Owner, Component | None]:
    [found] = facts.detections
    return found.owner, found.component


# --- whose object is it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "component"),
    [
        (COMM_HOST, Component.MODULE),
        (f"{DRIVE}/DEMOHTS/HTS_COMM.DLL", Component.MODULE),
        (f"{DRIVE}/DemoHTS/DemoHTS.exe", Component.MAIN),
        (f"{DRIVE}/DemoHTS/hts_update.exe", Component.UPDATER),
        (f"{DRIVE}/DemoHTS/chart/new.dat", Component.DATA),
        (f"{DOWNLOADS}/DemoHTS-1.0.0-setup.exe", Component.SETUP),
        (f"{DOWNLOADS}/demohts-1.0.0-SETUP.EXE", Component.SETUP),
        (f"{DRIVE}/users/trader/Temp/nsis7/DemoHTS-1.0.0-setup.exe", Component.SETUP),
    ],
)
def test_what_lies_where_the_build_lives_or_was_delivered_is_the_builds(target: str, component: Component) -> None:
    assert whose(Script().facts(record(target))) == (Owner.BUILD, component)


def test_the_windows_path_stands_beside_the_raw_one() -> None:
    [found] = Script().facts(record(COMM_HOST)).detections
    assert (found.windows, found.detection.target, found.stage) == (COMM_WINDOWS, COMM_HOST, "launch")


@pytest.mark.parametrize(
    "target",
    [
        f"{DRIVE}/DemoHTS2/hts_comm.dll",
        f"{DRIVE}/DemoHTS.bak",
        "/usr/lib/wine/x86_64-windows/ntdll.dll",
        f"{DRIVE}/windows/system32/ntdll.dll",
        f"{DRIVE}/users/trader/Temp/tmp1234.tmp",
        f"{DRIVE}x/DemoHTS/hts_comm.dll",
        "/srv/DemoHTS-1.0.0-setup.exe",
        f"{DRIVE}/other/DemoHTS-1.0.0-setup.exe.txt",
        "",
    ],
)
def test_what_lies_elsewhere_is_nobodys(target: str) -> None:
    assert whose(Script().facts(record(target))) == (Owner.UNATTRIBUTED, None)


def test_a_digest_of_the_build_is_the_builds_wherever_it_lies() -> None:
    comm = BUILD.files[2]
    assert whose(Script().facts(record("/tmp/nsis/x.tmp", sha256=comm.sha256))) == (Owner.BUILD, Component.MODULE)
    assert whose(Script().facts(record("/tmp/nsis/x.tmp", md5=comm.md5))) == (Owner.BUILD, Component.MODULE)


def test_the_installers_digest_is_the_setup_wherever_it_lies() -> None:
    assert whose(Script().facts(record("/tmp/x", md5=BUILD.installer.md5))) == (Owner.BUILD, Component.SETUP)


def test_a_digest_that_is_not_known_never_matches_a_file_whose_digest_is_not_known() -> None:
    nameless = BUILD.model_copy(update={"files": (BUILD.files[0].model_copy(update={"sha256": None, "md5": None}),)})
    facts = Script(make_cell(build=nameless)).facts(record("/tmp/x"))
    assert whose(facts) == (Owner.UNATTRIBUTED, None)


OLDER = make_build("0.9.0")
OVER = make_cell(older=OLDER, scenario=make_over_older_scenario())
OLD_COMM, NEW_COMM = OLDER.files[2], OVER.build.files[2]
BEFORE, AT_UPDATE, AFTER = 2, 4, 6


@pytest.mark.parametrize(
    ("target", "step", "digest", "owner"),
    [
        (COMM_HOST, BEFORE, None, Owner.OLDER),
        (COMM_HOST, AT_UPDATE, None, Owner.BUILD),
        (COMM_HOST, AFTER, None, Owner.BUILD),
        # The installer opens the old file to write over it: the digest says which of the two was looked at.
        (COMM_HOST, AT_UPDATE, OLD_COMM.md5, Owner.OLDER),
        (COMM_HOST, AFTER, OLD_COMM.md5, Owner.OLDER),
        (COMM_HOST, BEFORE, NEW_COMM.md5, Owner.BUILD),
        (f"{DRIVE}/users/trader/Temp/ns1.tmp", BEFORE, OLD_COMM.md5, Owner.OLDER),
        (f"{DRIVE}/DemoHTS/logs/new.log", BEFORE, None, Owner.OLDER),
        (f"{DRIVE}/DemoHTS/logs/new.log", AFTER, None, Owner.BUILD),
        (f"{DOWNLOADS}/DemoHTS-0.9.0-setup.exe", AFTER, None, Owner.OLDER),
        (f"{DOWNLOADS}/DemoHTS-1.0.0-setup.exe", AT_UPDATE, None, Owner.BUILD),
        ("/tmp/other", BEFORE, None, Owner.UNATTRIBUTED),
    ],
)
def test_of_two_builds_at_one_place_the_digest_or_the_step_says_whose_an_object_is(
    target: str, step: int, digest: str | None, owner: Owner
) -> None:
    [found] = Script(OVER).facts(record(target, step=step, md5=digest)).detections
    assert found.owner is owner


@pytest.mark.parametrize("digest", [None, BUILD.files[0].md5])
def test_bytes_that_both_builds_have_are_this_builds(digest: str | None) -> None:
    same = OLDER.model_copy(update={"files": (BUILD.files[0], *OLDER.files[1:])})
    cell = make_cell(older=same, scenario=make_over_older_scenario())
    [found] = Script(cell).facts(record(f"{DRIVE}/DemoHTS/DemoHTS.exe", step=BEFORE, md5=digest)).detections
    assert found.owner is Owner.BUILD


def test_what_a_process_of_the_older_program_wanted_is_the_older_builds() -> None:
    script = Script(OVER)
    script.processes(42)
    facts = script.facts(record("/tmp/x", step=BEFORE, pid=42), record("/tmp/y", step=AFTER, pid=42))
    assert [d.owner for d in facts.detections] == [Owner.OLDER, Owner.BUILD]


def test_the_declared_patch_is_the_builds() -> None:
    patch = make_file("hts_core.dll", content=b"patched")
    cell = make_cell(build=make_build().model_copy(update={"patch": (patch,)}))
    facts = Script(cell).facts(record("/tmp/update/part", md5=patch.md5))
    assert whose(facts) == (Owner.BUILD, Component.MODULE)


def test_what_the_build_creates_in_a_passing_control_is_the_builds() -> None:
    path = f"{DRIVE}/users/trader/AppData/Roaming/DemoHTS/cache.bin"
    folded = r"c:\users\trader\appdata\roaming\demohts\cache.bin"
    assert whose(Script().facts(record(path), created=frozenset({folded}))) == (Owner.BUILD, None)


def test_created_in_takes_passing_controls_alone() -> None:
    passing = Script(CELL.control())
    for index in range(LAST):
        passing.step(index)
    passing.inspection({"path": f"{DRIVE}/DemoHTS/A.log", "size": 1, "sha256": "0" * 64})
    facts = passing.facts()
    assert created_in([facts]) == {r"c:\demohts\a.log"}
    assert created_in([replace(facts, complete=False)]) == frozenset()


def test_only_the_exact_paths_that_we_planted_are_ours() -> None:
    script = Script()
    script.planted(PROBE)
    assert whose(script.facts(record(PROBE)))[0] is Owner.PLANTED
    assert whose(script.facts(record(f"{PROBE}.control")))[0] is Owner.PLANTED
    assert whose(script.facts(record(f"{PROBE}2")))[0] is Owner.UNATTRIBUTED


def test_a_name_like_ours_that_we_did_not_plant_is_not_ours() -> None:
    script = Script()
    script.canary(items(refused()), PROBE)
    script.looked("windows", {"items": [{"path": PROBE}]})
    assert whose(script.facts(record(PROBE)))[0] is Owner.UNATTRIBUTED


def test_a_guest_that_claims_other_paths_changes_nothing() -> None:
    script = Script()
    script.planted(PROBE)
    script.canary(items(refused(path=COMM_HOST, control_path="/tmp/x")), PROBE)
    facts = script.facts(record(COMM_HOST), record("/tmp/x"))
    assert [d.owner for d in facts.detections] == [Owner.BUILD, Owner.UNATTRIBUTED]
    assert [c.reacted for c in facts.canaries] == [False]


def test_a_planted_object_in_the_install_folder_is_ours_and_not_the_builds() -> None:
    script = Script()
    script.planted(f"{DRIVE}/DemoHTS/hts-probe-2.com")
    assert whose(script.facts(record(f"{DRIVE}/DemoHTS/hts-probe-2.com")))[0] is Owner.PLANTED


def test_whatever_a_process_of_the_build_wanted_counts_as_the_builds() -> None:
    script = Script()
    script.processes(41, 42)
    assert whose(script.facts(record("/tmp/random", pid=42)))[0] is Owner.BUILD
    assert whose(script.facts(record("/tmp/random", pid=1)))[0] is Owner.UNATTRIBUTED
    assert whose(script.facts(record("/tmp/random")))[0] is Owner.UNATTRIBUTED


def test_a_process_of_another_job_is_not_the_program() -> None:
    script = Script()
    script.processes(41, run=INSTALL_JOB)
    assert whose(script.facts(record("/tmp/random", pid=41)))[0] is Owner.UNATTRIBUTED


def test_a_look_at_the_processes_that_cannot_be_read_is_unread() -> None:
    script = Script()
    script.log.add(Kind.LOOK, "processes", raw=b"\xff not json")
    assert "no JSON" in script.facts().unread[0]


def test_a_detection_is_placed_at_the_step_whose_border_closed_its_piece_of_the_log() -> None:
    script = Script()
    script.step(0)
    begun = script.step(1).seq - 1
    log = script.log.add(Kind.LOG, "/x/clamd.log", step=1, raw=b"x")
    [found] = script.facts(record(COMM_HOST, step=1, seq=log.seq)).detections
    assert (found.stage, found.after_s) == ("install", float(log.seq - begun))


def test_an_act_that_the_product_dates_counts_from_its_own_time_and_never_before_the_step() -> None:
    script = Script()
    script.step(0)
    begun = script.step(1).seq - 1
    log = script.log.add(Kind.LOG, "/x/clamd.log", step=1, raw=b"x")
    for age_s, after_s in ((0.25, log.seq - begun - 0.25), (1000.0, 0.0)):
        [found] = script.facts(replace(record(COMM_HOST, step=1, seq=log.seq), age_s=age_s)).detections
        assert found.after_s == after_s


def test_what_a_product_says_of_itself_is_a_claim_about_the_border_at_which_it_was_asked() -> None:
    seen = Script().facts(Statement(seq=3, step=None, set_label="a"), Statement(seq=4, step=2, set_label="b"))
    assert seen.claims == (Claim(seq=3, border=-1, label="a"), Claim(seq=4, border=2, label="b"))


@pytest.mark.parametrize(
    ("step", "stage"), [(None, "deliver"), (0, "deliver"), (LAST - 1, "connect"), (LAST, "inspect")]
)
def test_stages_of_the_borders(step: int | None, stage: str) -> None:
    [found] = Script().facts(record(COMM_HOST, step=step)).detections
    assert (found.stage, found.after_s) == (stage, None)


# --- echoes of our own last look --------------------------------------------------------------------------------------


def test_what_our_last_look_provokes_again_is_an_echo() -> None:
    facts = Script().facts(record(COMM_HOST, step=3, seq=1), record(COMM_HOST, step=LAST, seq=2))
    assert [d.detection.seq for d in facts.detections] == [1]


@pytest.mark.parametrize(
    "news",
    [
        record(COMM_HOST, step=LAST, seq=2, action=Action.QUARANTINED),
        record(COMM_HOST, step=LAST, seq=2, threat="Another.Name"),
        record(f"{DRIVE}/DemoHTS/DemoHTS.exe", step=LAST, seq=2),
    ],
    ids=["a stronger act", "another name", "another object"],
)
def test_what_is_new_at_our_last_look_stays(news: Exclusion) -> None:
    facts = Script().facts(record(COMM_HOST, step=3, seq=1), news)
    assert {d.detection.seq for d in facts.detections} == {1, 2}


def test_a_latent_detection_that_nothing_came_before_stays() -> None:
    [found] = Script().facts(record(COMM_HOST, step=LAST)).detections
    assert found.stage == "inspect"


# --- canaries ---------------------------------------------------------------------------------------------------------


def canary_of(
    answer: Answer, *, path: str = PROBE, recorded: bool = True, layer: Layer = Layer.FILE
) -> tuple[CanarySeen, Facts]:
    script = Script()
    script.planted(path)
    script.canary(items(answer), path, layer=layer)
    facts = script.facts(*([record(path, step=None)] if recorded else []))
    [seen] = facts.canaries
    return seen, facts


def test_a_canary_that_is_refused_recorded_and_whose_control_opens_has_reacted() -> None:
    seen, facts = canary_of(refused())
    assert (seen.reacted, seen.why_not, seen.after_s, seen.folder) == (True, "", 0.25, Folder.DOWNLOADS)
    assert facts.unread == ()


SILENT: dict[str, tuple[Answer, str]] = {
    "it opens": (opened(), "not refused"),
    "it is gone": (refused(open_errno=ENOENT), "not refused"),
    "permissions, not the product": (refused(open_errno=EACCES), "not refused"),
    "it was never opened": (refused(open_errno=None), "not refused"),
    "true is no errno": (refused(open_errno=True), "not refused"),
    "a text is no errno": (refused(open_errno="1"), "not refused"),
    "bytes were read before": (refused(bytes_read=68), "could be read before it was refused"),
    "never created": (refused(create_errno=EACCES), "could not be written"),
    "never written": (refused(write_errno=28), "could not be written"),
    "creation not told": (refused(create_errno=None), "could not be written"),
    "the control is refused too": (refused(control_open_errno=EPERM), "clean control file"),
    "the control was not tried": (refused(control_open_errno=None), "clean control file"),
    "the child hung": (refused(finished=False), "did not answer in time"),
    "finished is no text": (refused(finished="true"), "did not answer in time"),
}


@pytest.mark.parametrize(("answer", "why"), SILENT.values(), ids=SILENT.keys())
def test_a_canary_that_lacks_one_proof_is_silent_and_says_which(answer: Answer, why: str) -> None:
    seen, _ = canary_of(answer)
    assert not seen.reacted
    assert why in seen.why_not


def test_a_canary_that_the_product_did_not_record_is_silent() -> None:
    seen, _ = canary_of(refused(), recorded=False)
    assert (seen.reacted, seen.why_not) == (False, "it was refused, but the product recorded nothing about it")


def test_a_record_about_another_canary_proves_nothing_about_this_one() -> None:
    script = Script()
    script.canary(items(refused()), PROBE)
    [seen] = script.facts(record(PROBE + "2", step=None)).canaries
    assert not seen.reacted


EXECUTABLE = {"exec_errno": EPERM, "control_exec_errno": 0}


def test_an_execution_canary_must_be_refused_at_execve_beside_a_program_that_runs() -> None:
    seen, _ = canary_of(refused(**EXECUTABLE), layer=Layer.EXECUTION)
    assert (seen.reacted, seen.layer) == (True, Layer.EXECUTION)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"exec_errno": 0}, "could be executed"),
        ({"exec_errno": EACCES}, "not refused"),
        ({"exec_errno": None}, "not refused"),
        ({"control_exec_errno": EPERM}, "clean control program"),
        ({"control_exec_errno": None}, "clean control program"),
        ({"control_open_errno": EPERM}, "clean control file"),
        ({"bytes_read": 1}, "could be read"),
    ],
)
def test_an_execution_canary_that_lacks_one_proof_is_silent(changes: Answer, why: str) -> None:
    seen, _ = canary_of(refused(**{**EXECUTABLE, **changes}), layer=Layer.EXECUTION)
    assert not seen.reacted
    assert why in seen.why_not


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"items": []}',
        b'{"items": [{}, {}]}',
        b'{"items": [7]}',
        b'{"error": "BAD_REQUEST"}',
        items(refused())[:-5],
        items(refused(bytes_read=None)),
    ],
)
def test_an_answer_that_is_not_one_is_silent_and_unread(raw: bytes) -> None:
    script = Script()
    script.canary(raw, PROBE)
    facts = script.facts(record(PROBE, step=None))
    assert not facts.canaries[0].reacted
    assert facts.unread


def test_a_canary_in_each_folder_is_judged_by_its_own_answer() -> None:
    script = Script()
    places: list[JsonValue] = [
        {"folder": f.value, "path": f"/{f}", "control": "/c"} for f in (Folder.TEMP, Folder.APPDATA)
    ]
    script.log.add(Kind.CANARY, raw=items(refused(), opened()), when="before", layer="file", items=places)
    facts = script.facts(record("/temp", step=None), record("/appdata", step=None))
    assert [(c.folder, c.reacted) for c in facts.canaries] == [(Folder.TEMP, True), (Folder.APPDATA, False)]


# --- samples ----------------------------------------------------------------------------------------------------------

OLD, NEW = "2026-11-04", "2026-11-05"
PATHS = {OLD: "/t/old.txt", NEW: "/t/new.txt"}


def sample_of(old: Answer, new: Answer, *labels: tuple[str, str | None]) -> SampleSeen:
    """Give a sample over two sets; ``labels``: which marker the product recorded, and under which set's name."""
    script = Script(make_cell(product=make_product("clamav", OLD)))
    script.sample(items(old, new), PATHS)
    [seen] = script.facts(*(record(PATHS[of], step=None, set_label=said) for of, said in labels)).samples
    return seen


def test_the_one_marker_that_fires_under_its_own_name_names_the_set() -> None:
    seen = sample_of(opened(), refused(), (NEW, NEW))
    assert (seen.active, seen.label, seen.why_not, seen.border) == (True, NEW, "", -1)


def test_no_marker_is_no_protection() -> None:
    seen = sample_of(opened(), opened())
    assert (seen.active, seen.label, seen.why_not) == (False, None, "no marker fired")


def test_two_markers_are_no_known_set() -> None:
    seen = sample_of(refused(), refused(), (OLD, OLD), (NEW, NEW))
    assert (seen.active, seen.label, seen.why_not) == (True, None, "several markers fired")


def test_a_marker_that_is_refused_and_not_recorded_names_nothing() -> None:
    seen = sample_of(refused(), opened())
    assert (seen.active, seen.label) == (False, None)
    assert "not recorded under that name" in seen.why_not


@pytest.mark.parametrize("said", [NEW, None])
def test_a_marker_that_is_recorded_under_another_name_names_nothing(said: str | None) -> None:
    seen = sample_of(refused(), opened(), (OLD, said))
    assert (seen.active, seen.label) == (False, None)


@pytest.mark.parametrize(
    "other",
    [
        opened(create_errno=EACCES),
        opened(finished=False),
        opened(open_errno=ENOENT),
        opened(open_errno=EACCES),
        opened(open_errno=None),
        opened(exec_errno=8),
        refused(write_errno=28),
    ],
    ids=["not written", "hung", "gone", "permissions", "not tried", "not executed", "refused but never written"],
)
def test_a_marker_that_could_not_be_tried_leaves_the_set_unknown(other: Answer) -> None:
    seen = sample_of(other, refused(), (NEW, NEW))
    assert (seen.active, seen.label) == (True, None)
    assert f"the marker of {OLD} could not be tried" in seen.why_not


def test_a_marker_beside_a_control_that_is_refused_too_proves_no_set() -> None:
    seen = sample_of(opened(), refused(control_open_errno=EPERM), (NEW, NEW))
    assert (seen.active, seen.label) == (False, None)
    assert "clean control file" in seen.why_not


def test_a_sample_that_cannot_be_read_is_inactive_and_unread() -> None:
    script = Script()
    script.sample(b"{", PATHS, border=2)
    facts = script.facts()
    [seen] = facts.samples
    assert (seen.border, seen.active, seen.label) == (2, False, None)
    assert facts.unread


# --- bytes that are missing, altered or cut ---------------------------------------------------------------------------


class AlteredBlobs:
    """Blobs that are not the bytes that they are named by."""

    def get(self, sha256: str) -> bytes:
        msg = f"{sha256} is not these bytes"
        raise ValueError(msg)


def evidence() -> Script:
    script = Script()
    script.canary(items(refused()), PROBE)
    script.sample(items(refused(), opened()), PATHS)
    script.processes(41)
    script.looked("modules", {"images": [{"files": [{"path": "/x/hook.dll"}], "truncated": False}]})
    script.inspection({"path": COMM_HOST, "size": 1, "sha256": "0" * 64})
    return script


def test_evidence_that_is_whole_is_read() -> None:
    facts = evidence().facts()
    assert facts.unread == ()
    assert facts.files is not None
    assert facts.foreign_modules == ("/x/hook.dll",)


@pytest.mark.parametrize("kind", [Kind.CANARY, Kind.SAMPLE, Kind.LOOK, Kind.INSPECTION])
def test_bytes_that_are_missing_are_unread(kind: Kind) -> None:
    attempt = evidence().attempt()
    names = {e.blob for e in attempt.of(kind)}
    assert isinstance(attempt.blobs, MemoryBlobs)
    kept = {name: raw for name, raw in attempt.blobs.bytes_by_sha256.items() if name not in names}
    facts = read(replace(attempt, blobs=MemoryBlobs(kept)), parsers=parsers())
    assert len(facts.unread) == len(names)
    assert "missing or altered" in facts.unread[0]


@pytest.mark.parametrize("subject", ["command", "program log", "files"])
def test_a_look_that_was_cut_is_unread(subject: str) -> None:
    script = evidence()
    cut = script.log.add(Kind.LOOK, subject, raw=b'{"list": []}').model_copy(update={"truncated": True})
    script.log.events[cut.seq] = cut
    assert f"({subject}) is cut" in script.facts().unread[-1]


def test_bytes_that_were_altered_are_unread() -> None:
    facts = read(replace(evidence().attempt(), blobs=AlteredBlobs()), parsers=parsers())
    assert len(facts.unread) == 5
    assert facts.files is None
    assert not any(c.reacted for c in facts.canaries)


def cut(attempt: Attempt, kind: Kind) -> Attempt:
    events = tuple(e.model_copy(update={"truncated": e.kind is kind}) for e in attempt.events)
    return replace(attempt, events=events)


@pytest.mark.parametrize("kind", [Kind.CANARY, Kind.SAMPLE, Kind.LOOK, Kind.INSPECTION])
def test_bytes_that_were_cut_are_unread_also_when_the_rest_is_readable(kind: Kind) -> None:
    facts = read(cut(evidence().attempt(), kind), parsers=parsers())
    assert "is cut or has no bytes" in facts.unread[0]


def test_an_event_without_bytes_is_unread() -> None:
    script = Script()
    script.canary(None)
    assert "has no bytes" in script.facts().unread[0]


def test_a_list_of_files_that_was_cut_is_unread() -> None:
    script = Script()
    script.inspection({"path": COMM_HOST, "size": 1, "sha256": "0" * 64}, truncated=True)
    assert script.facts().unread == ("the list of installed files was cut",)


def test_what_the_parser_could_not_read_is_unread_and_what_the_scanner_missed_is_a_failure() -> None:
    facts = Script().facts(
        Unread(seq=1, step=None, what="clamd.log: ???"), ScanFailure(seq=2, step=None, target="/a", what="ERROR")
    )
    assert (facts.unread, facts.scan_failures) == (("clamd.log: ???",), ("/a (ERROR)",))


# --- files, modules, exclusions, steps --------------------------------------------------------------------------------


def test_files_are_kept_by_windows_path_and_what_could_not_be_opened_has_no_digest() -> None:
    script = Script()
    script.inspection(
        {"path": COMM_HOST, "size": 20, "sha256": "b" * 64},
        {"path": f"{DRIVE}/DemoHTS/한글 파일.dat", "size": 1, "sha256": None, "errno": EPERM},
        {"path": "/elsewhere", "size": 1, "sha256": "0" * 64},
    )
    files = script.facts().files or ()
    assert [(f.path, f.sha256) for f in files] == [(COMM_WINDOWS, "b" * 64), (r"C:\DemoHTS\한글 파일.dat", None)]


@pytest.mark.parametrize(
    ("head", "machine"),
    [
        (base64.b64encode(tiny_program()).decode(), Machine.X64),
        ("not base64!", None),
        ("한글", None),
        (7, None),
        (None, None),
        (base64.b64encode(tiny_program().ljust(8192, b"\0")).decode(), None),  # longer than a head is
    ],
)
def test_a_program_s_first_bytes_say_what_it_is_made_for_or_nothing(
    head: str | int | None, machine: Machine | None
) -> None:
    script = Script()
    script.inspection({"path": f"{DRIVE}/DemoHTS/a.exe", "size": 20, "sha256": "b" * 64, "head_b64": head})
    facts = script.facts()
    assert [f.machine for f in facts.files or ()] == [machine]
    assert facts.unread == ()


def test_without_a_last_look_there_is_no_list_of_files() -> None:
    assert Script().facts().files is None


@pytest.mark.parametrize(
    ("path", "foreign"),
    [
        (f"{DRIVE}/av/Hook.DLL", r"C:\av\Hook.DLL"),
        ("/home/trader/hook.dll", "/home/trader/hook.dll"),
        (COMM_HOST, None),
        (f"{DRIVE}/DEMOHTS/plugin/x.dll", None),
        (f"{DRIVE}/windows/system32/ntdll.dll", None),
        ("/usr/lib/wine/x86_64-windows/ntdll.dll", None),
        (f"{DRIVE}/av/readme.txt", None),
    ],
)
def test_modules_that_are_neither_the_systems_nor_the_builds_are_foreign(path: str, foreign: str | None) -> None:
    script = Script()
    script.looked("modules", {"images": [{"files": [{"path": path}], "truncated": False}]})
    assert script.facts().foreign_modules == (() if foreign is None else (foreign,))


def test_modules_that_cannot_be_read_are_unread() -> None:
    script = Script()
    script.looked("modules", {"images": [{"error": "EACCES"}]})
    assert "EACCES" in script.facts().unread[0]


def test_a_scan_that_did_not_finish_is_unread() -> None:
    script = Script()
    script.looked("scan", "", finished=True)
    assert script.facts().unread == ()
    script.looked("scan", "", finished=False)
    script.looked("scan", "")
    assert len(script.facts().unread) == 2


def declared(path: str) -> Script:
    script = Script()
    script.log.add(Kind.EXCLUSION, path, declared=True)
    return script


@pytest.mark.parametrize(
    ("path", "covers"),
    [
        ("/", True),
        (DRIVE, True),
        (f"{DRIVE}/DemoHTS", True),
        (f"{DRIVE}/DemoHTS/chart", True),
        (f"{DOWNLOADS}/x", True),
        ("C:\\demohts", True),
        (f"{DRIVE}/windows", False),
        (f"{DRIVE}/DemoHTS2", False),
        ("/srv", False),
    ],
)
def test_an_exclusion_that_the_settings_name_is_undeclared(path: str, covers: bool) -> None:
    [seen] = Script().facts(Exclusion(seq=1, step=None, path=path)).exclusions
    assert (seen.path, seen.declared, seen.covers_tested) == (path, False, covers)


def test_a_declared_exclusion_is_not_found_out_a_second_time() -> None:
    [seen] = declared("C:\\DemoHTS").facts(Exclusion(seq=1, step=None, path=f"{DRIVE}/DemoHTS/")).exclusions
    assert (seen.declared, seen.covers_tested) == (True, True)


def test_steps_carry_what_a_control_is_compared_by() -> None:
    script = Script()
    script.step(0)
    script.step(1, passed=False, expectation="exit_code", code=5, timed_out=True, detail="It ended.", dialog="오류")
    first, second = script.facts().steps
    assert (first.kind, first.status, first.duration_s) == ("deliver", StepStatus.PASSED, 1.0)
    assert (second.status, second.failure, second.timed_out) == (StepStatus.FAILED, (1, "exit_code", 5), True)
    assert (second.detail, second.dialog) == ("It ended.", "오류")


def test_a_step_passed_only_when_it_says_so_exactly() -> None:
    script = Script()
    script.log.add(Kind.STEP_END, "deliver", step=0, passed="true")
    script.log.add(Kind.STEP_END, "install", step=1)
    assert {s.status for s in script.facts().steps} == {StepStatus.FAILED}


def test_trouble_says_where_and_whether_the_guest_died() -> None:
    script = Script()
    script.log.add(Kind.TROUBLE, "The guest is gone.", step=2, guest_crashed=True, retryable=True)
    [trouble] = script.facts(complete=False).troubles
    assert (trouble.step, trouble.summary, trouble.guest_crashed, trouble.retryable) == (
        2,
        "The guest is gone.",
        True,
        True,
    )


def test_seconds_that_were_observed_are_summed_up() -> None:
    script = Script()
    script.step(0, observed_s=1.5)
    script.step(1, observed_s="9")
    script.step(2, observed_s=2)
    assert script.facts().observed_s == 3.5


# --- incomplete attempts, and the whole way ---------------------------------------------------------------------------


def test_an_attempt_without_its_end_is_not_complete_and_never_good() -> None:
    script = evidence()
    for index in range(LAST):
        script.step(index)
    whole, partial = script.facts(complete=False), script.facts()
    assert (whole.complete, whole.passed) == (False, False)
    assert (partial.complete, partial.passed) == (True, True)


def test_an_attempt_without_any_event_can_be_read() -> None:
    attempt = replace(Script().attempt(), events=())
    facts = read(attempt, parsers=parsers())
    assert (facts.complete, facts.steps, facts.files) == (False, (), None)


def test_a_cell_without_attempts_has_no_verdict() -> None:
    with pytest.raises(ValueError, match="without attempts"):
        judge([], [], parsers=parsers())


def test_attempts_of_another_cell_are_refused_as_they_answer_another_question() -> None:
    mine, other = Script(make_cell()), Script(make_cell(build=make_build("9.9.9")))
    with pytest.raises(ValueError, match=r"is of cell '9\.9\.9"):
        judge([mine.attempt(), other.attempt(id="attempt-2")], [], parsers=parsers())
    with pytest.raises(ValueError, match=r"is of cell '1\.0\.0/reference/clamav"):
        judge([mine.attempt()], [mine.attempt(id="control-1")], parsers=parsers())


def passing(role: Role, id: str) -> Attempt:  # noqa: A002
    script = Script(CELL.control())
    for index in range(LAST):
        script.step(index)
    script.inspection({"path": COMM_HOST, "size": 1, "sha256": sha256_of(b"comm 1.0.0")})
    return script.attempt(id=id, role=role)


def test_a_quarantine_is_judged_from_raw_events_to_the_verdict() -> None:
    script = Script()
    for index in range(LAST):
        script.sample(items(refused()), {OLD: PATHS[OLD]}, border=index - 1)
        script.step(index)
    said = (
        record(PATHS[OLD], step=None, set_label=OLD),
        record(COMM_HOST, step=3, action=Action.QUARANTINED),
    )
    judged = judge([script.attempt()], [passing(Role.CONTROL, "c1")], parsers=parsers(*said))
    assert (judged.verdict.outcome, judged.verdict.stage) == (Outcome.QUARANTINED, "launch")
    assert [c.attempt_id for c in judged.controls] == ["c1"]


def test_a_control_is_judged_beside_the_others_and_not_beside_itself() -> None:
    controls = [passing(Role.CONTROL, "c1"), passing(Role.CONTROL, "c2")]
    judged = judge(controls, controls, parsers=parsers())
    assert judged.verdict.outcome is Outcome.COMPATIBLE
    assert {f.rule for f in judged.findings} == {"control.passed"}


def test_one_failed_control_does_not_confirm_itself() -> None:
    script = Script(CELL.control())
    script.step(0, passed=False, expectation="delivered", code=5)
    attempt = script.attempt(role=Role.CONTROL, id="c1")
    assert judge([attempt], [attempt], parsers=parsers()).verdict.outcome is Outcome.INCONCLUSIVE


def test_the_script_of_these_tests_writes_what_the_real_one_answers() -> None:
    source = (Path(__file__).parents[1] / "vm_images/reference/guest/plant.py").read_text(encoding="utf-8")
    for key in json.loads(items(refused()))["items"][0]:
        assert f'"{key}"' in source or f"{key}=" in source, key
