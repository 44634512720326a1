"""Driver. Containers as guests: the provider, the way in by ``docker exec``, and the images that were built here."""

from __future__ import annotations

from pathlib import Path

from harness.providers import docker_build
from harness.providers.api import Endpoint, FoundImage
from harness.providers.docker import DockerProvider
from harness.providers.image_files import ImageFiles
from harness.transports.api import Transport
from harness.transports.docker_exec import DockerExecTransport


class DockerKit:
    """See ``ProviderKit``."""

    def __init__(self) -> None:
        self.provider = DockerProvider()

    def connect(self, endpoint: Endpoint) -> Transport:
        """Open a way into a container; see ``ProviderKit.connect``."""
        return DockerExecTransport(self.provider.client, endpoint.address)

    def find(self, folder: Path, *, like: Path | None = None) -> FoundImage | None:
        """Find the image that was built from exactly these files; see ``ProviderKit.find``."""
        built = docker_build.find(ImageFiles(folder=folder, like=like))
        return (
            None if built is None else FoundImage(content=built.content, recipe=built.recipe, reference=built.image_id)
        )
