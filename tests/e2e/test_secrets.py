"""A test account in a real guest: entered into a careless program's fields, and found nowhere afterwards."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.attempt import Attempt, Kind
from harness.image import Image
from harness.rig import ROOT
from harness.stores.sqlite import SqliteStore

SOURCE = ROOT / "tests" / "probe_app" / "login.c"
ACCOUNT, PASSWORD = "홍길동-hong1234", "p@ss w/ord+77"

SUITE = """\
schema: hts-compat/suite/1
name: secrets
lab: reference
images: [reference]
builds:
  - {path: app, name: Login, version: "1.0", install_dir: 'C:\\Program Files\\Login'}
products:
  - product: clamav
    signature_sets: SETS
    signatures: [nothing-known]
scenarios: [login.yaml, lost.yaml]
confirm: 1
"""

LOGIN = """\
schema: hts-compat/scenario/1
name: NAME
volatile: ['logs\\*']
steps:
  - deliver:
  - install:
  - launch: {program: Login.exe, window: 시험 프로그램, modules: [Login.exe]}
  - connect:
      fill:
        - {window: 시험 프로그램, field: 계정(A), secret: TEST_ACCOUNT}
        - {window: 시험 프로그램, field_number: 2, secret: TEST_PASSWORD}
      click: {window: 시험 프로그램, button: 로그인}
      window: WINDOW
      log: {file: 'logs\\app.log', matches: '^connected'}
      modules: [MODULE]
      timeout_s: 15
  - dwell: {seconds: 1, window: 접속됨}
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run left behind."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    cells: dict[str, dict[str, object]]
    attempts: list[Attempt]


@pytest.fixture(scope="module")
def ran(reference_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Run the careless program twice: once all is well, and once a program that should run does not."""
    del reference_image  # it must have been built
    folder = tmp_path_factory.mktemp("secrets")
    app = folder / "app"
    app.mkdir()
    compiler = shutil.which("x86_64-w64-mingw32-gcc")
    if compiler is None:
        pytest.skip("mingw-w64 is not installed")
    flags = ["-O2", "-s", "-municode", "-mwindows"]
    subprocess.run([compiler, *flags, "-o", str(app / "Login.exe"), str(SOURCE)], check=True)
    shutil.copy(app / "Login.exe", app / "helper.exe")
    sets = ROOT / "seeds" / "signatures" / "your-own.yaml"
    (folder / "suite.yaml").write_text(SUITE.replace("SETS", str(sets)), encoding="utf-8")
    for name, module in (("login", "helper.exe"), ("lost", "keyguard.exe")):
        text = LOGIN.replace("NAME", name).replace("WINDOW", "접속됨").replace("MODULE", module)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    value = folder / "password.txt"
    value.write_text(f"{PASSWORD}\n", encoding="utf-8")
    out = folder / "out"
    done = subprocess.run(
        [
            *[sys.executable, "-m", "harness.cli", "run", str(folder / "suite.yaml"), "--json", "--out", str(out)],
            *["--junitxml", str(out / "junit.xml"), "--alluredir", str(out / "allure")],
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"HTS_SECRET_TEST_ACCOUNT": ACCOUNT, "HTS_SECRET_TEST_PASSWORD_FILE": str(value)},
    )
    value.unlink()
    assert done.stdout, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    store = SqliteStore(out / "store")
    attempts = [a for cell in store.plan_of(answer["run"]).cells for a in store.attempts(answer["run"], cell)]
    yield Ran(folder=folder, done=done, cells=answer["cells"], attempts=attempts)
    store.close()


def forms(value: str) -> list[bytes]:
    """Give what to look for: the value as programs, scripts and renderers write it."""
    texts = [value, quote(value), quote(value, safe=""), json.dumps(value)[1:-1]]
    raw = [text.encode(encoding) for text in texts for encoding in ("utf-8", "utf-16-le", "cp949")]
    coded = [base64.b64encode(bytes(n) + value.encode())[4:-4] for n in range(3)]
    return [*raw, *coded]


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_the_account_was_entered_and_the_program_s_child_seen(ran: Ran) -> None:
    outcomes = {cell.rpartition("/")[2]: (c["outcome"], c["stage"]) for cell, c in ran.cells.items()}
    assert outcomes == {"login": ("COMPATIBLE", None), "lost": ("BUILD_FAULT", "connect")}, ran.done.stderr[-3000:]
    [lost] = [c for cell, c in ran.cells.items() if cell.endswith("/lost")]
    assert "'keyguard.exe' does not run" in str(lost["reason"])


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_the_program_wrote_the_account_and_what_it_wrote_was_recorded_masked(ran: Ran) -> None:
    logs = [a.blobs.get(e.blob or "") for a in ran.attempts for e in a.of(Kind.LOOK, subject="program log")]
    assert logs
    stars = "*" * len(ACCOUNT.encode())
    assert all(f"login account={stars} password=".encode() in log for log in logs)
    assert all("*".encode("utf-16-le") * len(PASSWORD) in log for log in logs)


@pytest.mark.guest
@pytest.mark.timeout(300)
@pytest.mark.parametrize("value", [ACCOUNT, PASSWORD])
def test_nothing_that_a_run_leaves_behind_holds_a_secret(value: str, ran: Ran) -> None:
    files = [path for path in ran.folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".html", ".json", ".xml", ".csv"} <= kinds
    held = [(str(path), path.read_bytes()) for path in files]
    held += [("stdout", ran.done.stdout.encode()), ("stderr", ran.done.stderr.encode())]
    for attempt in ran.attempts:
        held += [(f"event {e.seq}", attempt.blobs.get(e.blob)) for e in attempt.events if e.blob]
        held += [(f"event {e.seq}", e.model_dump_json().encode()) for e in attempt.events]
    for database in ran.folder.rglob("*.sqlite"):
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
            held += [(str(database), line.encode()) for line in opened.iterdump()]
    found = [(where, form) for where, raw in held for form in forms(value) if form in raw]
    assert found == []


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_no_picture_was_taken_once_the_account_stood_on_the_screen(ran: Ran) -> None:
    for attempt in ran.attempts:
        connect = [s.kind for s in attempt.cell.scenario.steps].index("connect")
        assert {e.step for e in attempt.of(Kind.SCREENSHOT)} <= set(range(connect))
        assert attempt.of(Kind.LOOK, subject="screen withheld")
