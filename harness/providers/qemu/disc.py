"""Driver. A file as a disc: a layer that is a read-only ISO 9660 image with that one file, made once for each content.

The file has a name of its own on the disc, whatever it is called elsewhere, so no name has to survive a file system of
1988; a Windows guest finds ``build.bin`` (Joliet). Discs are made again whenever they are wanted, so the oldest go.

Source: ECMA-119 (ISO 9660); the library pycdlib.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pycdlib import PyCdlib
from pydantic import ValidationError

from harness.deadline import Deadline
from harness.frozen import Frozen
from harness.providers.qemu import layer
from harness.providers.qemu.digests import Digests
from harness.providers.qemu.template import digest_of
from harness.transports.payload import Payload, pieces_of, size_of

log = logging.getLogger(__name__)

ABOUT, IMAGE, SEEN = "disc.json", "disc.iso", "seen.json"

#: The file's names on the disc: of the first part of the standard, and of Joliet.
_NAME, _JOLIET_NAME, _LABEL = "/BUILD.BIN;1", "/build.bin", "BUILD"

#: Discs are kept up to so many bytes; of those that nobody uses, the one that was not used for longest goes first.
KEPT_BYTES = 4 << 30


class DiscAbout(Frozen):
    """What a disc says of itself: the sha256 of the file on it, and of its own files."""

    content: str
    size_bytes: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """A disc that is there."""

    folder: Path
    about: DiscAbout

    @property
    def image(self) -> Path:
        """Give the path of its image."""
        return self.folder / IMAGE

    def whole(self) -> bool:
        """Tell whether its image is what was made."""
        digests = Digests(self.folder / SEEN)
        try:
            return digests.of(self.image) == self.about.files[IMAGE]
        except (OSError, KeyError):
            return False
        finally:
            digests.save()


def folder_of(sha256: str) -> Path:
    """Give the folder of a content's disc, whether it is there or not."""
    return layer.layers_folder() / f"disc-{sha256[:16]}"


def load(folder: Path) -> Disc | None:
    """Read what a disc says of itself; None when there is none that can be read."""
    try:
        about = DiscAbout.model_validate_json((folder / ABOUT).read_bytes())
    except (OSError, ValidationError):
        return None
    return Disc(folder=folder, about=about)


@contextlib.contextmanager
def lent(content: Payload, *, sha256: str, deadline: Deadline) -> Iterator[Path]:
    """Give the image of a content's disc, which is not deleted while the context lasts.

    Args:
        content: What is on it; read only when there is no such disc that is whole.
        sha256: What identifies it.
        deadline: Bounds the wait for who makes the same one.

    Raises:
        ImageBuildFailed: The disk is full.
        LabError: Another process did not finish it in time.
        InputError: ``content`` could not be read to its end.
    """
    folder = folder_of(sha256)
    with contextlib.ExitStack() as stack:
        with layer.locked(folder, report=log.info, deadline=deadline):
            found = load(folder)
            if found is not None and (found.about.content != sha256 or not found.whole()):
                log.warning("the disc '%s' is missing a file, or changed; it is made again", folder.name)
                found = None
            if found is None:
                found = _make(content, sha256, folder)
            os.utime(folder / ABOUT)  # when it was used last
            stack.enter_context(_used(folder))
        _make_room()
        yield found.image


def _make(content: Payload, sha256: str, folder: Path) -> Disc:
    with layer.begun(folder) as begun:
        write_image(content, begun / IMAGE)
        (begun / IMAGE).chmod(0o444)
        about = DiscAbout(content=sha256, size_bytes=size_of(content), files={IMAGE: digest_of(begun / IMAGE)})
        (begun / ABOUT).write_text(json.dumps(about.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    return Disc(folder=folder, about=about)


def write_image(content: Payload, target: Path) -> None:
    """Write the image of a disc with one file, which is never in memory whole.

    Raises:
        OSError: There is no room.
        InputError: ``content`` could not be read to its end.
    """
    made = PyCdlib()
    made.new(interchange_level=1, joliet=3, vol_ident=_LABEL)
    try:
        made.add_fp(cast("BinaryIO", _Read(content)), size_of(content), _NAME, joliet_path=_JOLIET_NAME)
        with target.open("xb") as stream:
            made.write_fp(stream)
    finally:
        made.close()


class _Read(io.RawIOBase):
    """A payload as the library reads files: from the beginning, once."""

    def __init__(self, content: Payload) -> None:
        super().__init__()
        self._pieces = pieces_of(content)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if (offset, whence) != (0, io.SEEK_SET):
            raise io.UnsupportedOperation
        return 0

    def tell(self) -> int:
        return 0

    def read(self, size: int = -1, /) -> bytes:
        """Give as many bytes as were asked for, fewer at the end alone."""
        found = bytearray()
        while len(found) < size:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    break
            taken = self._rest[: size - len(found)]
            self._rest = self._rest[len(taken) :]
            found += taken
        return bytes(found)


@contextlib.contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Keep a disc from being deleted; see ``layer.unused``."""
    with (folder / ABOUT).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def _make_room() -> None:
    """Delete what was not used for longest, until those that are left have room."""
    kept = sorted(_ages(), reverse=True)
    total = 0
    for _, size_bytes, folder in kept:
        total += size_bytes
        if total > KEPT_BYTES and layer.delete(folder, folder / ABOUT):
            total -= size_bytes
            log.info("the disc '%s' was not used for long; it is deleted", folder.name)


def _ages() -> Iterator[tuple[int, int, Path]]:
    for folder in layer.layers_folder().glob("disc-*"):
        with contextlib.suppress(OSError):
            yield (folder / ABOUT).stat().st_mtime_ns, (folder / IMAGE).stat().st_size, folder
