"""What all tests share: how many examples a property gets, a quick garbage collector, and real guests or why none."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings

from harness.errors import HarnessError
from harness.image import Image
from harness.providers.docker import DockerProvider
from harness.providers.qemu import tools
from harness.rig import ROOT, image_at
from tests.builders import QEMU_VERSION
from tests.contributing import files_of_the_page, install

pytest_plugins = ["tests.stuck"]

#: Each run tries other examples, so many short runs find what a long one does; so does --hypothesis-profile=thorough.
settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what collection made (a million objects that stay) out of each later garbage collection.

    pefile collects in full whenever it closes a file, which cost a fifth of the whole suite's time.
    """
    gc.collect()
    gc.freeze()


def no_guest(reason: str) -> NoReturn:
    """Skip a test that needs a real guest; in CI (environment ``CI=true``) that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"real guests are required in CI: {reason}")
    pytest.skip(f"no real guest: {reason}")


@pytest.fixture(scope="session")
def docker_provider() -> DockerProvider:
    """Give the provider of this machine's engine."""
    try:
        return DockerProvider()
    except HarnessError as error:
        no_guest(f"{error.summary} {error.hint}")


@pytest.fixture(scope="session")
def reference_image(docker_provider: DockerProvider) -> Image:
    """Give the reference image, which must have been built."""
    try:
        image = image_at(ROOT / "vm_images" / "reference")
    except HarnessError as error:
        no_guest(f"{error.summary} {error.hint}")
    return image or no_guest("The image 'reference' has not been built. Run 'make setup'.")


@pytest.fixture(scope="session")
def example_plug_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the folder in which the packages of CONTRIBUTING.md are installed, importable for the whole session."""
    folder = tmp_path_factory.mktemp("contributing")
    install(folder, files_of_the_page())
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def vm_image() -> Image:
    """Give the reference guest as a virtual machine; it takes minutes to build, so it is asked for on its own."""
    image = image_at(ROOT / "vm_images" / "reference-vm")
    return image or no_guest("The image 'reference-vm' has not been built. Run 'make setup PROVIDER=qemu'.")


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A QEMU that says a version, and does nothing else; give the folder that is all of PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (programs / name).write_text(f"#!/bin/sh\necho '{QEMU_VERSION}'\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    tools.qemu_version.cache_clear()
    yield programs
    tools.qemu_version.cache_clear()


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which layers are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "hts-compat" / "qemu"
    folder.mkdir(parents=True)
    return folder
