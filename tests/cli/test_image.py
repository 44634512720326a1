"""``hts-compat image list|check|prune|freeze``: what is said of layers, in words and in JSON, and how each ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import image
from harness.cli.main import app
from harness.errors import InputError, LabError
from harness.providers.image_files import ImageFiles
from harness.providers.qemu.template import STATE, Held, Template
from harness.rig import ROOT, image_files
from tests.providers.qemu.small_templates import make_disk, make_template

pytestmark = pytest.mark.usefixtures("fake_qemu", "layers")

FOLDER = ROOT / "vm_images" / "reference-vm"


@pytest.fixture
def whole(layers: Path, fake_qemu: Path) -> Template:
    """A disk and a template of the image of this checkout."""
    assert layers.is_dir()
    assert fake_qemu.is_dir()
    files: ImageFiles = image_files(FOLDER)
    make_disk(files)
    return make_template(files)


def ran(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["image", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_layers_are_listed_below_the_images_with_size_age_and_content(whole: Template) -> None:
    code, said = ran("list")
    assert code == 0
    (line,) = [line for line in said.splitlines() if line.startswith(whole.folder.name)]
    assert "template  " in line
    assert "0 min old" in line
    assert f"content {whole.about.content[:12]}" in line
    assert "not needed" not in line
    _, raw = ran("list", "--json")
    rows = {row["name"]: row for row in json.loads(raw)["layers"]}
    assert rows[whole.folder.name]["content"] == whole.about.content
    assert rows[whole.folder.name]["kind"] == "template"
    assert rows[whole.folder.name]["needed"] is True
    assert {row["kind"] for row in rows.values()} == {"template", "disk"}


def test_whole_layers_are_0_and_one_other_byte_is_5_with_what_mends_it(whole: Template) -> None:
    assert ran("check")[0] == ran("check", "reference-vm")[0] == 0
    with whole.file(STATE).open("r+b") as stream:
        stream.write(b"\xff")
    code, said = ran("check", "reference-vm")
    assert code == 5
    assert f"WRONG    {whole.folder.name}  state: changed since it was made" in said
    assert f"fix: hts-compat image prune --layer {whole.folder.name} --yes" in said
    code, raw = ran("check", "--json")
    assert (code, json.loads(raw)["ok"]) == (5, False)


def test_what_is_not_there_cannot_be_checked() -> None:
    with pytest.raises(InputError, match="no image 'nothing'"):
        ran("check", "nothing")
    with pytest.raises(LabError, match="No layer of the image 'reference-vm'") as caught:
        ran("check", "reference-vm")
    assert "image build reference-vm" in caught.value.hint
    assert caught.value.exit_code == 5


@pytest.mark.usefixtures("whole")
def test_nothing_is_deleted_without_yes_and_nothing_that_is_needed_with_it(layers: Path) -> None:
    left = layers / ".reference-vm-0123.begun"
    left.mkdir()
    code, said = ran("prune")
    assert code == 0
    assert [line.split()[:3] for line in said.splitlines()] == [
        ["would", "remove", left.name],
        ["0", "MiB", "would"],
    ]
    assert left.is_dir()
    code, said = ran("prune", "--yes")
    assert code == 0
    assert said.startswith(f"removed        {left.name}")
    assert not left.exists()
    assert len([path for path in layers.iterdir() if path.is_dir()]) == 2
    assert json.loads(ran("prune", "--json")[1]) == {"dry_run": True, "layers": [], "freed_bytes": 0}


def test_a_layer_goes_by_its_name_unless_it_is_in_use(whole: Template) -> None:
    held = Held(whole)
    code, said = ran("prune", "--layer", whole.folder.name, "--yes")
    assert (code, said.split()[:3]) == (0, ["in", "use,", "kept"])
    held.close()
    assert ran("prune", "--layer", whole.folder.name, "--yes", "--json")[0] == 0
    assert not whole.folder.exists()
    with pytest.raises(InputError, match="no layer"):
        ran("prune", "--layer", whole.folder.name, "--yes")


def test_only_virtual_machines_that_have_been_built_are_frozen() -> None:
    suite = str(ROOT / "scenarios" / "suites" / "smoke.yaml")
    with pytest.raises(InputError, match="whose guests cannot be frozen"):
        ran("freeze", "reference", "--suite", suite)
    with pytest.raises(LabError, match="has not been built") as caught:
        ran("freeze", "reference-vm", "--suite", suite)
    assert "image build reference-vm" in caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "text"), [(59, "0 min"), (3600, "1 h"), (86399, "23 h"), (86400, "1 days"), (10**6, "11 days")]
)
def test_an_age_is_said_in_its_largest_unit(seconds: int, text: str) -> None:
    from datetime import timedelta

    assert image._age(timedelta(seconds=seconds)) == text
