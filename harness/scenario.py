"""Pure. What is asked of a build in one guest: ordered steps, each with its expectations and its own deadline.

A step is written as one key, the step's kind, over its settings::

    - launch: {program: DemoHTS.exe, window: "데모증권 HTS"}

so that a problem is found at the very key a person typed. ``STEP_KINDS`` is the closed list; a stage of a verdict
is one of them, or ``inspect``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import core_schema

from harness.frozen import Frozen
from harness.image import Folder

#: The stage at which something is found that no step provoked: our own last look at the files.
INSPECT = "inspect"


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        msg = f"'{value}' is no regular expression ({error})"
        raise ValueError(msg) from error
    return value


#: A regular expression, in the syntax of Python's ``re``.
Expression = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]


class LogLine(Frozen):
    """A line that the program must write: a regular expression over a UTF-8 log below the install folder."""

    file: str = Field(min_length=1, description="Relative to the install folder.")
    matches: Expression


class Title(Frozen):
    r"""Which windows are meant: a text that the title contains, or ``{matches: expression}``.

    Example:
        >>> Title.model_validate("접속됨").fits("데모증권 HTS - 접속됨")
        True
        >>> Title.model_validate({"matches": r"HTS \d+"}).fits("데모증권 HTS - 접속됨")
        False
    """

    contains: str | None = Field(default=None, min_length=1)
    matches: Expression | None = Field(default=None, description="A regular expression that the title contains.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if isinstance(value, str):
            return {"contains": value}
        if value is None or isinstance(value, list):
            msg = "a window's title should be a text, or {matches: a regular expression}"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.contains is None) == (self.matches is None):
            msg = "a window's title has either 'contains' or 'matches'"
            raise ValueError(msg)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Let editors accept the short form, a text, too."""
        text = {"type": "string", "minLength": 1, "description": "Text that the title contains."}
        return {"anyOf": [text, handler(schema)]}

    def fits(self, title: str) -> bool:
        """Tell whether a window's title is meant."""
        if self.matches is not None:
            return re.search(self.matches, title) is not None
        return self.contains is not None and self.contains in title

    def __str__(self) -> str:
        return f"matches '{self.matches}'" if self.matches is not None else f"contains '{self.contains}'"


class Click(Frozen):
    """A button that a person would press, found by its exact text in a window whose title contains ``window``."""

    window: str = Field(min_length=1)
    button: str = Field(min_length=1)


class Place(Frozen):
    """A place in a window whose title contains ``window``, in pixels from the window's upper left corner."""

    window: str = Field(min_length=1)
    x: int = Field(ge=0, le=4095)
    y: int = Field(ge=0, le=4095)


#: Keys by the names that people give them; joined by '+' they are held together, as in 'alt+f4'.
KEYS = frozenset(
    [
        *"abcdefghijklmnopqrstuvwxyz0123456789",
        *(f"f{number}" for number in range(1, 13)),
        *("enter", "esc", "tab", "space", "backspace", "delete", "insert", "home", "end", "pageup", "pagedown"),
        *("up", "down", "left", "right", "alt", "ctrl", "shift", "win", "menu"),
    ]
)


def _is_chord(value: str) -> str:
    unknown = [key for key in value.split("+") if key not in KEYS]
    if unknown:
        msg = f"'{unknown[0]}' is no key; there are {', '.join(sorted(KEYS, key=lambda key: (-len(key), key)))}"
        raise ValueError(msg)
    return value


class Fill(Frozen):
    """A field that a person would fill in, by the text of the label before it, or by its number in the window.

    A ``secret`` is named here and its value comes from the environment; it is kept out of every record.
    """

    window: str = Field(min_length=1, description="Text that the window's title contains.")
    field: str | None = Field(default=None, min_length=1, description="The exact text of the label before the field.")
    field_number: int | None = Field(default=None, ge=1, le=100, description="Or which of the window's fields it is.")
    text: str | None = Field(default=None, max_length=256)
    secret: str | None = Field(
        default=None, pattern=r"^[A-Z][A-Z0-9_]{0,63}$", description="Name of a secret (HTS_SECRET_<NAME>)."
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if (self.field is None) == (self.field_number is None):
            msg = "a field is found by either 'field' (its label) or 'field_number'"
            raise ValueError(msg)
        if (self.text is None) == (self.secret is None):
            msg = "a field is filled with either 'text' or 'secret'"
            raise ValueError(msg)
        return self

    def __str__(self) -> str:
        name = f"'{self.field}'" if self.field is not None else f"number {self.field_number}"
        return f"field {name} in a window '{self.window}'"


#: Programs and DLLs that must be there, by file name: whatever runs as the desktop user is looked at.
Modules = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^\\\\/]+$")], ...] | None,
    Field(
        min_length=1,
        description="File names of programs that must run, and of DLLs that must be loaded, by the program or by others"
        " of its user.",
    ),
]


class _Timed(Frozen):
    timeout_s: float = Field(default=60.0, gt=0, le=3600)


class Deliver(_Timed):
    """The installer is written by the desktop user, as a browser would."""

    to: Folder = Folder.DOWNLOADS
    build: Literal["older"] | None = Field(
        default=None, description="'older': not the cell's own build, but the one that it updates ('update_from')."
    )


class Install(_Timed):
    """What was delivered last is installed silently and ends with one of these exit codes; a zip is unpacked."""

    args: tuple[str, ...] | None = Field(
        default=None, description="What makes it silent; else '/S' for a program and '/qn /norestart' for an MSI."
    )
    exit_codes: tuple[int, ...] = (0,)
    timeout_s: float = Field(default=120.0, gt=0, le=3600)


class Update(_Timed):
    """The cell's own installer runs over an installed older build; afterwards the files are those of its own build."""

    args: tuple[str, ...] | None = Field(
        default=None, description="What makes it silent; else '/S' for a program and '/qn /norestart' for an MSI."
    )
    exit_codes: tuple[int, ...] = (0,)
    leaves: tuple[str, ...] = Field(
        default=(), description="Globs below the install folder: files of the older build alone that may stay."
    )
    timeout_s: float = Field(default=120.0, gt=0, le=3600)


class VerifyFiles(_Timed):
    """Every file of the installed build's manifest lies where it belongs, with its size. By listing only."""


class Launch(_Timed):
    """The program starts in the desktop session and shows its window, or does its work and ends by itself."""

    program: str = Field(min_length=1, description="Relative to the install folder.")
    args: tuple[str, ...] = ()
    window: Title | None = Field(default=None, description="The window that it must show; then it stays.")
    exit_codes: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="For a program without a window: how it must end by itself."
    )
    modules: Modules = None
    error_windows: tuple[Title, ...] = ()

    @model_validator(mode="after")
    def _stays_or_ends(self) -> Self:
        if (self.window is None) == (self.exit_codes is None):
            msg = "a launch has either 'window' (the program stays) or 'exit_codes' (it ends by itself)"
            raise ValueError(msg)
        if self.exit_codes is not None and self.modules is not None:
            msg = "a program that ends by itself leaves no 'modules' to be seen"
            raise ValueError(msg)
        return self


class SelfUpdate(_Timed):
    """The program's own updater runs, and says that it succeeded."""

    click: Click | None = None
    log: LogLine | None = None
    error_windows: tuple[Title, ...] = ()


class Connect(_Timed):
    """The program reaches its server: title, log line and an established connection, and no error dialog."""

    fill: tuple[Fill, ...] | None = Field(
        default=None, min_length=1, description="Filled in, in order, before 'click'."
    )
    click: Click | None = None
    window: Title | None = None
    log: LogLine | None = None
    tcp_port: int | None = Field(default=None, ge=1, le=65535)
    modules: Modules = None
    error_windows: tuple[Title, ...] = ()


class Press(_Timed):
    """Keys, or a click at a place, given from outside by the machine's own keyboard or pointer (virtual machines).

    For what the helper in the guest cannot press: what is no button, and desktops that programs do not reach.
    """

    keys: tuple[Annotated[str, AfterValidator(_is_chord)], ...] | None = Field(
        default=None, min_length=1, max_length=100, description="One after the other, such as 'tab' and 'alt+f4'."
    )
    at: Place | None = None
    window: Title | None = Field(default=None, description="The window that must be shown then.")
    error_windows: tuple[Title, ...] = ()

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.keys is None) == (self.at is None):
            msg = "a press is either 'keys' or a click 'at' a place"
            raise ValueError(msg)
        return self


class Dwell(_Timed):
    """The program stays alive, without an error dialog; with ``window`` or ``tcp_port`` it stays connected, too."""

    seconds: float = Field(gt=0, le=3600)
    timeout_s: float = Field(default=3600.0, gt=0, le=7200)
    window: Title | None = None
    tcp_port: int | None = Field(default=None, ge=1, le=65535)
    error_windows: tuple[Title, ...] = ()
    look_again_at_s: tuple[float, ...] = Field(
        default=(),
        description="Seconds into the step at which protection is sampled and the screen pictured once more.",
    )

    @model_validator(mode="after")
    def _looks_within(self) -> Self:
        if self.timeout_s < self.seconds:
            msg = f"a dwell of {self.seconds:g} s cannot have the shorter 'timeout_s' {self.timeout_s:g}"
            raise ValueError(msg)
        late = [at for at in self.look_again_at_s if not 0 < at <= self.seconds]
        if late:
            msg = f"a dwell of {self.seconds:g} s has no second {late[0]:g} at which it could look again"
            raise ValueError(msg)
        return self


class Scan(_Timed):
    """The product scans the install folder on demand; one that cannot be asked to leaves the cell inconclusive."""

    timeout_s: float = Field(default=300.0, gt=0, le=3600)


class Close(_Timed):
    """The program's window is closed as a person would close it, and the program ends."""

    window: str = Field(min_length=1)
    exit_codes: tuple[int, ...] = (0,)


class Reboot(_Timed):
    """The guest starts anew; what runs then is what starts by itself. In a container that is the desktop session."""

    timeout_s: float = Field(default=180.0, gt=0, le=3600)


class Uninstall(_Timed):
    """The program's own uninstaller runs silently and leaves nothing of the build in the install folder."""

    program: str = Field(min_length=1, description="Relative to the install folder.")
    args: tuple[str, ...] = ("/S",)
    exit_codes: tuple[int, ...] = (0,)
    leaves: tuple[str, ...] = Field(default=(), description="Globs below the install folder that may stay (user data).")


class VendorUpdate(_Timed):
    """The product moves to the schedule's next signature, with the build already installed: the incident."""


class Run(_Timed):
    """Any command in the guest, and the exit code that it must give."""

    command: tuple[str, ...] = Field(min_length=1)
    user: Literal["desktop", "administrator"] = "desktop"
    exit_codes: tuple[int, ...] = (0,)


Action = (
    Deliver
    | Install
    | Update
    | VerifyFiles
    | Launch
    | SelfUpdate
    | Connect
    | Press
    | Dwell
    | Scan
    | Close
    | Reboot
    | Uninstall
    | VendorUpdate
    | Run
)


class Step(Frozen):
    """One step: exactly one of its keys is set, and that key is its kind."""

    deliver: Deliver | None = None
    install: Install | None = None
    update: Update | None = None
    verify_files: VerifyFiles | None = None
    launch: Launch | None = None
    self_update: SelfUpdate | None = None
    connect: Connect | None = None
    press: Press | None = None
    dwell: Dwell | None = None
    scan: Scan | None = None
    close: Close | None = None
    reboot: Reboot | None = None
    uninstall: Uninstall | None = None
    vendor_update: VendorUpdate | None = None
    run: Run | None = None
    repeat: Repeat | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [name for name in type(self).model_fields if getattr(self, name) is not None]
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


class Repeat(Frozen):
    """Some steps, several times over; laid out before anything runs, so that each round is a step of its own."""

    times: int = Field(ge=2, le=100)
    steps: tuple[Step, ...] = Field(min_length=1)


#: What a step can be once repetitions are laid out.
STEP_KINDS: tuple[str, ...] = tuple(name for name in Step.model_fields if name != "repeat")

#: More steps than this are a mistake in a repetition.
MAX_STEPS = 500


def laid_out(steps: Iterable[Step]) -> Iterator[Step]:
    """Give the steps with every repetition written out."""
    for step in steps:
        if step.repeat is None:
            yield step
            continue
        for _ in range(step.repeat.times):
            yield from laid_out(step.repeat.steps)


def _check_updates(steps: Sequence[Step]) -> None:
    """Raise ``ValueError`` when an ``update`` has nothing to update, or nothing to update it with."""
    delivered = installed = None
    for number, step in enumerate(steps, start=1):
        if step.deliver is not None:
            delivered = step.deliver.build or "own"
        elif step.install is not None:
            installed = delivered
        elif step.uninstall is not None:
            installed = None
        elif step.update is not None:
            if (installed, delivered) != ("older", "own"):
                lacks = "an older build is installed (deliver: {build: older}, then install)"
                lacks = lacks if installed != "older" else "this build is delivered after it (deliver)"
                msg = f"step {number} is 'update', and nothing before it says that {lacks}"
                raise ValueError(msg)
            installed = "own"
    if any(s.deliver is not None and s.deliver.build for s in steps) and not any(s.update for s in steps):
        msg = "an older build is delivered, and no 'update' step installs this build over it"
        raise ValueError(msg)


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

    @field_validator("steps", mode="after")
    @classmethod
    def _without_repetitions(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        flat = tuple(islice(laid_out(steps), MAX_STEPS + 1))
        if len(flat) > MAX_STEPS:
            msg = f"the steps come to more than {MAX_STEPS} with their repetitions"
            raise ValueError(msg)
        _check_updates(flat)
        return flat

    @property
    def updated_at(self) -> int | None:
        """Give the index of the step that puts the cell's own build over an older one; None when there is none."""
        return next((index for index, step in enumerate(self.steps) if step.update is not None), None)

    def is_about_older(self, index: int) -> bool:
        """Tell whether a step is done with the older build, before the cell's own is there."""
        if self.updated_at is None or index >= self.updated_at:
            return False
        delivered = self.steps[index].deliver
        return delivered is None or delivered.build is not None

    @property
    def secrets(self) -> frozenset[str]:
        """Name the secrets that its steps enter."""
        fills = (fill for step in self.steps if step.connect is not None for fill in step.connect.fill or ())
        return frozenset(fill.secret for fill in fills if fill.secret is not None)

    @property
    def vendor_updates(self) -> int:
        """Count the steps that move the product to its next signature."""
        return sum(step.vendor_update is not None for step in self.steps)
