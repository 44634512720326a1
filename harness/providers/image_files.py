"""Driver. The files that an image is made from: a folder of ``vm_images/``, and the one that it is like."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError

LEFTOVERS = ("__pycache__", "*~", "*.swp")
PACKAGES = "packages.txt"
DEFINITION = "image.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFiles:
    """Where the files of one image definition lie.

    Attributes:
        folder: ``vm_images/<name>``.
        like: Another definition's folder, or None. What ``folder`` does not have itself is taken from there, and the
            packages of both are installed.
    """

    folder: Path
    like: Path | None = None

    @property
    def name(self) -> str:
        """Give the image's name."""
        return self.folder.name

    @property
    def guest_tools(self) -> Path:
        """Give the folder of the guest tools' sources, which all images share."""
        return self.folder.parent / "guest_tools"

    def packages(self) -> list[str]:
        """Give the Debian packages, those of the other definition first.

        Raises:
            InputError: A line is no package name.
        """
        folders = [folder for folder in (self.like, self.folder) if folder is not None]
        return [name for folder in folders for name in _packages_in(folder / PACKAGES)]

    def of_image(self) -> dict[str, Path]:
        """Give the build context: names relative to it, and where each file lies."""
        shared = {} if self.like is None else _below(self.like)
        return {**{name: path for name, path in shared.items() if name != DEFINITION}, **_below(self.folder)}

    def copy_to(self, context: Path) -> None:
        """Copy the build context, permissions included."""
        for name, path in self.of_image().items():
            target = context / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)

    def recipe(self) -> str:
        """Give the sha256 over every file that the image is made from, paths and contents, in the order of the paths.

        Raises:
            InputError: Dockerfile, packages.txt or image.yaml is missing.
        """
        image = self.of_image()
        for name in ("Dockerfile", PACKAGES, DEFINITION):
            if name not in image:
                msg = f"{self.folder} is no image definition: it has no {name}."
                raise InputError(msg, hint="See vm_images/reference.")
        digest = hashlib.sha256()
        for label, path in sorted(self._labelled(image)):
            content = path.read_bytes()
            executable = os.access(path, os.X_OK)
            digest.update(f"{label}\n{len(content)} {executable}\n".encode())
            digest.update(content)
        return digest.hexdigest()

    def _labelled(self, image: dict[str, Path]) -> Iterator[tuple[str, Path]]:
        yield from ((f"image/{name}", path) for name, path in image.items())
        yield from ((f"guest_tools/{name}", path) for name, path in _below(self.guest_tools).items())
        if self.like is not None and image[PACKAGES] != self.like / PACKAGES:
            yield f"like/{PACKAGES}", self.like / PACKAGES


def _below(root: Path) -> dict[str, Path]:
    """Give every file below a folder by its relative name; byte code and editors' leftovers are none."""
    found = {path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
    return {
        relative.as_posix(): path
        for relative, path in found.items()
        if not any(Path(part).match(pattern) for part in relative.parts for pattern in LEFTOVERS)
    }


def _packages_in(file: Path) -> list[str]:
    """Read a list of packages: one a line, ``:i386`` behind those of another architecture, ``#`` begins a comment."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    for name in names:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?", name):
            raise InputError(f"'{name}' in {file} is no package name.")
    return names
