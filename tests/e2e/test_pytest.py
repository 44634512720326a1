"""The pytest face on real guests: of the smoke suite one cell passes, and the incident fails with its proof."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.rig import ROOT
from tests.renderers.junit_rules import broken_rules

INCIDENT = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"


@pytest.mark.guest
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("reference_image")
def test_the_smoke_suite_passes_once_and_fails_with_the_incident(tmp_path: Path) -> None:
    out, junit, allure = tmp_path / "reports", tmp_path / "junit.xml", tmp_path / "allure"
    suite = "scenarios/suites/smoke.yaml"
    arguments = [suite, "--hts-out", out, "--junitxml", junit, "--alluredir", allure, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 1
    for words in ("QUARANTINED at connect", "hts_comm.dll", "released-then-updated.yaml:", "observed: dialog: "):
        assert words in done.stdout, done.stdout.partition("= FAILURES =")[2][:3000]
    assert broken_rules(junit.read_bytes()) == []
    results = {r["fullName"]: r for r in map(json.loads, (p.read_bytes() for p in allure.glob("*-result.json")))}
    connect = next(s for s in results[f"hts-compat/{INCIDENT}"]["steps"] if s["name"].endswith(" connect"))
    assert any(a["type"] == "image/png" for a in connect["attachments"])
    assert (next(out.glob("*-smoke-*")) / "matrix.html").is_file()
