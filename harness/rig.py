"""Driver. Puts a rig together: which provider, transport and system a run uses, and its builds' bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.build import Build
from harness.documents import ImageDefinition
from harness.errors import InputError, LabError
from harness.image import Image
from harness.load import LoadedSuite
from harness.plan import Cell
from harness.products import code_of, require
from harness.protection import Layer, protection_of
from harness.providers import kit_of, provider_names
from harness.providers.api import BuildsImages, CarriesWayOut, Freezes, ProviderKit
from harness.providers.image_files import ImageFiles
from harness.run_cell import Rig, no_way_out
from harness.secret_source import secrets_for
from harness.systems.api import GuestSystem
from harness.transports.api import Transport
from harness.transports.payload import Payload
from harness.yaml_files import load_image_definition

AUTO = "auto"
DOCKER = "docker"

#: So much of an installer is in memory at once.
PIECE_BYTES = 1 << 20

#: The checkout: where scenarios, images and seeds lie beside the package.
ROOT = Path(__file__).resolve().parent.parent


def image_files(folder: Path) -> ImageFiles:
    """Give where the files of one definition folder lie.

    Raises:
        InputError: The definition cannot be read.
    """
    like = load_image_definition(folder / "image.yaml").like
    return ImageFiles(folder=folder, like=None if like is None else folder.parent / like)


def image_at(folder: Path) -> Image | None:
    """Give the image of one definition folder; None when it has not been built."""
    definition = load_image_definition(folder / "image.yaml")
    like = None if definition.like is None else folder.parent / definition.like
    found = kit_of(definition.provider).find(folder, like=like)
    if found is None:
        return None
    return image_of(definition, content=found.content, recipe=found.recipe, reference=found.reference)


def missing_image(folder: Path) -> Image:
    """Stand in for an image that has not been built: no guest can be leased from it, and it says why."""
    definition = load_image_definition(folder / "image.yaml")
    kit = kit_of(definition.provider)
    if not isinstance(kit, BuildsImages):
        image = image_of(definition, content=f"missing:{definition.name}", recipe=None, reference="")
        told = f"The image '{definition.name}' has not been built: the provider '{definition.provider}' has none."
        return image.model_copy(update={"missing": told})
    files = image_files(folder)
    recipe = files.recipe()
    image = image_of(definition, content=f"missing:{recipe}", recipe=recipe, reference="")
    return image.model_copy(update={"missing": kit.why_missing(folder, like=files.like)})


def image_of(definition: ImageDefinition, *, content: str, recipe: str | None, reference: str) -> Image:
    """Join a definition with the content that was built from it."""
    return Image(
        name=definition.name,
        content=content,
        recipe=recipe,
        lab=definition.lab,
        system=definition.system,
        provider=definition.provider,
        transport=definition.transport,
        reference=reference,
        user=definition.user,
        folders=definition.folders,
        drives={letter: root.rstrip("/") for letter, root in definition.drives.items()},
        memory_mib=definition.resources.memory_mib,
        cpus=definition.resources.cpus,
        machines=definition.machines,
    )


def make_rig(provider_name: str, loaded: LoadedSuite) -> Rig:
    """Make the rig of a run.

    Args:
        provider_name: A provider's name; ``auto`` is the one that the suite's images name.
        loaded: Where the builds' and services' files are.

    Raises:
        InputError: There is no such provider, an image of the suite is another one's, a secret is missing, or the suite
            opens a way out that the provider cannot carry.
        LabError: The provider cannot be used on this machine, or a product of the suite cannot be loaded.
    """
    secrets = secrets_for(loaded.secrets)
    require(product.name for product in loaded.suite.products)
    kit = kit_of(_provider_for(loaded) if provider_name == AUTO else provider_name)
    strangers = [image for image in loaded.suite.images if image.provider != kit.provider.name]
    if strangers:
        image = strangers[0]
        raise InputError(
            f"The image '{image.name}' is of the provider '{image.provider}', not of '{kit.provider.name}'.",
            hint="Leave '--provider' out, or name an image of that provider in the suite.",
        )
    if loaded.suite.egress is not None and not isinstance(kit, CarriesWayOut):
        raise no_way_out(kit.provider.name)
    return Rig(
        provider=kit.provider,
        connect=kit.connect,
        system=guest_system,
        installer=installers_of(loaded.suite.builds),
        service_files=service_files_of(loaded),
        secrets=secrets,
        layer=layers_of(kit),
        carry=kit.carry if isinstance(kit, CarriesWayOut) else None,
    )


def layers_of(kit: ProviderKit) -> Callable[[Cell], Layer | None]:
    """Give the function that finds the layer in which a cell's protection is up; where none are kept, it finds none."""

    def layer(cell: Cell) -> Layer | None:
        if cell.is_control or not isinstance(kit, Freezes):
            return None
        return kit.layer(cell.image, protection_of(cell, code=code_of(cell.product.name)))

    return layer


def sweep(run_id: str | None = None) -> int:
    """End what killed runs left behind on every provider; give how many guests that were.

    Raises:
        LabError: A provider could not be asked; the others were.
    """
    swept, troubles = 0, list[LabError]()
    for name in provider_names():
        try:
            swept += kit_of(name).provider.sweep(run_id)
        except LabError as error:
            troubles.append(error)
    if troubles:
        raise troubles[0]
    return swept


def _provider_for(loaded: LoadedSuite) -> str:
    """Give the one provider that a suite's images name; ``docker`` when it has none."""
    named = sorted({image.provider for image in loaded.suite.images}) or [DOCKER]
    if len(named) > 1:
        raise InputError(
            f"The suite's images are of {len(named)} providers: {', '.join(named)}.",
            hint="A run uses one; make a suite of each.",
        )
    return named[0]


def guest_system(cell: Cell, transport: Transport) -> GuestSystem:
    """Make the system that a cell's image names."""
    if cell.image.system != "wine":
        raise LabError(
            f"Image '{cell.image.name}' has the system '{cell.image.system}', which cannot be driven yet.",
            hint="The reference lab's system is 'wine'.",
        )
    from harness.systems.wine import WineSystem  # noqa: PLC0415

    return WineSystem(cell.image, transport)


@dataclass(frozen=True, slots=True)
class InstallerFile:
    """An installer on this machine, read in pieces; see ``Pieces``."""

    path: Path
    size_bytes: int

    def pieces(self) -> Iterator[bytes]:
        """See ``Pieces``; never more than were promised, also when the file grows."""
        left = self.size_bytes
        try:
            with self.path.open("rb") as stream:
                while left and (piece := stream.read(min(left, PIECE_BYTES))):
                    left -= len(piece)
                    yield piece
        except OSError as error:
            raise InputError(
                f"The installer '{self.path}' cannot be read.", detail=str(error), hint="Was it moved? Start a new run."
            ) from error
        if left:
            raise InputError(
                f"The installer '{self.path}' is {left} bytes shorter than when the run began.",
                hint="It was changed meanwhile. Start a new run for a new build.",
            )


def installers_of(builds: tuple[Build, ...]) -> Callable[[Build], Payload]:
    """Give the function that reads a build's installer, found by its digest (a stored plan has no host paths)."""
    paths = {build.installer.sha256: Path(build.installer.host_path) for build in builds}

    def installer(build: Build) -> Payload:
        path = paths.get(build.installer.sha256)
        if path is None:
            raise InputError(
                f"Build {build.version} of the run is not among the suite's builds any more.",
                hint="Give it with --build, or start a new run.",
            )
        return InstallerFile(path, build.installer.size_bytes)

    return installer


def service_files_of(loaded: LoadedSuite) -> Callable[[Cell, str], Mapping[str, bytes]]:
    """Give the function that reads one service's files, the build's patch files among them."""
    patches = {b.installer.sha256: Path(b.patch_host_dir) for b in loaded.suite.builds if b.patch_host_dir}

    def service_files(cell: Cell, name: str) -> Mapping[str, bytes]:
        service = next(s for s in cell.scenario.services if s.name == name)
        paths = loaded.service_files.get(cell.scenario.name, {}).get(name, ())
        files = {path.name: path.read_bytes() for path in paths}
        folder = patches.get(cell.build.installer.sha256)
        if service.patch_folder is not None and folder is not None and folder.is_dir():
            files |= {
                f"{service.patch_folder}/{p.name}": p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()
            }
        return files

    return service_files
