"""Driver. A way into a container through the Docker engine: one ``exec`` of the image's agent, then frames.

The engine's API cannot end what an exec started, so the agent in the guest does (guest/agent.py).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from itertools import chain

import docker
from docker.errors import APIError, DockerException, NotFound

from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, HarnessError
from harness.transports.api import OUTPUT_CAP_BYTES, CommandResult
from harness.transports.frames import ProtocolError, ReplyReader, encode_request
from harness.transports.payload import Payload, pieces_of, size_of

AGENT = ("/usr/bin/python3", "/opt/hts-compat/agent.py")

#: How much longer than the program's own time we wait for the agent to say that it ended it.
AGENT_GRACE_S = 5.0

#: Docker's stream header: stream number, three zero bytes, length. Source: Docker Engine API, "Attach to a container".
_STREAM_HEADER = struct.Struct(">BxxxI")
_STDOUT = 1


class DockerExecTransport:
    """A live way into one container. Not for several threads at once: a guest belongs to one cell."""

    def __init__(self, client: docker.DockerClient, container_id: str) -> None:
        self._client = client
        self._container_id = container_id
        self._number = 0
        self._replies = ReplyReader()
        self._raw = bytearray()
        try:
            api = client.api
            created = api.exec_create(container_id, list(AGENT), stdin=True, stdout=True, stderr=True, user="root")
            stream = api.exec_start(created["Id"], socket=True)
        except (DockerException, OSError) as error:
            raise _unreachable(error) from error
        # docker-py hands out a SocketIO over the real socket; deadlines need the real one.
        self._stream = stream
        self._socket: socket.socket = getattr(stream, "_sock")  # noqa: B009 - a private name, and there is no public one

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one program through the agent; see ``Transport.run``."""
        if not argv:
            msg = "argv is empty"
            raise ValueError(msg)
        self._number += 1
        patience = Deadline(deadline.at_s + AGENT_GRACE_S)
        try:
            self._send(argv, stdin, user, deadline, patience)
            while (reply := self._replies.next_reply(self._number)) is None:
                self._receive(patience)
        except TimeoutError as error:
            self.close()
            msg = f"The guest did not answer while '{argv[0]}' ran."
            raise GuestUnreachable(msg) from error
        except (OSError, ProtocolError, EOFError) as error:
            self.close()
            raise _unreachable(error) from error
        except HarnessError:  # half of a request was sent, so nothing that follows would be understood
            self.close()
            raise
        if reply.timed_out:
            msg = f"'{argv[0]}' did not end in time in the guest."
            raise GuestCommandTimeout(msg, detail=reply.result.stderr[-2000:].decode("utf-8", "replace"))
        return reply.result

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Put bytes into a file as the administrator; see ``Transport.push``."""
        folder, _, _ = path.rpartition("/")
        script = 'set -e; mkdir -p "$1"; cat > "$2"; chmod "$3" "$2"; if [ -n "$4" ]; then chown "$4" "$2"; fi'
        argv = ["/bin/sh", "-c", script, "push", folder or "/", path, f"{mode:o}", owner or ""]
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

    def close(self) -> None:
        """Close the connection; the agent then ends, and ends what it runs."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(OSError, AttributeError):
            self._stream.close()

    def _send(
        self, argv: Sequence[str], stdin: Payload, user: str | None, deadline: Deadline, patience: Deadline
    ) -> None:
        size = size_of(stdin)
        first = encode_request(self._number, argv, user=user, timeout_s=deadline.remaining_s, stdin_bytes=size)
        for piece in chain((first,), pieces_of(stdin)):
            self._socket.settimeout(max(patience.remaining_s, 0.001))
            self._socket.sendall(piece)

    def _receive(self, patience: Deadline) -> None:
        self._socket.settimeout(max(patience.remaining_s, 0.001))
        piece = self._socket.recv(256 * 1024)
        if not piece:
            msg = "the connection to the guest was closed"
            raise EOFError(msg)
        self._raw += piece
        while len(self._raw) >= _STREAM_HEADER.size:
            number, length = _STREAM_HEADER.unpack_from(self._raw)
            end = _STREAM_HEADER.size + length
            if len(self._raw) < end:
                break
            if number == _STDOUT:
                self._replies.feed(bytes(self._raw[_STREAM_HEADER.size : end]))
            del self._raw[:end]


def _unreachable(error: BaseException) -> GuestUnreachable:
    gone = isinstance(error, NotFound | APIError | EOFError | ConnectionError)
    text = "The guest is gone." if gone else "The guest cannot be reached."
    return GuestUnreachable(text, detail=f"{type(error).__name__}: {error}")
