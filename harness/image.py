"""Pure. The OS disk that guests are made from, identified by its content and not by its recipe (packages move)."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from harness.frozen import Frozen
from harness.machine import Machine

#: The way into a guest that every provider of ours has.
DEFAULT_TRANSPORT = "agent"


class Lab(StrEnum):
    """Which kind of lab a guest belongs to. Every cell, page and decision says which."""

    REFERENCE = "reference"
    WINDOWS = "windows"


class Folder(StrEnum):
    """A class of folder that a build uses; canaries are planted in each of them."""

    DOWNLOADS = "downloads"
    TEMP = "temp"
    INSTALL_PARENT = "install_parent"
    INSTALL = "install"
    APPDATA = "appdata"


class Image(Frozen):
    """One image, as far as a verdict depends on it.

    ``content`` is what the guest is made of (for a container: image id and package manifest); ``recipe`` is how it was
    made and serves as provenance only.
    """

    name: str = Field(min_length=1)
    content: str = Field(min_length=8)
    recipe: str | None = None
    lab: Lab
    system: str = Field(description="Which guest system drives it: 'wine' or 'windows'.")
    provider: str = Field(description="Which provider leases it.")
    transport: str = Field(default=DEFAULT_TRANSPORT, description="Which of the provider's ways in cells take.")
    reference: str = Field(default="", description="How the provider finds it (an image tag, a template id).")
    user: str = Field(description="The desktop user who runs the program; not an administrator.")
    folders: dict[Folder, str] = Field(description="Windows path of each class of folder but `install`.")
    drives: dict[str, str] = Field(
        default_factory=dict, description="Drive letter to the guest's own path, on systems that are not Windows."
    )
    memory_mib: int = 1024
    cpus: int = 2
    machines: tuple[Machine, ...] | None = Field(
        default=None, description="Kinds of program that it runs; None when nobody said."
    )
    missing: str | None = Field(
        default=None, description="Why there is no such image on this machine; None when there is one."
    )

    def why_not_run(self, machine: Machine | None) -> str | None:
        """Say why the image does not run a program, to follow its name; None when nothing speaks against it."""
        if machine is None or self.machines is None or machine in self.machines:
            return None
        able = " and ".join(sorted(self.machines))
        return (
            f"is made for {machine}, and the image '{self.name}' runs {able} programs only; "
            f"choose an image that runs {machine}"
        )

    def guest_path(self, windows_path: str) -> str:
        """Give the path by which the guest's own tools reach a Windows path (itself on Windows)."""
        if not self.drives:
            return windows_path
        drive, _, rest = windows_path.partition(":")
        root = self.drives[drive.upper()]
        return "/".join([root, *[part for part in rest.replace("/", "\\").split("\\") if part]])

    def windows_path(self, guest_path: str) -> str | None:
        """Give the Windows path of a guest path; None when no drive holds it."""
        if not self.drives:
            return guest_path
        for letter, root in sorted(self.drives.items(), key=lambda item: -len(item[1])):
            if guest_path == root or guest_path.startswith(root + "/"):
                return f"{letter}:\\" + guest_path[len(root) :].strip("/").replace("/", "\\")
        return None
