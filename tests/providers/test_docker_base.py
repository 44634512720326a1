"""What a base image is made from, and what is said when another architecture's packages are not to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.providers.build_command import ImageBuildFailed
from harness.providers.docker_base import PackagesMissing, foreign_of, make_base
from tests.providers.fake_programs import FakePrograms

WOW = ["wine64", "wine32:i386"]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return FakePrograms(tmp_path / "bin", monkeypatch)


def make(packages: list[str]) -> str:
    return make_base(packages, report=lambda _line: None)


def test_a_package_names_its_architecture() -> None:
    assert foreign_of(["wine64", "wine32:i386", "libc6:i386"]) == ("i386",)
    assert foreign_of(["wine64"]) == ()


def test_packages_of_the_own_architecture_come_from_all_suites(programs: FakePrograms) -> None:
    make(["wine64"])
    assert "--architectures=amd64" in programs.words
    assert set(programs.suites) == {"bookworm", "bookworm-updates", "bookworm-security"}


def test_packages_of_two_architectures_come_from_the_release_alone_where_both_have_one_version(
    programs: FakePrograms,
) -> None:
    make(WOW)
    assert "--architectures=amd64,i386" in programs.words
    assert programs.suites == ["bookworm"]


#: Ends of what apt and mmdebstrap printed, each seen once.
NOT_THERE = {
    "sources without the architecture": "E: Unable to locate package wine32:i386\nE: mmdebstrap failed to run",
    "an index that is out of step": (
        "E: Failed to fetch http://mirror.invalid/debian-security/dists/bookworm-security/main/binary-i386/Packages.xz"
        "  File has unexpected size (346968 != 366648). Mirror sync in progress?\nE: mmdebstrap failed to run"
    ),
    "libraries of two versions": "The following packages have unmet dependencies:\n wine32:i386 : Depends: libc6:i386",
}


@pytest.mark.parametrize("said", NOT_THERE.values(), ids=NOT_THERE)
def test_packages_that_are_not_to_be_had_are_named_with_what_to_do(programs: FakePrograms, said: str) -> None:
    programs.mmdebstrap_says(said, exit_code=25)
    with pytest.raises(PackagesMissing) as caught:
        make(WOW)
    assert caught.value.summary == (
        "The i386 packages that it needs (wine32:i386) cannot be had from the apt sources used here."
    )
    assert "mirror whose bookworm main has i386" in caught.value.hint
    assert said in caught.value.detail


@pytest.mark.parametrize(
    "said", ["E: cannot write: I/O error", "E: Failed to fetch http://mirror.invalid/debian/dists/bookworm/InRelease"]
)
def test_another_failure_is_not_put_down_to_the_architecture(programs: FakePrograms, said: str) -> None:
    programs.mmdebstrap_says(said, exit_code=25)
    with pytest.raises(ImageBuildFailed, match="mmdebstrap failed with exit code 25"):
        make(WOW)


def test_a_missing_package_of_the_own_architecture_is_not_put_down_to_another(programs: FakePrograms) -> None:
    programs.mmdebstrap_says("E: Unable to locate package wine65", exit_code=25)
    with pytest.raises(ImageBuildFailed, match="mmdebstrap failed with exit code 25"):
        make(["wine65"])
