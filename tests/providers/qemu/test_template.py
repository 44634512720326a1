"""A template is whole and unchanged, or no guest is made of it; once loaded, nothing can change it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.providers.qemu.template import (
    ABOUT,
    BASE,
    DISK,
    INITRD,
    KERNEL,
    MEMORY,
    STATE,
    About,
    Held,
    Template,
    digest_of,
    load,
    write_about,
)

FILES = (KERNEL, INITRD, BASE, DISK, MEMORY, STATE)


@pytest.fixture
def template(tmp_path: Path) -> Template:
    for name in FILES:
        (tmp_path / name).write_bytes(name.encode() * 100)
    with (tmp_path / MEMORY).open("wb") as stream:
        stream.write(b"begin")
        stream.truncate(8 << 20)
        stream.seek(5 << 20)
        stream.write(b"middle")
    about = About(
        name="reference-vm",
        recipe="r" * 64,
        fingerprint="f" * 64,
        qemu_version="7.2",
        accelerator="tcg",
        memory_mib=8,
        cpus=1,
        nonce="n" * 32,
        packages=3,
        files={name: digest_of(tmp_path / name) for name in FILES},
    )
    write_about(tmp_path, about)
    found = load(tmp_path)
    assert found is not None
    return found


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


def test_a_template_that_says_nonsense_is_told_with_what_to_do(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    (tmp_path / ABOUT).write_text("{}")
    with pytest.raises(LabError, match="cannot be read") as caught:
        load(tmp_path)
    assert "build its image again" in caught.value.hint
