"""A template is whole and unchanged, or no guest is made of it; once loaded, nothing can change it."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.providers.qemu import digests
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


def test_a_template_that_nobody_holds_any_more_keeps_no_file_open(template: Template) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    loaded = Held(template)
    assert len(set(Path("/proc/self/fd").iterdir()) - before) == 2
    del loaded
    gc.collect()
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.fixture
def seen(template: Template, monkeypatch: pytest.MonkeyPatch) -> Template:
    """A template whose files have been read before, and are remembered."""
    monkeypatch.setattr(digests, "SETTLED_S", 0.0)
    time.sleep(0.01)  # so long is a tick of the file system's clock
    Held(template).close()
    return template


def test_what_was_read_before_is_not_hashed_again_and_the_same_is_mapped(
    seen: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashlib, "sha256", None)
    held = Held(seen)
    assert Path(held.memory_path).read_bytes() == seen.file(MEMORY).read_bytes()
    assert Path(held.memory_path).stat().st_blocks * 512 < 4 << 20
    with pytest.raises(PermissionError):
        os.pwrite(int(held.memory_path.rpartition("/")[2]), b"x", 0)
    held.close()


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_one_other_byte_makes_no_guest_although_it_was_read_before(seen: Template, name: str) -> None:
    before = seen.file(name).stat()
    with seen.file(name).open("r+b") as stream:
        stream.seek(3)
        stream.write(b"\xff")
    os.utime(seen.file(name), ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(LabError, match=f"'{name}' of the template 'reference-vm' is missing or changed"):
        Held(seen)


def test_memory_that_is_written_to_while_it_is_loaded_makes_no_guest(
    seen: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Held._copy

    def copy(held: Held, source: int, size: int) -> None:
        whole(held, source, size)
        with seen.file(MEMORY).open("r+b") as stream:
            stream.write(b"other")

    monkeypatch.setattr(Held, "_copy", copy)
    with pytest.raises(LabError, match="'memory' of the template"):
        Held(seen)


def test_memory_that_is_another_for_a_moment_is_loaded_as_it_is_at_last(
    seen: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Held._copy

    def copy(held: Held, source: int, size: int) -> None:
        with seen.file(MEMORY).open("r+b") as stream:
            os.pwrite(stream.fileno(), b"other", 1 << 20)
            whole(held, source, size)
            os.pwrite(stream.fileno(), bytes(5), 1 << 20)

    monkeypatch.setattr(Held, "_copy", copy)
    held = Held(seen)
    assert Path(held.memory_path).read_bytes() == seen.file(MEMORY).read_bytes()
    held.close()


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
