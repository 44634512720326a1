"""The images of one lab: who stands in for whom, and which lab is chosen when nobody names one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.image import Image
from harness.images import Images, usable
from harness.lab_choice import Lab
from harness.rig import ROOT
from harness.yaml_files import images_named_in
from tests.builders import make_image

CONTAINER, VIRTUAL, BIG = (
    make_image(name).model_copy(update={"provider": provider})
    for name, provider in (("reference", "docker"), ("as-a-vm", "qemu"), ("big", "docker"))
)
There = Mapping[str, Image | LabError | None]


@pytest.fixture
def defined(tmp_path: Path) -> Path:
    """Define one guest for two providers, and another for one of them alone."""
    kinds = (("reference", "docker", ""), ("as-a-vm", "qemu", "instead_of: reference\n"), ("big", "docker", ""))
    for name, provider, more in kinds:
        text = (ROOT / "vm_images" / "reference" / "image.yaml").read_text(encoding="utf-8")
        text = text.replace("name: reference", f"name: {name}").replace("provider: docker", f"provider: {provider}")
        folder = tmp_path / name
        folder.mkdir()
        (folder / "image.yaml").write_text(text + more, encoding="utf-8")
        (folder / "packages.txt").write_text("wine\n")
    return tmp_path


def images(
    folder: Path, there: There, *, provider: str = "auto", wanted: tuple[str, ...] = (), down: tuple[str, ...] = ()
) -> Images:
    def find(definition: Path) -> Image:
        found = there.get(definition.name)
        if isinstance(found, LabError):
            raise found
        return found or make_image(definition.name).model_copy(update={"missing": "not built"})

    def ask(name: str) -> Lab:
        return Lab(provider=name, why_not="nobody answers" if name in down else "", fix="Start it.")

    return Images(folder, provider=provider, wanted=wanted, ask=ask, find=find)


BOTH = {"reference": CONTAINER, "as-a-vm": VIRTUAL}


@pytest.mark.parametrize(
    ("asked", "there", "down", "given"),
    [
        ("auto", BOTH, (), "docker"),
        ("docker", BOTH, (), "docker"),
        ("qemu", BOTH, (), "qemu"),
        ("auto", {"as-a-vm": VIRTUAL}, (), "qemu"),
        ("auto", BOTH, ("docker",), "qemu"),
        ("auto", {"reference": LabError("no engine"), "as-a-vm": VIRTUAL}, (), "qemu"),
    ],
    ids=["both", "containers wanted", "machines wanted", "no container image", "no engine", "engine lost meanwhile"],
)
def test_a_guest_comes_from_the_provider_that_is_asked_for_or_can_be_had(
    defined: Path, asked: str, there: There, down: tuple[str, ...], given: str
) -> None:
    found = images(defined, there, provider=asked, down=down)
    image = found["reference"]
    assert (image.name, image.provider, image.missing) == ("reference", given, None)
    assert found.choice is not None
    assert found.choice.provider == given


def test_without_another_kind_the_image_says_why_it_is_missing(defined: Path) -> None:
    assert images(defined, {}, down=("qemu",))["reference"].missing == "not built"


def test_a_machine_without_any_usable_lab_says_why_each_is_not(defined: Path) -> None:
    with pytest.raises(LabError, match="No lab can be used") as caught:
        _ = images(defined, BOTH, down=("docker", "qemu"))["reference"]
    assert caught.value.detail == "docker: nobody answers. Start it.\nqemu: nobody answers. Start it."
    assert "make setup PROVIDER=qemu" in caught.value.hint


def test_one_lab_is_chosen_for_all_images_of_a_suite(defined: Path) -> None:
    """Without an engine the image that no virtual machine stands in for costs its own cells alone."""
    found = images(defined, {**BOTH, "big": BIG}, wanted=("big", "reference"), down=("docker",))
    assert {found[name].provider for name in ("big", "reference")} == {"qemu"}
    assert found["reference"].missing is None
    assert found["big"].missing == (
        "The image 'big' is of the provider 'docker'; the lab is qemu, because docker is not usable (nobody answers)."
    )


def test_a_lab_that_lacks_one_image_is_taken_before_one_that_lacks_two(defined: Path) -> None:
    found = images(defined, {**BOTH, "reference": None, "big": BIG}, wanted=("big", "reference"))
    assert {found[name].provider for name in ("big", "reference")} == {"docker"}, "each lacks one of both"


def test_whether_an_image_is_defined_is_told_without_a_look_at_any_lab(defined: Path) -> None:
    found = images(defined, {}, down=("docker", "qemu"))
    assert "reference" in found
    assert "no-such" not in found
    assert found.choice is None


def test_a_provider_that_cannot_be_asked_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    state = usable("docker")
    assert not state.usable
    assert state.why_not == "No Docker engine answers"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("images: [a, b]\n", ("a", "b")),
        ("images: a\n", ()),
        ("images:\n  - [a]\n  - b\n", ("b",)),
        ("builds: []\n", ()),
        ("- images\n", ()),
        ("images: [\n", ()),
        ("", ()),
    ],
)
def test_the_images_of_a_suite_are_known_before_it_is_read_for_good(
    tmp_path: Path, text: str, named: tuple[str, ...]
) -> None:
    suite = tmp_path / "suite.yaml"
    suite.write_text(text)
    assert images_named_in(suite) == named
    assert images_named_in(tmp_path / "none.yaml") == ()
