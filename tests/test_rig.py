"""Which images a machine has, and what is said of those that it does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import machine
from harness.errors import LabError
from harness.machine import Machine
from harness.providers import docker_build
from harness.rig import ROOT, Images, image_files
from tests.providers.fake_programs import FakePrograms

NOT_TO_BE_HAD = (
    "The image 'reference-32' could not be built: The i386 packages that it needs (wine32:i386) cannot be had from the "
    "apt sources used here. Give apt a Debian mirror whose bookworm main has i386, or leave cells of this image out."
)


@pytest.fixture
def without_i386(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """Give a machine without any image, whose apt has no i386, and on which somebody tried to build reference-32."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    programs = FakePrograms(tmp_path / "bin", monkeypatch)
    programs.mmdebstrap_says("E: Unable to locate package wine32:i386", exit_code=25)
    with pytest.raises(LabError):
        docker_build.build(image_files(ROOT / "vm_images" / "reference-32"))
    return programs


def test_an_image_that_is_not_there_stands_for_itself_and_says_why(without_i386: FakePrograms) -> None:
    image = Images(ROOT / "vm_images")["reference-32"]
    assert image.missing == NOT_TO_BE_HAD
    assert image.machines == (Machine.X64, Machine.X86)
    assert image.content.startswith("missing:"), "no answer of a real image is taken for its own"


def test_the_list_of_images_says_why_one_is_missing(
    without_i386: FakePrograms, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine.image_list(as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"reference-32     {NOT_TO_BE_HAD}" in lines
    assert lines[0].endswith("run 'hts-compat image build reference'.")
    assert machine.image_list(as_json=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["images"]}
    assert (rows["reference-32"]["built"], rows["reference-32"]["why_not"]) == (False, NOT_TO_BE_HAD)
