"""Driver. What this machine has of what the reference lab needs; reads only, starts nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from harness import products, providers
from harness.errors import HarnessError
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
    """One thing: whether it is there, what it is, how to get it. ``needed``: a demo cannot run without it."""

    name: str
    ok: bool
    needed: bool
    detail: str
    fix: str = ""


def examine(root: Path) -> tuple[Examined, ...]:
    """Look at everything, most basic first.

    Args:
        root: The checkout.
    """
    engine = _engine()
    return (
        _python(),
        engine,
        *(image(path.parent, engine_answers=engine.ok) for path in sorted((root / "vm_images").glob("*/image.yaml"))),
        _tool("mingw-w64", "x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64", what="builds the demo programs"),
        _tool(
            "mingw-w64 32-bit",
            "i686-w64-mingw32-gcc",
            "gcc-mingw-w64-i686",
            what="builds the demo's 32-bit programs",
            needed=False,
        ),
        _tool("nsis", "makensis", "nsis", what="makes the demo installers", flag="-VERSION"),
        _tool("mmdebstrap", "mmdebstrap", "mmdebstrap", what="makes the image's base without a registry", needed=False),
        _tool("chromium", "chromium", "chromium", what="looks at pages in tests", needed=False),
        _tool("7-zip", _first("7zz", "7z"), "7zip", what="lists installers in 'build inspect'", flag="i", needed=False),
        _tool("msitools", "msiinfo", "msitools", what="reads MSI tables in 'build inspect'", needed=False),
        _tool("innoextract", "innoextract", "innoextract", what="lists Inno Setup in 'build inspect'", needed=False),
        _disk(root),
        _kvm(),
        *plug_ins(),
    )


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


def _engine() -> Examined:
    from harness.providers.docker import DockerProvider  # noqa: PLC0415

    try:
        fitness = DockerProvider().check()[0]
    except HarnessError as error:
        return Examined(name="docker engine", ok=False, needed=True, detail=error.summary, fix=error.hint)
    return Examined(name="docker engine", ok=fitness.ok, needed=True, detail=fitness.detail, fix=fitness.fix)


def image(folder: Path, *, engine_answers: bool) -> Examined:
    """Look at one image, as its own provider knows it."""
    name, needed, fix = f"{folder.name} image", folder.name == NEEDED_IMAGE, f"hts-compat image build {folder.name}"
    from harness.rig import DOCKER, image_at, image_files  # noqa: PLC0415

    try:
        provider = load_image_definition(folder / "image.yaml").provider
        if provider != DOCKER:
            there = image_at(folder)
            told = f"content {there.content[:12]}" if there is not None else "it has none of these files"
            return Examined(name=name, ok=there is not None, needed=False, detail=f"{told} ({provider})")
    except HarnessError as error:
        return Examined(name=name, ok=False, needed=needed, detail=error.summary, fix=error.hint)
    if not engine_answers:
        return Examined(name=name, ok=False, needed=needed, detail="no engine to ask", fix=fix)
    from harness.providers import docker_build  # noqa: PLC0415

    try:
        files = image_files(folder)
        found = docker_build.find(files)
        if found is None:
            return Examined(name=name, ok=False, needed=needed, detail=docker_build.why_missing(files), fix=fix)
    except HarnessError as error:
        return Examined(name=name, ok=False, needed=needed, detail=error.summary, fix=error.hint or fix)
    return Examined(
        name=name, ok=True, needed=needed, detail=f"content {found.content[:12]}, {found.packages} packages"
    )


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


def _kvm() -> Examined:
    there = Path("/dev/kvm").exists() and os.access("/dev/kvm", os.R_OK | os.W_OK)
    return Examined(
        name="kvm",
        ok=there,
        needed=False,
        detail="can be opened; whether it runs a guest is not tried (containers do not need it)"
        if there
        else "no /dev/kvm",
    )
