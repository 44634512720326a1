"""What every way into a guest promises (``harness/transports/api.py``), held against the simulated and the real one."""

from __future__ import annotations

import re
import resource
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, InputError
from harness.fake_guest import FakeMachine, Mischief
from harness.image import Image
from harness.providers.docker import DockerProvider
from harness.providers.qemu import ways
from harness.providers.qemu.provider import QemuProvider
from harness.transports.api import OUTPUT_CAP_BYTES, Transport
from harness.transports.docker_exec import DockerExecTransport
from harness.transports.fake import FakeTransport
from harness.transports.qga import QgaTransport
from harness.transports.ssh import SshTransport
from harness.transports.unix_socket import UnixSocketTransport
from tests.transports import real_ways


def soon() -> Deadline:
    return Deadline.after(20)


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way into a guest, and what a test has to know of that guest.

    Attributes:
        folder: Where a test may write.
        user: An ordinary user; the administrator is root.
        resident: A pattern of the command line of what serves us there, for pgrep(1); empty where that starts programs
            itself.
        large_mib: An input that does not fit where it must not be whole.
    """

    transport: Transport
    folder: str = "/tmp"
    user: str = "trader"
    resident: str = ""
    large_mib: int = 300


@pytest.fixture(scope="module")
def container(docker_provider: DockerProvider, reference_image: Image) -> Iterator[str]:
    """Give one container for all tests of this module."""
    with docker_provider.lease(reference_image, run_id="contract-t", name="transport", deadline=soon()) as lease:
        yield lease.endpoint.address


@pytest.fixture(scope="module")
def virtual_machine(vm_image: Image) -> Iterator[str]:
    """Give one virtual machine for all tests of this module."""
    with QemuProvider(spares=False).lease(
        vm_image, run_id="contract-t", name="transport", deadline=Deadline.after(60)
    ) as lease:
        yield lease.endpoint.address


@pytest.fixture(scope="module")
def host_qga() -> Iterator[Path]:
    """Give the socket of a qemu-ga that runs on this machine."""
    with real_ways.guest_agent() as socket:
        yield socket


@pytest.fixture(scope="module")
def host_sshd() -> Iterator[real_ways.Sshd]:
    """Give an sshd that runs on this machine."""
    with real_ways.sshd() as server:
        yield server


IN_GUESTS = [
    *(pytest.param(name, marks=pytest.mark.guest) for name in ("docker_exec", "unix_socket")),
    # Minutes without hardware acceleration; "qga" and "ssh" are the same ways with real servers on the host.
    *(pytest.param(name, marks=[pytest.mark.guest, pytest.mark.table]) for name in ("qga_vm", "ssh_vm")),
]
REAL = ["qga", "ssh", *IN_GUESTS]


def way_of(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Open a way by its name."""
    if name == "fake":
        return Way(transport=FakeTransport(FakeMachine("guest")))
    if name == "qga":
        socket = request.getfixturevalue("host_qga")
        made = QgaTransport(str(socket), helper=real_ways.helper())
        return Way(transport=made, folder=str(tmp_path), user="nobody", resident=f"qemu-ga.*{socket}", large_mib=32)
    if name == "ssh":
        server: real_ways.Sshd = request.getfixturevalue("host_sshd")
        made_ssh = SshTransport(server.address, agent=server.agent)
        return Way(transport=made_ssh, folder=str(tmp_path), user="nobody")
    if name == "unix_socket":
        return Way(transport=UnixSocketTransport(request.getfixturevalue("virtual_machine")))
    if name in {"qga_vm", "ssh_vm"}:
        agent_socket = Path(request.getfixturevalue("virtual_machine"))
        transport = ways.connect(ways.endpoint_of(name.removesuffix("_vm"), agent_socket, deadline=soon()))
        return Way(transport=transport, resident="qemu-ga" if name == "qga_vm" else "", large_mib=8)
    provider: DockerProvider = request.getfixturevalue("docker_provider")
    return Way(transport=DockerExecTransport(provider.client, request.getfixturevalue("container")))


@pytest.fixture(params=["fake", *REAL])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    made = way_of(request.param, request, tmp_path)
    yield made
    made.transport.close()


@pytest.fixture
def transport(way: Way) -> Transport:
    return way.transport


def test_a_program_s_exit_code_is_a_result_and_no_error(transport: Transport) -> None:
    good, bad = (transport.run([program], deadline=soon()) for program in ("/bin/true", "/bin/false"))
    assert (good.exit_code, good.ok, bad.exit_code, bad.ok) == (0, True, 1, False)


def test_a_program_that_does_not_exist_did_not_start(transport: Transport) -> None:
    result = transport.run(["/opt/nonsense"], deadline=soon())
    assert (result.exit_code, result.errno, result.ok) == (None, 2, False)


def test_an_empty_command_is_refused(transport: Transport) -> None:
    with pytest.raises(ValueError, match="argv is empty"):
        transport.run([], deadline=soon())


def test_a_megabyte_of_bytes_goes_in_and_comes_back(transport: Transport) -> None:
    sent = secrets.token_bytes(1024**2)
    result = transport.run(["/bin/cat"], stdin=sent, deadline=soon())
    assert result.stdout == sent
    assert not result.stdout_truncated


def test_a_program_runs_as_the_administrator_or_as_the_named_user(way: Way) -> None:
    said = [way.transport.run(["/usr/bin/id", "-un"], user=user, deadline=soon()).stdout for user in (None, way.user)]
    assert said == [b"root\n", way.user.encode() + b"\n"]


def test_a_program_that_still_runs_at_the_deadline_is_ended_and_the_way_in_stays(transport: Transport) -> None:
    begun = time.monotonic()
    with pytest.raises(GuestCommandTimeout):
        transport.run(["/bin/sleep", "30"], deadline=Deadline.after(0.3))
    assert time.monotonic() - begun < 5
    assert transport.run(["/bin/true"], deadline=soon()).ok


@pytest.mark.parametrize("size", [OUTPUT_CAP_BYTES, OUTPUT_CAP_BYTES + 1])
def test_output_beyond_the_cap_is_cut_and_said_to_be(size: int, transport: Transport) -> None:
    result = transport.run(["/usr/bin/head", "-c", str(size), "/dev/zero"], deadline=soon())
    assert (len(result.stdout), result.stdout_truncated) == (OUTPUT_CAP_BYTES, size > OUTPUT_CAP_BYTES)


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n", bytes(3_000_000)], ids=["empty", "binary", "large"])
def test_a_file_is_pushed_and_pulled_unchanged_also_by_a_korean_name(content: bytes, way: Way) -> None:
    path = f"{way.folder}/한글 폴더/시세표 (1).txt"
    way.transport.push(content, path, deadline=soon())
    assert way.transport.pull(path, deadline=soon()) == (content, False)


def test_a_file_is_pulled_up_to_a_limit_and_said_to_be_cut(way: Way) -> None:
    path = f"{way.folder}/hts-cut"
    way.transport.push(b"0123456789", path, deadline=soon())
    assert way.transport.pull(path, max_bytes=4, deadline=soon()) == (b"0123", True)
    assert way.transport.pull(path, max_bytes=10, deadline=soon()) == (b"0123456789", False)


def test_a_missing_file_is_told_as_missing(way: Way) -> None:
    with pytest.raises(FileNotFoundError):
        way.transport.pull(f"{way.folder}/없는 파일", deadline=soon())


def test_closing_twice_is_no_error(transport: Transport) -> None:
    transport.close()
    transport.close()


def test_a_scripted_call_fails_and_the_next_does_not() -> None:
    transport = FakeTransport(FakeMachine("guest", mischief=Mischief(fails_at_call=2)))
    with pytest.raises(GuestUnreachable):
        transport.run(["/bin/true"], deadline=soon())
    assert transport.run(["/bin/true"], deadline=soon()).ok


# --- only where programs are real -------------------------------------------------------------------------------------


@pytest.fixture(params=REAL)
def real_way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    made = way_of(request.param, request, tmp_path)
    yield made
    made.transport.close()


@pytest.fixture
def real(real_way: Way) -> Transport:
    return real_way.transport


def test_every_exit_code_and_signal_is_told(real: Transport) -> None:
    codes = [real.run(["/bin/sh", "-c", f"exit {n}"], deadline=soon()).exit_code for n in (0, 1, 42, 255)]
    assert codes == [0, 1, 42, 255]
    killed = real.run(["/bin/sh", "-c", "kill -9 $$"], deadline=soon())
    assert (killed.exit_code, killed.signal) == (None, 9)


def test_the_two_outputs_are_kept_apart(real: Transport) -> None:
    result = real.run(["/bin/sh", "-c", "echo out; echo err >&2"], deadline=soon())
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_nothing_is_expanded_by_a_shell(real: Transport) -> None:
    result = real.run(["/usr/bin/printf", "%s|", "$HOME", "*", "a b", "'"], deadline=soon())
    assert result.stdout == b"$HOME|*|a b|'|"


def test_the_deadline_ends_the_grandchildren_too(real: Transport) -> None:
    mark = f"3{secrets.randbelow(10**6):06}"
    with pytest.raises(GuestCommandTimeout):
        real.run(["/bin/sh", "-c", f"sh -c 'sleep {mark} & sleep {mark}' & wait"], deadline=Deadline.after(0.5))
    found = real.run(["/usr/bin/pgrep", "-f", f"sleep {mark}"], deadline=soon())
    assert (found.exit_code, found.stdout) == (1, b"")


def test_a_child_that_keeps_the_output_open_does_not_keep_the_answer_waiting(real: Transport) -> None:
    begun = time.monotonic()
    result = real.run(["/bin/sh", "-c", "sleep 20 & echo started"], deadline=soon())
    assert result.stdout == b"started\n"
    assert time.monotonic() - begun < 5


def test_a_flood_is_dropped_and_does_not_fill_memory(real: Transport) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = real.run(["/usr/bin/head", "-c", str(64 * 1024**2), "/dev/zero"], deadline=soon())
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert (len(result.stdout), result.stdout_truncated) == (OUTPUT_CAP_BYTES, True)
    assert grown_mib < 5 * OUTPUT_CAP_BYTES / 1024**2


def test_a_program_that_does_not_read_its_input_is_no_trouble(real: Transport) -> None:
    assert real.run(["/bin/true"], stdin=bytes(1024**2), deadline=soon()).ok


@dataclass
class Zeros:
    """So many mebibytes of zeros, which may end early or be read too late."""

    mib: int
    given_mib: int

    @property
    def size_bytes(self) -> int:
        return self.mib * 1024**2

    def pieces(self) -> Iterator[bytes]:
        yield from (bytes(1024**2) for _ in range(self.given_mib))
        if self.given_mib < self.mib:
            msg = "It is shorter."
            raise InputError(msg)


#: Resets the most memory that a process ever had to what it has now (proc(5), clear_refs), and tells both.
_MEMORY = """
pid="$PPID"; [ -z "$1" ] || pid="$(pgrep -of "$1")"
cat "/proc/$pid/status"
[ "$2" != reset ] || echo 5 > "/proc/$pid/clear_refs"
"""


def memory_of(way: Way, what: str, reset: str = "") -> int:
    """Give a line of the status of what serves us in the guest, in KiB."""
    argv = ["/bin/sh", "-c", _MEMORY, "memory", way.resident, reset]
    found = re.search(rf"{what}:\s+(\d+) kB", way.transport.run(argv, deadline=soon()).stdout.decode())
    assert found is not None
    return int(found[1])


@pytest.mark.timeout(300)  # an emulated machine on a busy host takes a while for so many bytes
def test_a_large_input_is_in_memory_on_neither_side(real_way: Way) -> None:
    real, mib = real_way.transport, real_way.large_mib
    there_before_kib = memory_of(real_way, "VmRSS", "reset")
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = real.run(["/usr/bin/wc", "-c"], stdin=Zeros(mib, mib), deadline=Deadline.after(60))
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert result.stdout == b"%d\n" % (mib * 1024**2)
    assert grown_mib < 50
    assert (memory_of(real_way, "VmHWM") - there_before_kib) / 1024 < 16


def test_an_input_that_ends_early_closes_the_way_in(real: Transport) -> None:
    with pytest.raises(InputError, match="shorter"):
        real.run(["/usr/bin/wc", "-c"], stdin=Zeros(4, 2), deadline=soon())
    with pytest.raises(GuestUnreachable):
        real.run(["/bin/true"], deadline=soon())


def test_a_user_who_does_not_exist_is_lab_trouble(real: Transport) -> None:
    with pytest.raises(GuestUnreachable):
        real.run(["/bin/true"], user="nobody-here", deadline=soon())


@pytest.mark.guest
def test_a_container_that_is_killed_in_the_middle_is_unreachable_at_once(
    docker_provider: DockerProvider, reference_image: Image
) -> None:
    import threading

    with docker_provider.lease(reference_image, run_id="contract-t", name="killed", deadline=soon()) as lease:
        transport = DockerExecTransport(docker_provider.client, lease.endpoint.address)
        assert transport.run(["/bin/true"], deadline=soon()).ok
        killer = threading.Timer(0.3, docker_provider.client.containers.get(lease.endpoint.address).kill)
        killer.start()
        begun = time.monotonic()
        with pytest.raises(GuestUnreachable):
            transport.run(["/bin/sleep", "30"], deadline=Deadline.after(30))
        assert time.monotonic() - begun < 10
        killer.join()
        with pytest.raises(GuestUnreachable):
            transport.run(["/bin/true"], deadline=soon())
        transport.close()
