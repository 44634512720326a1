"""Driver. A layer's folder: whole or not there, and made by one process at a time.

1. It is made in a dot-folder beside its place and renamed at the end. What a killed builder left goes away with the
   next one.
2. Who makes it holds a lock (flock(2)), which goes with the process, however that ends. A second one waits, and then
   finds the layer.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from harness.deadline import Deadline
from harness.errors import LabError
from harness.providers.build_command import QUICK_S, ImageBuildFailed, Report, cache_folder, run

#: With less than this left, a write that failed has failed for want of room.
LITTLE_BYTES = 64 << 20

_REMOVED = ".removed"

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def layers_folder() -> Path:
    """Give where layers are kept."""
    return cache_folder() / "qemu"


def lock_of(folder: Path) -> Path:
    """Give the file that a layer's builder locks. It stays when the layer goes: to delete it would be a race."""
    return folder.with_name(f".{folder.name}.lock")


@contextlib.contextmanager
def locked(folder: Path, *, report: Report, deadline: Deadline | None = None) -> Iterator[None]:
    """Be the only one who makes a layer; another builder is waited for, until the deadline where there is one.

    Raises:
        LabError: It was not done with it in time.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_of(folder).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{folder.name}: another process makes it; waiting for that")
            _wait_for(stream, folder, deadline)
        yield


def _wait_for(stream: TextIO, folder: Path, deadline: Deadline | None) -> None:
    if deadline is None:
        fcntl.flock(stream, fcntl.LOCK_EX)
        return
    for _ in deadline.poll(0.02):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    msg = f"Another process did not finish '{folder.name}' in time."
    raise LabError(msg)


@contextlib.contextmanager
def unused(file: Path) -> Iterator[bool]:
    """Tell whether nobody holds a layer by a lock on a file of it, and let nobody begin to while the context lasts."""
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(file.open("rb"))
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except FileNotFoundError:
            yield True  # never finished, or of another version: nobody can hold it
        else:
            yield True


def delete(folder: Path, *held_by: Path) -> bool:
    """Delete a layer, or what a killed builder left of one; False when a process uses or makes it, and it stays.

    Args:
        folder: Its folder.
        held_by: Files by whose locks it is held.
    """
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(unlocked(made_as(folder))):
            return False
        if not all(stack.enter_context(unused(file)) for file in held_by):
            return False
        # Out of sight at once, so that nobody who comes meanwhile begins with half of it.
        going = folder.with_name(f".{folder.name.lstrip('.')}{_REMOVED}")
        if going != folder:
            shutil.rmtree(going, ignore_errors=True)
            folder.rename(going)
    shutil.rmtree(going)
    return True


def made_as(folder: Path) -> Path:
    """Give the layer that a dot-folder was to become; a layer's own folder is its own."""
    name = folder.name
    return folder if not name.startswith(".") else folder.with_name(name.strip(".").rpartition(".")[0] or name)


@contextlib.contextmanager
def unlocked(folder: Path) -> Iterator[bool]:
    """Tell whether nobody makes a layer, and let nobody begin to while the context lasts."""
    with lock_of(folder).open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def begun(folder: Path) -> Iterator[Path]:
    """Give an empty folder, which becomes the layer when the context ends well and else is gone. For who has the lock.

    Raises:
        ImageBuildFailed: The disk is full.
    """
    place = folder.with_name(f".{folder.name}.begun")
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir()
        yield place
        shutil.rmtree(folder, ignore_errors=True)
        place.rename(folder)
    except OSError as error:
        if error.errno in _FULL:
            raise _full(folder, error) from error
        raise
    except LabError as error:
        # QEMU says no more than that it could not write, or stands still until it can.
        if shutil.disk_usage(place).free < LITTLE_BYTES:
            raise _full(folder, error) from error
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def make_room(file: Path, size_bytes: int) -> None:
    """Make a file of zeros whose blocks are there: a machine that finds no room for its memory is killed (mmap(2)).

    Raises:
        OSError: There is no room.
    """
    with file.open("xb") as stream:
        os.posix_fallocate(stream.fileno(), 0, size_bytes)


def dig_holes(file: Path) -> None:
    """Give blocks that hold zeros alone back to the disk (fallocate(1)); where it has no holes, they stay."""
    with contextlib.suppress(LabError):
        run(["fallocate", "--dig-holes", str(file)], what="fallocate", limit_s=QUICK_S)


def _full(folder: Path, error: Exception) -> ImageBuildFailed:
    msg = f"The disk is full: '{folder.name}' could not be written."
    hint = f"Free a few gigabytes in '{folder.parent}', or set XDG_CACHE_HOME to where there is room."
    detail = f"{error} {error.detail}" if isinstance(error, LabError) else str(error)
    return ImageBuildFailed(msg, detail=detail, hint=hint)
