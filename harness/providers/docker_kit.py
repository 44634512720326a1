"""Driver. Containers as guests: the provider, the way in by ``docker exec``, and the images that were built here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.providers import docker_build
from harness.providers.api import Endpoint, FoundImage, MadeImage
from harness.providers.docker import DockerProvider
from harness.providers.image_files import ImageFiles
from harness.transports.api import Transport, Wire
from harness.transports.docker_exec import DockerExecTransport, ExecWire


class DockerKit:
    """See ``ProviderKit``."""

    def __init__(self) -> None:
        self.provider = DockerProvider()

    def connect(self, endpoint: Endpoint) -> Transport:
        """Open a way into a container; see ``ProviderKit.connect``."""
        return DockerExecTransport(self.provider.client, endpoint.address)

    def carry(self, endpoint: Endpoint, argv: Sequence[str], *, transport: Transport, deadline: Deadline) -> Wire:
        """Start a program by another exec; see ``CarriesWayOut.carry``."""
        del transport, deadline  # the engine's own timeout bounds each call
        return ExecWire(self.provider.client, endpoint.address, argv)

    def find(self, folder: Path, *, like: Path | None = None) -> FoundImage | None:
        """Find the image that was built from exactly these files; see ``ProviderKit.find``."""
        built = docker_build.find(ImageFiles(folder=folder, like=like))
        return (
            None if built is None else FoundImage(content=built.content, recipe=built.recipe, reference=built.image_id)
        )

    def make(
        self, folder: Path, *, like: Path | None, memory_mib: int, cpus: int, report: Callable[[str], None]
    ) -> MadeImage:
        """Build the container image of a folder; see ``BuildsImages.make``. What a guest gets is said at its start."""
        del memory_mib, cpus
        built = docker_build.build(ImageFiles(folder=folder, like=like), report=report)
        return MadeImage(
            name=built.name,
            content=built.content,
            recipe=built.recipe,
            packages=built.packages,
            made=built.made,
            duration_s=built.duration_s,
        )

    def why_missing(self, folder: Path, *, like: Path | None) -> str:
        """Say why there is no container image; see ``BuildsImages.why_missing``."""
        return docker_build.why_missing(ImageFiles(folder=folder, like=like))
