"""What lies on this machine is told with what needs it; what is not whole is named; what is in use is never deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import InputError, LabError
from harness.providers.api import KeptLayer, LayerKind
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import disc, layer, shelf, template
from harness.providers.qemu.template import BASE, MEMORY, STATE, Held, Template
from tests.builders import QEMU_VERSION, sha256_of
from tests.providers.qemu.small_templates import make_disk, make_protection, make_template

pytestmark = pytest.mark.usefixtures("fake_qemu", "layers")


@pytest.fixture
def whole(definition: ImageFiles, layers: Path, fake_qemu: Path) -> Template:
    """A disk and a template of today's definition."""
    assert layers.is_dir()
    assert fake_qemu.is_dir()
    make_disk(definition)
    return make_template(definition)


def code_of(product: str) -> str:
    if product != "clamav":
        raise InputError(f"There is no product '{product}'.")
    return "c0de"


def kept(definition: ImageFiles) -> dict[str, KeptLayer]:
    found = shelf.kept([(definition.folder, definition.like)], code_of=code_of)
    return {one.name: one for one in found}


def needed(definition: ImageFiles) -> dict[LayerKind, bool]:
    return {one.kind: one.needed for one in kept(definition).values()}


def test_a_machine_without_layers_has_none(definition: ImageFiles) -> None:
    assert kept(definition) == {}


def test_the_layers_of_today_s_definition_are_needed(definition: ImageFiles, whole: Template) -> None:
    make_protection(whole)
    found = kept(definition)
    assert needed(definition) == {LayerKind.DISK: True, LayerKind.TEMPLATE: True, LayerKind.PROTECTION: True}
    assert found[whole.folder.name].content == whole.about.content
    assert [one.protection for one in found.values() if one.protection] == ["clamav@2026-11-04 (standard)"]
    assert not any(one.held for one in found.values())


def test_a_changed_script_leaves_the_disk_needed_and_nothing_above_it(definition: ImageFiles, whole: Template) -> None:
    make_protection(whole)
    (definition.folder.parent / "reference" / "guest" / "agent.py").write_text("changed")
    assert needed(definition) == {LayerKind.DISK: True, LayerKind.TEMPLATE: False, LayerKind.PROTECTION: False}


def test_a_protection_of_yesterday_s_adapter_is_not_needed(definition: ImageFiles, whole: Template) -> None:
    make_protection(whole, code="0ld")
    assert needed(definition)[LayerKind.PROTECTION] is False


def test_a_protection_of_a_product_that_is_gone_is_not_needed(definition: ImageFiles, whole: Template) -> None:
    make_protection(whole, product="gone")
    assert needed(definition)[LayerKind.PROTECTION] is False


def test_what_other_versions_or_killed_builders_left_is_not_needed(definition: ImageFiles, layers: Path) -> None:
    (layers / "reference-vm-0123").mkdir()
    (layers / "reference-vm-0123" / "template.json").write_text('{"recipe": "0", "name": "reference-vm"}')
    (layers / ".reference-vm-4567.begun").mkdir()
    assert needed(definition) == {LayerKind.UNREADABLE: False, LayerKind.UNFINISHED: False}


def test_a_disc_is_needed_by_nothing_and_goes_when_nobody_reads_it(definition: ImageFiles, layers: Path) -> None:
    del layers
    with disc.lent(b"build", sha256=sha256_of(b"build"), deadline=Deadline.after(30)) as image:
        (one,) = kept(definition).values()
        assert (one.kind, one.needed, one.held, one.image) == (LayerKind.DISC, False, True, None)
        assert not shelf.remove(one.name)
        assert image.exists()
    (one,) = kept(definition).values()
    assert not one.held
    assert bad(one.name) == []
    image.chmod(0o644)
    image.write_bytes(b"changed")
    assert bad(one.name) == [disc.IMAGE]
    assert shelf.remove(one.name)
    assert kept(definition) == {}


def test_what_a_layer_shares_with_another_is_counted_but_not_freed(definition: ImageFiles, whole: Template) -> None:
    one = kept(definition)[whole.folder.name]
    shared = whole.file(BASE).stat().st_blocks * 512
    assert shared > 0
    assert one.size_bytes >= one.freed_bytes + 2 * shared, "the kernel is shared too"


# --- whole or not -----------------------------------------------------------------------------------------------------


def bad(name: str) -> list[str]:
    return [finding.name for finding in shelf.check(name) if not finding.ok]


def test_each_layer_is_whole_as_made(definition: ImageFiles, whole: Template) -> None:
    make_protection(whole)
    assert [bad(name) for name in kept(definition)] == [[], [], []]


@pytest.mark.parametrize("name", [MEMORY, STATE, BASE])
def test_one_other_byte_is_found_and_what_mends_it_is_named(whole: Template, name: str) -> None:
    with whole.file(name).open("r+b") as stream:
        stream.seek(2)
        stream.write(b"\xff")
    (wrong,) = [finding for finding in shelf.check(whole.folder.name) if not finding.ok]
    assert wrong.name == name
    assert "changed since it was made" in wrong.detail
    assert f"image prune --layer {whole.folder.name} --yes" in wrong.fix


@pytest.mark.parametrize("break_it", [lambda f: os.truncate(f, 3), Path.unlink], ids=["cut", "gone"])
def test_a_file_that_was_cut_or_is_gone_is_found(whole: Template, break_it: Callable[[Path], None]) -> None:
    break_it(whole.file(STATE))
    assert bad(whole.folder.name) == [STATE]


def test_another_machine_is_found(whole: Template) -> None:
    about = whole.about.model_copy(update={"fingerprint": "0" * 64})
    template.write_about(whole.folder, about)
    assert bad(whole.folder.name) == ["machine"]


def test_another_qemu_is_found(whole: Template, fake_qemu: Path) -> None:
    from harness.providers.qemu import tools

    (fake_qemu / "qemu-system-x86_64").write_text("#!/bin/sh\necho QEMU 9\n")
    tools.qemu_version.cache_clear()
    (wrong,) = [finding for finding in shelf.check(whole.folder.name) if not finding.ok]
    assert (wrong.name, wrong.detail) == ("machine", f"frozen by {QEMU_VERSION}, here is QEMU 9")


def test_a_layer_that_was_never_finished_is_not_whole(layers: Path) -> None:
    (layers / ".reference-vm-4567.begun").mkdir()
    assert bad(".reference-vm-4567.begun")


@pytest.mark.parametrize("name", ["nothing", "../qemu", ".."])
def test_a_name_that_is_no_layer_s_is_refused(name: str, layers: Path) -> None:
    assert layers.is_dir()
    for ask in (shelf.check, shelf.remove):
        with pytest.raises(InputError, match="no layer"):
            ask(name)


# --- deleting ---------------------------------------------------------------------------------------------------------


def test_a_layer_that_nobody_uses_is_deleted_and_those_above_it_stay_whole(
    definition: ImageFiles, whole: Template, layers: Path
) -> None:
    made = make_protection(whole)
    (below,) = [one.name for one in kept(definition).values() if one.kind is LayerKind.DISK]
    assert shelf.remove(below)
    assert shelf.remove(whole.folder.name)
    assert [path.name for path in layers.iterdir() if path.is_dir()] == [made.folder.name]
    assert bad(made.folder.name) == []
    Held(made).close()


def test_a_template_that_is_in_use_stays(definition: ImageFiles, whole: Template) -> None:
    held = Held(whole)
    assert kept(definition)[whole.folder.name].held
    assert not shelf.remove(whole.folder.name)
    assert bad(whole.folder.name) == []
    held.close()
    assert shelf.remove(whole.folder.name)


def test_another_process_that_uses_a_template_keeps_it_and_its_death_does_not(
    definition: ImageFiles, whole: Template
) -> None:
    holds = (
        "import sys; from pathlib import Path\n"
        "from harness.providers.qemu.template import Held, load\n"
        "held = Held(load(Path(sys.argv[1]))); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(whole.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        Held(whole).close()  # two harnesses on one template
        assert not shelf.remove(whole.folder.name)
        assert kept(definition)[whole.folder.name].held
        other.kill()
        other.wait()
    assert shelf.remove(whole.folder.name)


def test_a_layer_that_is_being_made_stays_and_what_a_killed_builder_left_goes(layers: Path) -> None:
    folder = layers / "reference-vm-0123"
    unfinished = f".{folder.name}.begun"
    with layer.locked(folder, report=lambda _line: None), layer.begun(folder):
        assert not shelf.remove(unfinished)
        assert (layers / unfinished).is_dir()
    (layers / unfinished).mkdir()
    assert shelf.remove(unfinished)
    assert not (layers / unfinished).exists()


def test_a_template_that_goes_while_it_is_asked_for_is_told(whole: Template) -> None:
    assert shelf.remove(whole.folder.name)
    with pytest.raises(LabError, match="missing or changed"):
        Held(whole)
