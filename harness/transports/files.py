"""Effects. Files of a POSIX guest by programs that run there, so that they too are ended at their deadline.

A guest may put a pipe where a file is asked for: whoever opened it would wait for ever, and a program is killed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.transports.api import OUTPUT_CAP_BYTES, CommandResult
from harness.transports.payload import Payload

_MAKE = 'set -e; mkdir -p "$1"; cat > "$2"; chmod "$3" "$2"; if [ -n "$4" ]; then chown "$4" "$2"; fi'


class FilesByPrograms(ABC):
    """The half of a ``Transport`` that follows from the other one."""

    @abstractmethod
    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """See ``Transport.run``."""

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Put bytes into a file as the administrator; see ``Transport.push``."""
        folder, _, _ = path.rpartition("/")
        argv = ["/bin/sh", "-c", _MAKE, "push", folder or "/", path, f"{mode:o}", owner or ""]
        result = self.run(argv, deadline=deadline, stdin=content)
        if not result.ok:
            msg = f"The guest could not write {path}."
            raise GuestUnreachable(msg, detail=result.stderr[-2000:].decode("utf-8", "replace"))

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = OUTPUT_CAP_BYTES) -> tuple[bytes, bool]:
        """Take a file's bytes; see ``Transport.pull``."""
        result = self.run(["/usr/bin/head", "-c", str(max_bytes + 1), "--", path], deadline=deadline)
        if not result.ok:
            raise FileNotFoundError(path)
        return result.stdout[:max_bytes], len(result.stdout) > max_bytes or result.stdout_truncated
