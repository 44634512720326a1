"""Driver. A way into a container through the Docker engine: one ``exec`` of the image's agent, then frames.

The engine's API cannot end what an exec started, so the agent in the guest does (guest/agent.py).
"""

from __future__ import annotations

import contextlib
import struct

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
        super().__init__(_ExecWire(client, container_id))


class _ExecWire(SocketStream):
    """The hijacked connection of one exec, which carries both outputs of the agent in one stream; see ``Wire``."""

    def __init__(self, client: docker.DockerClient, container_id: str) -> None:
        self._raw = bytearray()
        try:
            api = client.api
            created = api.exec_create(container_id, list(AGENT), stdin=True, stdout=True, stderr=True, user="root")
            stream = api.exec_start(created["Id"], socket=True)
        except (DockerException, OSError) as error:
            raise unreachable(error, gone=isinstance(error, NotFound | APIError)) from error
        # docker-py hands out a SocketIO over the real socket; deadlines need the real one.
        self._stream = stream
        super().__init__(getattr(stream, "_sock"))  # noqa: B009 - a private name, and there is no public one

    def receive(self, *, patience: Deadline) -> bytes:
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
        super().close()
        with contextlib.suppress(OSError, AttributeError):
            self._stream.close()
