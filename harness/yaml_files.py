"""Driver. Each kind of YAML file on its own, and the files that it names: scenario, signature sets, image, policy.

What is wrong in a file and in what it names goes into one report; ``load.py`` joins them into a suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.build_file import digest_file
from harness.documents import ImageDefinition
from harness.expectation import Expectations
from harness.gate import Policy
from harness.scenario import Scenario
from harness.signature import SignatureSets
from harness.yaml_source import Place, Problems, Source, Value, display, read_source
from harness.yaml_typed import read_typed, unknown

#: Scenario name -> service name -> the host's paths, in the order of ``Service.files``.
ServiceFiles = dict[str, dict[str, tuple[Path, ...]]]


@dataclass(slots=True)
class Reading:
    """One load: what was read so far, and everything that is wrong."""

    problems: Problems = field(default_factory=Problems)
    sources: list[Path] = field(default_factory=list)
    service_files: ServiceFiles = field(default_factory=dict)
    secrets: dict[str, Place] = field(default_factory=dict)

    def read_scenario(self, path: Path, asked_at: Place | None = None) -> Scenario | None:
        """Read a scenario and digest its services' files; None when anything is wrong with its own file."""
        read = read_typed(
            path, "scenario", Scenario, self.problems, hidden=frozenset({"service_digests"}), asked_at=asked_at
        )
        if read is None:
            return None
        scenario, source = read
        self.sources.append(path)
        for name in sorted(scenario.secrets):
            self.secrets.setdefault(name, _first_named(name, source, source.data, ()) or source.at("steps"))
        names = [service.name for service in scenario.services]
        note_repeats(names, "service", source, ("services",), self.problems)
        digests: dict[str, str] = {}
        paths: dict[str, tuple[Path, ...]] = {}
        for index, service in enumerate(scenario.services):
            found = [
                self._service_file(source.beside(file), source.at("services", index, "files", number))
                for number, file in enumerate(service.files)
            ]
            base_names = [path.name for path in found if path is not None]
            note_repeats(base_names, "file", source, ("services", index, "files"), self.problems)
            paths[service.name] = tuple(path for path in found if path is not None)
            digests |= {f"{service.name}/{path.name}": digest_file(path).sha256 for path in paths[service.name]}
        self.service_files[scenario.name] = paths
        return scenario.model_copy(update={"service_digests": digests})

    def _service_file(self, path: Path, place: Place) -> Path | None:
        why = "no such file"
        try:
            if path.is_file():
                with path.open("rb"):
                    return path
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
        self.problems.add(place, f"the service's file '{display(path)}' cannot be read ({why})")
        return None

    def read_sets(self, path: Path, asked_at: Place | None = None) -> tuple[SignatureSets, Source] | None:
        """Read the declared sets of one product; None when anything is wrong with the file itself."""
        read = read_typed(path, "signatures", SignatureSets, self.problems, asked_at=asked_at)
        if read is None:
            return None
        sets, source = read
        self.sources.append(path)
        labels = [declared.label for declared in sets.sets]
        note_repeats(labels, "set", source, ("sets",), self.problems)
        for index, declared in enumerate(sets.sets):
            if declared.marker_of is not None and declared.marker_of not in labels:
                place = source.at("sets", index, "marker_of")
                self.problems.add(place, unknown("set", declared.marker_of, labels))
        return sets, source


def _first_named(secret: str, source: Source, value: Value, location: tuple[str | int, ...]) -> Place | None:
    """Find where a secret is named first, in the file as it was written (repetitions are not laid out there)."""
    below: list[tuple[str | int, Value]] = []
    if isinstance(value, dict):
        if value.get("secret") == secret:
            return source.at(*location, "secret")
        below = list(value.items())
    elif isinstance(value, list):
        below = list(enumerate(value))
    places = (_first_named(secret, source, item, (*location, key)) for key, item in below)
    return next((place for place in places if place is not None), None)


def load_scenario(path: Path) -> tuple[Scenario, dict[str, tuple[Path, ...]]]:
    """Read one scenario, and give the paths of its services' files by service name.

    Raises:
        InputError: Anything in it is wrong.
    """
    loading = Reading()
    scenario = loading.read_scenario(path)
    loading.problems.raise_if_any(display(path))
    assert scenario is not None  # noqa: S101 - a file that was not read has a problem
    return scenario, loading.service_files[scenario.name]


def load_signature_sets(path: Path) -> SignatureSets:
    """Read the declared sets of one product.

    Raises:
        InputError: Anything in the file is wrong.
    """
    loading = Reading()
    read = loading.read_sets(path)
    loading.problems.raise_if_any(display(path))
    assert read is not None  # noqa: S101 - a file that was not read has a problem
    return read[0]


def load_image_definition(path: Path) -> ImageDefinition:
    """Read ``vm_images/<name>/image.yaml``; the name must be the folder's.

    Raises:
        InputError: Anything in the file is wrong.
    """
    problems = Problems()
    read = read_typed(path, "image", ImageDefinition, problems)
    if read is not None:
        definition, source = read
        folder = path.absolute().parent
        if definition.name != folder.name:
            problems.add(source.at("name"), f"the image is '{definition.name}' and its folder is '{folder.name}'")
        if definition.packages is not None and not source.beside(definition.packages).is_file():
            problems.add(source.at("packages"), f"the file '{definition.packages}' does not exist")
        if definition.like is not None and not (folder.parent / definition.like / "image.yaml").is_file():
            problems.add(source.at("like"), f"there is no image definition '{definition.like}'")
        elif definition.like == definition.name:
            problems.add(source.at("like"), "an image definition cannot be like itself")
    problems.raise_if_any(display(path))
    assert read is not None  # noqa: S101 - a file that was not read has a problem
    return read[0]


def images_named_in(suite: Path) -> tuple[str, ...]:
    """Give the images that a suite names; nothing where it cannot be read, which who reads it for good says."""
    found = read_source(suite, Problems())
    named = found.data.get("images") if found is not None and isinstance(found.data, dict) else None
    return tuple(name for name in named if isinstance(name, str)) if isinstance(named, list) else ()


def load_policy(path: Path) -> Policy:
    """Read a gate's policy.

    Raises:
        InputError: Anything in the file is wrong.
    """
    problems = Problems()
    read = read_typed(path, "policy", Policy, problems)
    problems.raise_if_any(display(path))
    assert read is not None  # noqa: S101 - a file that was not read has a problem
    return read[0]


def load_expectations(path: Path) -> Expectations:
    """Read what a suite's run is documented to show.

    Raises:
        InputError: Anything in the file is wrong.
    """
    problems = Problems()
    read = read_typed(path, "expectations", Expectations, problems)
    problems.raise_if_any(display(path))
    assert read is not None  # noqa: S101 - a file that was not read has a problem
    return read[0]


def note_repeats(
    names: Sequence[str], what: str, source: Source, location: tuple[str | int, ...], problems: Problems
) -> None:
    """Note every name that stands a second time in a list."""
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.add(source.at(*location, index), f"the {what} '{name}' is here twice")
