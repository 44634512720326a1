"""Driver. A build that is there as a file: checked, digested, and described by what the file says of itself."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from harness.build import Artifact, Build
from harness.errors import InputError
from harness.inspect_pe import NotAProgram, ProgramFacts, inspect_program

MAX_BYTES = 2 << 30
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


def build_from_file(
    path: Path, *, name: str | None = None, version: str | None = None, install_dir: str | None = None
) -> Build:
    r"""Describe an installer that lies on this machine.

    Args:
        path: The installer, a Windows program of at most 2 GiB.
        name: The program's name; else its version resource's ``ProductName``, else the file's name.
        version: Else the version resource's ``ProductVersion`` or ``FileVersion``, else the file's name.
        install_dir: Where it installs; else ``C:\Program Files\<name>``.

    Returns:
        The build, without a manifest: nobody knows yet what it installs.

    Raises:
        InputError: The file is missing, empty, a folder, unreadable, too large, or no Windows program.
    """
    facts, digests = _inspect(path)
    called = name or _word(facts.product_name) or path.stem
    return Build(
        name=called,
        version=version or _word(facts.version) or _word(path.stem) or "unknown",
        installer=Artifact(
            file_name=path.name,
            host_path=str(path.absolute()),
            sha256=digests.sha256,
            md5=digests.md5,
            size_bytes=digests.size_bytes,
        ),
        install_dir=install_dir or f"C:\\Program Files\\{called}",
    )


def _inspect(path: Path) -> tuple[ProgramFacts, Digests]:
    try:
        if path.is_dir():
            raise _refused(path, "is a folder", "Name the installer inside it.")
        if not path.exists():
            raise _refused(path, "does not exist", "Check the path; it is relative to the current folder.")
        if not path.is_file():
            raise _refused(path, "is no ordinary file", "Name a setup program.")
        size = path.stat().st_size
        if size == 0:
            raise _refused(path, "is empty (0 bytes)", "Was the download or the copy finished?")
        if size > MAX_BYTES:
            raise _refused(path, f"has {size / (1 << 30):.1f} GiB; 2 GiB are the most", "Name the installer alone.")
        return inspect_program(path), digest_file(path)
    except NotAProgram as error:
        raise _refused(path, str(error), "Name the setup program (.exe) that your users run.") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise _refused(path, f"cannot be read ({why})", "Check the path and its permissions.") from error


def _refused(path: Path, what: str, hint: str) -> InputError:
    return InputError(f"The build '{path}' {what}.", hint=hint)


def _word(text: str | None) -> str | None:
    """Give a text as a part of a cell's name: no spaces, slashes or signs that a shell or a filter takes apart."""
    clean = re.sub(r"[^\w.+-]+", "-", text or "").strip("-.")
    return clean[:64] or None
