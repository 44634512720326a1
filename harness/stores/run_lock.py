"""Driver. One process at a time drives a run: a lock on a file, which the system lets go when its process ends.

The lock gives the second process a clear message. It is no proof (a file can be deleted, a folder can be shared between
hosts); the run's fence in the database is, and it refuses whatever the older process still writes.

Source:
    Linux, flock(2): the lock belongs to the open file, goes with its last descriptor, and is not inherited over exec
    (PEP 446).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from urllib.parse import quote

from harness.deadline import Deadline
from harness.stores import promises

#: Whoever removes what is left behind holds a lock for a moment; that is no process that drives the run.
PATIENCE_S = 0.3

#: Room for the number of a process.
_PID_BYTES = 32


class RunLock:
    """The right of this process to drive one run, until ``release`` or the process's end.

    Raises:
        RunHeld: Another process has it.
        OSError: The folder cannot be written.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        self._path = root / f"run-{quote(run_id, safe='')}.lock"
        self._descriptor = _locked(self._path, run_id)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go. The file goes first, so that whoever opens it next makes a new one."""
        if _is_still(self._path, self._descriptor):
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def remove_left(root: Path) -> None:
    """Remove the files of locks that nobody holds: a killed process leaves its own behind."""
    for path in root.glob("run-*.lock"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_still(path, descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


def _locked(path: Path, run_id: str) -> int:
    patience = Deadline.after(PATIENCE_S)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, _PID_BYTES, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if not patience.expired:
                time.sleep(PATIENCE_S / 10)
                continue
            raise promises.run_held(run_id, owner) from error
        except BaseException:
            os.close(descriptor)
            raise
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # the one before us deleted it between our open and our lock


def _is_still(path: Path, descriptor: int) -> bool:
    """Tell whether a path still names the file that is open."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
