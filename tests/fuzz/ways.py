"""Targets: what a virtual machine's ways in read. QEMU's guest agent, its monitor, and an ssh server.

Each answer may be an honest one, almost one, or none; whoever asks gets a result or the declared trouble, in time, and
the next one who asks does, too. Nobody here is silent: that every wait has a limit is for the tests beside the readers.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import secrets
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from paramiko.common import AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from harness.deadline import Deadline
from harness.errors import GuestUnreachable, LabError
from harness.providers.qemu.monitor import Monitor, Told, told
from harness.transports.api import OUTPUT_CAP_BYTES
from harness.transports.frames import ProtocolError
from harness.transports.qga import QgaTransport
from harness.transports.qga_messages import AnswerReader, Ended, Refused, ended_in, pid_in, reply_in
from harness.transports.socket_stream import connected_to
from harness.transports.ssh import SshAddress, SshTransport
from tests.fuzz.mutation import Dice, json_object, mutated
from tests.fuzz.target import Target

#: What stands in an answer for the number of the call that it answers.
ID = b"%ID%"

#: A server that is asked nothing for so long hangs up.
SILENCE_S = 0.02

#: Nobody may take longer over what does not wait for anybody.
AT_MOST_S = 10.0


def _mostly(dice: Dice, honest: bytes, others: Sequence[bytes]) -> bytes:
    """Give an honest answer, almost one, or another one's."""
    kind = dice.number(0, 5)
    return honest if kind > 2 else mutated(dice, [honest]) if kind else mutated(dice, others)


@cache
def _folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="hts-fuzz-", dir="/tmp"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@dataclass(frozen=True, slots=True)
class Served:
    """Where somebody serves one connection; ``over`` once that has ended."""

    path: Path
    over: threading.Event


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[Served]:
    """Serve the one connection that is made to a Unix socket; it has ended when the context does."""
    served = Served(_folder() / secrets.token_hex(4), threading.Event())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(served.path))
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError, ValueError, EOFError, paramiko.SSHException):
                connection, _ = listener.accept()
                with connection:
                    serve(connection)
            served.over.set()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield served
        finally:
            served.path.unlink()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(AT_MOST_S)
            assert not thread.is_alive(), "the connection was kept"


def _answers(script: Sequence[bytes], *, first: bytes = b"") -> Callable[[socket.socket], None]:
    """Give a server that answers each line with the next piece of a script, and then hangs up."""

    def serve(connection: socket.socket) -> None:
        connection.settimeout(SILENCE_S)
        connection.sendall(first)
        with connection.makefile("rb") as lines:
            for piece in script:
                line = lines.readline()
                if not line:
                    return
                number = json.dumps(_number(line)).encode()
                connection.sendall(piece.replace(ID, number))

    return serve


def _number(line: bytes) -> object:
    asked = json.loads(line.lstrip(b"\xff"))
    return asked["arguments"]["id"] if asked.get("execute") == "guest-sync-delimited" else asked.get("id")


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < AT_MOST_S


# --- QEMU's guest agent -----------------------------------------------------------------------------------------------

_HEAD = (
    b'\n{"id": 1, "exit": 0, "signal": null, "timed_out": false, "errno": null, "duration_s": 0.1, "out_cut": false}\n'
)
_KEYS = (
    "return",
    "id",
    "error",
    "desc",
    "pid",
    "exited",
    "exitcode",
    "signal",
    "out-data",
    "err-data",
    "out-truncated",
)


def _line(returned: object) -> bytes:
    return json.dumps({"return": returned, "id": "@"}).encode().replace(b'"@"', ID) + b"\n"


def _ended(head: bytes) -> bytes:
    said = base64.b64encode(head).decode()
    return _line({"exited": True, "exitcode": 0, "out-data": "YWJj", "err-data": said, "err-truncated": False})


_SYNC, _STARTED, _RUNS = b"\xff" + _line("@").replace(b'"@"', ID), _line({"pid": 4242}), _line({"exited": False})
_SAID = (_SYNC, _STARTED, _RUNS, _ended(_HEAD), b'{"error": {"class": "GenericError", "desc": "no"}, "id": %ID%}\n')


def _conversation(dice: Dice) -> list[bytes]:
    """Give what an agent says to sync, start, and one to three questions how the program is; and all of it again."""
    script = []
    for _ in range(2):
        head = mutated(dice, [_HEAD]) if dice.number(0, 1) else _HEAD
        honest = [_SYNC, _STARTED, *[_RUNS] * dice.number(0, 2), _ended(head)]
        script += [_mostly(dice, one, _SAID) for one in honest]
    if not dice.number(0, 3):
        script[dice.number(0, len(script) - 1)] = json.dumps(json_object(dice, _KEYS)).encode() + b"\n"
    return script


def _pieces(dice: Dice) -> tuple[bytes, list[int]]:
    """Give all that an agent says, and where it is cut on its way."""
    said = b"".join(_conversation(dice)).replace(ID, b"1")
    return said, sorted(dice.number(0, len(said)) for _ in range(dice.number(0, 5)))


def _read_pieces(given: tuple[bytes, list[int]]) -> None:
    """Read it whole and in pieces: it must say the same."""
    said, cuts = given
    pieces = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    assert _heard([said]) == _heard(pieces)


def _heard(pieces: Sequence[bytes]) -> list[object]:
    reader, heard, synced = AnswerReader(max_bytes=4096), list[object](), False
    for piece in pieces:
        reader.feed(piece)
        while True:
            if not synced:
                synced = reader.after_sync(1)
                if not synced:
                    break
                heard.append("sync")
            try:
                returned = reader.next_answer(1)
            except (ProtocolError, Refused) as error:
                heard.append(str(error))
                if "too long" in str(error):
                    return heard  # what is left of it is dropped as far as it has come
                synced = False
                continue
            if returned is None:
                break
            heard.append(_meaning(returned))
    return heard


def _meaning(returned: object) -> object:
    """Read an answer in every way in which one is read."""
    meant: list[object] = []
    for read in (pid_in, ended_in):
        try:
            meant.append(read(json.loads(json.dumps(returned))))
        except ProtocolError:
            meant.append(None)
    if isinstance(meant[1], Ended):
        assert len(meant[1].stdout) <= OUTPUT_CAP_BYTES
        with contextlib.suppress(ProtocolError):
            meant.append(reply_in(meant[1], 1))
    return meant


def _converse(script: list[bytes]) -> None:
    """Run two programs through an agent that says this."""
    with (
        serving(_answers(script)) as served,
        contextlib.closing(QgaTransport(str(served.path))) as transport,
        _in_time(),
    ):
        for _ in range(2):
            try:
                result = transport.run(["/bin/true"], deadline=Deadline.after(1.0))
            except LabError:
                continue
            assert len(result.stdout) + len(result.stderr) <= 2 * OUTPUT_CAP_BYTES
            assert result.exit_code is None or isinstance(result.exit_code, int)


# --- QEMU's monitor ---------------------------------------------------------------------------------------------------

_GREETING = (
    b'{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": ["oob"]}}\r\n'
)
_OK, _STATUS = b'{"return": {}, "id": %ID%}\r\n', b'{"return": {"status": "running", "running": true}, "id": %ID%}\r\n'
_EVENTS = (
    b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {"seconds": 1, '
    b'"microseconds": 0}}\r\n',
    b'{"event": "BLOCK_IO_ERROR", "data": {"action": "stop", "nospace": true, "reason": "No space"}, "timestamp": '
    b'{"seconds": 1, "microseconds": 0}}\r\n',
    b'{"error": {"class": "GenericError", "desc": "no"}, "id": %ID%}\r\n',
    b'{"return": {"status": "completed"}, "id": %ID%}\r\n',
)


def _monitor_says(dice: Dice) -> list[bytes]:
    """Give a greeting, the answer to the first call, and four more, each with an event before it now and then."""
    said = [_mostly(dice, one, _EVENTS) for one in (_GREETING, _OK, *[_STATUS] * 4)]
    if dice.number(0, 1):
        said[:2] = _GREETING, _OK
    for at in range(1, len(said)):
        if not dice.number(0, 2):
            said[at] = mutated(dice, _EVENTS, most=dice.number(0, 2)) + said[at]
    return said


def _monitored(said: list[bytes]) -> None:
    limit = partial(Deadline.after, 1.0)
    with serving(_answers(said[1:], first=said[0])) as served, _in_time():
        try:
            monitor = Monitor(served.path, lives=lambda: not served.over.is_set(), deadline=limit())
        except LabError:
            return
        with contextlib.closing(monitor):
            with contextlib.suppress(LabError):
                monitor.command("query-status", deadline=limit())
            assert all(isinstance(event, Told) for event in monitor.events())
            assert monitor.answers(deadline=limit()) in {True, False}
            with contextlib.suppress(LabError):
                monitor.await_migration(deadline=limit())


def _event(event: Mapping[str, object]) -> None:
    seen = told(event)
    assert isinstance(seen.ends_guest, bool)
    assert isinstance(seen.stops_for_disk, bool)
    assert len(seen.text) <= 200


# --- an ssh server ----------------------------------------------------------------------------------------------------


class _Host(paramiko.ServerInterface):
    """A server that lets everybody in, whose agent is silent, and whose ``sftp`` answers each packet by a script."""

    def __init__(self, script: Sequence[bytes]) -> None:
        self._script = script

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return True

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        threading.Thread(target=self._files, args=(channel,), daemon=True).start()
        return True

    def _files(self, channel: paramiko.Channel) -> None:
        channel.settimeout(SILENCE_S)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException, struct.error), contextlib.closing(channel):
            for piece in self._script:
                size = struct.unpack(">I", _exactly(channel, 4))[0]
                asked = _exactly(channel, size)
                channel.sendall(piece.replace(ID, asked[1:5]))


def _exactly(channel: paramiko.Channel, size: int) -> bytes:
    whole = b""
    while len(whole) < size:
        piece = channel.recv(size - len(whole))
        if not piece:
            raise EOFError
        whole += piece
    return whole


@cache
def _keys() -> Path:
    """Give a folder with a server's key and ours."""
    for name in ("host", "own"):
        key = Ed25519PrivateKey.generate()
        (_folder() / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (_folder() / name).chmod(0o600)
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (_folder() / f"{name}.pub").write_bytes(public)
    return _folder()


def _address(path: Path) -> SshAddress:
    host_key = (_keys() / "host.pub").read_text(encoding="ascii")
    return SshAddress(at=str(path), host_key=host_key, user="root", key_file=str(_keys() / "own"))


def _be_host(connection: socket.socket, *, script: Sequence[bytes], for_s: float) -> None:
    with paramiko.Transport(connection) as transport:
        transport.add_server_key(paramiko.PKey.from_path(_keys() / "host"))
        transport.start_server(server=_Host(script))
        transport.join(for_s)


@cache
def _first_words() -> bytes:
    """Give what a real server says before it has heard more than a version: its own, and which algorithms it has."""
    with serving(partial(_be_host, script=(), for_s=1.0)) as served, connected_to(str(served.path)) as ours:
        ours.sendall(b"SSH-2.0-x\r\n")
        ours.settimeout(1.0)
        said = b""
        with contextlib.suppress(TimeoutError):
            while len(said) < 500:
                said += ours.recv(65536)
    return said


def _handshake(dice: Dice) -> bytes:
    return mutated(dice, [_first_words()], most=4)


def _shake(said: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(said)
        connection.settimeout(SILENCE_S)
        while connection.recv(65536):
            pass

    with serving(serve) as served, _in_time():
        try:
            SshTransport(_address(served.path), deadline=Deadline.after(0.2)).close()
        except LabError:
            return
        msg = "it was let in by nobody"
        raise AssertionError(msg)


def _packet(kind: int, *parts: bytes) -> bytes:
    body = bytes([kind]) + b"".join(parts)
    return struct.pack(">I", len(body)) + body


def _string(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


#: SFTP version 3, draft-ietf-secsh-filexfer-02: VERSION, HANDLE, ATTRS, DATA, STATUS (end of file; no such file).
_VERSION, _HANDLE = _packet(2, struct.pack(">I", 3)), _packet(102, ID, _string(b"h"))
_ATTRS = _packet(105, ID, struct.pack(">IQ", 1, 3))
_DATA = _packet(103, ID, _string(b"abc"))
_EOF = _packet(101, ID, struct.pack(">I", 1), _string(b"end"), _string(b""))
_NONE = _packet(101, ID, struct.pack(">I", 2), _string(b"no"), _string(b""))
_PACKETS = (_VERSION, _HANDLE, _ATTRS, _DATA, _EOF, _NONE)


def _files(dice: Dice) -> list[bytes]:
    return [_mostly(dice, one, _PACKETS) for one in (_VERSION, _HANDLE, _ATTRS, _DATA, _EOF, _EOF)]


def _pull(script: list[bytes]) -> None:
    """Take a file of a server that is honest but for its files."""
    with (
        serving(partial(_be_host, script=script, for_s=AT_MOST_S)) as served,
        _in_time(),
        contextlib.closing(SshTransport(_address(served.path))) as transport,
    ):
        try:
            content, cut = transport.pull("/file", deadline=Deadline.after(1.0), max_bytes=1000)
        except (GuestUnreachable, FileNotFoundError):
            return
        assert len(content) <= 1000
        assert isinstance(cut, bool)


def targets() -> tuple[Target, ...]:
    """Give every reader of a virtual machine's ways in."""
    events = ("event", "data", "guest", "action", "reason", "timestamp")
    return (
        Target(name="words of qemu-ga", inputs=_pieces, check=_read_pieces, cost=2),
        Target(name="guest agent", inputs=_conversation, check=_converse, cost=100),
        Target(name="events of a machine", inputs=partial(json_object, keys=events), check=_event, cost=1),
        Target(name="monitor", inputs=_monitor_says, check=_monitored, cost=120),
        Target(name="ssh handshake", inputs=_handshake, check=_shake, cost=80),
        Target(name="ssh files", inputs=_files, check=_pull, cost=200),
    )
