"""A cell of the smoke suite held on a real guest: it is as its steps left it, commands run in it, and it is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.image import Image
from harness.rig import ROOT

SUITE = ROOT / "scenarios" / "suites" / "smoke.yaml"
CELL = "1.0.0/reference/none-standard/none/fresh-install"


@pytest.fixture(params=["docker", "qemu"])
def provider(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    image: Image = request.getfixturevalue({"docker": "reference_image", "qemu": "vm_image"}[name])
    assert image.missing is None
    return name


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", *words]


@pytest.fixture
def held(provider: str, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """Hold the cell's guest behind its installation; give the process and what it told."""
    words = command("reproduce", CELL, str(SUITE), "--hold", "install", "--provider", provider, "--json")
    with (tmp_path / "stderr").open("w") as told:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, text=True, cwd=ROOT
        )
        try:
            assert process.stdout is not None
            text = ""
            for line in process.stdout:
                text += line
                if line == "}\n":
                    break
            assert text, (tmp_path / "stderr").read_text()
            yield process, json.loads(text)
        finally:
            process.kill()
            process.communicate()


def said(shell: Sequence[str], *words: str) -> str:
    done = subprocess.run(
        command(*shell[1:], *words), capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.guest
@pytest.mark.timeout(400)
def test_a_held_guest_is_as_its_steps_left_it_and_gone_when_it_is_let_go(
    provider: str, held: tuple[subprocess.Popen[str], dict[str, object]]
) -> None:
    process, told = held
    assert (told["stage"], told["passed"], told["provider"]) == ("install", True, provider)
    assert (told["vnc"] is not None) is (provider == "qemu")
    shell = told["shell"]
    assert isinstance(shell, list)
    installed = said(shell, "--", "ls", "/home/trader/.wine/drive_c/Program Files/DemoHTS")
    assert "hts_comm.dll" in installed
    assert said(shell, "--user", "root", "--", "id", "-un") == "root\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    gone = subprocess.run(command(*shell[1:], "--", "id"), capture_output=True, check=False, cwd=ROOT)
    assert gone.returncode == 5
