"""What decides whether an image has to be built anew, and what it is built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.providers import docker_build
from harness.providers.docker_base import package_names

ROOT = Path(__file__).parents[2]


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """Make the smallest image definition, with one guest tool beside it."""
    folder = tmp_path / "small"
    (folder / "guest").mkdir(parents=True)
    (folder / "Dockerfile").write_text("ARG BASE\nFROM $BASE\n", encoding="utf-8")
    (folder / "packages.txt").write_text("# tools\nwine\n\nxvfb  # a screen\n", encoding="utf-8")
    (folder / "image.yaml").write_text("name: small\n", encoding="utf-8")
    (folder / "guest" / "observe.py").write_text("pass\n", encoding="utf-8")
    (tmp_path / "guest_tools").mkdir()
    (tmp_path / "guest_tools" / "winview.c").write_text("int main;\n", encoding="utf-8")
    return folder


def test_packages_are_read_without_comments(definition: Path) -> None:
    assert package_names(definition) == ["wine", "xvfb"]


def test_a_line_that_is_no_package_is_refused(definition: Path) -> None:
    (definition / "packages.txt").write_text("wine; rm -rf /\n", encoding="utf-8")
    with pytest.raises(InputError, match="is no package name"):
        package_names(definition)


@pytest.mark.parametrize("file", ["small/Dockerfile", "small/guest/observe.py", "guest_tools/winview.c"])
def test_every_file_that_goes_in_changes_the_recipe(definition: Path, file: str) -> None:
    before = docker_build.recipe_of(definition)
    (definition.parent / file).write_text("changed\n", encoding="utf-8")
    assert docker_build.recipe_of(definition) != before


def test_byte_code_does_not_change_the_recipe(definition: Path) -> None:
    before = docker_build.recipe_of(definition)
    (definition / "guest" / "__pycache__").mkdir()
    (definition / "guest" / "__pycache__" / "observe.cpython-311.pyc").write_bytes(b"\0")
    assert docker_build.recipe_of(definition) == before


def test_renaming_a_file_changes_the_recipe(definition: Path) -> None:
    before = docker_build.recipe_of(definition)
    (definition / "guest" / "observe.py").rename(definition / "guest" / "other.py")
    assert docker_build.recipe_of(definition) != before


def test_a_folder_that_is_no_definition_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no Dockerfile"):
        docker_build.recipe_of(tmp_path)


def test_a_guest_tool_names_its_own_flags(tmp_path: Path) -> None:
    source = tmp_path / "tool.c"
    source.write_text(
        "/* x\n * Build: x86_64-w64-mingw32-gcc -O1 -s -mwindows -o tool.exe tool.c -lpsapi\n */\n", encoding="utf-8"
    )
    assert docker_build.flags_of(source) == (["-O1", "-s", "-mwindows"], ["-lpsapi"])


def test_a_guest_tool_without_a_build_line_gets_the_defaults(tmp_path: Path) -> None:
    source = tmp_path / "tool.c"
    source.write_text("int main;\n", encoding="utf-8")
    assert docker_build.flags_of(source) == (list(docker_build.DEFAULT_FLAGS), [])


def test_the_reference_image_is_a_definition() -> None:
    assert len(docker_build.recipe_of(ROOT / "vm_images" / "reference")) == 64
