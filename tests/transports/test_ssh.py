"""The ssh transport against servers that lie, stall or never stop, and against a real sshd."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, LabError
from harness.transports import ssh
from harness.transports.ssh import HostKeyRefused, SshAddress, SshTransport, address_in
from tests.transports import real_ways


def soon(seconds: float = 10.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with two servers' keys, of two kinds, and two of ours; the server lets ``own`` in."""
    where = tmp_path_factory.mktemp("keys")
    for name in ("host", "other", "own"):
        key = Ed25519PrivateKey.generate()
        (where / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (where / f"{name}.pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
    ecdsa = paramiko.ECDSAKey.generate()
    ecdsa.write_private_key_file(str(where / "ecdsa"))
    for file in where.iterdir():
        file.chmod(0o600)
    return where


def public(path: Path) -> str:
    return path.with_suffix(".pub").read_text().strip()


# --- servers that do what no real one does ----------------------------------------------------------------------------


class Server(paramiko.ServerInterface):
    """Lets one key in; what its channel does is scripted."""

    def __init__(self, own: str, act: Callable[[paramiko.Channel], None], *, answers_exec: bool = True) -> None:
        self._own = own
        self._act = act
        self._answers_exec = answers_exec
        self.shown: list[str] = []
        self.commands: list[bytes] = []

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.shown.append(f"{key.get_name()} {key.get_base64()}")
        return AUTH_SUCCESSFUL if self.shown[-1] == self._own else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.commands.append(command)
        if not self._answers_exec:
            time.sleep(3)
            return False
        threading.Thread(target=self._do, args=(channel,), daemon=True).start()
        return True

    def _do(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(Exception):
            self._act(channel)


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[Path]:
    """Serve each connection to a Unix socket in a thread of its own; give its path."""
    with real_ways.folder() as where, socket.socket(socket.AF_UNIX) as listener:
        path = where / "s"
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=guarded, args=(listener.accept()[0],), daemon=True).start()

        def guarded(connection: socket.socket) -> None:
            with connection, contextlib.suppress(Exception):
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@contextlib.contextmanager
def scripted(
    keys: Path, act: Callable[[paramiko.Channel], None], *, host: str = "host", answers_exec: bool = True
) -> Iterator[tuple[Server, SshAddress]]:
    """Run a scripted ssh server; give it and its address, which pins the key ``host``."""
    server = Server(public(keys / "own"), act, answers_exec=answers_exec)

    def serve(connection: socket.socket) -> None:
        with paramiko.Transport(connection) as transport:
            transport.add_server_key(paramiko.PKey.from_path(keys / host))
            transport.start_server(server=server)
            transport.join(20)

    with listening(serve) as path:
        yield server, address_at(path, keys)


def address_at(path: Path, keys: Path, own: str = "own") -> SshAddress:
    return SshAddress(at=str(path), host_key=public(keys / "host"), user="root", key_file=str(keys / own))


def quiet(_channel: paramiko.Channel) -> None:
    time.sleep(20)


@pytest.fixture(autouse=True)
def nothing_is_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Hold that no word of a server comes out anywhere by itself."""
    yield
    assert capfd.readouterr().err == ""
    assert not [record for record in caplog.records if record.name.startswith("paramiko")]


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.transports.agent.AGENT_GRACE_S", 0.0)
    monkeypatch.setattr(ssh, "AGENT_GRACE_S", 0.0)


@pytest.mark.parametrize("host", ["other", "ecdsa"])
def test_another_server_than_the_image_s_is_refused_before_it_learns_who_we_are(host: str, keys: Path) -> None:
    with scripted(keys, quiet, host=host) as (server, address):
        with pytest.raises(HostKeyRefused) as told:
            SshTransport(address, deadline=soon())
        assert server.shown == []
    assert told.value.hint


def test_a_server_that_does_not_know_our_key_is_a_guest_that_cannot_be_reached(keys: Path) -> None:
    with scripted(keys, quiet) as (server, address):
        with pytest.raises(GuestUnreachable, match="does not let us in"):
            SshTransport(address.model_copy(update={"key_file": str(keys / "other")}), deadline=soon())
        assert server.shown == [public(keys / "other")]


def test_no_other_key_of_this_user_is_ever_shown(keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes((keys / "own").read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path))
    with scripted(keys, quiet) as (server, address):
        with pytest.raises(GuestUnreachable):
            SshTransport(address.model_copy(update={"key_file": str(keys / "other")}), deadline=soon())
        assert public(keys / "own") not in server.shown


def silent(_connection: socket.socket) -> None:
    time.sleep(20)


def endless_greeting(connection: socket.socket) -> None:
    connection.sendall(b"SSH-")
    for piece in repeat(b"x" * 65536):
        connection.sendall(piece)


def endless_lines(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-x\r\n")
    for piece in repeat(b"hello\r\n" * 1000):
        connection.sendall(piece)


def trickle(connection: socket.socket) -> None:
    for byte in repeat(b"x"):
        connection.sendall(byte)
        time.sleep(0.05)


def greeting_alone(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-x\r\n")
    time.sleep(20)


def garbage(connection: socket.socket) -> None:
    connection.sendall(bytes(1000))


@pytest.mark.parametrize(
    "serve", [silent, greeting_alone, endless_greeting, endless_lines, trickle, garbage, lambda _: None]
)
def test_what_is_no_ssh_server_is_left_in_time(serve: Callable[[socket.socket], None], keys: Path) -> None:
    begun = time.monotonic()
    with listening(serve) as path, pytest.raises(GuestUnreachable):
        SshTransport(address_at(path, keys), deadline=soon(0.6))
    assert time.monotonic() - begun < 4


def test_a_greeting_without_end_is_not_read_to_its_end(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    recv = ssh._Metered.recv

    def counted(self: ssh._Metered, size: int) -> bytes:
        piece = recv(self, size)
        read.append(len(piece))
        return piece

    monkeypatch.setattr(ssh._Metered, "recv", counted)
    with listening(endless_greeting) as path, pytest.raises(GuestUnreachable):
        SshTransport(address_at(path, keys), deadline=soon())
    assert sum(read) < 2 * ssh._HANDSHAKE_BYTES


def test_who_still_serves_the_last_one_is_asked_again_until_he_greets(keys: Path) -> None:
    served: list[int] = []
    server = Server(public(keys / "own"), quiet)

    def serve(connection: socket.socket) -> None:
        served.append(1)
        if len(served) == 1:
            connection.sendall(b"\x00\x00 not a greeting")
            return
        with paramiko.Transport(connection) as transport:
            transport.add_server_key(paramiko.PKey.from_path(keys / "host"))
            transport.start_server(server=server)
            transport.join(20)

    with listening(serve) as path:
        SshTransport(address_at(path, keys), deadline=soon()).close()
    assert len(served) == 2


def test_a_server_that_is_slow_to_greet_is_waited_for_longer_each_time(
    keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "GREETING_S", 0.05)
    server = Server(public(keys / "own"), quiet)

    def serve(connection: socket.socket) -> None:
        time.sleep(0.3)
        with paramiko.Transport(connection) as transport:
            transport.add_server_key(paramiko.PKey.from_path(keys / "host"))
            transport.start_server(server=server)
            transport.join(20)

    with listening(serve) as path:
        SshTransport(address_at(path, keys), deadline=soon()).close()


def test_a_server_that_never_answers_a_request_is_left_at_the_deadline(keys: Path) -> None:
    begun = time.monotonic()
    with (
        scripted(keys, quiet, answers_exec=False) as (_, address),
        pytest.raises(GuestUnreachable),
    ):
        SshTransport(address, deadline=soon(0.7))
    assert time.monotonic() - begun < 2.5


@pytest.mark.usefixtures("no_grace")
def test_a_channel_that_says_nothing_is_left_at_the_deadline(keys: Path) -> None:
    with scripted(keys, quiet) as (_, address):
        transport = SshTransport(address, deadline=soon())
        begun = time.monotonic()
        with pytest.raises(GuestUnreachable, match="did not answer"):
            transport.run(["/bin/true"], deadline=soon(0.2))
        assert time.monotonic() - begun < 2


def flood(channel: paramiko.Channel) -> None:
    channel.recv(1)  # before the first request it would be the server's greeting that has no end
    for piece in repeat(b"x" * 32768):
        channel.sendall(piece)


def flood_errors(channel: paramiko.Channel) -> None:
    channel.recv(1)
    channel.out_window_size = 2**40  # a server need not heed the window that it was given
    for piece in repeat(b"x" * 32768):
        channel.sendall_stderr(piece)


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("act", [flood, flood_errors])
def test_a_channel_without_end_is_left_and_does_not_fill_memory(
    act: Callable[[paramiko.Channel], None], keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "_ANSWER_BYTES", 1024**2)
    with scripted(keys, act) as (_, address):
        transport = SshTransport(address, deadline=soon())
        begun = time.monotonic()
        with pytest.raises(GuestUnreachable):
            transport.run(["/bin/true"], deadline=soon(20))
        assert time.monotonic() - begun < 18, "it was left because of what it sent, not because of the time"
        assert transport._socket._left > -(1024**2)


def nonsense_packet(connection: socket.socket) -> None:
    """Greet as a server does, and name algorithms that are no text (RFC 4253, 7.1)."""
    said = bytes([20]) + bytes(16) + struct.pack(">I", 4) + b"\xa5\xff\xfe\x83" + bytes(64)
    padding = 8 - (len(said) + 5) % 8 + 8
    connection.sendall(b"SSH-2.0-x\r\n" + struct.pack(">IB", len(said) + padding + 1, padding) + said + bytes(padding))
    connection.recv(1)
    connection.recv(65536)
    time.sleep(0.1)


def test_a_server_whose_algorithms_are_no_text_is_a_guest_that_cannot_be_reached(keys: Path) -> None:
    """paramiko raises what its reading of it ends with: a UnicodeDecodeError."""
    with listening(nonsense_packet) as path, pytest.raises(GuestUnreachable, match="does not let us in") as caught:
        SshTransport(address_at(path, keys), deadline=soon())
    assert "UnicodeDecodeError" in caught.value.detail


class NonsenseFiles(Server):
    """Answers an open with a name instead of a handle (draft-ietf-secsh-filexfer-02), and later with what cannot be."""

    said = (struct.pack(">IBI", 5, 2, 3), struct.pack(">IBIQ", 13, 105, 1, 0), b"")

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        threading.Thread(target=self._answer, args=(channel,), daemon=True).start()
        return True

    def _answer(self, channel: paramiko.Channel) -> None:
        for piece in self.said:
            channel.recv(65536)
            channel.sendall(piece)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_server_whose_files_make_no_sense_is_a_guest_that_cannot_be_reached(
    cut: int, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, handle, end = NonsenseFiles.said
    if cut:  # shorter than what it must hold, and says so
        handle = struct.pack(">I", 9 - cut) + handle[4 : 13 - cut]
    monkeypatch.setattr(NonsenseFiles, "said", (version, handle, end))
    server = NonsenseFiles(public(keys / "own"), quiet)

    def serve(connection: socket.socket) -> None:
        with paramiko.Transport(connection) as transport:
            transport.add_server_key(paramiko.PKey.from_path(keys / "host"))
            transport.start_server(server=server)
            transport.join(20)

    with listening(serve) as path:
        transport = SshTransport(address_at(path, keys), deadline=soon())
        with pytest.raises(GuestUnreachable):
            transport.pull("/file", deadline=soon())
        transport.close()


def ours_alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if isinstance(t, paramiko.Transport) and not t.server_mode]


def test_no_thread_is_left_of_a_connection_that_was_closed(keys: Path) -> None:
    with scripted(keys, quiet) as (_, address):
        SshTransport(address, deadline=soon()).close()
        assert any(not ours_alive() for _ in soon(5).poll(0.02))


# --- addresses and keys -----------------------------------------------------------------------------------------------


def test_an_address_is_data_and_nothing_else_is_an_address(keys: Path) -> None:
    address = address_at(Path("/run/s"), keys)
    assert address_in(address.model_dump_json()) == address
    for text in ("", "{}", "/run/s", '{"at": 5}', address.model_dump_json().replace("ssh-ed25519 ", "")):
        with pytest.raises(LabError):
            address_in(text)


@pytest.mark.parametrize("why", ["missing", "nonsense", "read by others"])
def test_a_key_that_is_not_usable_is_told_without_a_word_of_it(why: str, keys: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if why == "nonsense":
        file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n")
        file.chmod(0o600)
    if why == "read by others":
        file.write_bytes((keys / "own").read_bytes())
        file.chmod(0o644)
    with pytest.raises(LabError) as told:
        SshTransport(address_at(tmp_path / "s", keys).model_copy(update={"key_file": str(file)}), deadline=soon())
    assert told.value.hint
    assert "c2Vj" not in f"{told.value!r} {told.value.detail} {told.value.hint}"


# --- the real one -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_server() -> Iterator[real_ways.Sshd]:
    with real_ways.sshd() as server:
        yield server


@pytest.fixture
def real(real_server: real_ways.Sshd) -> Iterator[SshTransport]:
    made = SshTransport(real_server.address, agent=real_server.agent)
    yield made
    made.close()


def test_a_real_server_with_another_key_is_refused(real_server: real_ways.Sshd, keys: Path) -> None:
    with pytest.raises(HostKeyRefused):
        SshTransport(real_server.address.model_copy(update={"host_key": public(keys / "other")}))


def test_a_file_is_the_right_one_s_with_the_right_mode(real: SshTransport, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    real.push(b"x", str(path), mode=0o600, owner="nobody", deadline=soon())
    said = real.run(["/usr/bin/stat", "-c", "%a %U", str(path)], deadline=soon()).stdout
    assert said == b"600 nobody\n"


def test_a_file_larger_than_what_is_asked_for_at_once_is_whole(real: SshTransport, tmp_path: Path) -> None:
    content = os.urandom(3 * ssh._STRETCH_BYTES + 12345)
    (tmp_path / "large").write_bytes(content)
    assert real.pull(str(tmp_path / "large"), deadline=soon(30)) == (content, False)
    limit = ssh._STRETCH_BYTES + 7
    assert real.pull(str(tmp_path / "large"), max_bytes=limit, deadline=soon(30)) == (content[:limit], True)


def test_a_file_of_the_kernel_whose_size_is_0_is_read_all_the_same(real: SshTransport) -> None:
    content, cut = real.pull("/proc/self/status", deadline=soon())
    assert content.startswith(b"Name:")
    assert not cut


def test_a_folder_is_no_file(real: SshTransport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        real.pull(str(tmp_path), deadline=soon())
    assert real.run(["/bin/true"], deadline=soon()).ok


def test_a_pipe_in_a_file_s_place_holds_nobody_and_the_way_in_stays(real: SshTransport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    begun = time.monotonic()
    with pytest.raises(GuestUnreachable):
        real.pull(str(tmp_path / "pipe"), deadline=soon(0.3))
    assert time.monotonic() - begun < 3
    assert real.run(["/bin/true"], deadline=soon()).ok
    os.close(os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK))  # the server's process waits for this, and ends


def test_a_file_that_cannot_be_written_is_lab_trouble(real: SshTransport) -> None:
    with pytest.raises(GuestUnreachable, match="could not write"):
        real.push(b"x", "/proc/nothing/here", deadline=soon())
    assert real.run(["/bin/true"], deadline=soon()).ok


def test_a_session_that_is_killed_in_the_middle_is_gone_at_once(real: SshTransport) -> None:
    begun = time.monotonic()
    with pytest.raises(GuestUnreachable, match="gone"):
        real.run(["/bin/sh", "-c", "kill -9 $(ps -o ppid= -p $PPID); sleep 20"], deadline=soon(15))
    assert time.monotonic() - begun < 10


def test_a_harness_that_goes_away_leaves_no_program_behind(real_server: real_ways.Sshd) -> None:
    transport = SshTransport(real_server.address, agent=real_server.agent)
    mark = f"3{os.getpid():06}"
    with pytest.raises(GuestCommandTimeout):
        transport.run(["/bin/sleep", mark], deadline=soon(0.3))
    transport.close()
    assert subprocess.run(["pgrep", "-f", f"sleep {mark}"], capture_output=True, check=False).stdout == b""
