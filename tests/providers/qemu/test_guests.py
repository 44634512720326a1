"""What can befall a real virtual machine in the middle of a lease, and what is told of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.image import Image
from harness.providers.api import Lease, Loss, Reboots
from harness.providers.qemu import clone
from harness.providers.qemu.provider import QemuProvider
from harness.providers.qemu.template import NONCE_FILE
from harness.transports.unix_socket import UnixSocketTransport

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def provider() -> QemuProvider:
    """Give one for all tests: loading a template takes seconds. A spare would have its disk where it was made."""
    return QemuProvider(spares=False)


@contextmanager
def leased(provider: QemuProvider, image: Image) -> Iterator[Lease]:
    with provider.lease(image, run_id="bad-things", name="bad", deadline=Deadline.after(120)) as lease:
        yield lease


@contextmanager
def way_into(lease: Lease) -> Iterator[UnixSocketTransport]:
    way_in = UnixSocketTransport(lease.endpoint.address)
    yield way_in
    way_in.close()


def said(way_in: UnixSocketTransport, script: str, *more: str) -> str:
    result = way_in.run(["/bin/sh", "-c", script, "sh", *more], deadline=Deadline.after(90))
    assert result.ok, result.stderr
    return result.stdout.decode().strip()


def process_of(lease: Lease) -> int:
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"path={lease.endpoint.address},".encode() in line.read_bytes():
                return int(line.parent.name)
    pytest.fail("its process is not there")


def lost(lease: Lease) -> Loss | None:
    for _ in Deadline.after(60).poll(0.1):
        found = lease.lost()
        if found is not None:
            return found
    return None


def test_a_reboot_is_the_whole_machine_s_and_only_the_disk_outlives_it(provider: QemuProvider, vm_image: Image) -> None:
    with leased(provider, vm_image) as lease:
        assert isinstance(lease, Reboots)
        with way_into(lease) as way_in:
            said(way_in, "echo kept > /home/trader/installed; echo gone > /run/in-memory")
            before = said(way_in, "cat /proc/sys/kernel/random/boot_id")
        process = process_of(lease)
        done = lease.reboot(deadline=Deadline.after(300))
        assert done.boot_before == before != done.boot_after
        assert process_of(lease) == process
        assert lease.lost() is None
        with way_into(lease) as way_in:
            assert said(way_in, "cat /proc/sys/kernel/random/boot_id") == done.boot_after
            assert said(way_in, "cat /home/trader/installed; ls /run/in-memory 2> /dev/null || true") == "kept"
            assert abs(float(said(way_in, "date +%s.%N")) - time.time()) < 30
            # From here on a reset is a crash again.
            with suppress(GuestUnreachable):
                said(way_in, "sleep 0.5; echo b > /proc/sysrq-trigger")
        found = lost(lease)
    assert found is not None
    assert found.crashed, found


def test_a_guest_s_clock_is_the_host_s_though_it_stood_since_its_template_was_frozen(
    provider: QemuProvider, vm_image: Image
) -> None:
    with leased(provider, vm_image) as lease, way_into(lease) as way_in:
        now, frozen = (float(word) for word in said(way_in, f"date +%s.%N; stat -c %Y {NONCE_FILE}").split())
    assert abs(now - time.time()) < 60
    assert frozen < now - 60


@pytest.mark.parametrize("key", ["b", "o", "c"], ids=["reboots", "powers off", "panics"])
def test_a_guest_that_ends_by_itself_crashed_and_nobody_waits_for_it(
    provider: QemuProvider, vm_image: Image, key: str
) -> None:
    with leased(provider, vm_image) as lease, way_into(lease) as way_in:
        began = time.monotonic()
        with pytest.raises(GuestUnreachable):
            said(way_in, f"echo {key} > /proc/sysrq-trigger; sleep 80")
        assert time.monotonic() - began < 60
        found = lost(lease)
    assert found is not None
    assert found.crashed, found
    assert ("kernel panicked (GUEST_PANICKED" in found.summary) is (key == "c"), found


def test_a_machine_that_is_killed_from_outside_is_lab_trouble(provider: QemuProvider, vm_image: Image) -> None:
    with leased(provider, vm_image) as lease, way_into(lease) as way_in:
        os.kill(process_of(lease), signal.SIGKILL)
        with pytest.raises(GuestUnreachable):
            said(way_in, "sleep 80")
        found = lost(lease)
    assert found is not None
    assert not found.crashed, found


def test_a_machine_that_stands_still_is_given_up_long_before_the_deadline(
    provider: QemuProvider, vm_image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone, "HANGING_S", 3.0)
    with leased(provider, vm_image) as lease, way_into(lease) as way_in:
        os.kill(process_of(lease), signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(GuestUnreachable):
            said(way_in, "sleep 80")
        assert time.monotonic() - began < 60
        found = lease.lost()
    assert found == Loss(summary="the virtual machine stood still and was ended", crashed=False)


@pytest.fixture
def tiny_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a host's disk with room for 24 MiB, on which machines have their folders."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    monkeypatch.setattr(clone, "runs_folder", lambda: folder / "runs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_host_s_disk_that_fills_up_in_mid_lease_is_lab_trouble_at_once(
    provider: QemuProvider, vm_image: Image, tiny_disk: Path
) -> None:
    with leased(provider, vm_image) as lease, way_into(lease) as way_in:
        began = time.monotonic()
        with pytest.raises(GuestUnreachable):
            said(way_in, "head -c 60000000 /dev/urandom > /home/trader/big && sync && sleep 80")
        assert time.monotonic() - began < 60
        found = lost(lease)
    assert found is not None
    assert not found.crashed
    assert "could not write the virtual machine's disk" in found.summary
    assert list((tiny_disk / "runs").iterdir()) == []


#: The machine below, a resolver and a metadata service as QEMU's user network would have them, and the world.
OUTSIDE = ("10.0.2.2", "10.0.2.3", "1.1.1.1", "169.254.169.254", "172.17.0.1", "192.168.0.1", "2606:4700:4700::1111")
PROBE = dedent(
    """
    import errno, json, os, socket, sys
    found = {"links": sorted(os.listdir("/sys/class/net")), "sent": []}
    def attempt(what, do):
        try:
            do()
            found["sent"].append(what)
        except OSError:
            pass
    port = int(sys.argv[1])
    for address in sys.argv[2:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for kind, name in ((socket.SOCK_STREAM, "tcp"), (socket.SOCK_DGRAM, "udp")):
            for number in (53, 80, port):
                with socket.socket(family, kind) as probe:
                    probe.settimeout(2)
                    attempt(f"{name} {address} {number}", lambda: (probe.connect((address, number)), probe.send(b"x")))
        if family == socket.AF_INET:
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP) as probe:
                attempt(f"icmp {address}", lambda: probe.sendto(b"\\x08\\x00\\xf7\\xff\\0\\0\\0\\0", (address, 0)))
    with socket.socket(socket.AF_INET) as probe:
        attempt("the host's loopback", lambda: probe.connect(("127.0.0.1", port)))
    attempt("a name", lambda: socket.getaddrinfo("example.com", 80))
    try:
        with socket.socket(socket.AF_VSOCK) as probe:
            probe.settimeout(2)
            attempt("vsock", lambda: probe.connect((2, port)))
    except OSError:
        pass
    print(json.dumps(found))
    """
)


def test_nothing_gets_out_of_a_virtual_machine_whoever_asks(provider: QemuProvider, vm_image: Image) -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as listener,  # noqa: S104 - all of the host's addresses are tried
        leased(provider, vm_image) as lease,
        way_into(lease) as way_in,
    ):
        argv = ["/usr/bin/python3", "-c", PROBE, str(listener.getsockname()[1]), *OUTSIDE]
        found = json.loads(way_in.run(argv, deadline=Deadline.after(200)).stdout)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert found == {"links": ["lo"], "sent": []}


def test_two_harnesses_have_guests_of_one_template_at_once_and_neither_ends_the_other_s(
    provider: QemuProvider, vm_image: Image
) -> None:
    with leased(provider, vm_image) as one, leased(QemuProvider(spares=False), vm_image) as other:
        for name, lease in (("one", one), ("other", other)):
            with way_into(lease) as way_in:
                said(way_in, f"test ! -e /root/mine && echo {name} > /root/mine && sync")
        assert clone.sweep("another-run") == 0
        for name, lease in (("one", one), ("other", other)):
            with way_into(lease) as way_in:
                assert said(way_in, "cat /root/mine") == name
        assert (one.lost(), other.lost()) == (None, None)
