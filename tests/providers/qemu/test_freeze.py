"""A template that cannot be derived from leaves nothing half made, and says what to do."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.protection import Layer, Protection
from harness.providers.qemu import freeze, layer, template
from harness.providers.qemu.kit import QemuKit
from harness.providers.qemu.template import BASE, DISK, INITRD, KERNEL, MEMORY, UNDER, Held, Template
from tests.builders import make_image, make_signature
from tests.providers.qemu.small_templates import make_protection

pytestmark = pytest.mark.usefixtures("fake_qemu", "layers")

UP = Protection(product="clamav", profile="standard", signature=make_signature(), code="c0de")


def never(*_args: object) -> tuple[dict[str, str], ...]:
    raise AssertionError("no guest may be started")


def make(parent: Template, *, prove: Callable[[Layer], object] = never, said: list[str] | None = None) -> Layer:
    image = make_image(content=parent.about.content, reference=str(parent.folder))
    frozen = freeze.freeze(
        parent, image, UP, arm=never, prove=lambda layer: void(prove(layer)), report=(said or []).append
    )
    return frozen.layer


def void(_value: object) -> None:
    """Give nothing."""


def names(parent: Template) -> set[str]:
    return {path.name for path in parent.folder.parent.iterdir() if path.is_dir()}


def test_memory_with_one_other_byte_is_not_derived_from(parent: Template) -> None:
    before = names(parent)
    with parent.file(MEMORY).open("r+b") as stream:
        stream.write(b"\xff")
    with pytest.raises(LabError, match="'memory' of the template 'reference-vm' is missing or changed") as caught:
        make(parent)
    assert "image build reference-vm" in caught.value.hint
    assert names(parent) == before


def test_a_template_of_another_command_line_is_not_derived_from(parent: Template) -> None:
    template.write_about(parent.folder, parent.about.model_copy(update={"fingerprint": "0" * 64}))
    drifted = template.load(parent.folder)
    assert drifted is not None
    before = names(parent)
    with pytest.raises(LabError, match="another QEMU, or as another machine") as caught:
        make(drifted)
    assert "image build reference-vm" in caught.value.hint
    assert names(parent) == before


LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
from harness.errors import LabError
from harness.protection import Protection
from harness.providers.qemu import freeze, template
from tests.builders import make_image, make_signature
parent = template.load(Path(sys.argv[1]))
up = Protection(product="clamav", profile="standard", signature=make_signature(), code="c0de")
try:
    freeze.freeze(parent, make_image(), up, arm=None, prove=None, report=lambda line: None)
except LabError as error:
    print(error.summary, error.hint)
"""


def test_a_disk_that_is_full_in_the_middle_leaves_nothing_and_says_where_room_is_needed(parent: Template) -> None:
    before = names(parent)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(parent.folder)], capture_output=True, text=True, check=False, timeout=25
    )
    assert "The disk is full" in done.stdout, done.stderr
    assert "XDG_CACHE_HOME" in done.stdout
    assert names(parent) == before


def test_what_another_process_has_frozen_meanwhile_is_taken(parent: Template) -> None:
    folder = freeze.folder_of(parent.about.name, parent.about.content, UP)
    said: list[str] = []
    came: list[Layer] = []
    second = threading.Thread(target=lambda: came.append(make(parent, said=said)))
    with layer.locked(folder, report=void):
        second.start()
        second.join(0.05)
        assert second.is_alive()
        made = make_protection(parent)
        assert made.folder == folder
    second.join(10)
    assert [one.image.content for one in came] == [made.about.content]
    assert came[0].protection == UP


def test_a_layer_is_found_for_exactly_its_parent_and_its_protection(parent: Template) -> None:
    made = make_protection(parent)
    image = make_image(content=parent.about.content, reference=str(parent.folder))
    kit = QemuKit()
    found = kit.layer(image, UP)
    assert found is not None
    assert (found.image.content, found.image.reference) == (made.about.content, str(made.folder))
    assert found.image.name == image.name
    assert kit.layer(image, UP.model_copy(update={"code": "other"})) is None
    assert kit.layer(image.model_copy(update={"content": "another-content"}), UP) is None
    assert kit.layer(image.model_copy(update={"reference": ""}), UP) is None
    assert kit.layer(image.model_copy(update={"reference": str(parent.folder / "gone")}), UP) is None


def test_a_layer_of_the_same_name_that_says_another_parent_is_none(parent: Template) -> None:
    made = make_protection(parent)
    of = made.about.protected
    assert of is not None
    other = made.about.model_copy(update={"protected": of.model_copy(update={"parent": "another"})})
    template.write_about(made.folder, other)
    assert freeze.find(parent, UP) is None


def test_without_a_template_nothing_is_frozen_and_the_build_is_named() -> None:
    with pytest.raises(LabError, match="no template") as caught:
        QemuKit().freeze(make_image("reference-vm"), UP, arm=never, prove=never, report=void)  # type: ignore[arg-type]
    assert caught.value.hint == "hts-compat image build reference-vm"


@pytest.mark.parametrize("name", [KERNEL, INITRD, BASE, UNDER, DISK])
def test_every_file_of_a_layer_is_checked_before_a_guest_is_made_of_it(parent: Template, name: str) -> None:
    made = make_protection(parent)
    with made.file(name).open("r+b") as stream:
        stream.write(b"\xff\xff")
    with pytest.raises(LabError, match=f"'{name}'"):
        Held(made)


def test_the_copy_of_a_memory_has_room_for_all_of_it(parent: Template, tmp_path: Path) -> None:
    freeze.copy_memory(parent, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == parent.file(MEMORY).read_bytes()
    status = (tmp_path / "copy").stat()
    assert status.st_blocks * 512 >= status.st_size
    layer.dig_holes(tmp_path / "copy")
