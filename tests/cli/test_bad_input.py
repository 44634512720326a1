"""Bad input as a person meets it on the command line: one sentence, a hint, exit 2; nothing started, nothing lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.cli import run as run_face
from harness.cli import show
from harness.cli.main import main
from harness.errors import LabError
from harness.image import Image
from harness.lab_choice import Choice
from harness.plan import Plan
from harness.run_cell import Rig
from harness.session import Options, RunResult
from harness.stores.api import RunState
from harness.stores.sqlite import DATABASE, SqliteStore
from tests.builders import make_image
from tests.fake_lab import CLEAN, INCIDENT, FakeLab, cell, parsers, plan
from tests.fake_project import Project

processes = multiprocessing.get_context("fork")

INCIDENT_CELL = cell(CLEAN, INCIDENT)
POLICY = "schema: hts-compat/policy/1\nname: p\nallow_reference_lab: true\n"


class OneImage(dict[str, Image]):
    """The one image that there is; where it comes from was not chosen."""

    choice: Choice | None = None

    def __init__(self, folder: Path, **more: object) -> None:
        super().__init__(reference=make_image())


@dataclass
class CommandLine:
    """The command line in a folder of its own, on a machine where every guest that is leased is counted."""

    root: Path
    lab: FakeLab
    err: Callable[[], str]

    def run(self, *words: str) -> int:
        sys.argv = ["hts-compat", *words]
        with pytest.raises(SystemExit) as caught:
            main()
        return int(str(caught.value.code or 0))

    def refused(self, *words: str) -> str:
        """Run a command that must be refused as bad input; give what it said."""
        before = listing(self.root)
        code = self.run(*words)
        said = self.err()
        assert code == 2, said
        assert self.lab.guests == 0
        assert said.startswith("error: ")
        assert "\nhint: " in said
        assert "Traceback" not in said
        assert "The tool itself failed" not in said
        assert all(c == "\n" or c.isprintable() for c in said)
        assert listing(self.root) == before
        return said


def listing(root: Path) -> dict[str, bytes]:
    """Give every file with its bytes; SQLite's own files beside a database come and go with whoever reads it."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in root.rglob("*")
        if not path.name.startswith((f"{DATABASE}-", ".hts-compat-"))
    }


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    root = tmp_path / "here"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", [])
    lab = FakeLab()
    monkeypatch.setattr(run_face, "Images", OneImage)
    monkeypatch.setattr(run_face, "make_rig", lambda _provider, _loaded: lab.rig())
    monkeypatch.setattr(run_face, "parser_of", parsers)
    monkeypatch.setattr(show, "parser_of", parsers)
    Project(root)
    (root / "policy.yaml").write_text(POLICY)
    return CommandLine(root, lab, lambda: capsys.readouterr().err)


# --- YAML -------------------------------------------------------------------------------------------------------------

LAUGHS = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))])
SUITE_HEAD = "schema: hts-compat/suite/1\nname: nightly\nlab: reference\n"
BAD_YAML: dict[str, tuple[str | bytes, str]] = {
    "aliases of aliases": (f"{LAUGHS}\n", "aliases "),
    "an anchor in itself": ("a: &a [*a]\n", "an anchor that contains itself"),
    "nested without end": ("a: " + "[" * 100_000, "nested more than 32 levels deep"),
    "two mebibytes": ("# " + "x" * (2 << 20), "larger than 1 MiB"),
    "a list for a text": (SUITE_HEAD.replace("nightly", "[a]"), "suite.yaml:2:7: 'name' should be a text"),
    "a text for a number": (f"{SUITE_HEAD}jobs: many\n", "suite.yaml:4:7: 'jobs' should be a whole number"),
    "a mapping for a list": (f"{SUITE_HEAD}images: {{a: b}}\n", "suite.yaml:4:9: 'images' should be a list"),
    "a key twice": (f"{SUITE_HEAD}name: other\n", "suite.yaml:4:1: the key 'name' is here twice"),
    "a tab": (f"{SUITE_HEAD}images:\n\t- reference\n", "suite.yaml:5:1: a tab indents this line"),
    "a byte order mark": (b"\xef\xbb\xbf" + SUITE_HEAD.encode(), "begins with a byte order mark (BOM)"),
    "CP949": (f"{SUITE_HEAD}# 데모증권\n".encode("cp949"), "it looks like CP949 (Korean Windows)"),
    "UTF-16": (SUITE_HEAD.encode("utf-16"), "the file is UTF-16"),
    "a binary": (bytes(range(256)) * 8, "the file is not UTF-8"),
    "a tag": ("name: !!python/object/apply:os.system [touch pwned]\n", "tags are not used here"),
    "an escape in a key": (f'{SUITE_HEAD}"\\e[31mred\\e]0;title\\a": 1\n', "unknown key"),
    "itself as scenario": (f"{SUITE_HEAD}scenarios: [suite.yaml]\n", "the file says that it is 'hts-compat/suite/1'"),
    "itself as sets": (
        f"{SUITE_HEAD}products: [{{product: clamav, signature_sets: suite.yaml, signatures: [a]}}]\n",
        "and 'hts-compat/signatures/1' is wanted here",
    ),
    "itself as recipe": (
        f"{SUITE_HEAD}builds: [{{recipe: suite.yaml, version: 1.0.0}}]\n",
        "and 'hts-compat/recipe/1' is wanted here",
    ),
    "itself as build": (f"{SUITE_HEAD}builds: [{{path: suite.yaml}}]\n", "is not a Windows program"),
}


@pytest.mark.parametrize("case", BAD_YAML)
def test_a_suite_that_is_no_suite_is_told_and_nothing_starts(line: CommandLine, case: str) -> None:
    content, said = BAD_YAML[case]
    (line.root / "suite.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in line.refused("run", "suite.yaml")


@pytest.mark.parametrize("case", ["aliases of aliases", "nested without end", "CP949", "a binary", "a tag"])
@pytest.mark.parametrize("name", ["fresh.yaml", "sets.yaml", "recipe.yaml"])
def test_a_file_that_the_suite_names_is_told_too(line: CommandLine, case: str, name: str) -> None:
    content, said = BAD_YAML[case]
    (line.root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    told = line.refused("run", "suite.yaml")
    assert said in told
    assert f"{name}:" in told


@pytest.mark.parametrize("case", ["aliases of aliases", "a key twice", "CP949", "a tag"])
def test_a_bad_policy_decides_nothing(line: CommandLine, case: str) -> None:
    content, _ = BAD_YAML[case]
    (line.root / "policy.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert "policy.yaml:" in line.refused("gate", "--policy", "policy.yaml")
    assert "policy.yaml:" in line.refused("run", "suite.yaml", "--policy", "policy.yaml")


@pytest.mark.parametrize(
    "name", ["\x1b[31m빨강.yaml", "../나가기/../<b>.yaml", "한글 폴더/없는 파일.yaml", "\u202etxt.yaml"]
)
def test_a_suite_of_any_name_that_is_not_there_is_told(line: CommandLine, name: str) -> None:
    assert "does not exist" in line.refused("run", name)


def test_a_suite_with_a_korean_name_in_a_korean_folder_runs(line: CommandLine) -> None:
    folder = line.root / "한글 폴더 (1)"
    shutil.copytree(line.root, folder, ignore=lambda *_: ["한글 폴더 (1)"])
    (folder / "suite.yaml").rename(folder / "야간 점검 모음.yaml")
    assert line.run("run", "한글 폴더 (1)/../한글 폴더 (1)/야간 점검 모음.yaml", "-k", "no-such-cell") == 4


# --- stores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store with a complete run of simulated guests, to copy."""
    folder = tmp_path_factory.mktemp("good") / "store"
    store = SqliteStore(folder)
    FakeLab().run(plan(cell(), INCIDENT_CELL), store, run_id="done")
    store.close()
    return folder


@pytest.fixture
def store(line: CommandLine, good_store: Path) -> Path:
    folder = line.root / "reports" / "store"
    shutil.copytree(good_store, folder)
    return folder


READING = {
    "matrix": ("matrix", "done"),
    "page": ("matrix", "done", "--format", "html"),
    "explain": ("explain", INCIDENT_CELL.id, "done"),
    "rejudge": ("rejudge", "done"),
    "gate": ("gate", "done", "--policy", "policy.yaml"),
}
WRITING = {"run": ("run", "suite.yaml"), "resume": ("run", "suite.yaml", "--resume", "done")}


def sql(statement: str) -> Callable[[Path], None]:
    def change(store: Path) -> None:
        db = sqlite3.connect(store / DATABASE)
        with db:
            db.execute(statement)
        db.close()

    return change


def shorter(store: Path) -> None:
    size = (store / DATABASE).stat().st_size
    os.truncate(store / DATABASE, size // 2 - 100)


def bookmarks(store: Path) -> None:
    (store / DATABASE).unlink()
    sql("CREATE TABLE bookmarks (url TEXT)")(store)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (sql("UPDATE alembic_version SET version_num = '9999'"), "was written by a newer version of hts-compat"),
    "garbage": (lambda store: (store / DATABASE).write_bytes(b"\xa5" * 65536), "is damaged or no database"),
    "cut short": (shorter, "is damaged or no database"),
    "empty": (lambda store: (store / DATABASE).write_bytes(b""), "has evidence, but its database is empty or gone"),
    "gone": (lambda store: (store / DATABASE).unlink(), "has evidence, but its database is empty or gone"),
    "of another program": (bookmarks, "is a database, but not one of hts-compat"),
}


@pytest.mark.parametrize("command", [*READING, "run"])
@pytest.mark.parametrize("damage", UNUSABLE)
def test_a_store_that_cannot_be_used_is_told_and_left_as_it_was(
    line: CommandLine, store: Path, damage: str, command: str
) -> None:
    harm, said = UNUSABLE[damage]
    harm(store)
    assert said in line.refused(*(READING | WRITING)[command])


@pytest.mark.parametrize("command", ["matrix", "explain", "rejudge", "gate"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE judgement SET document = '{'",
        "UPDATE run SET suite_document = '[]'",
        "UPDATE run SET started_at = 'never'",
        "UPDATE run SET state = 'odd'",
        "UPDATE cell SET document = '{}'",
        "ALTER TABLE run DROP COLUMN suite_document",
    ],
)
def test_a_record_that_cannot_be_read_is_told(line: CommandLine, store: Path, statement: str, command: str) -> None:
    sql(statement)(store)
    told = line.refused(*READING[command])
    assert "has a record that cannot be read" in told or "are not as they were made" in told


@pytest.mark.parametrize("command", ["matrix", "explain", "rejudge"])
def test_an_attempt_whose_events_are_missing_is_told(line: CommandLine, store: Path, command: str) -> None:
    for blob in (store / "blobs").glob("??/*"):
        blob.unlink()
    told = line.refused(*READING[command])
    assert "The events of attempt" in told
    assert "are missing or damaged" in told


def test_bytes_that_are_missing_make_a_cell_unknown_and_never_green(line: CommandLine, store: Path) -> None:
    db = sqlite3.connect(store / DATABASE)
    events = {name for (name,) in db.execute("SELECT events_sha256 FROM attempt")}
    db.close()
    for blob in (store / "blobs").glob("??/*"):
        if blob.name not in events:
            blob.unlink()
    assert line.run("matrix", "done", "--format", "html", "-o", "page.html") == 0
    assert line.run("rejudge", "done") == 1
    assert line.run("gate", "done", "--policy", "policy.yaml") == 3


@pytest.mark.parametrize("command", READING)
def test_a_store_that_is_not_there_is_not_made_by_reading(line: CommandLine, command: str) -> None:
    assert "There is no store 'reports/store'" in line.refused(*READING[command])
    (line.root / "reports" / "store").mkdir(parents=True)
    assert "There is no store 'reports/store'" in line.refused(*READING[command])


@pytest.mark.parametrize("command", ["matrix", "gate", "run"])
def test_a_store_that_is_a_file_is_told(line: CommandLine, command: str) -> None:
    (line.root / "file").write_text("x")
    assert "cannot be written" in line.refused(*(READING | WRITING)[command], "--store", "file")


@pytest.mark.parametrize("command", ["matrix", "gate", "run"])
def test_a_read_only_store_is_told(line: CommandLine, good_store: Path, command: str) -> None:
    """On a disk that is mounted read-only, for root; for others a folder without the right to write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "store"
        shutil.copytree(good_store, folder)
        if os.geteuid() == 0:
            mounted = subprocess.run(["mount", "--bind", "-o", "ro", name, name], check=False, capture_output=True)
            if mounted.returncode != 0:
                pytest.skip("root may write anywhere, and may not mount here")
        else:
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            before = listing(folder)
            assert "cannot be written" in line.refused(*(READING | WRITING)[command], "--store", str(folder))
            assert listing(folder) == before
        finally:
            if os.geteuid() == 0:
                subprocess.run(["umount", "-l", name], check=True)
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o700)


# --- runs that go on --------------------------------------------------------------------------------------------------


@pytest.fixture
def going_on(line: CommandLine, store: Path) -> Iterator[Callable[[], int]]:
    """Have the run 'begun' going on in another process until its guests are let go; then give how it ended."""
    started, go = processes.Event(), processes.Event()

    def work() -> None:
        def hold(_cell: object, _number: int) -> None:
            started.set()
            assert go.wait(30)

        opened = SqliteStore(store)
        result = FakeLab(before_guest=hold).run(plan(cell(), INCIDENT_CELL), opened, run_id="begun", fresh=True)
        opened.close()
        os._exit(0 if (result.state, result.trouble) == (RunState.COMPLETE, None) else 9)

    child = processes.Process(target=work)
    child.start()
    assert started.wait(20)

    def end() -> int:
        go.set()
        child.join(30)
        return -1 if child.exitcode is None else child.exitcode

    yield end
    child.kill()
    child.join()


def test_a_run_that_goes_on_is_not_resumed_beside_itself_and_loses_nothing(
    line: CommandLine, store: Path, going_on: Callable[[], int]
) -> None:
    assert line.run("run", "suite.yaml", "--resume", "begun") == 2
    told = line.err()
    assert "error: Run 'begun' is being driven by process " in told
    assert "hint: Wait for its end" in told
    assert going_on() == 0
    opened = SqliteStore(store)
    judgements = opened.judgements("begun")
    opened.close()
    assert {INCIDENT_CELL.id, cell().id} <= set(judgements)
    db = sqlite3.connect(store / DATABASE)
    lost = db.execute("SELECT count(*) FROM attempt WHERE run_id = 'begun' AND state != 'finished'").fetchone()
    db.close()
    assert lost == (0,)
    assert "is complete; nothing of it is left to do" in line.refused("run", "suite.yaml", "--resume", "begun")


def test_a_run_that_goes_on_is_neither_a_baseline_nor_the_latest_and_never_passes(
    line: CommandLine, store: Path, going_on: Callable[[], int]
) -> None:
    assert line.run("gate", "done", "--baseline", "begun", "--policy", "policy.yaml") == 2
    assert "The run 'begun' is running, not complete, and is no baseline." in line.err()
    assert line.run("gate", "begun", "--policy", "policy.yaml", "--json") in {3, 4}
    assert line.run("matrix", "latest", "--format", "json", "-o", "latest.json") == 0
    assert json.loads((line.root / "latest.json").read_bytes())["run"]["id"] == "done"
    assert line.run("matrix", "begun", "--format", "json", "-o", "begun.json") == 0
    assert json.loads((line.root / "begun.json").read_bytes())["run"]["state"] == "running"
    assert going_on() == 0
    assert line.run("gate", "done", "--baseline", "begun", "--policy", "policy.yaml") == 1


def test_a_run_that_ends_early_tells_the_name_by_which_it_goes_on(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(plan: Plan, *, options: Options, **_: object) -> RunResult:
        trouble = LabError("The disk is full.")
        return RunResult(
            run_id=options.run_id,
            state=RunState.INTERRUPTED,
            judgements={},
            attempts_made=1,
            answered_from_store=0,
            trouble=trouble,
        )

    monkeypatch.setattr(run_face, "run", ends)
    assert line.run("run", "suite.yaml") == 5
    assert re.search(r"--resume \d{8}-\d{6}-\S+", line.err())


# --- where guests come from -------------------------------------------------------------------------------------------


def test_a_run_is_taken_up_again_with_the_provider_that_it_was_begun_with(
    line: CommandLine, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = SqliteStore(store)
    whole = opened.find_run("done")
    opened.start_run(replace(whole, id="half", state=RunState.RUNNING, finished_at=None), plan(cell()))
    opened.close()
    asked: list[object] = []

    def rig(provider: str, _loaded: object) -> Rig:
        asked.append(provider)
        return line.lab.rig()

    monkeypatch.setattr(run_face, "make_rig", rig)
    said = line.refused("run", "suite.yaml", "--resume", "half", "--provider", "another")
    assert "was begun with the provider 'fake', not with 'another'" in said
    assert line.run("run", "suite.yaml", "--resume", "half") in {0, 1, 3}
    assert asked == ["fake"]


def test_the_lab_that_nobody_asked_for_is_told_with_the_reason(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = Choice(provider="qemu", why="docker is not usable (no engine)")
    monkeypatch.setattr(OneImage, "choice", taken)
    asked = run_face.Asked(suite=Path("suite.yaml"), as_json=True)
    assert run_face.load_for_lab(asked)[1] == taken
    assert capsys.readouterr().err.splitlines()[-1] == "lab: qemu, because docker is not usable (no engine)"
    run_face.load_for_lab(replace(asked, provider="qemu"))
    assert "lab:" not in capsys.readouterr().err, "who names one knows it"
    result = RunResult(run_id="r", state=RunState.COMPLETE, judgements={}, attempts_made=0, answered_from_store=0)
    run_face.say_result(asked, result, plan(cell()), Path("matrix.html"), lab=taken)
    assert json.loads(capsys.readouterr().out)["lab"] == {"provider": "qemu", "why": taken.why}
