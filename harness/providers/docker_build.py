"""Driver. Makes the container image of an image definition, once: ``vm_images/<name>/`` in, a local image out.

1. The *recipe* digest (every file that goes in) is a label on the image. When an image with it exists, nothing is done.
2. What identifies an image is its *content*: image id and package manifest. Packages move; the recipe does not say so.
3. Two ways to the Debian base: a registry's image where one answers, else mmdebstrap with the host's own apt sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LabError
from harness.providers.build_command import (
    QUICK_S,
    BuildToolMissing,
    ImageBuildFailed,
    Report,
    cache_folder,
    run,
    stream,
    work_folder,
)
from harness.providers.docker_base import image_with, make_base
from harness.providers.image_files import ImageFiles

LABEL = "org.hts-compat.recipe"
COMPILER = "x86_64-w64-mingw32-gcc"
DEFAULT_FLAGS = ("-O2", "-s", "-municode", "-Wl,--no-insert-timestamp")
#: A guest tool's own compiler line in its head comment: ``Build: x86_64-w64-mingw32-gcc -O2 ... -o x.exe x.c``.
BUILD_LINE = re.compile(rf"Build:\s+{COMPILER}\s+(?P<arguments>[^\n]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """A container image that is there to be used.

    ``content`` is the sha256 over ``image_id`` and ``packages_sha256`` and identifies what a guest is made of;
    ``recipe`` is provenance. ``made`` is False when the image had been there already. ``duration_s`` is this call's.
    """

    name: str
    tag: str
    image_id: str
    recipe: str
    packages_sha256: str
    packages: int
    content: str
    made: bool
    duration_s: float


def build(files: ImageFiles, *, report: Report = lambda _line: None) -> BuiltImage:
    """Give the image of a definition, building it only when no image of this recipe exists.

    Args:
        files: Dockerfile, packages.txt, image.yaml, guest/ and the guest tools' sources.
        report: Takes one line of progress at a time.

    Raises:
        InputError: The folder is no image definition.
        PackagesMissing: Packages of another architecture cannot be had.
        BuildToolMissing: Docker, mmdebstrap or the mingw compiler is missing.
        ImageBuildFailed: A step failed; its last output is in ``detail``. ``why_missing`` remembers it.
    """
    began = time.monotonic()
    found = find(files)
    if found is not None:
        return found
    recipe = files.recipe()
    try:
        base = make_base(files.packages(), report=report)
        image_id = make_image(files, base=base, recipe=recipe, report=report)
    except LabError as error:
        _remember(recipe, error)
        raise
    _note_of(recipe).unlink(missing_ok=True)
    return describe(files, image_id=image_id, recipe=recipe, made=True, began=began)


def find(files: ImageFiles) -> BuiltImage | None:
    """Give the image of a definition when it has been built from exactly these files, else None."""
    began = time.monotonic()
    recipe = files.recipe()
    image_id = image_with(LABEL, recipe)
    if image_id is None:
        return None
    return describe(files, image_id=image_id, recipe=recipe, made=False, began=began)


def why_missing(files: ImageFiles) -> str:
    """Say in one sentence why there is no image of these files, with what mends it."""
    name = files.name
    try:
        note = json.loads(_note_of(files.recipe()).read_text(encoding="utf-8"))
        summary, hint = str(note["summary"]), str(note["hint"]) or f"Try 'hts-compat image build {name}' again."
    except (OSError, ValueError, KeyError, TypeError):
        return f"The image '{name}' has not been built from these files: run 'hts-compat image build {name}'."
    return f"The image '{name}' could not be built: {summary[:1].lower()}{summary[1:]} {hint}"


def _note_of(recipe: str) -> Path:
    return cache_folder() / "images" / f"{recipe}.failed.json"


def _remember(recipe: str, error: LabError) -> None:
    """Keep why an image could not be built: who asks for it later learns more than that it is not there."""
    note = _note_of(recipe)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"summary": error.summary, "hint": error.hint}), encoding="utf-8")


def describe(files: ImageFiles, *, image_id: str, recipe: str, made: bool, began: float) -> BuiltImage:
    """Put together what identifies an image that is there."""
    manifest = package_manifest(image_id)
    packages_sha256 = hashlib.sha256(manifest).hexdigest()
    return BuiltImage(
        name=files.name,
        tag=tag_of(files, recipe),
        image_id=image_id,
        recipe=recipe,
        packages_sha256=packages_sha256,
        packages=manifest.count(b"\n"),
        content=hashlib.sha256(f"{image_id}\n{packages_sha256}\n".encode("ascii")).hexdigest(),
        made=made,
        duration_s=time.monotonic() - began,
    )


def tag_of(files: ImageFiles, recipe: str) -> str:
    """Give the name by which Docker knows the image of a recipe."""
    return f"hts-compat/{files.name}:{recipe[:12]}"


def make_image(files: ImageFiles, *, base: str, recipe: str, report: Report) -> str:
    """Compile the guest tools and build the definition's Dockerfile on the base; give the image id.

    The classic builder is asked for by name: Debian's engine has no other, and a newer one would colour its output.
    """
    with work_folder() as work:
        context = work / "context"
        files.copy_to(context)
        tools = context / "guest_tools"
        tools.mkdir()
        compile_tools(files.guest_tools, tools, report=report)
        argv = ["docker", "build", "--tag", tag_of(files, recipe), f"--label={LABEL}={recipe}"]
        stream(
            [*argv, f"--build-arg=BASE={base}", str(context)],
            what="docker build",
            report=report,
            prefix="image: ",
            only="Step ",
            environment=os.environ | {"DOCKER_BUILDKIT": "0"},
        )
    image_id = image_with(LABEL, recipe)
    if image_id is None:
        raise ImageBuildFailed(f"docker build ended well, yet there is no image with the recipe {recipe[:12]}.")
    run(["docker", "tag", image_id, f"hts-compat/{files.name}:latest"], what="docker tag", limit_s=QUICK_S)
    return image_id


def compile_tools(sources: Path, target: Path, *, report: Report) -> None:
    """Compile each C file of the guest tools into a Windows program of the same name."""
    for source in sorted(sources.glob("*.c")):
        if shutil.which(COMPILER) is None:
            raise BuildToolMissing(
                "The guest tools need the mingw-w64 compiler, which is not installed.",
                hint="Install it with 'apt-get install gcc-mingw-w64-x86-64'.",
            )
        report(f"guest tools: {source.name}")
        flags, libraries = flags_of(source)
        program = target / f"{source.stem}.exe"
        argv = [COMPILER, *flags, "-o", str(program), str(source), *libraries]
        run(argv, what=f"compiling {source.name}", limit_s=QUICK_S)


def flags_of(source: Path) -> tuple[list[str], list[str]]:
    """Give a guest tool's compiler flags and libraries: its ``Build:`` line's, or the defaults."""
    match = BUILD_LINE.search(source.read_text(encoding="utf-8")[:8192])
    words = shlex.split(match["arguments"].replace("*/", "")) if match else list(DEFAULT_FLAGS)
    options = [word for word in words if word.startswith("-") and word != "-o"]
    return (
        [word for word in options if not word.startswith("-l")],
        [word for word in options if word.startswith("-l")],
    )


def package_manifest(image_id: str) -> bytes:
    """Give the installed packages of an image, ``name version architecture`` a line, sorted.

    An image never changes under its id, so the answer is kept in the cache folder and the next call starts nothing.
    """
    kept = cache_folder() / "images" / f"{image_id.removeprefix('sha256:')}.packages.json"
    try:
        return str(json.loads(kept.read_text(encoding="utf-8"))["manifest"]).encode("utf-8")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not kept yet, or unreadable: ask again
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    argv = ["docker", "run", "--rm", "--network", "none", "--entrypoint", query[0], image_id, *query[1:]]
    lines = run(argv, what="reading the image's packages", limit_s=QUICK_S).splitlines()
    manifest = b"".join(line + b"\n" for line in sorted(lines))
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({"manifest": manifest.decode("utf-8")}), encoding="utf-8")
    partial.replace(kept)
    return manifest
