"""A suite that opens one host to real guests: a Windows program asks it, and another one, and the verdict says both."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.image import Image
from harness.rig import ROOT
from tests.way_out.guest_end import head_of, server

pytestmark = [pytest.mark.guest, pytest.mark.timeout(300)]

SUITE = """\
schema: hts-compat/suite/1
name: way-out
lab: reference
images: [reference]
builds:
  - {path: app, name: Reach, version: "1.0", install_dir: 'C:\\Program Files\\Reach'}
products:
  - product: clamav
    signature_sets: SETS
    signatures: [nothing-known]
scenarios: [reach.yaml]
confirm: 1
admission: false
"""

SCENARIO = """\
schema: hts-compat/scenario/1
name: reach
steps:
  - deliver:
  - install:
  - launch: {program: reach.exe, args: [inet, localhost, 'OPEN'], exit_codes: [OPEN_CODE]}
  - launch: {program: reach.exe, args: [tcp, localhost, 'OPEN'], exit_codes: [1]}
  - launch: {program: reach.exe, args: [inet, localhost, 'OTHER'], exit_codes: [0]}
"""


@pytest.fixture(scope="module")
def folder(reference_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del reference_image  # it must have been built
    compiler = shutil.which("x86_64-w64-mingw32-gcc")
    if compiler is None:
        pytest.skip("mingw-w64 is not installed")
    made = tmp_path_factory.mktemp("way-out")
    (made / "app").mkdir()
    source, libraries = ROOT / "tests" / "probe_app" / "reach.c", ["-lwininet", "-lwinhttp", "-lws2_32"]
    subprocess.run([compiler, "-O2", "-s", "-o", str(made / "app" / "reach.exe"), str(source), *libraries], check=True)
    return made


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    def quote(connected: Any) -> None:
        head_of(connected)
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n51000")

    with server(quote) as opened, server(quote) as other:
        yield opened, other


def run(folder: Path, ports: tuple[int, int], egress: str, open_code: int, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the suite with docker; give its exit code and its one cell, with the number of guests."""
    sets = ROOT / "seeds" / "signatures" / "your-own.yaml"
    (folder / "suite.yaml").write_text(SUITE.replace("SETS", str(sets)) + egress, encoding="utf-8")
    text = SCENARIO.replace("OPEN_CODE", str(open_code)).replace("OPEN", str(ports[0])).replace("OTHER", str(ports[1]))
    (folder / "reach.yaml").write_text(text, encoding="utf-8")
    argv = [sys.executable, "-m", "harness.cli", "run", str(folder / "suite.yaml"), "--json", "--provider", "docker"]
    argv += ["--out", str(folder / "out"), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    matrix = json.loads((folder / "out" / answer["run"] / "matrix.json").read_text("utf-8"))
    (cell,) = matrix["cells"]
    return done.returncode, cell


def test_the_verdict_says_what_was_open_what_was_used_and_what_was_refused(
    folder: Path, ports: tuple[int, int]
) -> None:
    pair, other = (f"localhost:{port}" for port in ports)
    egress = f"egress:\n  private_hosts: ['{pair}']\n"
    code, cell = run(folder, ports, egress, 0)
    assert (code, cell["outcome"], cell["control"]["outcome"]) == (0, "COMPATIBLE", "COMPATIBLE"), cell["reason"]
    opened, seen = cell["egress"]["opened"], cell["egress"]["seen"]
    assert (opened["private_hosts"], opened["vendor_clouds"], cell["egress"]["asks_a_cloud"]) == ([pair], [], False)
    assert [(u["pair"], u["connections"], u["failed"]) for u in seen["used"]] == [(pair, 1, 0)]
    assert [(r["target"], r["times"]) for r in seen["refused"]] == [(other, 1)]
    assert seen["proven"]

    _, again = run(folder, ports, egress, 0)
    assert (again["cached"], again["key"]) == (True, cell["key"])
    assert again["egress"] == cell["egress"]


def test_the_same_suite_without_a_way_out_is_another_question(folder: Path, ports: tuple[int, int]) -> None:
    code, cell = run(folder, ports, "", 1)
    assert (code, cell["outcome"], cell["egress"], cell["cached"]) == (1, "BUILD_FAULT", None, False)
