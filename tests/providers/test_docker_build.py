"""How guest tools are compiled, and what is remembered of an image that could not be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import LabError
from harness.providers import docker_build
from harness.providers.image_files import ImageFiles
from tests.providers.fake_programs import FakePrograms

ROOT = Path(__file__).parents[2]
WOW = ImageFiles(folder=ROOT / "vm_images" / "reference-32", like=ROOT / "vm_images" / "reference")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """Give a machine with an engine without images, no registry and an apt, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return FakePrograms(tmp_path / "bin", monkeypatch)


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


def test_an_image_that_nobody_asked_for_yet_is_missing_with_its_command(programs: FakePrograms) -> None:
    assert docker_build.find(WOW) is None
    assert docker_build.why_missing(WOW) == (
        "The image 'reference-32' has not been built from these files: run 'hts-compat image build reference-32'."
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "E: Unable to locate package wine32:i386",
            "the i386 packages that it needs (wine32:i386) cannot be had from the apt sources used here. Give apt a "
            "Debian mirror whose bookworm main has i386, or leave cells of this image out.",
        ),
        ("E: no luck", "mmdebstrap failed with exit code 25. Try 'hts-compat image build reference-32' again."),
    ],
)
def test_why_an_image_could_not_be_built_is_told_whenever_it_is_missed(
    programs: FakePrograms, said: str, why: str
) -> None:
    programs.mmdebstrap_says(said, exit_code=25)
    with pytest.raises(LabError):
        docker_build.build(WOW)
    assert docker_build.why_missing(WOW) == f"The image 'reference-32' could not be built: {why}"


def test_a_changed_recipe_begins_without_the_old_failure(programs: FakePrograms, tmp_path: Path) -> None:
    programs.mmdebstrap_says("E: Unable to locate package wine32:i386", exit_code=25)
    with pytest.raises(LabError):
        docker_build.build(WOW)
    (tmp_path / "guest_tools").mkdir()
    other = ImageFiles(folder=tmp_path / "other", like=ROOT / "vm_images" / "reference")
    other.folder.mkdir()
    (other.folder / "image.yaml").write_text("name: other\n", encoding="utf-8")
    assert "has not been built" in docker_build.why_missing(other)
