"""A layer that is damaged is put aside, and its cells begin from what it was made of."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from harness.errors import LabError
from harness.image import Image
from harness.protection import Protection
from harness.providers.api import KeptLayer, LayerKind
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import freeze, layer, shelf, template
from harness.providers.qemu.kit import QemuKit
from harness.providers.qemu.template import (
    ABOUT,
    BASE,
    DISK,
    INITRD,
    KERNEL,
    MEMORY,
    STATE,
    UNDER,
    Held,
    Template,
    TemplateDamaged,
)
from tests.builders import make_image, make_signature
from tests.providers.qemu.small_templates import make_protection

pytestmark = pytest.mark.usefixtures("fake_qemu", "layers")

UP = Protection(product="clamav", profile="standard", signature=make_signature(), code="c0de")

#: What may befall a file.
BLOWS: Mapping[str, Callable[[Path], object]] = {
    "cut": lambda file: os.truncate(file, file.stat().st_size // 2),
    "emptied": lambda file: os.truncate(file, 0),
    "flipped": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
    "missing": Path.unlink,
}


@pytest.fixture
def kit() -> Iterator[QemuKit]:
    made = QemuKit()
    yield made
    made.provider.close()


def image_of(parent: Template) -> Image:
    return make_image(content=parent.about.content, reference=str(parent.folder))


def strike(made: Template, name: str, how: str) -> None:
    """Damage a file that no other layer has."""
    file = made.file(name)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    BLOWS[how](file)


def listed(definition: ImageFiles) -> list[KeptLayer]:
    return [
        one
        for one in shelf.kept([(definition.folder, definition.like)], code_of=lambda _product: "c0de")
        if one.kind in {LayerKind.PROTECTION, LayerKind.DAMAGED, LayerKind.UNREADABLE}
    ]


#: Which file suffers what, and whether guests were made of the layer before. Without a description there is no layer.
DAMAGES = [
    *((name, how, False) for name in (ABOUT, STATE) for how in BLOWS if (name, how) != (ABOUT, "missing")),
    *((name, "flipped", False) for name in (DISK, UNDER, KERNEL, INITRD, BASE)),
    *((name, how, True) for name, how in ((STATE, "cut"), (DISK, "missing"), (UNDER, "flipped"), (ABOUT, "emptied"))),
]


@pytest.mark.parametrize(("name", "how", "loaded_before"), DAMAGES)
def test_a_layer_of_which_a_file_is_damaged_is_none_and_put_aside(
    parent: Template, definition: ImageFiles, kit: QemuKit, *, name: str, how: str, loaded_before: bool
) -> None:
    made = make_protection(parent)
    if loaded_before:
        assert kit.layer(image_of(parent), UP) is not None
    strike(made, name, how)
    assert kit.layer(image_of(parent), UP) is None
    assert not made.folder.exists()
    (aside,) = listed(definition)
    assert (aside.kind, aside.needed, aside.name) == (LayerKind.DAMAGED, False, f".{made.folder.name}.damaged")
    assert "cannot be read" in aside.why if name == ABOUT else f"'{name}'" in aside.why
    # What it was made of serves instead.
    kit.provider.require_whole(image_of(parent))


@pytest.mark.parametrize("how", BLOWS)
def test_a_memory_that_is_damaged_before_it_is_loaded_makes_no_layer(
    parent: Template, definition: ImageFiles, kit: QemuKit, how: str
) -> None:
    strike(make_protection(parent), MEMORY, how)
    assert kit.layer(image_of(parent), UP) is None
    assert [one.kind for one in listed(definition)] == [LayerKind.DAMAGED]


def test_the_machine_says_what_was_put_aside_until_it_is_deleted(parent: Template, kit: QemuKit) -> None:
    made = make_protection(parent)
    assert shelf.damaged() == ()
    strike(made, STATE, "cut")
    assert kit.layer(image_of(parent), UP) is None
    (said,) = [fit for fit in kit.provider.check() if fit.name == "layer"]
    assert not said.ok
    assert not said.needed
    why = "The file 'state' of the template 'reference-vm' is missing or changed."
    assert said.detail == f"{made.folder.name} was put aside. {why}"
    assert "image prune" in said.fix
    assert kit.remove(f".{made.folder.name}.damaged")
    assert shelf.damaged() == ()


def test_who_freezes_where_a_layer_is_damaged_makes_another_one(parent: Template, kit: QemuKit) -> None:
    made = make_protection(parent)
    strike(made, STATE, "cut")
    frozen: list[Path] = []

    def make(*_given: object, **_more: object) -> Template:
        frozen.append(freeze.folder_of(parent.about.name, parent.about.content, UP))
        return make_protection(parent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freeze, "_make", make)
        again = kit.freeze(image_of(parent), UP, arm=_never, prove=_never, report=_never)
    assert again.made
    assert frozen == [made.folder]
    assert kit.layer(image_of(parent), UP) == again.layer


def _never(*_given: object) -> NoReturn:
    raise AssertionError("not asked for")


def test_a_damaged_layer_that_another_process_uses_stays_and_is_none(
    parent: Template, definition: ImageFiles, kit: QemuKit, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_protection(parent)
    strike(made, STATE, "cut")
    with made.file(ABOUT).open("rb") as other, caplog.at_level(logging.WARNING):
        fcntl.flock(other, fcntl.LOCK_SH)
        assert kit.layer(image_of(parent), UP) is None
        assert [one.kind for one in listed(definition)] == [LayerKind.PROTECTION]
    assert "'state'" in caplog.text
    assert kit.layer(image_of(parent), UP) is None
    assert [one.kind for one in listed(definition)] == [LayerKind.DAMAGED]


def test_a_layer_that_is_being_made_again_is_not_put_aside(
    parent: Template, definition: ImageFiles, kit: QemuKit
) -> None:
    made = make_protection(parent)
    strike(made, STATE, "cut")
    with layer.locked(made.folder, report=lambda _line: None):
        assert kit.layer(image_of(parent), UP) is None
    assert [one.kind for one in listed(definition)] == [LayerKind.PROTECTION]


def test_a_host_that_lacks_what_reading_takes_says_nothing_of_the_layer(
    parent: Template, definition: ImageFiles, kit: QemuKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_protection(parent)

    def full(*_given: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", full)
        with pytest.raises(LabError, match="cannot be read") as caught:
            kit.layer(image_of(parent), UP)
    assert not isinstance(caught.value, TemplateDamaged)
    assert [one.kind for one in listed(definition)] == [LayerKind.PROTECTION]
    assert kit.layer(image_of(parent), UP) is not None


def test_spares_of_a_damaged_layer_are_thrown_away(
    parent: Template, kit: QemuKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_protection(parent)
    assert kit.layer(image_of(parent), UP) is not None
    emptied: list[str] = []
    monkeypatch.setattr(kit.provider.pool, "empty", emptied.append)
    strike(made, STATE, "cut")
    assert kit.layer(image_of(parent), UP) is None
    assert emptied == [made.about.content]
    assert template.load(made.folder) is None
    held = Held(parent)
    held.require_whole()
    held.close()
