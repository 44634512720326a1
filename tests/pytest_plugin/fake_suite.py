"""A suite over the simulated lab, as files, and the conftest that brings this lab to pytest."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from harness.errors import HarnessError
from harness.load import LoadedSuite
from harness.products.fake_log import NAME
from harness.pytest_plugin.parts import Parts
from harness.run_cell import Rig
from tests.builders import make_image
from tests.fake_lab import FakeLab, Script, parsers, well

CONFTEST = """\
from harness.errors import LabError
from harness.fake_guest import Mischief
from tests.pytest_plugin.fake_suite import parts

CONFIGS = []
LAB = parts({script})

def pytest_configure(config):
    CONFIGS.append(config)

def pytest_hts_compat_parts(config):
    return LAB
"""

MAKE = dedent(
    """
    import hashlib, json, pathlib, sys
    version, out = sys.argv[1], pathlib.Path(sys.argv[2])
    def facts(text):
        data = text.encode()
        return {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
    setup = f"DemoHTS {version} setup"
    out.mkdir(parents=True, exist_ok=True)
    (out / "setup.exe").write_text(setup)
    files = {"DemoHTS.exe": "main", "hts_update.exe": "updater", "hts_comm.dll": "comm"}
    parts = {"main": "main", "updater": "updater", "comm": "module"}
    (out / "manifest.json").write_text(json.dumps({
        "name": "DemoHTS", "version": version, "installer": {"file": "setup.exe", **facts(setup)},
        "install_dir": "C:\\\\DemoHTS", "patch": [],
        "files": [{"path": p, "component": parts[k], **facts(f"{k} {version}")} for p, k in files.items()]}))
    """
)

RECIPE = """\
schema: hts-compat/recipe/1
name: DemoHTS
command: [python3, make.py, "{version}", "{out}"]
inputs: [make.py]
"""

SETS = f"""\
schema: hts-compat/signatures/1
product: {NAME}
sets:
  - label: 2026-11-04
  - label: 2026-11-05
    rules:
      - {{build: "*", file: hts_comm.dll, threat: Test.Comm}}
"""

_STEPS = """\
steps:
  - deliver: {timeout_s: 0.25}
  - install: {timeout_s: 0.25}
  - launch: {program: DemoHTS.exe, window: 데모증권 HTS, timeout_s: 0.25}
UPDATE
  - connect:
      click: {window: 데모증권 HTS, button: 로그인}
      window: 접속됨
      error_windows: [접속 오류]
      timeout_s: 0.25
"""

FRESH = "schema: hts-compat/scenario/1\nname: fresh-install\n" + _STEPS.replace("UPDATE\n", "")
UPDATED = "schema: hts-compat/scenario/1\nname: released-then-updated\n" + _STEPS.replace(
    "UPDATE\n", "  - vendor_update: {timeout_s: 0.25}\n"
)

SUITE = f"""\
# a comment before the first key is allowed
schema: hts-compat/suite/1
name: nightly
lab: reference
images: [reference]
builds:
  - {{recipe: recipe.yaml, version: 1.0.0}}
  - {{recipe: recipe.yaml, version: 1.1.0}}
products:
  - product: {NAME}
    signature_sets: sets.yaml
    signatures:
      - 2026-11-04
      - 2026-11-04 -> 2026-11-05
scenarios: [fresh.yaml, updated.yaml]
leave_out:
  - {{build: 1.1.0, scenario: released-then-updated, reason: 1.1.0 came after that update.}}
confirm: 1
retries: 0
jobs: 2
max_age: 20h
admission: false  # it has tests of its own
"""

GREEN = f"1.0.0/reference/{NAME}-standard/2026-11-04/fresh-install"
GREEN_TOO = f"1.1.0/reference/{NAME}-standard/2026-11-04/fresh-install"
BAD = f"1.0.0/reference/{NAME}-standard/2026-11-04+2026-11-05/released-then-updated"
LEFT_OUT = f"1.1.0/reference/{NAME}-standard/2026-11-04+2026-11-05/released-then-updated"


def parts(script: Script = well, *, trouble: HarnessError | None = None) -> Parts:
    """Give the simulated lab to the plugin; with trouble it cannot be used at all."""
    lab = FakeLab(script)

    def rig(_provider: str, _loaded: LoadedSuite) -> Rig:
        if trouble is not None:
            raise trouble
        return lab.rig()

    return Parts(
        images={"reference": make_image()},
        products=(NAME, "none"),
        parsers=parsers,
        rig=rig,
        sweep=lab.provider.sweep,
    )


def write_suite(folder: Path, *, script: str = "") -> None:
    """Write the suite and all that it refers to."""
    files = {
        "conftest.py": CONFTEST.format(script=script),
        "make.py": MAKE,
        "recipe.yaml": RECIPE,
        "sets.yaml": SETS,
        "fresh.yaml": FRESH,
        "updated.yaml": UPDATED,
        "suite.yaml": SUITE,
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
