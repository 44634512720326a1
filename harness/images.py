"""Driver. The images that are defined here, each as one provider has it; and which provider that is, if nobody says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from harness.errors import LabError
from harness.image import Image
from harness.lab_choice import Choice, Lab, asked_for, choose, in_order
from harness.providers import kit_of
from harness.rig import AUTO, image_at, image_of, missing_image
from harness.yaml_files import load_image_definition


def usable(provider: str) -> Lab:
    """Ask a provider whether it can run guests on this machine; images are not looked at.

    Raises:
        InputError: There is no such provider.
    """
    try:
        lacking = [fit for fit in kit_of(provider).provider.check() if fit.needed and not fit.ok]
    except LabError as error:
        return Lab(provider=provider, why_not=_bare(error.summary), fix=error.hint)
    if not lacking:
        return Lab(provider=provider)
    return Lab(provider=provider, why_not=f"{lacking[0].name}: {lacking[0].detail}", fix=lacking[0].fix)


def no_lab(labs: Sequence[Lab]) -> LabError:
    """Say that no provider can be used, and why each cannot."""
    detail = "\n".join(f"{lab.provider}: {lab.shortcoming}. {lab.fix}".strip() for lab in labs)
    return LabError(
        "No lab can be used on this machine.",
        detail=detail,
        hint="'make setup' sets containers up, 'make setup PROVIDER=qemu' virtual machines; see 'hts-compat doctor'.",
    )


def image_in(folder: Path) -> Image:
    """Give the image of one definition folder, or what stands for it where it has not been built.

    Raises:
        LabError: Its provider cannot be asked.
    """
    return image_at(folder) or missing_image(folder)


def _bare(summary: str) -> str:
    return summary.rstrip(".")


class Images(Mapping[str, Image]):
    """Every image that is defined in a folder, by name.

    It is looked up when a suite names it, so that a machine without an engine still reads a suite to its last error.

    Args:
        folder: ``vm_images``.
        provider: Whose images are wanted. An image of another provider is replaced by the definition that stands
            ``instead_of`` it for this one, under its own name. ``auto``: chosen when the first image is looked up.
        wanted: The images that the choice is made for, all of one suite; that first image when there are none.
        ask: Says whether a provider is usable here.
        find: Gives the image of one definition folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        provider: str = AUTO,
        wanted: Sequence[str] = (),
        ask: Callable[[str], Lab] = usable,
        find: Callable[[Path], Image] = image_in,
    ) -> None:
        self._folders = {path.parent.name: path.parent for path in sorted(folder.glob("*/image.yaml"))}
        self._wanted = tuple(name for name in wanted if name in self._folders)
        self.choice = None if provider == AUTO else asked_for(provider)
        self._chosen = False
        self._ask = ask
        self._find = cache(find)
        self._found: dict[str, Image] = {}

    def __getitem__(self, name: str) -> Image:
        """Give an image; one that is defined and cannot be had says so by its ``missing``.

        Raises:
            KeyError: It is not defined.
            LabError: No provider can be used on this machine.
        """
        if name not in self._found:
            self._found[name] = self._look_up(name)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether an image is defined; nothing is looked up for that."""
        return name in self._folders

    def __iter__(self) -> Iterator[str]:
        """Give the names."""
        return iter(self._folders)

    def __len__(self) -> int:
        """Count the definitions."""
        return len(self._folders)

    def _look_up(self, name: str) -> Image:
        choice, chosen = self.choice, self.choice is None
        if choice is None:
            choice = self._choose(self._wanted or (name,))
        self.choice, self._chosen = choice, self._chosen or chosen
        folder = self._definition_of(name, choice.provider)
        if folder is not None:
            return self._find(folder).model_copy(update={"name": name})
        if self._chosen:
            return self._without_stand_in(name, choice)
        return self._find(self._folders[name])

    def _without_stand_in(self, name: str, choice: Choice) -> Image:
        """Stand for an image that the chosen provider has no definition of: its cells alone cannot be told."""
        definition = load_image_definition(self._folders[name] / "image.yaml")
        own = definition.provider
        told = f"The image '{name}' is of the provider '{own}'; the lab is {choice.provider}, because {choice.why}."
        image = image_of(definition, content=f"missing:{name}:{choice.provider}", recipe=None, reference="")
        return image.model_copy(update={"provider": choice.provider, "missing": told})

    def _definition_of(self, name: str, provider: str) -> Path | None:
        """Give the folder that defines an image for a provider: its own, or one that stands in for it."""
        own = self._folders[name]
        if load_image_definition(own / "image.yaml").provider == provider:
            return own
        read = [(folder, load_image_definition(folder / "image.yaml")) for folder in self._folders.values()]
        return next((f for f, of in read if of.instead_of == name and of.provider == provider), None)

    def _choose(self, names: Sequence[str]) -> Choice:
        choice = choose(self.labs(names))
        if choice is None:
            raise no_lab(tuple(self.labs(names)))
        return choice

    def labs(self, names: Sequence[str]) -> Iterator[Lab]:
        """Look at each provider that has one of these images, the preferred first, when its turn comes."""
        for provider in in_order(self._providers_for(names)):
            yield self._lab(provider, names)

    def _lab(self, provider: str, names: Sequence[str]) -> Lab:
        state = self._ask(provider)
        if not state.usable:
            return state
        lacks, why = list[str](), ""
        for name in names:
            folder = self._definition_of(name, provider)
            try:
                image = None if folder is None else self._find(folder)
            except LabError as error:
                return replace(state, why_not=_bare(error.summary), fix=error.hint)
            if image is None or image.missing is not None:
                lacks.append(name)
                why = why or ("" if image is None else image.missing or "")
        return replace(state, lacks=tuple(lacks), fix=why)

    def _providers_for(self, names: Sequence[str]) -> set[str]:
        """Give the providers that define at least one of these images, or what stands in for it."""
        read = [load_image_definition(folder / "image.yaml") for folder in self._folders.values()]
        return {definition.provider for definition in read if {definition.name, definition.instead_of} & set(names)}
