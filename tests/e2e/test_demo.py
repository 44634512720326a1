"""The main job on real parts: what the demo is documented to show is what real guests show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.rig import ROOT

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

CLI = (sys.executable, "-m", "harness.cli")


def hts_compat(*arguments: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of the demo, drills included, that all tests of this module look at."""
    out = tmp_path_factory.mktemp("reports")
    done = hts_compat("demo", "--out", str(out))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return out


def cells_of(reports: Path, folder: str = "demo") -> dict[str, Any]:
    matrix = json.loads((reports / folder / "matrix.json").read_bytes())
    return {cell["id"]: cell for cell in matrix["cells"]}


def test_the_demo_is_as_documented(reports: Path) -> None:
    assert len(cells_of(reports)) == 12


def test_the_incident_names_product_file_detection_stage_and_dialog(reports: Path) -> None:
    cell = cells_of(reports)["1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"]
    assert (cell["outcome"], cell["stage"], cell["lab"]) == ("QUARANTINED", "connect", "reference")
    assert (cell["signature_from"], cell["signature"]) == ("2026-11-04", "2026-11-05")
    [detection] = cell["detections"]
    assert detection["target"].endswith("\\hts_comm.dll")
    assert (detection["component"], detection["mechanism"]) == ("module", "signature")
    assert "hts_comm.dll" in cell["failed_step"]["dialog"]
    assert cell["confirmed"]
    assert not cell["flaky"]
    assert any(e["kind"] == "screenshot" for e in cell["evidence"])


def test_every_green_cell_carries_proof_of_life_from_its_own_guest(reports: Path) -> None:
    green = [cell for cell in cells_of(reports).values() if cell["outcome"] == "COMPATIBLE"]
    assert green
    for cell in green:
        canaries = cell["protection"]["canaries"]
        assert {canary["when"] for canary in canaries} == {"before", "step", "after"}
        assert all(canary["reacted"] for canary in canaries)
        assert cell["protection"]["signature_after"] == cell["signature"]


def test_matrix_json_fits_its_schema(reports: Path) -> None:
    schema = json.loads((ROOT / "harness/schemas/matrix.schema.json").read_bytes())
    for folder in ("demo", "demo-drills"):
        jsonschema.validate(json.loads((reports / folder / "matrix.json").read_bytes()), schema)


def test_drills_with_broken_protection_are_never_green(reports: Path) -> None:
    drills = cells_of(reports, "demo-drills")
    assert {cell["outcome"] for cell in drills.values()} == {"INCONCLUSIVE"}
    assert {cell["blame"] for cell in drills.values()} == {"lab"}
    assert {cell["rule"] for cell in drills.values()} == {"lab.canary", "lab.trouble", "lab.protection"}


def test_rejudging_the_demo_gives_the_same_verdicts(reports: Path) -> None:
    done = hts_compat("rejudge", str(reports / "demo"), "--out", str(reports), "--json", timeout_s=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["changed"] == []


def test_the_latest_run_is_the_demo_and_never_a_drill(reports: Path) -> None:
    done = hts_compat("matrix", "--format", "json", "--out", str(reports), timeout_s=60)
    assert json.loads(done.stdout)["run"]["suite"] == "demo"


@pytest.mark.parametrize(
    "cell",
    [
        "1.0.0/reference/clamav-standard/2026-11-04/fresh-install",
        "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated",
        "1.0.0/reference/fapolicyd-standard/strict-1/fresh-install",
        "1.2.0/reference/clamav-standard/2026-11-04/fresh-install",
    ],
)
def test_explain_shows_the_proof_of_one_cell_of_each_outcome(reports: Path, cell: str) -> None:
    done = hts_compat("explain", cell, "--out", str(reports), timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert cells_of(reports)[cell]["outcome"] in done.stdout
    assert str(cells_of(reports)[cell]["reason"])[:60] in " ".join(done.stdout.split())


def test_the_gate_blocks_the_incident_with_the_demo_policy(reports: Path) -> None:
    done = hts_compat("gate", "--policy", "scenarios/policies/demo.yaml", "--out", str(reports), timeout_s=60)
    assert done.returncode == 1, done.stdout
    assert "BLOCKED" in done.stdout


def test_the_gate_of_a_release_decides_nothing_from_the_reference_lab(reports: Path) -> None:
    done = hts_compat("gate", "--policy", "scenarios/policies/release.yaml", "--out", str(reports), timeout_s=60)
    assert done.returncode == 4, done.stdout


def test_a_rerun_with_nothing_changed_starts_no_guest(reports: Path) -> None:
    done = hts_compat("run", "scenarios/suites/demo.yaml", "--out", str(reports), "--json", timeout_s=120)
    said = json.loads(done.stdout)
    assert (said["attempts_made"], said["answered_from_store"]) == (0, 12)
    assert done.returncode == 1  # the incident is still in it
