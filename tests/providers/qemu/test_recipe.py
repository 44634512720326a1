"""Who changes a guest script makes a template anew; who changes packages or the first boot, the disk below it too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.providers.image_files import ImageFiles
from harness.providers.qemu.recipe import disk_files, disk_recipe, guest_files, template_recipe

VERSION = "QEMU 7.2"


@pytest.fixture
def files(definition: ImageFiles) -> ImageFiles:
    return definition


def digests(files: ImageFiles) -> tuple[str, str]:
    return disk_recipe(files), template_recipe(files, qemu_version=VERSION)


def add(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n# changed\nmore\n")


@pytest.mark.parametrize("name", ["reference/prepare.sh", "reference/prefix.reg", "reference-vm/first_boot.py"])
def test_what_the_first_boot_runs_makes_another_disk_and_so_another_template(files: ImageFiles, name: str) -> None:
    disk, template = digests(files)
    add(files.folder.parent, name)
    assert disk != disk_recipe(files)
    assert template != template_recipe(files, qemu_version=VERSION)


@pytest.mark.parametrize("name", ["reference/packages.txt", "reference-vm/packages.txt"])
def test_another_package_makes_another_disk_and_a_comment_does_not(files: ImageFiles, name: str) -> None:
    disk, template = digests(files)
    path = files.folder.parent / name
    path.write_text("# a comment\n" + path.read_text())
    assert digests(files) == (disk, template)
    add(files.folder.parent, name)
    assert disk != disk_recipe(files)
    assert template != template_recipe(files, qemu_version=VERSION)


@pytest.mark.parametrize(
    "name",
    ["reference/guest/agent.py", "reference/guest/new.py", "reference-vm/guest/more.py", "guest_tools/winview.c",
     "reference-vm/image.yaml"],
)  # fmt: skip
def test_a_changed_guest_script_or_tool_leaves_the_disk_as_it_is(files: ImageFiles, name: str) -> None:
    disk, template = digests(files)
    add(files.folder.parent, name)
    assert disk == disk_recipe(files)
    assert template != template_recipe(files, qemu_version=VERSION)


def test_another_qemu_leaves_the_disk_as_it_is(files: ImageFiles) -> None:
    assert template_recipe(files, qemu_version=VERSION) != template_recipe(files, qemu_version="QEMU 9")


@pytest.mark.parametrize("name", ["reference/Dockerfile", "guest_tools/README.md"])
def test_what_is_for_containers_or_people_changes_neither(files: ImageFiles, name: str) -> None:
    before = digests(files)
    add(files.folder.parent, name)
    assert digests(files) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "reference" / "guest" / "agent.py").chmod(0o755),
        lambda root: (root / "reference" / "guest" / "agent.py").rename(root / "reference" / "guest" / "b.py"),
    ],
    ids=["mode", "name"],
)
def test_a_script_s_mode_and_name_count(files: ImageFiles, change: Callable[[Path], object]) -> None:
    before = digests(files)
    change(files.folder.parent)
    assert digests(files)[1] != before[1]


def test_each_file_goes_to_the_disk_or_to_the_template_or_is_said_only(files: ImageFiles) -> None:
    assert set(disk_files(files)) == {"prepare.sh", "prefix.reg", "first_boot.py"}
    assert set(guest_files(files)) == {"agent.py"}


def test_a_folder_that_is_no_image_definition_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image definition"):
        disk_recipe(ImageFiles(folder=tmp_path / "empty"))
