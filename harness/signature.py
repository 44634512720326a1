"""Pure. What a security product knows at one moment: a labelled signature set, and how it is recognised when loaded.

A set of the reference lab is declared by what it detects, in terms of builds' files; the rules are made from the
builds' bytes (``resolve``), so that another file name, another date or another build needs YAML alone.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import Field

from harness.behaviour import Behaviour
from harness.build import Artifact, Build, BuildFile
from harness.frozen import Frozen

#: The file name by which a rule names a build's installer.
INSTALLER = "installer"


class SignatureRule(Frozen):
    """One thing that a set knows: a file of some builds, under a name that the product will report."""

    build: str = Field(default="*", description="Which versions; * matches all.")
    file: str = Field(description="A path in the build's manifest, or 'installer'.")
    threat: str = Field(min_length=1, description="The detection's name.")
    behaviour: Behaviour | None = Field(
        default=None, description="What a test product does about it; else it takes it."
    )


class SignatureSet(Frozen):
    """One set as declared in YAML. The label is free text without spaces or slashes; dates are a custom, not a rule."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    rules: tuple[SignatureRule, ...] = ()
    knows_canary: bool = Field(default=True, description="False makes a set without the test object: a drill.")
    marker_of: str | None = Field(
        default=None, description="Carries another set's marker, as a reload that did not happen: a drill."
    )
    says: str | None = Field(
        default=None, description="The label that a test product claims instead of this one: a lie."
    )


class SignatureSets(Frozen):
    """All sets of one product, oldest first."""

    product: str
    sets: tuple[SignatureSet, ...]

    def named(self, label: str) -> SignatureSet | None:
        """Find a set by its label."""
        return next((s for s in self.sets if s.label == label), None)


class KnownFile(Frozen):
    """A rule made concrete: these bytes are known under this name."""

    threat: str
    sha256: str
    md5: str
    size_bytes: int
    behaviour: Behaviour | None = None


class Signature(Frozen):
    """A set made concrete for the builds of a plan: what is put into the guest, and what proves that it is loaded."""

    label: str
    known: tuple[KnownFile, ...] = ()
    knows_canary: bool = True
    marker: str = Field(description="Label whose marker this set carries; its own unless a drill says otherwise.")
    says: str | None = Field(default=None, description="The label that a test product claims; None is its own.")


def resolve(declared: SignatureSet, builds: tuple[Build, ...]) -> Signature:
    """Make a declared set concrete from the bytes of the plan's builds.

    Args:
        declared: What the YAML says.
        builds: All builds of the plan; a rule is applied to those whose version matches.

    Returns:
        The set with one ``KnownFile`` for each matching file, sorted and without duplicates.

    Raises:
        LookupError: A rule names a file that no matching build has; a set that silently knows nothing would make
            green cells.
    """
    known: dict[tuple[str, str], KnownFile] = {}
    for rule in declared.rules:
        hits = [file for build in builds if fnmatchcase(build.version, rule.build) for file in _files(build, rule)]
        if not hits and any(fnmatchcase(b.version, rule.build) for b in builds):
            msg = f"Set '{declared.label}' names the file '{rule.file}', which no matching build has."
            raise LookupError(msg)
        known.update({(hit.sha256, hit.threat): hit for hit in hits})
    return Signature(
        label=declared.label,
        known=tuple(known[key] for key in sorted(known)),
        knows_canary=declared.knows_canary,
        marker=declared.marker_of or declared.label,
        says=declared.says,
    )


def _files(build: Build, rule: SignatureRule) -> list[KnownFile]:
    own: list[Artifact | BuildFile] = [build.installer]
    if rule.file != INSTALLER:
        own = [f for f in build.files if fnmatchcase(f.path.casefold(), rule.file.casefold())]
    return [
        KnownFile(threat=rule.threat, sha256=f.sha256, md5=f.md5, size_bytes=f.size_bytes, behaviour=rule.behaviour)
        for f in own
        if f.sha256 is not None and f.md5 is not None and f.size_bytes is not None
    ]
