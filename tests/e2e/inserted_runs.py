"""Suites of the fresh install with a command of a test's own before one of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.rig import ROOT

#: Where the demo's build is installed, as the guest's own system sees it.
INSTALLED = "/home/trader/.wine/drive_c/Program Files/DemoHTS"

CLAMAV = {
    "product": "clamav",
    "profile": "standard",
    "signature_sets": str(ROOT / "seeds" / "signatures" / "clamav.yaml"),
    "signatures": ["2026-11-04"],
}


@dataclass(frozen=True, kw_only=True)
class Inserted:
    """A command of the desktop user, and the step that it stands before."""

    command: Sequence[str]
    before: str
    timeout_s: int


def suite_in(folder: Path, name: str, scenarios: Mapping[str, Inserted], **more: object) -> Path:
    """Write a suite with a scenario for each command; give its path.

    Args:
        folder: Where its files go.
        name: The suite's.
        scenarios: By the scenario's name.
        more: Further keys of the suite, ``products`` among them.
    """
    whole = yaml.safe_load((ROOT / "scenarios" / "fresh-install.yaml").read_text(encoding="utf-8"))
    for service in whole["services"]:
        service["files"] = [str((ROOT / "scenarios" / file).resolve()) for file in service["files"]]
    for scenario, inserted in scenarios.items():
        at = next(n for n, step in enumerate(whole["steps"]) if inserted.before in step)
        run = {"run": {"command": list(inserted.command), "user": "desktop", "timeout_s": inserted.timeout_s}}
        _write(
            folder / f"{scenario}.yaml",
            {**whole, "name": scenario, "steps": [*whole["steps"][:at], run, *whole["steps"][at:]]},
        )
    suite = {
        "schema": "hts-compat/suite/1",
        "name": name,
        "lab": "reference",
        "images": ["reference"],
        "builds": [{"recipe": str(ROOT / "seeds" / "hts" / "recipe.yaml"), "version": "1.0.0"}],
        "scenarios": [f"{scenario}.yaml" for scenario in scenarios],
        "jobs": 2,
        **more,
    }
    return _write(folder / f"{name}.yaml", suite)


def _write(path: Path, value: object) -> Path:
    path.write_text(yaml.safe_dump(value, allow_unicode=True), encoding="utf-8")
    return path
