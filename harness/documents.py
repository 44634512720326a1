"""Pure. What people write in YAML, where it differs from the values that the flow carries.

Scenarios, signature sets and gate policies are written as they are (``scenario.py``, ``signature.py``, ``gate.py``). A
suite names things by path and label, a recipe says how builds are made, and an image definition says what a guest is.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from harness.egress import Egress
from harness.frozen import Frozen
from harness.image import DEFAULT_TRANSPORT, Folder, Lab
from harness.machine import Machine
from harness.plan import NONE, STANDARD, CellFilter, LeftOut, Sentinels

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGE = r"^(\d{1,6})([smhd])$"

#: Names and versions stand in cell ids, which are split at slashes and typed in shells.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"

#: Guests have their own loopback and no way out of it.
NO_EGRESS: Literal["none"] = "none"

#: An absolute Windows path below a drive.
WINDOWS_FOLDER = r"^[A-Za-z]:\\[^/:]+$"


def seconds(text: object) -> object:
    """Give an age such as ``30m``, ``20h`` or ``7d`` in seconds; anything but a text passes unread.

    Example:
        >>> seconds("20h")
        72000.0
    """
    if not isinstance(text, str):
        return text
    match = re.match(_AGE, text)
    if match is None:
        msg = f"'{text}' is no age; write a number and s, m, h or d, such as 20h"
        raise ValueError(msg)
    return int(match[1]) * _SECONDS[match[2]]


#: Seconds, written as an age.
Age = Annotated[float, BeforeValidator(seconds), WithJsonSchema({"type": "string", "pattern": _AGE})]


class BuildEntry(Frozen):
    """One build of a suite: made from a recipe, or a file that is there."""

    recipe: str | None = Field(default=None, description="Path of a recipe, relative to this file.")
    path: str | None = Field(
        default=None, description="Path of an installer, or of a portable build's zip or folder, relative to this file."
    )
    name: str | None = Field(default=None, pattern=NAME)
    version: str | None = Field(default=None, pattern=NAME)
    install_dir: str | None = Field(default=None, pattern=WINDOWS_FOLDER)
    update_from: str | None = Field(
        default=None, pattern=NAME, description="Version of the suite's build that an 'update' step starts from."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.recipe is None) == (self.path is None):
            msg = "a build has either 'recipe' and 'version', or 'path'"
            raise ValueError(msg)
        if self.recipe is not None and (self.version is None or self.name or self.install_dir):
            msg = "a build from a recipe has 'recipe' and 'version', and 'update_from' at most"
            raise ValueError(msg)
        return self


class ProductEntry(Frozen):
    """One product of a suite in one profile, and the schedules of signatures that it is tried with."""

    product: str
    profile: str = Field(default=STANDARD, pattern=NAME)
    signature_sets: str | None = Field(default=None, description="Path of a file of signature sets, relative to this.")
    signatures: tuple[str, ...] = Field(
        default=(), description="Labels; 'a -> b' is a schedule that moves from a to b at a vendor_update step."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.product == NONE and (self.signature_sets or self.signatures):
            msg = f"the product '{NONE}' is the control and has no signatures"
            raise ValueError(msg)
        if self.product != NONE and (not self.signature_sets or not self.signatures):
            msg = f"the product '{self.product}' needs 'signature_sets' and at least one of 'signatures'"
            raise ValueError(msg)
        return self


def _none_or_mapping(schema: dict[str, Any]) -> None:
    """In YAML the absence of a way out is a word."""
    schema["anyOf"] = [{"const": NO_EGRESS} if way == {"type": "null"} else way for way in schema["anyOf"]]
    schema["default"] = NO_EGRESS


class SuiteDocument(Frozen):
    """The axes of a run as people write them. An axis that is left out is empty, and then nothing runs."""

    name: str = Field(pattern=NAME)
    lab: Lab
    description: str = ""
    images: tuple[str, ...] = Field(default=(), description="Names of folders in vm_images/.")
    builds: tuple[BuildEntry, ...] = ()
    install_dir: str | None = Field(
        default=None,
        pattern=WINDOWS_FOLDER,
        description="Where builds install that are given as files (by 'path' or --build) and do not say it.",
    )
    update_from: str | None = Field(
        default=None, pattern=NAME, description="The same for every build but that one, --build's among them."
    )
    products: tuple[ProductEntry, ...] = ()
    scenarios: tuple[str, ...] = Field(default=(), description="Paths of scenarios, relative to this file.")
    only: tuple[CellFilter, ...] = Field(default=(), description="When given, all other cells are absent.")
    leave_out: tuple[LeftOut, ...] = Field(default=(), description="Cells that make no sense; shown as UNSUPPORTED.")
    confirm: int = Field(default=2, ge=1, le=5, description="Attempts that a bad outcome needs.")
    jobs: int = Field(default=2, ge=1, le=256, description="Cells at the same time.")
    max_age: Age = Field(default=72000.0, description="How old a stored answer may be, such as 20h.")
    recheck_share: float = Field(default=0.0, ge=0, le=1)
    retries: int = Field(default=1, ge=0, le=3, description="How often a cell lost to lab trouble is tried again.")
    drill: bool = Field(default=False, description="A run of a drill is never 'the latest run'.")
    egress: Egress | None = Field(
        default=None,
        description="What guests may reach outside themselves: 'none', or named host:port pairs, by a recording proxy.",
        json_schema_extra=_none_or_mapping,
    )
    admission: bool = Field(
        default=True, description="A product is tried on an image only when known cells came out right there."
    )
    sentinels: Sentinels | None = Field(
        default=None, description="Known cells that are made again during the run; a wrong one withdraws verdicts."
    )

    @field_validator("egress", mode="before")
    @classmethod
    def _closed(cls, value: object) -> object:
        if value == NO_EGRESS:
            return None
        if isinstance(value, dict | Egress):
            return value
        msg = f"'egress' is '{NO_EGRESS}', or a mapping with 'hosts', 'private_hosts' or 'vendor_clouds'"
        raise ValueError(msg)


class Recipe(Frozen):
    """How builds are made from sources. ``{version}`` and ``{out}`` are filled in; ``python3`` is our own Python."""

    name: str = Field(pattern=NAME)
    command: tuple[str, ...] = Field(min_length=1, description="Runs in the recipe's folder.")
    inputs: tuple[str, ...] = Field(min_length=1, description="Globs of all files that the command reads.")
    toolchain: tuple[tuple[str, ...], ...] = Field(
        default=(), description="Commands whose output says which tools are used; a new tool makes a new build."
    )
    timeout_s: float = Field(default=300.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        text = " ".join(self.command)
        for placeholder in ("{version}", "{out}"):
            if placeholder not in text:
                msg = f"the command does not use {placeholder}"
                raise ValueError(msg)
        return self


class Resources(Frozen):
    """What one guest may use."""

    memory_mib: int = Field(default=1024, ge=64, le=1 << 20)
    cpus: int = Field(default=2, ge=1, le=256)


class ImageDefinition(Frozen):
    """What a guest is made as: ``vm_images/<name>/image.yaml``. Its content is known only once it has been built."""

    name: str = Field(pattern=NAME)
    description: str = ""
    lab: Lab
    system: str = Field(description="Which guest system drives it: 'wine' or 'windows'.")
    provider: str = Field(description="Which provider leases it.")
    transport: str = Field(
        default=DEFAULT_TRANSPORT,
        pattern=NAME,
        description="Which of the provider's ways into a guest cells take: 'agent', or on virtual machines also 'qga'"
        " (QEMU's guest agent) or 'ssh'.",
    )
    os: str = Field(default="", description="What runs in it, for people.")
    machines: tuple[Machine, ...] | None = Field(
        default=None, min_length=1, description="Kinds of program that it runs; a build of another kind is UNSUPPORTED."
    )
    like: str | None = Field(
        default=None,
        pattern=NAME,
        description="Another definition, whose files and packages are this one's too where it has none of its own.",
    )
    instead_of: str | None = Field(
        default=None,
        pattern=NAME,
        description="Another definition of the same guest, for another provider: taken where a suite names that one and"
        " the run uses this one's provider.",
    )
    packages: str | None = Field(default=None, description="File with the list of packages, beside this one.")
    user: str = Field(min_length=1, description="The desktop user who runs the program; not an administrator.")
    service_user: str | None = Field(default=None, description="Runs the stand-in servers of a scenario.")
    folders: dict[Folder, str] = Field(description="Windows path of each class of folder but 'install'.")
    drives: dict[str, str] = Field(default_factory=dict, description="Drive letter to the guest's own path.")
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _folders_named(self) -> Self:
        missing = [f.value for f in Folder if f is not Folder.INSTALL and f not in self.folders]
        if missing:
            msg = f"'folders' lacks {', '.join(missing)}"
            raise ValueError(msg)
        return self
