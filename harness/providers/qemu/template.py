"""Driver. A frozen virtual machine: booted once, with its desktop up, and forked for every guest.

A template is a folder: kernel, initial RAM disk, a disk, the machine's memory and the state of its devices, and a
``template.json`` with the sha256 of each. What comes from another layer is a hard link, so that no layer needs another
one's folder. Its memory is loaded once into a sealed memfd, which nothing can write to any more, and every clone maps
that privately: what a clone changes is its own (memfd_create(2), F_SEAL_WRITE).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from harness.errors import LabError
from harness.frozen import Frozen
from harness.protection import Protection
from harness.providers.qemu.digests import PIECE_BYTES, Digests
from harness.providers.qemu.layer import layers_folder
from harness.providers.qemu.machine import Hardware, fingerprint
from harness.providers.qemu.tools import qemu_version

ABOUT = "template.json"
#: What is remembered of its files, so that they are not read whole each time.
SEEN = "seen.json"
#: Of ``template.json``. A template of another format has not been made, as far as this version can tell.
FORMAT = 2
KERNEL, INITRD, BASE, DISK, MEMORY, STATE = "vmlinuz", "initrd", "base.qcow2", "disk.qcow2", "memory", "state"
#: In the template of a protection: the disk of the template that it was derived from, on which its own lies.
UNDER = "under.qcow2"

#: Where the nonce lies in a guest, in memory alone: a guest that shows it is a clone of this template.
NONCE_FILE = "/run/hts-compat/template-nonce"

#: Source: linux/fcntl.h; Python 3.11 has names for these, kept here for what each forbids.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


#: What the host lacks when a file cannot be read, which says nothing of the file.
_HOST_LACKS = frozenset({errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EAGAIN})


class TemplateDamaged(LabError):
    """A template is not what was frozen, and will not be again by itself."""


class Protected(Frozen):
    """What is up in a template that was derived from another one; ``parent`` is that one's content.

    ``planted`` holds every place at which something was planted while it was set up.
    """

    parent: str
    protection: Protection
    planted: tuple[dict[str, str], ...]


class About(Frozen):
    """What a template says of itself. ``files`` holds the sha256 of each of its files.

    ``disk`` is the recipe of the disk layer that it was booted from; ``recipe`` is its own.
    """

    format: int = FORMAT
    name: str
    recipe: str
    disk: str
    fingerprint: str
    qemu_version: str
    accelerator: str
    memory_mib: int
    cpus: int
    nonce: str
    packages: int
    files: dict[str, str]
    protected: Protected | None = None

    @property
    def content(self) -> str:
        """Give what identifies the guests: the machine, its disk, its memory and its devices' state."""
        words = [self.fingerprint, *(f"{name} {self.files[name]}" for name in sorted(self.files))]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template that is there."""

    folder: Path
    about: About

    def file(self, name: str) -> Path:
        """Give the path of one of its files."""
        return self.folder / name

    @property
    def hardware(self) -> Hardware:
        """Give the machine that its clones must be."""
        return Hardware(
            accelerator=self.about.accelerator,
            memory_mib=self.about.memory_mib,
            cpus=self.about.cpus,
            kernel=self.file(KERNEL),
            initrd=self.file(INITRD),
        )


def folder_of(name: str, recipe: str) -> Path:
    """Give the folder of a recipe's template, whether it is there or not."""
    return layers_folder() / f"{name}-{recipe[:16]}"


def find(name: str, recipe: str) -> Template | None:
    """Find the template of a recipe; None when it has not been made.

    Raises:
        TemplateDamaged: There is one that cannot be read.
    """
    found = load(folder_of(name, recipe))
    return found if found is not None and found.about.recipe == recipe else None


def load(folder: Path) -> Template | None:
    """Read what a template says of itself; None when there is none in the folder, or one of another format.

    Raises:
        TemplateDamaged: There is one that cannot be read.
    """
    try:
        raw = (folder / ABOUT).read_bytes()
        if _is_of_another_format(raw):
            return None
        return Template(folder=folder, about=About.model_validate_json(raw))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        msg = f"The template in '{folder}' cannot be read."
        raise _error_of(error)(
            msg, detail=str(error)[:500], hint="Delete the folder and build its image again."
        ) from error


def _is_of_another_format(raw: bytes) -> bool:
    try:
        said = json.loads(raw)
    except ValueError:
        return False
    return isinstance(said, dict) and "recipe" in said and said.get("format") != FORMAT


def write_about(folder: Path, about: About) -> None:
    """Write the last file of a template; with it the template is there."""
    partial = folder / f".{ABOUT}"
    partial.write_text(json.dumps(about.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    partial.rename(folder / ABOUT)


class Held:
    """A template's memory, loaded and sealed, and its other files, checked. It lives as long as this process."""

    def __init__(self, template: Template) -> None:
        """Load and check.

        Raises:
            TemplateDamaged: A file is missing, cut or changed.
            LabError: The host has no memory for it, or not enough of something else.
        """
        self.template = template
        self._lock = _locked(template)
        try:
            self._check_and_load(template)
        except BaseException:
            os.close(self._lock)
            raise
        self._let_go = weakref.finalize(self, _let_go, self._memory, self._lock)

    def _check_and_load(self, template: Template) -> None:
        self._digests = digests = Digests(template.folder / SEEN)
        names = _beside_memory(template)
        self._memory = os.memfd_create(f"hts-{template.about.name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with ThreadPoolExecutor(1) as beside:  # sha256 keeps no other thread waiting
                found = [beside.submit(_digest_of_file, digests, template, name) for name in names]
                memory = self._load(digests)
                for name, digest in zip(names, found, strict=True):
                    _check(template, name, digest.result())
            _check(template, MEMORY, memory)
            fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(self._memory)
            raise
        digests.save()

    @property
    def memory_path(self) -> str:
        """Give the path by which a clone maps the memory."""
        return f"/proc/{os.getpid()}/fd/{self._memory}"

    def require_whole(self) -> None:
        """See that the files which every clone reads anew are still what was frozen; the memory is ours already.

        Raises:
            TemplateDamaged: One is missing, cut or changed.
        """
        for name in _beside_memory(self.template):
            _check(self.template, name, _digest_of_file(self._digests, self.template, name))

    def close(self) -> None:
        """Let go of the memory; clones that run keep theirs. Done once, and by whoever drops it, too."""
        self._let_go()

    def _load(self, digests: Digests) -> str:
        """Copy the memory, leaving its holes holes, and give the sha256 of all of it."""
        try:
            with self.template.file(MEMORY).open("rb", buffering=0) as stream:
                about = os.fstat(stream.fileno())
                os.ftruncate(self._memory, about.st_size)
                known = digests.known(stream.fileno())
                if known is not None:
                    self._copy(stream.fileno(), about.st_size)
                    if digests.known(stream.fileno()) == known:  # nobody wrote to it meanwhile
                        return known
                    stream.seek(0)
                    os.ftruncate(self._memory, 0)  # what was copied may not be what is there now
                    os.ftruncate(self._memory, about.st_size)
                digest = copy_and_hash(stream, self._memory)
                digests.learn(about, digest)
                return digest
        except OSError as error:
            raise unusable(self.template, MEMORY, str(error), kind=_error_of(error)) from error

    def _copy(self, source: int, size: int) -> None:
        """Copy what a file has between its holes. Source: lseek(2), ``SEEK_DATA``."""
        at = 0
        while at < size:
            try:
                at = os.lseek(source, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole to the end
                    return
                raise
            end = os.lseek(source, at, os.SEEK_HOLE)
            os.lseek(self._memory, at, os.SEEK_SET)
            while at < end:
                sent = os.sendfile(self._memory, source, at, end - at)
                if not sent:
                    return  # cut meanwhile
                at += sent


def copy_and_hash(source: BinaryIO | FileIO, target: int) -> str:
    """Copy a memory's file into an open one of its size that holds zeros, leaving its holes, and give its sha256."""
    total = hashlib.sha256()
    at = 0
    while piece := source.read(PIECE_BYTES):
        total.update(piece)
        if piece.count(0) != len(piece):
            os.pwrite(target, piece, at)
        at += len(piece)
    return total.hexdigest()


def _let_go(memory: int, lock: int) -> None:
    os.close(memory)
    os.close(lock)


@contextlib.contextmanager
def held(template: Template) -> Iterator[None]:
    """Keep a template from being removed; see ``layer.unused``.

    Raises:
        LabError: It has been removed.
    """
    descriptor = _locked(template)
    try:
        yield
    finally:
        os.close(descriptor)


def _locked(template: Template) -> int:
    """Open a template's own description under a shared lock (flock(2)), which lasts as long as it is open."""
    try:
        descriptor = os.open(template.file(ABOUT), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise unusable(template, ABOUT, str(error), kind=_error_of(error)) from error
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # who removes a template has it for the moment of a rename
    if not template.file(ABOUT).exists():
        os.close(descriptor)
        raise unusable(template, ABOUT, "it was removed meanwhile")
    return descriptor


def digest_of(path: Path) -> str:
    """Give the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of_file(digests: Digests, template: Template, name: str) -> str:
    try:
        return digests.of(template.file(name))
    except OSError as error:
        raise unusable(template, name, str(error), kind=_error_of(error)) from error


def _check(template: Template, name: str, found: str) -> None:
    if found != template.about.files.get(name):
        raise unusable(template, name, f"its sha256 is {found}")


def _beside_memory(template: Template) -> list[str]:
    return sorted({KERNEL, INITRD, BASE, DISK, STATE, *template.about.files} - {MEMORY})


def _error_of(error: OSError | ValidationError) -> type[LabError]:
    """Tell a file that is damaged from a host that lacks what reading takes."""
    return LabError if isinstance(error, OSError) and error.errno in _HOST_LACKS else TemplateDamaged


def unusable(template: Template, name: str, why: str, *, kind: type[LabError] = TemplateDamaged) -> LabError:
    """Say that a file of a template is not what was frozen, or cannot be read here."""
    wrong = "is missing or changed" if kind is TemplateDamaged else "cannot be read"
    msg = f"The file '{name}' of the template '{template.about.name}' {wrong}."
    return kind(msg, detail=why, hint=again(template) if kind is TemplateDamaged else "")


def require_same_machine(template: Template) -> None:
    """See that a clone started here would be the machine that was frozen.

    Raises:
        LabError: It was frozen by another QEMU, or as another machine.
    """
    version = qemu_version()
    if fingerprint(template.hardware, qemu_version=version) != template.about.fingerprint:
        msg = f"The template of '{template.about.name}' was frozen by another QEMU, or as another machine."
        raise LabError(msg, detail=f"frozen by {template.about.qemu_version}, here {version}", hint=again(template))


def again(template: Template) -> str:
    """Say how a template that is of no use is made again."""
    return f"Delete the folder '{template.folder}', then: hts-compat image build {template.about.name}."
