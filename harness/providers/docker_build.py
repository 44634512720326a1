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
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, InputError
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


def build(folder: Path, *, report: Report = lambda _line: None) -> BuiltImage:
    """Give the image of a definition folder, building it only when no image of this recipe exists.

    Args:
        folder: ``vm_images/<name>``: Dockerfile, packages.txt, image.yaml, guest/; the guest tools' sources lie in
            ``guest_tools`` beside it.
        report: Takes one line of progress at a time.

    Raises:
        InputError: The folder is no image definition.
        BuildToolMissing: Docker, mmdebstrap or the mingw compiler is missing.
        ImageBuildFailed: A step failed; its last output is in ``detail``.
    """
    began = time.monotonic()
    found = find(folder)
    if found is not None:
        return found
    recipe = recipe_of(folder)
    base = make_base(folder, report=report)
    image_id = make_image(folder, base=base, recipe=recipe, report=report)
    return describe(folder, image_id=image_id, recipe=recipe, made=True, began=began)


def find(folder: Path) -> BuiltImage | None:
    """Give the image of a definition folder when it has been built from exactly these files, else None."""
    began = time.monotonic()
    recipe = recipe_of(folder)
    image_id = image_with(LABEL, recipe)
    if image_id is None:
        return None
    return describe(folder, image_id=image_id, recipe=recipe, made=False, began=began)


def describe(folder: Path, *, image_id: str, recipe: str, made: bool, began: float) -> BuiltImage:
    """Put together what identifies an image that is there."""
    manifest = package_manifest(image_id)
    packages_sha256 = hashlib.sha256(manifest).hexdigest()
    return BuiltImage(
        name=folder.name,
        tag=tag_of(folder, recipe),
        image_id=image_id,
        recipe=recipe,
        packages_sha256=packages_sha256,
        packages=manifest.count(b"\n"),
        content=hashlib.sha256(f"{image_id}\n{packages_sha256}\n".encode("ascii")).hexdigest(),
        made=made,
        duration_s=time.monotonic() - began,
    )


def tag_of(folder: Path, recipe: str) -> str:
    """Give the name by which Docker knows the image of a recipe."""
    return f"hts-compat/{folder.name}:{recipe[:12]}"


def recipe_of(folder: Path) -> str:
    """Give the sha256 over every file that the image is made from, paths and contents, in the order of the paths.

    Raises:
        InputError: Dockerfile, packages.txt or image.yaml is missing.
    """
    for name in ("Dockerfile", "packages.txt", "image.yaml"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is no image definition: it has no {name}.", hint="See vm_images/reference.")
    digest = hashlib.sha256()
    for label, path in sorted(recipe_files(folder)):
        content = path.read_bytes()
        executable = os.access(path, os.X_OK)
        digest.update(f"{label}\n{len(content)} {executable}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def recipe_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield a stable name and the path of each file of the recipe; byte code and editors' leftovers are none."""
    for label, root in (("image", folder), ("guest_tools", folder.parent / "guest_tools")):
        for path in root.rglob("*"):
            relative = path.relative_to(root)
            if path.is_file() and "__pycache__" not in relative.parts and not path.name.endswith(("~", ".swp")):
                yield f"{label}/{relative.as_posix()}", path


def make_image(folder: Path, *, base: str, recipe: str, report: Report) -> str:
    """Compile the guest tools and build the definition's Dockerfile on the base; give the image id.

    The classic builder is asked for by name: Debian's engine has no other, and a newer one would colour its output.
    """
    with work_folder() as work:
        context = work / "context"
        shutil.copytree(folder, context, ignore=shutil.ignore_patterns("__pycache__", "*~", "*.swp"))
        tools = context / "guest_tools"
        tools.mkdir()
        compile_tools(folder.parent / "guest_tools", tools, report=report)
        argv = ["docker", "build", "--tag", tag_of(folder, recipe), f"--label={LABEL}={recipe}"]
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
    run(["docker", "tag", image_id, f"hts-compat/{folder.name}:latest"], what="docker tag", limit_s=QUICK_S)
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


def main() -> int:
    """Build the image of the folder named on the command line; ``make setup`` uses this face."""
    began = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - began:6.1f} s] {line}", flush=True)  # noqa: T201 (this is the command's output)

    try:
        built = build(Path(sys.argv[1]), report=report)
    except HarnessError as problem:
        for text in (problem.summary, problem.detail, problem.hint):
            if text:
                print(text, file=sys.stderr)  # noqa: T201
        return problem.exit_code
    report(f"{built.tag} {'made' if built.made else 'there already'}, content {built.content[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
