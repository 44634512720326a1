"""Driver. ``image``: what guests are made from, what it takes to have it, and what may be thrown away."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path

from harness.cli import say
from harness.cli.run import Asked, load
from harness.errors import HarnessError, InputError, LabError
from harness.freeze import freeze
from harness.plan import Cell, Plan, expand
from harness.products import code_of, parser_of
from harness.protection import protection_of
from harness.providers import kit_of, provider_names
from harness.providers.api import BuildsImages, Freezes, FrozenLayer, KeepsLayers, KeptLayer
from harness.rig import ROOT, image_at, image_files, make_rig, missing_image
from harness.yaml_files import load_image_definition


def image_build(name: str, *, as_json: bool) -> int:
    """Build an image unless it is there."""
    folder = _definition_folder(name)
    definition = load_image_definition(folder / "image.yaml")
    kit = kit_of(definition.provider)
    if not isinstance(kit, BuildsImages):
        raise InputError(
            f"The image '{name}' is of the provider '{definition.provider}', which builds its images itself.",
            hint="'hts-compat image list' says whether it is there.",
        )
    built = kit.make(
        folder,
        like=image_files(folder).like,
        memory_mib=definition.resources.memory_mib,
        cpus=definition.resources.cpus,
        report=say.note,
    )
    if as_json:
        say.data(asdict(built))
    else:
        done = "built" if built.made else "is there already"
        say.line(
            f"image {name} {done}: content {built.content[:12]}, {built.packages} packages, {built.duration_s:.1f} s"
        )
    return 0


def image_list(*, as_json: bool, folder: Path = ROOT / "vm_images") -> int:
    """List the images that are defined here, each as its own provider knows it, and the layers that are kept."""
    rows = [_image_row(path.parent) for path in sorted(folder.glob("*/image.yaml"))]
    layers, why_not = _layers(folder)
    if as_json:
        say.data({"images": rows, "layers": [_layer_row(found) for found, _ in layers]})
        return 0
    for row in rows:
        state = f"content {str(row['content'])[:12]}" if row["built"] else row["why_not"]
        say.line(f"{row['name']:16} {state}")
    if why_not:
        say.note(f"layers cannot be listed: {why_not}")
    if layers:
        say.line()
    for found, _ in layers:
        say.line(_layer_line(found))
    return 0


def image_check(name: str | None, *, as_json: bool) -> int:
    """Read every layer of an image (of all, when None) and compare it with what was made; 5 when one is not whole."""
    if name is not None:
        _definition_folder(name)
    layers, why_not = _layers(ROOT / "vm_images")
    if why_not:
        raise LabError(f"The layers cannot be read: {why_not}")
    wanted = [(found, kit) for found, kit in layers if found.needed and name in {None, found.image}]
    if name is not None and not wanted:
        raise LabError(f"No layer of the image '{name}' has been made.", hint=f"Run 'hts-compat image build {name}'.")
    checked = [(found, kit.check(found.name)) for found, kit in wanted]
    bad = [found.name for found, findings in checked if not all(finding.ok for finding in findings)]
    if as_json:
        rows = [{"name": found.name, "findings": [asdict(f) for f in findings]} for found, findings in checked]
        say.data({"ok": not bad, "layers": rows})
        return 5 if bad else 0
    for found, findings in checked:
        for finding in findings:
            say.line(f"{'ok' if finding.ok else 'WRONG':8} {found.name}  {finding.name}: {finding.detail}")
            if not finding.ok:
                say.line(f"{'':8} fix: {finding.fix}")
    say.line(f"{len(checked)} layers are whole" if not bad else f"{len(bad)} of {len(checked)} layers are not whole")
    return 5 if bad else 0


def image_prune(*, yes: bool, layer: str | None, as_json: bool) -> int:
    """Delete layers that nothing needs, or one by its name; without ``yes`` only say which. None that is in use."""
    layers, why_not = _layers(ROOT / "vm_images")
    if why_not:
        raise LabError(f"The layers cannot be read: {why_not}")
    if layer is not None and layer not in {found.name for found, _ in layers}:
        raise InputError(f"There is no layer '{layer}'.", hint="'hts-compat image list' names all of them.")
    chosen = [(f, kit) for f, kit in layers if (f.name == layer if layer is not None else not f.needed)]
    rows, freed = list[dict[str, object]](), 0
    for found, kit in chosen:
        gone = yes and not found.held and kit.remove(found.name)
        rows.append({**_layer_row(found), "removed": gone})
        freed += found.freed_bytes if gone or not (yes or found.held) else 0
        if not as_json:
            what = "removed" if gone else "in use, kept" if yes or found.held else "would remove"
            say.line(f"{what:14} {_layer_line(found)}")
    if as_json:
        say.data({"dry_run": not yes, "layers": rows, "freed_bytes": freed})
        return 0
    say.line(f"{_size(freed)} freed" if yes else f"{_size(freed)} would be freed; do it with --yes")
    return 0


def _keepers() -> dict[str, KeepsLayers]:
    """Give the kits that keep layers, by the name of their provider; one that cannot be used here is left out."""
    found = dict[str, KeepsLayers]()
    for name in provider_names():
        with contextlib.suppress(HarnessError):
            kit = kit_of(name)
            if isinstance(kit, KeepsLayers):
                found[name] = kit
    return found


def _layers(folder: Path) -> tuple[list[tuple[KeptLayer, KeepsLayers]], str]:
    """Give every layer with the kit that keeps it, and why some could not be asked for."""
    found, why_not = list[tuple[KeptLayer, KeepsLayers]](), ""
    for name, kit in _keepers().items():
        try:
            found += [(kept, kit) for kept in kit.kept(_definitions_of(name, folder), code_of=code_of)]
        except LabError as error:
            why_not = f"{error.summary} {error.hint}".strip()
    return found, why_not


def _definitions_of(provider: str, folder: Path) -> list[tuple[Path, Path | None]]:
    """Give the definitions of a provider that can be read; one that cannot needs no layer."""
    found = list[tuple[Path, Path | None]]()
    for path in sorted(folder.glob("*/image.yaml")):
        with contextlib.suppress(HarnessError):
            if load_image_definition(path).provider == provider:
                found.append((path.parent, image_files(path.parent).like))
    return found


def _layer_row(found: KeptLayer) -> dict[str, object]:
    return {**asdict(found), "kind": found.kind.value, "made_at": found.made_at.isoformat()}


def _layer_line(found: KeptLayer) -> str:
    about = found.protection or found.kind.value
    age = _age(datetime.now(UTC) - found.made_at)
    content = f"content {found.content[:12]}" if found.content else ""
    use = "in use" if found.held else "" if found.needed else "not needed"
    return f"{found.name}  {about}  {_size(found.size_bytes)}  {age} old  {content}  {use}  {found.why}".rstrip()


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:.0f} MiB"


def _age(age: timedelta) -> str:
    hours = int(age.total_seconds() // 3600)
    return (
        f"{int(age.total_seconds() // 60)} min" if not hours else f"{hours} h" if not age.days else f"{age.days} days"
    )


def _image_row(folder: Path) -> dict[str, object]:
    """Say of one definition whether its image is there; what cannot be asked has not been built, and says why."""
    definition = load_image_definition(folder / "image.yaml")
    row: dict[str, object] = {"name": definition.name, "provider": definition.provider}
    try:
        found = image_at(folder)
        why_not = None if found else missing_image(folder).missing
    except HarnessError as error:
        hint = error.hint if isinstance(error, LabError) else ""  # of a name that is wrong, the names are no fix
        found, why_not = None, f"{error.summary} {hint}".strip()
    return {**row, "built": found is not None, "content": found.content if found else None, "why_not": why_not}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which protections of a suite are to be frozen: patterns of a product, a profile and a signature's label."""

    suite: Path
    product: str = "*"
    profile: str = "*"
    signature: str = "*"


def image_freeze(name: str, wanted: Wanted, *, as_json: bool) -> int:
    """Freeze guests of an image with the protections that cells of a suite begin with, unless that has been done."""
    folder = _definition_folder(name)
    definition = load_image_definition(folder / "image.yaml")
    kit = kit_of(definition.provider)
    if not isinstance(kit, Freezes):
        raise InputError(
            f"The image '{name}' is of the provider '{definition.provider}', whose guests cannot be frozen.",
            hint="Virtual machines can: 'hts-compat image list' says which images are some.",
        )
    image = image_at(folder)
    if image is None:
        raise LabError(f"The image '{name}' has not been built.", hint=f"Run 'hts-compat image build {name}'.")
    loaded = load(Asked(suite=wanted.suite, provider=definition.provider))
    plan = expand(loaded.suite)
    cells = _first_cells(plan, image.reference, wanted)
    if not cells:
        raise InputError(
            f"No cell of '{wanted.suite}' begins with such a protection on '{name}'.", hint=_protections(plan)
        )
    rig = make_rig(definition.provider, loaded)
    made = []
    for cell in cells:
        up = protection_of(cell, code=code_of(cell.product.name))
        frozen = freeze(cell, up, rig=rig, freezer=kit, parsers=parser_of, report=say.note)
        made.append(frozen)
        if not as_json:
            say.line(_frozen_line(frozen))
    if as_json:
        say.data({"layers": [_frozen_row(frozen) for frozen in made]})
    return 0


def _first_cells(plan: Plan, reference: str, wanted: Wanted) -> list[Cell]:
    """Give one cell for each protection that is wanted, in the plan's order."""
    cells: dict[tuple[str, str, str], Cell] = {}
    for cell in plan.cells:
        chosen = cell.product
        names = (chosen.name, chosen.profile, chosen.schedule[0].label)
        patterns = (wanted.product, wanted.profile, wanted.signature)
        fits = all(fnmatchcase(name, pattern) for name, pattern in zip(names, patterns, strict=True))
        if fits and not cell.is_control and cell.without_guest is None and cell.image.reference == reference:
            cells.setdefault((chosen.name, chosen.profile, chosen.schedule[0].digest()), cell)
    return list(cells.values())


def _protections(plan: Plan) -> str:
    begun = {f"{cell.product.name}@{cell.product.schedule[0].label}" for cell in plan.cells if not cell.is_control}
    return f"Its cells begin with: {', '.join(sorted(begun)) or 'none'}."


def _frozen_line(frozen: FrozenLayer) -> str:
    up = frozen.layer.protection
    done = "frozen" if frozen.made else "is there already"
    content = frozen.layer.image.content[:12]
    return f"{up.product}@{up.signature.label} ({up.profile}) {done}: content {content}, {frozen.duration_s:.1f} s"


def _frozen_row(frozen: FrozenLayer) -> dict[str, object]:
    up = frozen.layer.protection
    return {
        "product": up.product,
        "profile": up.profile,
        "signature": up.signature.label,
        "content": frozen.layer.image.content,
        "made": frozen.made,
        "duration_s": round(frozen.duration_s, 1),
    }


def _definition_folder(name: str) -> Path:
    folder = ROOT / "vm_images" / name
    if not (folder / "image.yaml").is_file():
        known = ", ".join(p.parent.name for p in sorted((ROOT / "vm_images").glob("*/image.yaml")))
        raise InputError(f"There is no image '{name}'.", hint=f"Images: {known}.")
    return folder
