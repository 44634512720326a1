"""Pure. One build of the trading program: its installer, what is in it, and where it lands on a Windows disk.

Windows paths are compared by ``fold``: backslashes, no trailing one, case-folded. Where a path is kept for a human,
the raw form stands beside the folded one.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from harness.frozen import Frozen
from harness.machine import Machine


class Component(StrEnum):
    """Which part of a build a file is; the remedy for a detection differs by it."""

    SETUP = "setup"
    MAIN = "main"
    MODULE = "module"
    UPDATER = "updater"
    UNINSTALLER = "uninstaller"
    DATA = "data"


class BuildKind(StrEnum):
    """How a build comes onto a PC: its setup program runs, Windows Installer installs it, or it is unpacked."""

    PROGRAM = "program"
    MSI = "msi"
    PORTABLE = "portable"


class BuildFile(Frozen):
    """One file that a build installs. Digests are None where they cannot be known before the install."""

    path: str = Field(min_length=1, description="Relative to the install folder, with backslashes.")
    sha256: str | None = None
    md5: str | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    component: Component = Component.MODULE
    machine: Machine | None = Field(default=None, description="What a program is made for; None when nobody read it.")


class Artifact(Frozen):
    """A file on the host that is delivered into the guest. ``host_path`` is no part of its identity."""

    file_name: str = Field(min_length=1)
    host_path: str = Field(exclude=True, default="")
    sha256: str
    md5: str
    size_bytes: int = Field(ge=1)
    machine: Machine | None = Field(default=None, description="What a setup program is made for; None when unknown.")


class Build(Frozen):
    """One HTS build. ``files`` is empty when nobody declared a manifest: then the control's listing stands in."""

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    kind: BuildKind = BuildKind.PROGRAM
    installer: Artifact = Field(description="What is delivered: the installer, or a portable build's zip.")
    install_dir: str = Field(min_length=3, description=r"Canonical Windows path, such as C:\Program Files\HTS.")
    files: tuple[BuildFile, ...] = ()
    patch: tuple[BuildFile, ...] = Field(default=(), description="What the program's own update may put in place.")
    patch_host_dir: str = Field(exclude=True, default="")

    def installed_path(self, relative: str) -> str:
        """Give the canonical Windows path of one of the build's files."""
        return f"{self.install_dir}\\{relative}"

    def file_at(self, windows_path: str) -> BuildFile | None:
        """Find the manifest's file that lies at a Windows path; None when the manifest has none there."""
        wanted = fold(windows_path)
        return next((f for f in self.files if fold(self.installed_path(f.path)) == wanted), None)


def fold(windows_path: str) -> str:
    r"""Give the form in which two Windows paths are compared.

    Example:
        >>> fold("c:/Program Files//DemoHTS/")
        'c:\\program files\\demohts'
    """
    parts = [part for part in windows_path.replace("/", "\\").split("\\") if part]
    return "\\".join(parts).casefold()


def is_inside(windows_path: str, folder: str) -> bool:
    """Tell whether a Windows path is a folder itself or lies below it."""
    path, root = fold(windows_path), fold(folder)
    return path == root or path.startswith(root + "\\")
