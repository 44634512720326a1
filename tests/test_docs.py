"""What the README says is so: its commands exist, every command is in it, and every outcome and step is explained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from harness.cli.main import app
from harness.rig import ROOT
from harness.rules import RULES
from harness.scenario import STEP_KINDS
from harness.verdict import Outcome

README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    root = get_command(app)
    names = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]  # a group
        below = getattr(command, "commands", {})
        names += [f"{name} {child}" for child in below] or [name]
    return names


@pytest.mark.parametrize("name", commands())
def test_every_command_is_in_the_readme(name: str) -> None:
    head, _, tail = name.partition(" ")
    line = next((row for row in README.splitlines() if row.startswith(f"| `hts-compat {head}")), "")
    assert line, f"no row for {head}"
    assert tail in line


def test_every_command_of_the_readme_exists() -> None:
    known = {name.split()[0] for name in commands()}
    assert set(re.findall(r"`hts-compat ([a-z][a-z-]*)", README)) <= known


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_explained(outcome: Outcome) -> None:
    assert f"`{outcome.value}`" in README
    assert f"`{outcome.value}`" in ARCHITECTURE


@pytest.mark.parametrize("rule", [name for name, _ in RULES])
def test_every_rule_is_explained(rule: str) -> None:
    assert f"`{rule}`" in ARCHITECTURE


@pytest.mark.parametrize("kind", STEP_KINDS)
def test_every_step_is_explained(kind: str) -> None:
    assert f"`{kind}`" in README


@pytest.mark.parametrize(
    "document", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "seeds/hts/README.md", "examples/ci/README.md"]
)
def test_links_to_files_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", README))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_help_names_the_exit_codes_of_run() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "4 nothing ran" in " ".join(done.stdout.split())


def test_no_path_of_a_machine_stands_in_a_document() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("seeds/**/*.md")]:
        assert not re.search(r"/(?:root|work|home)/(?!trader)", Path(path).read_text(encoding="utf-8")), path
