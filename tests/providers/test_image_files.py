"""What an image is made from, what it shares with another one, and what changes its recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.providers.image_files import ImageFiles

ROOT = Path(__file__).parents[2]


@pytest.fixture
def small(tmp_path: Path) -> ImageFiles:
    """Make the smallest image definition, with one guest tool beside it."""
    folder = tmp_path / "small"
    (folder / "guest").mkdir(parents=True)
    (folder / "Dockerfile").write_text("ARG BASE\nFROM $BASE\n", encoding="utf-8")
    (folder / "packages.txt").write_text("# tools\nwine\n\nxvfb  # a screen\n", encoding="utf-8")
    (folder / "image.yaml").write_text("name: small\n", encoding="utf-8")
    (folder / "guest" / "observe.py").write_text("pass\n", encoding="utf-8")
    (tmp_path / "guest_tools").mkdir()
    (tmp_path / "guest_tools" / "winview.c").write_text("int main;\n", encoding="utf-8")
    return ImageFiles(folder=folder)


@pytest.fixture
def large(small: ImageFiles) -> ImageFiles:
    """Make a definition that is like the small one and says what differs."""
    folder = small.folder.with_name("large")
    folder.mkdir()
    (folder / "packages.txt").write_text("wine32:i386\n", encoding="utf-8")
    (folder / "image.yaml").write_text("name: large\nlike: small\n", encoding="utf-8")
    return ImageFiles(folder=folder, like=small.folder)


def test_packages_are_read_without_comments(small: ImageFiles) -> None:
    assert small.packages() == ["wine", "xvfb"]


@pytest.mark.parametrize("line", ["wine; rm -rf /", "wine:", "--help", "wine:i386:amd64"])
def test_a_line_that_is_no_package_is_refused(small: ImageFiles, line: str) -> None:
    (small.folder / "packages.txt").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="is no package name"):
        small.packages()


@pytest.mark.parametrize("file", ["small/Dockerfile", "small/guest/observe.py", "guest_tools/winview.c"])
def test_every_file_that_goes_in_changes_the_recipe(small: ImageFiles, large: ImageFiles, file: str) -> None:
    before = small.recipe(), large.recipe()
    (small.folder.parent / file).write_text("changed\n", encoding="utf-8")
    assert small.recipe() != before[0]
    assert large.recipe() != before[1], "what is shared is a part of both"


def test_byte_code_does_not_change_the_recipe(small: ImageFiles) -> None:
    before = small.recipe()
    (small.folder / "guest" / "__pycache__").mkdir()
    (small.folder / "guest" / "__pycache__" / "observe.cpython-311.pyc").write_bytes(b"\0")
    (small.folder / "guest" / "observe.py~").write_bytes(b"\0")
    assert small.recipe() == before


def test_renaming_a_file_changes_the_recipe(small: ImageFiles) -> None:
    before = small.recipe()
    (small.folder / "guest" / "observe.py").rename(small.folder / "guest" / "other.py")
    assert small.recipe() != before


def test_a_folder_that_is_no_definition_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no Dockerfile"):
        ImageFiles(folder=tmp_path).recipe()


def test_an_image_like_another_has_its_files_and_packages_and_own_ones_on_top(
    large: ImageFiles, tmp_path: Path
) -> None:
    assert large.packages() == ["wine", "xvfb", "wine32:i386"]
    large.copy_to(tmp_path / "context")
    copied = {p.relative_to(tmp_path / "context").as_posix() for p in (tmp_path / "context").rglob("*") if p.is_file()}
    assert copied == {"Dockerfile", "packages.txt", "image.yaml", "guest/observe.py"}
    assert (tmp_path / "context" / "image.yaml").read_text(encoding="utf-8") == "name: large\nlike: small\n"


def test_a_file_of_its_own_stands_in_the_place_of_the_shared_one(large: ImageFiles) -> None:
    before = large.recipe()
    (large.folder / "guest").mkdir()
    (large.folder / "guest" / "observe.py").write_text("print()\n", encoding="utf-8")
    assert large.recipe() != before
    assert large.of_image()["guest/observe.py"].read_text(encoding="utf-8") == "print()\n"


@pytest.mark.parametrize("change", ["image.yaml", "packages.txt"])
def test_of_the_other_definition_its_packages_count_and_its_description_does_not(
    small: ImageFiles, large: ImageFiles, change: str
) -> None:
    before = large.recipe()
    (small.folder / change).write_text("zip\n", encoding="utf-8")
    assert (large.recipe() != before) == (change == "packages.txt")


def test_the_images_that_are_shipped_are_definitions() -> None:
    images = ROOT / "vm_images"
    plain = ImageFiles(folder=images / "reference")
    wow = ImageFiles(folder=images / "reference-32", like=images / "reference")
    assert len({plain.recipe(), wow.recipe()}) == 2
    assert set(wow.packages()) - set(plain.packages()) == {"wine32:i386"}
