"""Pure. What an inspection found. Every text in it comes from a stranger's file, and is shown by ``visible`` alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a build is made as."""

    NSIS = "nsis"
    INNO = "inno"
    INSTALLSHIELD = "installshield"
    BURN = "burn"
    SFX_7ZIP = "7zip_sfx"
    SFX_RAR = "rar_sfx"
    SFX_ZIP = "zip_sfx"
    PROGRAM = "program"
    LIBRARY = "library"
    MSI = "msi"
    ZIP = "zip"
    FOLDER = "folder"


class Trust(StrEnum):
    """How far a signature can be believed, as far as it can be told offline: nobody is asked about revocation."""

    UNSIGNED = "unsigned"
    VALID = "valid"
    ALTERED = "altered"
    UNPROVEN = "unproven"
    INVALID = "invalid"
    UNREADABLE = "unreadable"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """One certificate that signed the file, by its names."""

    subject: str
    issuer: str
    valid_from: str
    valid_to: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What is known of a file's signature. ``detail`` says why it is not simply valid."""

    trust: Trust
    signers: tuple[Signer, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionSeen:
    """A section, and the entropy of its first mebibyte: 0 to 8 bits a byte; packed or encrypted data is near 8."""

    name: str
    size_bytes: int
    entropy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSeen:
    """A file inside, as a list names it; the size is None where the list has none."""

    path: str
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSeen:
    """A security module that Korean sites make customers install, found by a file's name. A hint, no proof."""

    module: str
    path: str
    silent: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What lies inside, and by what it was listed; ``why_not`` when it could not be, or not to the end."""

    files: tuple[FileSeen, ...] = ()
    by: str | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that was found in one build.

    Attributes:
        bits: 32 or 64; None where nothing says it.
        windowed: It has windows (True) or is made for the console; None for what is no program.
        elevation: ``requestedExecutionLevel`` of the manifest, such as ``requireAdministrator``.
        texts: The version resource's strings, or an MSI's properties.
        hints: What points to a packer or protector. Names are only hints.
        notes: What else a reader must know, each one sentence.
        refused: Why this cannot be given to ``run`` as it is; None when it can.
    """

    path: str
    file_name: str
    kind: Kind
    size_bytes: int
    sha256: str
    md5: str
    bits: int | None = None
    machine: str | None = None
    windowed: bool | None = None
    elevation: str | None = None
    texts: tuple[tuple[str, str], ...] = ()
    signed: Signed
    sections: tuple[SectionSeen, ...] = ()
    overlay_bytes: int = 0
    hints: tuple[str, ...] = ()
    contents: Contents = Contents()
    modules: tuple[ModuleSeen, ...] = ()
    notes: tuple[str, ...] = ()
    refused: str | None = None

    def text(self, *names: str) -> str | None:
        """Give the first of these texts that is there and not empty."""
        found = dict(self.texts)
        return next((found[name] for name in names if found.get(name)), None)

    @property
    def product(self) -> str | None:
        """Give the program's name as the build itself says it."""
        return self.text("ProductName", "FileDescription")

    @property
    def version(self) -> str | None:
        """Give the version as the build itself says it."""
        return self.text("ProductVersion", "FileVersion")
