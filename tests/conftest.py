"""What tests with real guests share: the engine and the reference image, or the reason why there is none."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from harness.errors import HarnessError
from harness.image import Image
from harness.providers.docker import DockerProvider
from harness.rig import ROOT, image_at


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
        image = image_at(ROOT / "vm_images" / "reference", build=False)
    except HarnessError as error:
        no_guest(f"{error.summary} {error.hint}")
    return image or no_guest("The image 'reference' has not been built. Run 'make setup'.")
