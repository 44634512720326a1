"""Driver. A build that is there as a file or a folder: checked, digested, and described by what it says of itself."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path

from harness.build import Artifact, Build, BuildFile, BuildKind
from harness.errors import InputError
from harness.inspect_pe import NotAProgram, ProgramFacts, inspect_program
from harness.machine import HEAD_BYTES, Machine, machine_of
from harness.portable import NotPortable, manifest_of_zip, pack_folder
from harness.windows_names import why_no_name

#: As much as a guest's last look hashes of one file (guest/inspect_files.py); nothing of it is held in memory.
MAX_BYTES = 512 << 20
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_MSI_CLASS = bytes.fromhex("84100c0000000000c000000000000046")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What identifies a file's bytes."""

    sha256: str
    md5: str
    size_bytes: int


def digest_file(path: Path) -> Digests:
    """Digest a file of any size, a mebibyte at a time. MD5 is what many products' hash signatures are made of."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha256.update(chunk)
            md5.update(chunk)
            size += len(chunk)
    return Digests(sha256=sha256.hexdigest(), md5=md5.hexdigest(), size_bytes=size)


def machine_of_file(path: Path) -> Machine | None:
    """Give what kind of processor a program on this disk is made for; None where its header does not say."""
    with path.open("rb") as stream:
        return machine_of(stream.read(HEAD_BYTES))


def build_from_file(
    path: Path, *, name: str | None = None, version: str | None = None, install_dir: str | None = None
) -> Build:
    r"""Describe a build that lies on this machine.

    Args:
        path: A setup program, an .msi, or a portable build: a .zip or a folder. At most 512 MiB.
        name: The program's name; else its version resource's ``ProductName``, else the file's name.
        version: Else the version resource's ``ProductVersion`` or ``FileVersion``, else the file's name.
        install_dir: Where it installs or is unpacked; else ``C:\Program Files\<name>``.

    Returns:
        The build. Only a portable one has a manifest: nobody knows yet what an installer installs.

    Raises:
        InputError: The file is missing, empty, unreadable, too large, no build, or one that could do harm.
    """
    try:
        found = _inspect(path)
    except (NotAProgram, NotPortable) as error:
        raise _refused(path, str(error), _hint_for(path)) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise _refused(path, f"cannot be read ({why})", "Check the path and its permissions.") from error
    called = name or _word(found.facts.product_name) or found.artifact.stem
    return Build(
        name=called,
        version=version or _word(found.facts.version) or _word(found.artifact.stem) or "unknown",
        kind=found.kind,
        installer=Artifact(
            file_name=found.artifact.name,
            host_path=str(found.artifact.absolute()),
            sha256=found.digests.sha256,
            md5=found.digests.md5,
            size_bytes=found.digests.size_bytes,
            machine=machine_of_file(found.artifact),
        ),
        install_dir=install_dir or f"C:\\Program Files\\{called}",
        files=found.files,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A build on disk: ``artifact`` is what will be delivered."""

    artifact: Path
    kind: BuildKind
    digests: Digests
    facts: ProgramFacts = field(default_factory=ProgramFacts)
    files: tuple[BuildFile, ...] = ()


def _inspect(path: Path) -> _Found:
    if not path.exists():
        raise _refused(path, "does not exist", "Check the path; it is relative to the current folder.")
    why = why_no_name(_absolute(path).name)
    if why is not None:
        raise _refused(path, f"has a name that it cannot have on a customer's PC: {why}", "Rename it.")
    if path.is_dir():
        return _portable(pack_folder(path, portable_folder()))
    if not path.is_file():
        raise _refused(path, "is no ordinary file", "Name a setup program.")
    size = path.stat().st_size
    if size == 0:
        raise _refused(path, "is empty (0 bytes)", "Was the download or the copy finished?")
    if size > MAX_BYTES:
        most = f"{MAX_BYTES >> 20} MiB are the most"
        raise _refused(path, f"has {size >> 20} MiB; {most}", "Name the installer alone, without its data.")
    with path.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(ZIP_MAGICS):
        return _portable(path)
    if is_msi(path):
        return _Found(artifact=path, kind=BuildKind.MSI, digests=digest_file(path))
    return _Found(artifact=path, kind=BuildKind.PROGRAM, facts=inspect_program(path), digests=digest_file(path))


def _portable(archive: Path) -> _Found:
    if archive.stat().st_size > MAX_BYTES:
        raise NotPortable(f"has {archive.stat().st_size >> 20} MiB as a zip; {MAX_BYTES >> 20} MiB are the most")
    return _Found(
        artifact=archive,
        kind=BuildKind.PORTABLE,
        files=manifest_of_zip(archive),
        digests=digest_file(archive),
    )


def portable_folder() -> Path:
    """Give the folder of the zips that folders were made into, outside any checkout."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "hts-compat" / "portable"


def is_msi(path: Path) -> bool:
    """Tell whether a file is a Windows Installer package: an OLE file whose root has the class of one.

    Source:
        Microsoft, "[MS-CFB]" 2.2 (header: sector shift at 30, first directory sector at 48) and 2.6.1 (the root entry's
        CLSID at 80); the class 000C1084-0000-0000-C000-000000000046 is MsiInstaller's.
    """
    with path.open("rb") as stream:
        header = stream.read(52)
        if len(header) < 52 or not header.startswith(_OLE):  # noqa: PLR2004 - see Source
            return False
        shift, sector = struct.unpack_from("<H", header, 30)[0], struct.unpack_from("<I", header, 48)[0]
        if shift not in {9, 12}:
            return False
        stream.seek(((sector + 1) << shift) + 80)
        return stream.read(16) == _MSI_CLASS


def _hint_for(path: Path) -> str:
    if path.is_dir() or is_zip(path):
        return "A portable build is a folder or a zip with the program's files as they lie on a PC."
    return "Name the setup program (.exe or .msi) that your users run, or a portable build's zip or folder."


def _absolute(path: Path) -> Path:
    """Give a path without '..' and '.', so that its last part is a name."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links, and change the name


def is_zip(path: Path) -> bool:
    """Tell whether a file begins as a zip does."""
    with path.open("rb") as stream:
        return stream.read(8).startswith(ZIP_MAGICS)


def _refused(path: Path, what: str, hint: str) -> InputError:
    return InputError(f"The build '{path}' {what}.", hint=hint)


def _word(text: str | None) -> str | None:
    """Give a text as a part of a cell's name: no spaces, slashes or signs that a shell or a filter takes apart."""
    clean = re.sub(r"[^\w.+-]+", "-", text or "").strip("-.")
    return clean[:64] or None
