"""Pure. What is asked of a build in one guest: ordered steps, each with its expectations and its own deadline.

A step is written as one key, the step's kind, over its settings::

    - launch: {program: DemoHTS.exe, window: "데모증권 HTS"}

so that a problem is found at the very key a person typed. ``STEP_KINDS`` is the closed list; a stage of a verdict
is one of them, or ``inspect``.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.frozen import Frozen
from harness.image import Folder

#: The stage at which something is found that no step provoked: our own last look at the files.
INSPECT = "inspect"


class LogLine(Frozen):
    """A line that the program must write: a regular expression over a UTF-8 log below the install folder."""

    file: str = Field(min_length=1, description="Relative to the install folder.")
    matches: str = Field(min_length=1)

    @field_validator("matches")
    @classmethod
    def _is_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            msg = f"'{value}' is no regular expression ({error})"
            raise ValueError(msg) from error
        return value


class Click(Frozen):
    """A button that a person would press, found by its exact text in a window whose title contains ``window``."""

    window: str = Field(min_length=1)
    button: str = Field(min_length=1)


class _Timed(Frozen):
    timeout_s: float = Field(default=60.0, gt=0, le=3600)


class Deliver(_Timed):
    """The installer is written by the desktop user, as a browser would."""

    to: Folder = Folder.DOWNLOADS


class Install(_Timed):
    """The installer runs silently and must end with one of these exit codes."""

    args: tuple[str, ...] = ("/S",)
    exit_codes: tuple[int, ...] = (0,)
    timeout_s: float = Field(default=120.0, gt=0, le=3600)


class VerifyFiles(_Timed):
    """Every file of the manifest lies where it belongs, with its size. By listing only; nothing is opened."""


class Launch(_Timed):
    """The program starts in the desktop session and shows its window."""

    program: str = Field(min_length=1, description="Relative to the install folder.")
    args: tuple[str, ...] = ()
    window: str = Field(min_length=1, description="Text that the title of the window must contain.")
    error_windows: tuple[str, ...] = ()


class SelfUpdate(_Timed):
    """The program's own updater runs, and says that it succeeded."""

    click: Click | None = None
    log: LogLine | None = None
    error_windows: tuple[str, ...] = ()


class Connect(_Timed):
    """The program reaches its server: title, log line and an established connection, and no error dialog."""

    click: Click | None = None
    window: str | None = None
    log: LogLine | None = None
    tcp_port: int | None = Field(default=None, ge=1, le=65535)
    error_windows: tuple[str, ...] = ()


class Dwell(_Timed):
    """The program stays alive and connected for some seconds, without an error dialog."""

    seconds: float = Field(gt=0, le=3600)
    timeout_s: float = Field(default=3600.0, gt=0, le=7200)
    error_windows: tuple[str, ...] = ()


class VendorUpdate(_Timed):
    """The product moves to the schedule's next signature, with the build already installed: the incident."""


class Run(_Timed):
    """Any command in the guest, and the exit code that it must give."""

    command: tuple[str, ...] = Field(min_length=1)
    user: Literal["desktop", "administrator"] = "desktop"
    exit_codes: tuple[int, ...] = (0,)


Action = Deliver | Install | VerifyFiles | Launch | SelfUpdate | Connect | Dwell | VendorUpdate | Run


class Step(Frozen):
    """One step: exactly one of its keys is set, and that key is its kind."""

    deliver: Deliver | None = None
    install: Install | None = None
    verify_files: VerifyFiles | None = None
    launch: Launch | None = None
    self_update: SelfUpdate | None = None
    connect: Connect | None = None
    dwell: Dwell | None = None
    vendor_update: VendorUpdate | None = None
    run: Run | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in STEP_KINDS if getattr(self, name) is not None]
        if len(kinds) != 1:
            found = ", ".join(kinds) or "none"
            msg = f"a step has exactly one kind, this one has {len(kinds)} ({found})"
            raise ValueError(msg)
        return self

    @property
    def kind(self) -> str:
        """Name the step's kind."""
        return next(name for name in STEP_KINDS if getattr(self, name) is not None)

    @property
    def action(self) -> Action:
        """Give the step's settings."""
        action: Action = getattr(self, self.kind)
        return action


STEP_KINDS: tuple[str, ...] = tuple(Step.model_fields)


class ReadyPort(Frozen):
    """A service is ready when it listens on this port of the guest's loopback."""

    tcp: int = Field(ge=1, le=65535)


class Service(Frozen):
    """A stand-in for a server of the firm, run inside the guest's own network under a user of its own."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")
    files: tuple[str, ...] = Field(default=(), description="Files put into its folder, relative to this YAML file.")
    patch_folder: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_-]{0,31}$",
        description="Folder that receives the build's own patch files.",
    )
    command: tuple[str, ...] = Field(min_length=1)
    ready: ReadyPort


class Scenario(Frozen):
    """Ordered steps over one build, and what they need around them."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    services: tuple[Service, ...] = ()
    steps: tuple[Step, ...] = Field(min_length=1)
    volatile: tuple[str, ...] = Field(
        default=(), description="Globs below the install folder that change by themselves (logs, settings)."
    )
    patch_set: tuple[str, ...] = Field(default=(), description="Files that the program's own update may replace.")
    service_digests: dict[str, str] = Field(
        default_factory=dict, description="sha256 of each service file; filled in by the loader."
    )

    @property
    def vendor_updates(self) -> int:
        """Count the steps that move the product to its next signature."""
        return sum(step.vendor_update is not None for step in self.steps)
