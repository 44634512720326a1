"""Driver. A way into a guest through its ssh server: one channel with the agent (guest/agent.py), and SFTP for files.

1. The server shows the key that the image was made with, or it is told nothing: no key is ever added by itself.
2. We show the key of the image's file, and nothing of this user's: neither ``~/.ssh`` nor a key agent is looked at.
3. Every wait has a limit, also those for which paramiko has none, and a server that says more than was asked for is
   left: what it may send is counted before anything is read (``_Metered``).

No port, no address of this machine is needed: the server may be an ``sshd -i`` on a virtio port.

Source: RFC 4253, 4254; the library paramiko; OpenSSH's PROTOCOL for SFTP version 3.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import shlex
import socket
import threading
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko
from pydantic import Field, ValidationError

from harness.deadline import Deadline
from harness.errors import GuestUnreachable, LabError
from harness.frozen import Frozen
from harness.transports.agent import AGENT_GRACE_S, AgentTransport, unreachable
from harness.transports.api import OUTPUT_CAP_BYTES, CommandResult
from harness.transports.docker_exec import AGENT
from harness.transports.payload import Payload, size_of
from harness.transports.socket_stream import connected_to

#: How long a server may take from nothing to the agent's channel, and to greet once it is connected to: at first so
#: long, and twice as long each time, for one in an emulated machine is started by the connection.
CONNECT_S, GREETING_S = 60.0, 2.0
_KEEPALIVE_S = 15

#: What a server may send until its first channel is open.
_HANDSHAKE_BYTES = 256 * 1024
#: Two outputs at the cap, and what the protocol puts around them.
_ANSWER_BYTES = 2 * OUTPUT_CAP_BYTES + OUTPUT_CAP_BYTES // 4 + 1024**2

_SEND_BYTES = 64 * 1024
#: So much of a file is asked for at once, in pieces of 32 KiB. paramiko's own limit of requests sleeps in a thread that
#: never ends when a server stops to answer; asked for in stretches, none is left.
_STRETCH_BYTES = 2 * 1024**2

#: Makes the folder and an empty file that is the right one's before anything is in it.
_PREPARE = 'set -e; mkdir -p "$1"; : > "$2"; chmod "$3" "$2"; if [ -n "$4" ]; then chown "$4" "$2"; fi'

#: paramiko tells what a server said; a guest's words belong into no log of ours.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False


class HostKeyRefused(LabError):
    """The server is not the one that the image was made with."""


class SshAddress(Frozen):
    """Where an ssh server is, which one it is, and who we are; what an ``Endpoint`` holds, as JSON. No secret is in it.

    ``at`` is the path of a Unix socket, or ``127.0.0.1:PORT``. ``host_key`` is the server's public key as in
    ``ssh_host_*_key.pub``, without the comment.
    """

    at: str = Field(min_length=1)
    host_key: str = Field(pattern=r"^[a-z0-9@.-]+ [A-Za-z0-9+/=]+$")
    user: str = Field(min_length=1)
    key_file: str = Field(min_length=1)


def address_in(text: str) -> SshAddress:
    """Read an endpoint's address.

    Raises:
        LabError: It is none.
    """
    try:
        return SshAddress.model_validate_json(text)
    except ValidationError as error:
        msg = "That is no address of an ssh server."
        raise LabError(msg, detail=str(error)[:500]) from error


class SshTransport(AgentTransport):
    """A live way into one guest. Not for several threads at once: a guest belongs to one cell.

    Args:
        address: Where, who, and by which keys.
        agent: Program and arguments of the agent in the guest.
        deadline: Bounds the way there; ``CONNECT_S`` from now by default.

    Raises:
        GuestUnreachable: No ssh server greets there, or it does not let us in.
        HostKeyRefused: Another server than the image's does.
        LabError: Our own key cannot be used.
    """

    def __init__(self, address: SshAddress, *, agent: Sequence[str] = AGENT, deadline: Deadline | None = None) -> None:
        limit = deadline or Deadline.after(CONNECT_S)
        key = _key_in(Path(address.key_file))
        self._sftp: paramiko.SFTPClient | None = None
        self._socket = _Metered(_greeting_at(address.at, limit))
        self._connection = paramiko.Transport(self._socket)
        try:
            with self._at_most(limit):
                _shake_hands(self._connection, address, key, limit)
                channel = self._connection.open_session(timeout=limit.remaining_s)
                channel.exec_command(shlex.join(agent))
        except BaseException as error:
            self._connection.close()
            if isinstance(error, LabError) or not isinstance(error, Exception):
                raise
            # paramiko raises whatever its reading of nonsense ended with: UnicodeDecodeError, IndexError, struct.error.
            msg = "The guest's ssh server does not let us in."
            raise GuestUnreachable(msg, detail=f"{type(error).__name__}: {error}"[:500]) from error
        super().__init__(_ChannelWire(channel, self._connection))

    def run(
        self, argv: Sequence[str], *, deadline: Deadline, user: str | None = None, stdin: Payload = b""
    ) -> CommandResult:
        """Run one program through the agent; see ``Transport.run``."""
        # What a server says while it takes an input is a small part of it (RFC 4254, 5.2).
        self._socket.may_send(_ANSWER_BYTES + size_of(stdin) // 64)
        return super().run(argv, deadline=deadline, user=user, stdin=stdin)

    def push(
        self, content: bytes, path: str, *, deadline: Deadline, mode: int = 0o644, owner: str | None = None
    ) -> None:
        """Put bytes into a file by SFTP; see ``Transport.push``."""
        folder, _, _ = path.rpartition("/")
        argv = ["/bin/sh", "-c", _PREPARE, "push", folder or "/", path, f"{mode:o}", owner or ""]
        result = self.run(argv, deadline=deadline)
        if not result.ok:
            msg = f"The guest could not write {path}."
            raise GuestUnreachable(msg, detail=result.stderr[-2000:].decode("utf-8", "replace"))
        self._socket.may_send(_ANSWER_BYTES)
        with self._files(deadline) as files:
            channel = _channel_of(files)
            files.putfo(io.BytesIO(content), path, callback=lambda *_: _limit(channel, deadline))

    def pull(self, path: str, *, deadline: Deadline, max_bytes: int = OUTPUT_CAP_BYTES) -> tuple[bytes, bool]:
        """Take a file's bytes by SFTP; see ``Transport.pull``."""
        self._socket.may_send(_ANSWER_BYTES + max_bytes * 5 // 4)
        with self._files(deadline) as files:
            channel = _channel_of(files)
            try:
                opened = files.open(path, "rb")
                content = _read(opened, max_bytes + 1, channel, deadline)
                opened.close()
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.EACCES} or _is_refusal(error, channel):
                    raise FileNotFoundError(path) from error
                raise
        return content[:max_bytes], len(content) > max_bytes

    @contextlib.contextmanager
    def _files(self, deadline: Deadline) -> Iterator[paramiko.SFTPClient]:
        """Give the SFTP client; one that failed in the middle is not used again."""
        try:
            with self._at_most(Deadline(deadline.at_s + AGENT_GRACE_S)):
                if self._sftp is None:
                    channel = self._connection.open_session(timeout=max(deadline.remaining_s, 0.001))
                    _limit(channel, deadline)
                    channel.invoke_subsystem("sftp")
                    self._sftp = paramiko.SFTPClient(channel)
                _limit(_channel_of(self._sftp), deadline)
                yield self._sftp
        except FileNotFoundError:
            raise
        except Exception as error:  # paramiko raises whatever its reading of nonsense ended with
            if self._sftp is not None:
                self._sftp.close()
                self._sftp = None
            raise unreachable(error) from error

    @contextlib.contextmanager
    def _at_most(self, limit: Deadline) -> Iterator[None]:
        """End the connection at a limit: paramiko waits for the answers to some requests for ever."""
        watchdog = threading.Timer(max(limit.remaining_s, 0.001), self._connection.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()


class _ChannelWire:
    """The agent's channel; see ``Wire``."""

    def __init__(self, channel: paramiko.Channel, connection: paramiko.Transport) -> None:
        self._channel = channel
        self._connection = connection

    def send(self, data: bytes, *, patience: Deadline) -> None:
        at = 0
        while at < len(data):
            _limit(self._channel, patience)
            sent = self._channel.send(data[at : at + _SEND_BYTES])
            if not sent:
                msg = "the channel to the guest was closed"
                raise EOFError(msg)
            at += sent

    def receive(self, *, patience: Deadline) -> bytes:
        _limit(self._channel, patience)
        piece = self._channel.recv(256 * 1024)
        if not piece:
            msg = "the channel to the guest was closed"
            raise EOFError(msg)
        return piece

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._connection.close()


class _Metered(socket.socket):
    """A socket that has ended when the other side has sent as much as it may."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(connected.family, connected.type, fileno=connected.detach())
        self._left = _HANDSHAKE_BYTES

    def may_send(self, size: int) -> None:
        """Say how much the other side may send from now on."""
        self._left = size

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """See ``socket.recv``; paramiko reads by nothing else."""
        if self._left <= 0:
            msg = "the server sends more than it was asked for"
            raise EOFError(msg)
        piece = super().recv(size, flags)
        self._left -= len(piece)
        return piece


def _greeting_at(at: str, limit: Deadline) -> socket.socket:
    """Connect, and see that a fresh ssh server greets: one that still serves who was there before does not.

    Raises:
        GuestUnreachable: None did in time.
    """
    problem: BaseException | None = None
    greeting_s = GREETING_S
    for _ in limit.poll(0.05):
        try:
            connected = _connected(at)
        except OSError as error:
            problem = error
            if at.startswith("/") and not Path(at).exists():
                break
            continue
        try:
            if _greets(connected, limit.sooner(greeting_s)):
                return connected
            problem = None
        except TimeoutError as error:
            greeting_s *= 2
            problem = error
        except OSError as error:
            problem = error
        connected.close()
    msg = "No ssh server greets in the guest."
    raise GuestUnreachable(msg, detail=str(problem or f"at {at}"))


def _connected(at: str) -> socket.socket:
    if at.startswith("/"):
        return connected_to(at)
    host, _, port = at.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=GREETING_S)


def _greets(connected: socket.socket, limit: Deadline) -> bool:
    """Look at the first bytes without taking them (recv(2), MSG_PEEK); a server begins (RFC 4253, 4.2)."""
    for _ in limit.poll(0.01):
        connected.settimeout(max(limit.remaining_s, 0.001))
        begun = connected.recv(4, socket.MSG_PEEK)
        if begun != b"SSH-"[: len(begun)] or not begun:
            return False
        if begun == b"SSH-":
            return True
    return False


def _key_in(file: Path) -> paramiko.PKey:
    """Read our own key, which is nobody else's to read."""
    try:
        mode = file.stat().st_mode
        key = paramiko.PKey.from_path(file)
    except Exception as error:  # whatever is wrong with it; no word of it is repeated
        msg = f"The key '{file}' cannot be used."
        raise LabError(msg, detail=type(error).__name__, hint="Build the image again.") from error
    if mode & 0o077:
        msg = f"The key '{file}' can be read by others."
        raise LabError(msg, hint=f"chmod 600 {file}")
    return key


def _shake_hands(connection: paramiko.Transport, address: SshAddress, key: paramiko.PKey, limit: Deadline) -> None:
    """Agree on keys, see that the server is the image's, and only then say who we are."""
    kind, _, content = address.host_key.partition(" ")
    connection.get_security_options().key_types = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
    try:
        connection.start_client(timeout=max(limit.remaining_s, 0.001))
    except paramiko.ssh_exception.IncompatiblePeer as error:
        if "host key" in str(error):
            raise _refused("none of that kind") from error
        raise
    shown = connection.get_remote_server_key()  # there is none when start_client ended because its time was over
    if (shown.get_name(), shown.asbytes()) != (kind, b64decode(content)):
        raise _refused(shown.fingerprint)
    connection.auth_timeout = max(limit.remaining_s, 0.001)
    connection.auth_publickey(address.user, key)
    if not connection.is_authenticated():
        msg = "the server wants more than a key"
        raise paramiko.AuthenticationException(msg)
    connection.set_keepalive(_KEEPALIVE_S)


def _refused(shown: str) -> HostKeyRefused:
    msg = "The guest's ssh server is another one than the image's."
    return HostKeyRefused(msg, detail=f"its key: {shown}", hint="Was the image built again? Start a new run.")


def _channel_of(files: paramiko.SFTPClient) -> paramiko.Channel:
    channel = files.get_channel()
    if channel is None:
        msg = "the channel for files was closed"
        raise EOFError(msg)
    return channel


def _limit(channel: paramiko.Channel, deadline: Deadline) -> None:
    """Let the channel's next wait end at a deadline."""
    if deadline.expired:
        raise TimeoutError
    channel.settimeout(max(deadline.remaining_s, 0.001))


def _is_refusal(error: OSError, channel: paramiko.Channel) -> bool:
    """Tell whether the server said no; an error of the connection is none."""
    return not isinstance(error, TimeoutError) and error.errno is None and not channel.closed


def _read(opened: paramiko.SFTPFile, wanted: int, channel: paramiko.Channel, deadline: Deadline) -> bytes:
    """Read up to so many bytes; a file's size is only a hint (proc(5) says 0, a log grows)."""
    content = bytearray()
    size = min(opened.stat().st_size or 0, wanted)
    while len(content) < wanted:
        if len(content) % _STRETCH_BYTES == 0 and len(content) + opened.MAX_REQUEST_SIZE < size:
            opened.prefetch(min(len(content) + _STRETCH_BYTES, size))
        _limit(channel, deadline)
        piece = opened.read(min(opened.MAX_REQUEST_SIZE, wanted - len(content)))
        if not piece:
            break
        content += piece
    return bytes(content)
