"""Driver. What this machine has of what the reference lab needs, and which providers are usable; changes nothing.

Which accelerator runs a guest is found out by starting one, once (``providers.qemu.fitness``).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from harness import products, providers
from harness.errors import HarnessError, LabError
from harness.lab_choice import Lab, in_order
from harness.plug_ins import Group, PlugIn, found, part, plug_in
from harness.renderers.api import RENDERERS
from harness.yaml_files import load_image_definition

TOOL_TIMEOUT_S = 20
MIN_FREE_GIB = 6
#: The image that the demo runs on; the others are asked for by name.
NEEDED_IMAGE = "reference"

_OWN: Mapping[Group, Collection[str]] = {
    Group.PRODUCTS: products.ADAPTERS,
    Group.PROVIDERS: providers.PROVIDERS,
    Group.RENDERERS: RENDERERS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """One thing: whether it is there, what it is, how to get it.

    Attributes:
        needed: A demo cannot run without it, or with ``lab`` no guest of that provider can.
        lab: The provider that it belongs to; empty for what every run needs.
    """

    name: str
    ok: bool
    needed: bool
    detail: str
    fix: str = ""
    lab: str = ""


def examine(root: Path) -> tuple[Examined, ...]:
    """Look at everything, most basic first.

    Args:
        root: The checkout.
    """
    return (
        _python(),
        *(examined for name in in_order(providers.PROVIDERS) for examined in _provider(name)),
        *(image(path.parent) for path in sorted((root / "vm_images").glob("*/image.yaml"))),
        _tool("mingw-w64", "x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64", what="builds the demo programs"),
        _tool(
            "mingw-w64 32-bit",
            "i686-w64-mingw32-gcc",
            "gcc-mingw-w64-i686",
            what="builds the demo's 32-bit programs",
            needed=False,
        ),
        _tool("nsis", "makensis", "nsis", what="makes the demo installers", flag="-VERSION"),
        _tool("chromium", "chromium", "chromium", what="looks at pages in tests", needed=False),
        _tool("7-zip", _first("7zz", "7z"), "7zip", what="lists installers in 'build inspect'", flag="i", needed=False),
        _tool("msitools", "msiinfo", "msitools", what="reads MSI tables in 'build inspect'", needed=False),
        _tool("innoextract", "innoextract", "innoextract", what="lists Inno Setup in 'build inspect'", needed=False),
        _disk(root),
        *plug_ins(),
    )


def labs(root: Path) -> tuple[Lab, ...]:
    """Say of each provider that defines the demo's image whether it is usable, the one that ``auto`` prefers first."""
    from harness.images import Images  # noqa: PLC0415

    return tuple(Images(root / "vm_images").labs((NEEDED_IMAGE,)))


def plug_ins() -> tuple[Examined, ...]:
    """Look at what other packages bring: whether each can be used, and what a provider says of this machine."""
    return tuple(examined for group in Group for brought in found(group) for examined in _plug_in(brought))


def _plug_in(brought: PlugIn) -> Iterator[Examined]:
    name = f"{brought.group.singular} {brought.name}"
    if brought.name in _OWN[brought.group]:
        fix = "Give it another name, or uninstall it."
        detail = f"not used: the name is this tool's own (of {brought.distribution})"
        yield Examined(name=name, ok=False, needed=False, detail=detail, fix=fix)
        return
    try:
        plug_in(brought.group, brought.name)
        match brought.group:
            case Group.PRODUCTS:
                version = products.parser_in(brought).version
                products.adapter_in(brought)
                yield Examined(name=name, ok=True, needed=False, detail=f"parser {version}, of {brought.distribution}")
            case Group.PROVIDERS:
                kit = providers.kit_in(brought)
                yield Examined(name=name, ok=True, needed=False, detail=f"of {brought.distribution}")
                for fit in kit.provider.check():
                    what = f"{brought.name}: {fit.name}"
                    yield Examined(name=what, ok=fit.ok, needed=False, detail=fit.detail, fix=fit.fix)
            case Group.RENDERERS:
                part(brought, brought.target)
                yield Examined(name=name, ok=True, needed=False, detail=f"of {brought.distribution}")
            case _:
                assert_never(brought.group)
    except HarnessError as error:
        yield Examined(name=name, ok=False, needed=False, detail=error.summary, fix=error.hint)


def _python() -> Examined:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Examined(
        name="python", ok=sys.version_info >= (3, 11), needed=True, detail=version, fix="Install Python 3.11."
    )


def _provider(name: str) -> Iterator[Examined]:
    """Look at what a provider of ours needs."""
    try:
        found = providers.kit_of(name).provider.check()
    except LabError as error:
        detail = error.summary.rstrip(".")
        yield Examined(name=f"{name} engine", ok=False, needed=True, detail=detail, fix=error.hint, lab=name)
        return
    for fit in found:
        yield Examined(name=fit.name, ok=fit.ok, needed=fit.needed, detail=fit.detail, fix=fit.fix, lab=name)


def image(folder: Path) -> Examined:
    """Look at one image, as its own provider knows it."""
    name, fix = f"{folder.name} image", f"hts-compat image build {folder.name}"
    needed, lab = False, ""
    from harness.rig import image_at, missing_image  # noqa: PLC0415

    try:
        definition = load_image_definition(folder / "image.yaml")
        needed, lab = NEEDED_IMAGE in {definition.name, definition.instead_of}, definition.provider
        there = image_at(folder)
        if there is None:
            why = (missing_image(folder).missing or "").partition(": run 'hts-compat")[0].rstrip(".")
            return Examined(name=name, ok=False, needed=needed, detail=why, fix=fix, lab=lab)
    except HarnessError as error:
        detail = error.summary.rstrip(".")
        return Examined(name=name, ok=False, needed=needed, detail=detail, fix=fix if lab else error.hint, lab=lab)
    return Examined(name=name, ok=True, needed=needed, detail=f"content {there.content[:12]} ({lab})", lab=lab)


def _tool(
    name: str, program: str, package: str, *, what: str, flag: str = "--version", needed: bool = True
) -> Examined:
    path = shutil.which(program)
    if path is None:
        return Examined(name=name, ok=False, needed=needed, detail=what, fix=f"apt-get install {package}")
    try:
        done = subprocess.run([path, flag], capture_output=True, timeout=TOOL_TIMEOUT_S, check=False)  # noqa: S603 - found on PATH
    except (OSError, subprocess.SubprocessError) as error:
        return Examined(name=name, ok=False, needed=needed, detail=str(error), fix=f"apt-get install {package}")
    said = [line for line in (done.stdout or done.stderr).decode("utf-8", "replace").splitlines() if line.strip()]
    return Examined(name=name, ok=True, needed=needed, detail=f"{said[0].strip() if said else 'there'} ({what})")


def _first(*programs: str) -> str:
    """Give the first of these programs that is there; the first of all when none is."""
    return next((program for program in programs if shutil.which(program)), programs[0])


def _disk(root: Path) -> Examined:
    free = shutil.disk_usage(root).free / 1024**3
    return Examined(
        name="disk",
        ok=free >= MIN_FREE_GIB,
        needed=True,
        detail=f"{free:.0f} GiB free",
        fix=f"Free {MIN_FREE_GIB} GiB.",
    )
