"""Driver. A suite's YAML -> the concrete axes of a run. Everything that is wrong is told at once.

1. Files are read and checked first, all of them; then builds are made; then sets are made concrete from their bytes.
   No step begins while an earlier one has a problem.
2. What matches nothing is a problem, not less work: a label, a schedule, a filter that no cell fits.
3. An axis that is left out is empty: the suite loads, and its plan has no cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.behaviour import TEST_PRODUCTS
from harness.build import Build, fold
from harness.build_file import build_from_file
from harness.documents import BuildEntry, ProductEntry, Recipe, SuiteDocument
from harness.errors import InputError, LabError
from harness.image import Image, Lab
from harness.plan import NO_PRODUCT, NONE, ProductChoice, Suite, expand
from harness.recipes import LoadedRecipe, Report, build_from_recipe, silent
from harness.scenario import Scenario
from harness.signature import Signature, SignatureSets, resolve
from harness.yaml_files import (
    Reading,
    ServiceFiles,
    load_expectations,
    load_image_definition,
    load_policy,
    load_scenario,
    load_signature_sets,
    note_repeats,
)
from harness.yaml_source import Place, Problems, Source, display
from harness.yaml_typed import read_typed, unknown

__all__ = [
    "LoadedSuite",
    "load_expectations",
    "load_image_definition",
    "load_policy",
    "load_scenario",
    "load_signature_sets",
    "load_suite",
]

ARROW = "->"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSuite:
    """A suite, ready to be expanded, and where on this machine its parts come from.

    Attributes:
        service_files: Scenario name -> service name -> paths, in the order of the service's ``files``.
        sources: Every file that was read, the suite's own first.
        secrets: Each secret that a scenario names, and where.
    """

    suite: Suite
    service_files: ServiceFiles
    sources: tuple[Path, ...]
    secrets: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Schedule:
    """One entry of ``signatures``: the labels in their order, and where they are written."""

    entry: ProductEntry
    labels: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _ToMake:
    """A build that a recipe makes once nothing else is wrong."""

    recipe: LoadedRecipe
    version: str
    place: Place


def load_suite(
    path: Path,
    *,
    images: Mapping[str, Image],
    known_products: Sequence[str],
    extra_builds: Sequence[Build] = (),
    progress: Report = silent,
) -> LoadedSuite:
    """Read a suite and all that it refers to, and make its builds.

    Args:
        path: The suite's YAML file.
        images: All images that there are, by name; one is taken out only when the suite names it.
        known_products: Names of all products that cells can be run with, ``none`` among them.
        extra_builds: Builds that stand beside the suite's own (``--build``); they install where the suite says.
        progress: Takes a line for each build that is really made.

    Returns:
        The suite. It may be empty of cells; the caller must say so.

    Raises:
        InputError: Anything in these files is wrong. ``detail`` has every problem with its file, line and column.
        LabError: A build could not be made, or none of the suite's images is on this machine. Where only some of them
            are missing, their cells say so.
    """
    loading = Reading()
    problems = loading.problems
    read = read_typed(path, "suite", SuiteDocument, problems, stand_ins={"name": "unnamed", "lab": Lab.REFERENCE})
    if read is None:
        problems.raise_if_any(display(path))
        raise AssertionError(path)  # a file that was not read has a problem
    document, source = read
    loading.sources.append(path)

    _check_images(document, source, images, problems)
    scenarios = _scenarios(document, source, loading)
    sets, schedules = _products(document, source, known_products, loading)
    _check_clouds(document, source, problems)
    origins = _build_origins(document, source, loading)
    problems.raise_if_any(source.file)

    chosen_images = tuple(images[name] for name in document.images)
    _check_some_image(chosen_images)
    _check_labs(document, source, chosen_images, problems)
    _check_schedules(schedules, scenarios, source, problems)
    problems.raise_if_any(source.file)
    made = _made(origins, problems, progress)
    problems.raise_if_any(source.file)
    extra = [_placed(build, document) for build in extra_builds]
    builds = _without_clashes(made, extra, source, problems)
    update_from = _update_from(document, builds, scenarios, source, problems)
    signatures = _resolve_sets(sets, builds, problems)
    problems.raise_if_any(source.file)

    suite = Suite(
        name=document.name,
        lab=document.lab,
        builds=builds,
        images=chosen_images,
        products=_choices(document, schedules, signatures),
        scenarios=scenarios,
        only=document.only,
        leave_out=document.leave_out,
        confirm=document.confirm,
        jobs=document.jobs,
        max_age_s=document.max_age,
        recheck_share=document.recheck_share,
        retries=document.retries,
        drill=document.drill,
        admission=document.admission,
        sentinels=document.sentinels,
        egress=document.egress,
        update_from=update_from,
    )
    _check_filters(suite, extra, source, problems)
    problems.raise_if_any(source.file)
    return LoadedSuite(
        suite=suite,
        service_files=loading.service_files,
        sources=tuple(loading.sources),
        secrets=loading.secrets,
    )


# --- the parts of a suite --------------------------------------------------------------------------------------------


def _check_images(document: SuiteDocument, source: Source, images: Mapping[str, Image], problems: Problems) -> None:
    note_repeats(document.images, "image", source, ("images",), problems)
    for index, name in enumerate(document.images):
        place = source.at("images", index)
        if name not in images:
            problems.add(place, unknown("image", name, images))


def _check_some_image(images: Sequence[Image]) -> None:
    missing = [image.missing for image in images if image.missing is not None]
    if missing and len(missing) == len(images):
        raise LabError(missing[0], detail="\n".join(missing[1:]), hint="'hts-compat image list' shows what is there.")


def _check_labs(document: SuiteDocument, source: Source, images: Sequence[Image], problems: Problems) -> None:
    for index, image in enumerate(images):
        if image.lab is not document.lab:
            text = f"the image '{image.name}' belongs to the lab '{image.lab}', not '{document.lab}'"
            problems.add(source.at("images", index), text)


def _scenarios(document: SuiteDocument, source: Source, loading: Reading) -> tuple[Scenario, ...]:
    found: dict[str, Scenario] = {}
    for index, relative in enumerate(document.scenarios):
        place = source.at("scenarios", index)
        scenario = loading.read_scenario(source.beside(relative), asked_at=place)
        if scenario is not None and scenario.name in found:
            loading.problems.add(place, f"the scenario '{scenario.name}' is here twice")
        elif scenario is not None:
            found[scenario.name] = scenario
    return tuple(found.values())


def _products(
    document: SuiteDocument, source: Source, known_products: Sequence[str], loading: Reading
) -> tuple[list[tuple[SignatureSets, Source]], list[_Schedule]]:
    read: dict[Path, tuple[SignatureSets, Source] | None] = {}
    schedules: list[_Schedule] = []
    for index, entry in enumerate(document.products):
        place = source.at("products", index, "product")
        if entry.product not in known_products:
            loading.problems.add(place, unknown("product", entry.product, known_products))
        if entry.signature_sets is None:
            continue
        path = source.beside(entry.signature_sets)
        if path not in read:
            read[path] = loading.read_sets(path, asked_at=source.at("products", index, "signature_sets"))
        found = read[path]
        if found is None:
            continue
        sets = found[0]
        _check_behaviours(sets, found[1], loading.problems)
        if sets.product != entry.product:
            text = f"these are sets of '{sets.product}', and the product is '{entry.product}'"
            loading.problems.add(source.at("products", index, "signature_sets"), text)
        note_repeats(entry.signatures, "schedule", source, ("products", index, "signatures"), loading.problems)
        for number, text in enumerate(entry.signatures):
            at = source.at("products", index, "signatures", number)
            labels = tuple(label.strip() for label in text.split(ARROW))
            known = [declared.label for declared in sets.sets]
            for label in labels:
                if label not in known:
                    loading.problems.add(at, unknown("signature", label, known))
            schedules.append(_Schedule(entry=entry, labels=labels, place=at))
    _check_same_labels([found for found in read.values() if found is not None], loading.problems)
    return [found for found in read.values() if found is not None], schedules


def _check_clouds(document: SuiteDocument, source: Source, problems: Problems) -> None:
    """A cloud that no product of the suite asks would be shown as open, and be open to nobody."""
    products = [entry.product for entry in document.products if entry.product != NONE]
    for index, cloud in enumerate(document.egress.vendor_clouds if document.egress is not None else ()):
        if cloud.product not in products:
            place = source.at("egress", "vendor_clouds", index, "product")
            problems.add(place, unknown("product of this suite", cloud.product, products))


def _check_behaviours(sets: SignatureSets, source: Source, problems: Problems) -> None:
    """A real product does what it does: what a set says of behaviour would be left out in silence."""
    if sets.product in TEST_PRODUCTS:
        return
    tests = ", ".join(sorted(TEST_PRODUCTS))
    text = f"only a test product ({tests}) behaves as a set says, and '{sets.product}' is none"
    for index, declared in enumerate(sets.sets):
        if declared.says is not None:
            problems.add(source.at("sets", index, "says"), text)
        for number, rule in enumerate(declared.rules):
            if rule.behaviour is not None:
                problems.add(source.at("sets", index, "rules", number, "behaviour"), text)


def _check_same_labels(read: Sequence[tuple[SignatureSets, Source]], problems: Problems) -> None:
    """Two files may both declare a set, but not two different ones under one label."""
    for (earlier, first), (later, second) in ((a, b) for i, a in enumerate(read) for b in read[i + 1 :]):
        for index, declared in enumerate(later.sets):
            twin = earlier.named(declared.label)
            if earlier.product == later.product and twin is not None and twin != declared:
                text = f"the set '{declared.label}' is declared otherwise in {first.file}"
                problems.add(second.at("sets", index), text)


def _check_schedules(
    schedules: Sequence[_Schedule], scenarios: Sequence[Scenario], source: Source, problems: Problems
) -> None:
    """A schedule that no scenario uses up would be left out in silence; so would a scenario that none fits."""
    if not schedules or not scenarios:
        return
    lengths = {scenario.vendor_updates + 1 for scenario in scenarios}
    for schedule in schedules:
        if len(schedule.labels) not in lengths:
            moves = len(schedule.labels) - 1
            text = f"no scenario of this suite has {moves} vendor_update step{'' if moves == 1 else 's'}"
            problems.add(schedule.place, f"{text} for '{f' {ARROW} '.join(schedule.labels)}'")
    for index, scenario in enumerate(scenarios):
        if scenario.vendor_updates + 1 not in {len(schedule.labels) for schedule in schedules}:
            text = f"no product of this suite has a schedule of {scenario.vendor_updates + 1} signatures"
            problems.add(source.at("scenarios", index), f"{text} for '{scenario.name}'")


def _build_origins(document: SuiteDocument, source: Source, loading: Reading) -> list[Build | _ToMake]:
    origins: list[Build | _ToMake] = []
    recipes: dict[str, LoadedRecipe | None] = {}
    for index, entry in enumerate(document.builds):
        if entry.path is not None:
            path = Path(display(source.beside(entry.path)))
            placed = entry.model_copy(update={"install_dir": entry.install_dir or document.install_dir})
            found = _build_at(placed, path, source.at("builds", index, "path"), loading.problems)
            origins += [found] if found else []
        elif entry.recipe is not None and entry.version is not None:
            if entry.recipe not in recipes:
                place = source.at("builds", index, "recipe")
                recipes[entry.recipe] = _recipe(source.beside(entry.recipe), place, loading)
            recipe = recipes[entry.recipe]
            at = source.at("builds", index, "version")
            origins += [_ToMake(recipe=recipe, version=entry.version, place=at)] if recipe else []
    return origins


def _build_at(entry: BuildEntry, path: Path, place: Place, problems: Problems) -> Build | None:
    try:
        return build_from_file(path, name=entry.name, version=entry.version, install_dir=entry.install_dir)
    except InputError as error:
        problems.add(place, error.summary)
        return None


def _recipe(path: Path, place: Place, loading: Reading) -> LoadedRecipe | None:
    read = read_typed(path, "recipe", Recipe, loading.problems, asked_at=place)
    if read is None:
        return None
    loading.sources.append(path)
    return LoadedRecipe(recipe=read[0], folder=path.absolute().parent)


def _placed(build: Build, document: SuiteDocument) -> Build:
    """Give a build from the command line the suite's install folder: its own is a guess."""
    return build if document.install_dir is None else build.model_copy(update={"install_dir": document.install_dir})


def _made(origins: Sequence[Build | _ToMake], problems: Problems, progress: Report) -> list[Build]:
    made: list[Build] = []
    for origin in origins:
        if isinstance(origin, Build):
            made.append(origin)
            continue
        try:
            made.append(build_from_recipe(origin.recipe, origin.version, progress=progress))
        except InputError as error:
            problems.add(origin.place, " ".join([error.summary, *error.detail.splitlines()[-1:]]))
    return made


def _without_clashes(
    made: Sequence[Build], extra: Sequence[Build], source: Source, problems: Problems
) -> tuple[Build, ...]:
    """A cell is named by its build's version: two builds with one version would be one cell, and one would be lost."""
    by_version: dict[str, Build] = {}
    for index, build in enumerate([*made, *extra]):
        twin = by_version.setdefault(build.version, build)
        is_extra = index >= len(made)
        if twin is not build and not (is_extra and twin.installer.sha256 == build.installer.sha256):
            place = source.at("builds", *([] if is_extra else [index]))
            problems.add(place, f"two builds are version '{build.version}'; give one of them another 'version'")
    return tuple(by_version.values())


def _update_from(
    document: SuiteDocument,
    builds: Sequence[Build],
    scenarios: Sequence[Scenario],
    source: Source,
    problems: Problems,
) -> dict[str, str]:
    """Give the version of the older build of each build that has one.

    What names no build, leads nowhere or is asked for by no scenario is a problem: an update that is left out in
    silence would look like one that was tested.
    """
    known = {build.version: build for build in builds}
    entries = dict(zip(known, document.builds, strict=False))  # builds of the command line come last
    found: dict[str, str] = {}
    places: dict[str, Place] = {}
    for index, (version, build) in enumerate(known.items()):
        entry = entries.get(version)
        own = entry.update_from if entry is not None else None
        wanted = own or document.update_from
        if wanted is None or (own is None and wanted == version):
            continue
        place = source.at("builds", index, "update_from") if own is not None else source.at("update_from")
        why = _no_older(build, known.get(wanted))
        if wanted not in known:
            problems.add(place, unknown("build", wanted, known))
        elif why is not None:
            problems.add(place, f"{why}; 'update_from' names an older build of this suite")
        else:
            found[version], places[version] = wanted, place
    if scenarios and all(scenario.updated_at is None for scenario in scenarios):
        for place in places.values():
            problems.add(place, "no scenario of this suite has an 'update' step")
    if found or not problems.found:
        _check_updates_asked(known, found, scenarios, source, problems)
    return found


def _no_older(build: Build, older: Build | None) -> str | None:
    """Say why a build is not one that another can be installed over; None when it is."""
    if older is None:
        return None
    if older is build:
        return f"the build '{build.version}' cannot be installed over itself"
    if older.installer.sha256 == build.installer.sha256:
        return f"the builds '{older.version}' and '{build.version}' are the same file"
    if fold(older.install_dir) != fold(build.install_dir):
        return f"'{older.version}' installs in {older.install_dir} and '{build.version}' in {build.install_dir}"
    return None


def _check_updates_asked(
    known: Mapping[str, Build],
    found: Mapping[str, str],
    scenarios: Sequence[Scenario],
    source: Source,
    problems: Problems,
) -> None:
    """Note a scenario that no build can be asked, and a build that no scenario can ask."""
    updates = [scenario for scenario in scenarios if scenario.updated_at is not None]
    for index, scenario in enumerate(scenarios):
        if scenario in updates and known and not found:
            text = f"'{scenario.name}' updates an older build, and no build of this suite says 'update_from'"
            problems.add(source.at("scenarios", index), text)
    if found and len(updates) == len(scenarios):
        for index, version in enumerate(known):
            if version not in found and version not in found.values():
                text = f"every scenario updates an older build, and '{version}' has none; say its 'update_from'"
                problems.add(source.at("builds", index), text)


def _resolve_sets(
    read: Sequence[tuple[SignatureSets, Source]], builds: tuple[Build, ...], problems: Problems
) -> dict[str, dict[str, Signature]]:
    """Make all sets concrete: product -> label -> signature."""
    found: dict[str, dict[str, Signature]] = {}
    for sets, source in read:
        for index, declared in enumerate(sets.sets):
            try:
                found.setdefault(sets.product, {})[declared.label] = resolve(declared, builds)
            except LookupError as error:
                problems.add(source.at("sets", index, "rules"), str(error.args[0]))
    return found


def _choices(
    document: SuiteDocument, schedules: Sequence[_Schedule], signatures: Mapping[str, Mapping[str, Signature]]
) -> tuple[ProductChoice, ...]:
    choices: list[ProductChoice] = []
    for entry in document.products:
        if entry.product == NONE:
            choices.append(NO_PRODUCT)
        for schedule in schedules:
            if schedule.entry is entry:
                known = signatures[entry.product]
                choices.append(
                    ProductChoice(
                        name=entry.product,
                        profile=entry.profile,
                        schedule=tuple(known[label] for label in schedule.labels),
                        known=tuple(known[label] for label in sorted(known)),
                    )
                )
    return tuple(choices)


def _check_filters(suite: Suite, extra: Sequence[Build], source: Source, problems: Problems) -> None:
    everything = expand(suite.model_copy(update={"only": (), "leave_out": ()})).cells
    if not everything:
        return
    filters = [("only", suite.only), ("leave_out", suite.leave_out)]
    for name, patterns in filters:
        for index, pattern in enumerate(patterns):
            if not any(pattern.matches(cell) for cell in everything):
                problems.add(source.at(name, index), "this fits no cell of the suite")
    versions = {cell.build.version for cell in expand(suite).cells}
    for build in extra:
        if build.version not in versions:
            problems.add(source.at("only"), f"no cell of 'only' is about the build '{build.version}' given beside it")
