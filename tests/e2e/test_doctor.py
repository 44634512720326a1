"""The rig of this machine tests itself, on real guests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.rig import ROOT


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_the_rig_of_this_machine_keeps_its_promises_and_leaves_no_latest_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.cli"]
    argv = [*command, "doctor", "--rig", "--json", "--out", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    said = json.loads(done.stdout)
    promises = {p["promise"]: p["why_not"] for p in said["rig"]["promises"]}
    names = ["known-good", "known-bad", "dead-protection", "excluded-path", "stale-signature", "late-acting"]
    assert promises == {name: [] for name in names}
    assert (done.returncode, said["ok"]) == (0, True)
    latest = subprocess.run([*command, "matrix", "--out", str(tmp_path)], capture_output=True, check=False, cwd=ROOT)
    assert latest.returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
