"""Driver. Virtual machines as guests: the provider, the ways in by virtio ports, and the templates made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.deadline import Deadline
from harness.errors import LabError
from harness.image import Image
from harness.protection import Layer, Protection
from harness.providers.api import Arm, Endpoint, Fitness, FoundImage, FrozenLayer, KeptLayer, MadeImage
from harness.providers.build_command import BuildToolMissing
from harness.providers.image_files import ImageFiles
from harness.providers.qemu import freeze, shelf, way_out
from harness.providers.qemu.provider import QemuProvider
from harness.providers.qemu.recipe import template_recipe
from harness.providers.qemu.template import TemplateDamaged, find, load
from harness.providers.qemu.tools import qemu_version
from harness.providers.qemu.ways import connect
from harness.transports.api import Transport, Wire


class QemuKit:
    """See ``ProviderKit``."""

    def __init__(self) -> None:
        self.provider = QemuProvider()

    def connect(self, endpoint: Endpoint) -> Transport:
        """Open a way into a virtual machine; see ``ProviderKit.connect``."""
        return connect(endpoint)

    def carry(self, endpoint: Endpoint, argv: Sequence[str], *, transport: Transport, deadline: Deadline) -> Wire:
        """Start a program on a port of the machine; see ``CarriesWayOut.carry``."""
        return way_out.carry(endpoint, argv, transport=transport, deadline=deadline)

    def find(self, folder: Path, *, like: Path | None = None) -> FoundImage | None:
        """Find the template of exactly these files; see ``ProviderKit.find``."""
        try:
            version = qemu_version()
        except BuildToolMissing:
            return None  # a template is of the QEMU that froze it
        recipe = template_recipe(ImageFiles(folder=folder, like=like), qemu_version=version)
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

    def layer(self, image: Image, up: Protection) -> Layer | None:
        """Give the template in which a protection is up, whole and loaded; see ``Freezes.layer``."""
        parent = load(Path(image.reference)) if image.reference else None
        if parent is None or parent.about.content != image.content:
            return None
        try:
            found = freeze.find(parent, up)
            if found is None:
                return None
            layer = freeze.layer_of(image, found)
            self.provider.require_whole(layer.image)
        except TemplateDamaged as error:
            shelf.put_aside(freeze.folder_of(parent.about.name, parent.about.content, up), error)
            return None
        return layer

    def freeze(
        self,
        image: Image,
        up: Protection,
        *,
        arm: Arm,
        prove: Callable[[Layer], None],
        report: Callable[[str], None],
    ) -> FrozenLayer:
        """Derive a template in which a protection is up; see ``Freezes.freeze``."""
        parent = load(Path(image.reference)) if image.reference else None
        if parent is None or parent.about.content != image.content:
            raise LabError(f"There is no template of '{image.name}'.", hint=f"hts-compat image build {image.name}")
        self.layer(image, up)  # one that is damaged is put aside, and another one made
        return freeze.freeze(parent, image, up, arm=arm, prove=prove, report=report)

    def kept(
        self, definitions: Sequence[tuple[Path, Path | None]], *, code_of: Callable[[str], str]
    ) -> tuple[KeptLayer, ...]:
        """Give every layer on this machine; see ``KeepsLayers.kept``."""
        return shelf.kept(definitions, code_of=code_of)

    def check(self, name: str) -> tuple[Fitness, ...]:
        """Compare a layer with what was made; see ``KeepsLayers.check``."""
        return shelf.check(name)

    def remove(self, name: str) -> bool:
        """Delete a layer that nobody uses; see ``KeepsLayers.remove``."""
        return shelf.remove(name)

    def why_missing(self, folder: Path, *, like: Path | None) -> str:
        """Say why there is no template; see ``BuildsImages.why_missing``."""
        del like
        name = folder.name
        try:
            qemu_version()
        except BuildToolMissing as error:
            return f"The image '{name}' cannot be used: {error.summary} {error.hint}"
        return f"The image '{name}' has not been built from these files: run 'hts-compat image build {name}'."
