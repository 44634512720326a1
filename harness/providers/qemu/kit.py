"""Driver. Virtual machines as guests: the provider, the way in by a virtio port, and the templates made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.providers.api import Endpoint, FoundImage, MadeImage
from harness.providers.image_files import ImageFiles
from harness.providers.qemu.provider import QemuProvider
from harness.providers.qemu.template import find
from harness.transports.api import Transport
from harness.transports.unix_socket import UnixSocketTransport


class QemuKit:
    """See ``ProviderKit``."""

    def __init__(self) -> None:
        self.provider = QemuProvider()

    def connect(self, endpoint: Endpoint) -> Transport:
        """Open a way into a virtual machine; see ``ProviderKit.connect``."""
        return UnixSocketTransport(endpoint.address)

    def find(self, folder: Path, *, like: Path | None = None) -> FoundImage | None:
        """Find the template of exactly these files; see ``ProviderKit.find``."""
        recipe = ImageFiles(folder=folder, like=like).recipe()
        found = find(folder.name, recipe)
        if found is None:
            return None
        return FoundImage(content=found.about.content, recipe=recipe, reference=str(found.folder))

    def make(
        self, folder: Path, *, like: Path | None, memory_mib: int, cpus: int, report: Callable[[str], None]
    ) -> MadeImage:
        """Make the template of a folder; see ``BuildsImages.make``."""
        from harness.providers.qemu.build import build  # noqa: PLC0415 - only who builds needs what building needs

        files = ImageFiles(folder=folder, like=like)
        built = build(files, memory_mib=memory_mib, cpus=cpus, report=report)
        return MadeImage(
            name=files.name,
            content=built.template.about.content,
            recipe=built.template.about.recipe,
            packages=built.template.about.packages,
            made=built.made,
            duration_s=built.duration_s,
        )

    def why_missing(self, folder: Path, *, like: Path | None) -> str:
        """Say why there is no template; see ``BuildsImages.why_missing``."""
        del like
        name = folder.name
        return f"The image '{name}' has not been built from these files: run 'hts-compat image build {name}'."
