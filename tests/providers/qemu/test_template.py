"""A template is whole and unchanged, or no guest is made of it; once loaded, nothing can change it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.providers.qemu.template import ABOUT, MEMORY, Held, Template, load
from tests.providers.qemu.small_templates import FILES, describe, loaded, write_files


@pytest.fixture
def template(tmp_path: Path) -> Template:
    write_files(tmp_path)
    describe(tmp_path)
    return loaded(tmp_path)


@pytest.fixture
def held(template: Template) -> Iterator[Held]:
    loaded = Held(template)
    yield loaded
    loaded.close()


def test_what_a_clone_maps_is_the_template_s_memory(held: Held) -> None:
    assert Path(held.memory_path).read_bytes() == held.template.file(MEMORY).read_bytes()


def test_holes_of_the_memory_take_no_room(held: Held) -> None:
    assert Path(held.memory_path).stat().st_blocks * 512 < 4 << 20


@pytest.mark.parametrize(
    "attack",
    [
        lambda memory: os.pwrite(memory, b"x", 0),
        lambda memory: os.ftruncate(memory, 1),
        lambda memory: os.ftruncate(memory, 1 << 30),
    ],
    ids=["write", "shrink", "grow"],
)
def test_loaded_memory_cannot_be_changed_by_anyone(held: Held, attack: Callable[[int], object]) -> None:
    with pytest.raises(PermissionError):
        attack(int(held.memory_path.rpartition("/")[2]))


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_one_other_byte_makes_no_guest(template: Template, name: str) -> None:
    with template.file(name).open("r+b") as stream:
        stream.seek(3)
        stream.write(b"\xff")
    with pytest.raises(LabError, match=f"'{name}' of the template 'reference-vm' is missing or changed"):
        Held(template)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_or_is_gone_makes_no_guest(template: Template, name: str) -> None:
    os.truncate(template.file(name), 2)
    with pytest.raises(LabError, match=name):
        Held(template)
    template.file(name).unlink()
    with pytest.raises(LabError, match=name):
        Held(template)


def test_the_content_is_another_when_any_file_or_the_machine_is(template: Template) -> None:
    about = template.about
    seen = {about.content}
    for name in FILES:
        seen.add(about.model_copy(update={"files": {**about.files, name: "0" * 64}}).content)
    seen.add(about.model_copy(update={"fingerprint": "e" * 64}).content)
    assert len(seen) == len(FILES) + 2


def test_a_template_of_another_format_has_not_been_made(template: Template) -> None:
    about = template.folder / ABOUT
    said = json.loads(about.read_text())
    for other in ({**said, "format": 3}, {key: said[key] for key in said if key not in {"format", "disk"}}):
        about.write_text(json.dumps(other))
        assert load(template.folder) is None


def test_a_template_that_says_nonsense_is_told_with_what_to_do(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(LabError, match="cannot be read") as caught:
        load(tmp_path)
    assert "build its image again" in caught.value.hint
