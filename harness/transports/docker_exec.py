"""Driver. A way into a container through the Docker engine: one ``exec`` of the image's agent, then frames.

The engine's API cannot end what an exec started, so the agent in the guest does (guest/agent.py).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import docker
from docker.errors import APIError, DockerException, NotFound

from harness.deadline import Deadline
from harness.transports.agent import AgentTransport, unreachable
from harness.transports.socket_stream import SocketStream

AGENT = ("/usr/bin/python3", "/opt/hts-compat/agent.py")

#: Docker's stream header: stream number, three zero bytes, length. Source: Docker Engine API, "Attach to a container".
_STREAM_HEADER = struct.Struct(">BxxxI")
_STDOUT = 1


class DockerExecTransport(AgentTransport):
    """A live way into one container."""

    def __init__(self, client: docker.DockerClient, container_id: str) -> None:
        super().__init__(ExecWire(client, container_id, AGENT))


class ExecWire(SocketStream):
    """The hijacked connection of one exec, which carries both outputs of a program in one stream; see ``Wire``.

    Args:
        client: The engine.
        container_id: Where it runs, as root.
        argv: The program, whose standard input and output the wire is; what it writes to the other output is dropped.

    Raises:
        GuestUnreachable: It cannot be started there.
    """

    def __init__(self, client: docker.DockerClient, container_id: str, argv: Sequence[str]) -> None:
        self._raw = bytearray()
        try:
            api = client.api
            created = api.exec_create(container_id, list(argv), stdin=True, stdout=True, stderr=True, user="root")
            stream = api.exec_start(created["Id"], socket=True)
        except (DockerException, OSError) as error:
            raise unreachable(error, gone=isinstance(error, NotFound | APIError)) from error
        # docker-py hands out a SocketIO over the real socket; deadlines need the real one.
        self._stream = stream
        super().__init__(getattr(stream, "_sock"))  # noqa: B009 - a private name, and there is no public one

    def receive(self, *, patience: Deadline) -> bytes:
        """Give what the program wrote; see ``Wire.receive``."""
        self._raw += super().receive(patience=patience)
        said = bytearray()
        while len(self._raw) >= _STREAM_HEADER.size:
            number, length = _STREAM_HEADER.unpack_from(self._raw)
            end = _STREAM_HEADER.size + length
            if len(self._raw) < end:
                break
            if number == _STDOUT:
                said += self._raw[_STREAM_HEADER.size : end]
            del self._raw[:end]
        return bytes(said)

    def close(self) -> None:
        """Let go of the connection, which is the end of the program's input; see ``Wire.close``."""
        super().close()
        with contextlib.suppress(OSError, AttributeError):
            self._stream.close()
