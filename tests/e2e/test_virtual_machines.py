"""The demo's cells on virtual machines show what they show in containers, and nobody needs a privilege for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.expectation import differences
from harness.matrix import Matrix
from harness.rig import ROOT
from harness.yaml_files import load_expectations
from tests.e2e.ordinary_user import OrdinaryUser, ordinary_user

pytestmark = [pytest.mark.guest, pytest.mark.usefixtures("vm_image")]

SUITES = ROOT / "scenarios" / "suites"
CLI = (sys.executable, "-m", "harness.cli")

#: One green, one quarantined, one blocked, and the incident. What each must show is what the demo documents.
FOUR = "1.0.0 and (baseline or strict-1 or 2026-11-05)"


@pytest.fixture(scope="module")
def user() -> Iterator[OrdinaryUser]:
    """Give a user without any capability and without an engine."""
    with ordinary_user() as made:
        if made.run(["test", "-r", str(ROOT / "pyproject.toml")], timeout_s=20).returncode != 0:
            pytest.skip("another user may not read this checkout: a folder above it is closed to others")
        seen = made.run([sys.executable, "-c", "import harness.cli.main"], timeout_s=60)
        assert seen.returncode == 0, f"another user must be able to read this checkout: {seen.stderr[-500:]}"
        yield made


@pytest.fixture(scope="module")
def ran(user: OrdinaryUser) -> dict[str, Any]:
    """Run the four cells as him, on whichever lab is chosen."""
    suite = str(SUITES / "demo.yaml")
    argv = [*CLI, "run", suite, "-k", FOUR, "--fresh", "--json", "--out", str(user.home / "reports")]
    done = user.run(argv, timeout_s=1700)
    assert done.returncode == 1, done.stderr[-4000:]  # bad cells are in it
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def wrong_in(report: Path, expected: str) -> list[str]:
    """Compare a report with what is documented of its cells; cells that were not selected are not missed."""
    matrix = Matrix.from_json((report / "matrix.json").read_bytes())
    found = differences(load_expectations(SUITES / f"{expected}.expected.yaml"), matrix.cells)
    return [sentence for sentence in found if not sentence.endswith("no cell of the run has this id")]


def test_he_has_no_capability_at_all_and_can_get_none(user: OrdinaryUser) -> None:
    status = dict(
        line.split(":\t")
        for line in user.run(["cat", "/proc/self/status"], timeout_s=20).stdout.splitlines()
        if line.startswith(("Uid", "Cap", "NoNewPrivs"))
    )
    assert status["Uid"].split() == [str(user.uid)] * 4
    assert user.uid != 0
    assert {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {
        "CapInh": 0,
        "CapPrm": 0,
        "CapEff": 0,
        "CapAmb": 0,
    }
    assert status["NoNewPrivs"] == "1"


@pytest.mark.timeout(120)
def test_doctor_tells_him_that_virtual_machines_alone_carry_the_demo(user: OrdinaryUser) -> None:
    done = user.run([*CLI, "doctor", "--json"], timeout_s=100)
    said = json.loads(done.stdout)
    labs = {lab["provider"]: (lab["usable"], lab["why_not"]) for lab in said["labs"]}
    assert labs == {"docker": (False, "No Docker engine answers"), "qemu": (True, "")}
    assert done.returncode == 0, [f for f in said["findings"] if f["needed"] and not f["ok"]]
    [accelerator] = [f for f in said["findings"] if f["name"] == "accelerator"]
    assert accelerator["ok"]


@pytest.mark.timeout(1800)
def test_green_quarantined_blocked_and_the_incident_are_as_in_containers(ran: dict[str, Any]) -> None:
    outcomes = {cell: told["outcome"] for cell, told in ran["cells"].items()}
    assert sorted(outcomes.values()) == ["BLOCKED", "COMPATIBLE", "QUARANTINED", "QUARANTINED"], ran["cells"]
    assert wrong_in(Path(ran["report"]).parent, "demo") == []


@pytest.mark.timeout(1800)
def test_the_run_says_which_lab_it_took_and_its_record_names_it(ran: dict[str, Any]) -> None:
    assert ran["lab"] == {"provider": "qemu", "why": "docker is not usable (No Docker engine answers)"}
    record = json.loads((Path(ran["report"]).parent / "matrix.json").read_bytes())
    assert record["run"]["provider"] == "qemu"


@pytest.mark.timeout(1800)
def test_nothing_of_his_guests_is_left(ran: dict[str, Any], user: OrdinaryUser) -> None:
    del ran
    mine = [p for p in Path("/proc").glob("[0-9]*") if _owner(p) == user.uid and _program(p) == "qemu-system-x86"]
    assert mine == []
    assert (user.home / f"hts-compat-qemu-{user.uid}").is_dir(), "his guests were there"
    assert list(user.home.glob(f"hts-compat-qemu-{user.uid}/vm-*")) == []


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:
        return None


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


@pytest.mark.table
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["demo", "drills"])
def test_the_whole_table_is_as_documented(name: str, tmp_path: Path) -> None:
    argv = [
        *CLI,
        "run",
        str(SUITES / f"{name}.yaml"),
        "--provider",
        "qemu",
        "--fresh",
        "--json",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in {1, 3}, done.stderr[-4000:]
    matrix = Matrix.from_json((Path(json.loads(done.stdout)["report"]).parent / "matrix.json").read_bytes())
    expected = load_expectations(SUITES / f"{name}.expected.yaml")
    assert differences(expected, matrix.cells) == ()
