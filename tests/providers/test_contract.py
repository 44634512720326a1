"""What every provider promises (``harness/providers/api.py``), held against the simulated and the real one."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable, LabError
from harness.image import Image
from harness.providers import kit_of
from harness.providers.api import Endpoint, Lease, Provider
from harness.providers.docker import DockerProvider
from harness.providers.fake import FakeProvider
from harness.providers.qemu.provider import QemuProvider
from harness.transports.api import Transport
from harness.transports.docker_exec import DockerExecTransport
from harness.transports.fake import FakeTransport
from harness.transports.unix_socket import UnixSocketTransport
from tests.builders import make_image
from tests.contributing import PROVIDER

FILE = "/tmp/hts-compat-contract"

#: Of this process alone: another one may test on the same engine.
RUN, OTHER_RUN = (f"contract-{secrets.token_hex(4)}" for _ in range(2))


@dataclass(frozen=True, kw_only=True)
class Given:
    """A provider, the way into its guests, and how a guest is ended behind its lease's back."""

    provider: Provider
    image: Image
    connect: Callable[[Endpoint], Transport]
    end: Callable[[Endpoint], None]


REAL = [pytest.param(name, marks=pytest.mark.guest) for name in ("docker", "qemu", "qemu without spares")]


@pytest.fixture(params=["fake", PROVIDER, *REAL])
def given(request: pytest.FixtureRequest) -> Iterator[Given]:
    if request.param == "fake":
        fake = FakeProvider()

        def end(endpoint: Endpoint) -> None:
            fake.machines[endpoint.address].ended = "it was ended"

        yield Given(
            provider=fake, image=make_image(), connect=lambda e: FakeTransport(fake.machines[e.address]), end=end
        )
        return
    if request.param == PROVIDER:
        request.getfixturevalue("example_plug_ins")
        kit = kit_of(PROVIDER)

        def end_machine(endpoint: Endpoint) -> None:
            kit.provider.machines[endpoint.address].ended = "it was ended"  # type: ignore[attr-defined]

        image = make_image(reference="memory")
        yield Given(provider=kit.provider, image=image, connect=kit.connect, end=end_machine)
        return
    if request.param.startswith("qemu"):
        qemu = QemuProvider(spares=request.param == "qemu")
        yield Given(
            provider=qemu,
            image=request.getfixturevalue("vm_image"),
            connect=lambda e: UnixSocketTransport(e.address),
            end=lambda e: kill_machine_of(e.address),
        )
        qemu.close()
        qemu.sweep(RUN)
        qemu.sweep(OTHER_RUN)
        return
    docker: DockerProvider = request.getfixturevalue("docker_provider")
    yield Given(
        provider=docker,
        image=request.getfixturevalue("reference_image"),
        connect=lambda e: DockerExecTransport(docker.client, e.address),
        end=lambda e: docker.client.containers.get(e.address).kill(),
    )
    docker.sweep(RUN)
    docker.sweep(OTHER_RUN)


def kill_machine_of(socket: str) -> None:
    """Kill the virtual machine that hands out a socket, as another person on the host could."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"path={socket},".encode() in line.read_bytes():
                os.kill(int(line.parent.name), signal.SIGKILL)


class Leaving(ExitStack):
    """Leases guests and gives none back until the test is over, as a killed run would."""

    def lease(self, given: Given, name: str, *, run_id: str = RUN) -> Lease:
        deadline = Deadline.after(60)
        return self.enter_context(given.provider.lease(given.image, run_id=run_id, name=name, deadline=deadline))


def test_a_check_says_what_is_there_and_how_to_repair_what_is_not(given: Given) -> None:
    found = given.provider.check()
    assert found
    assert all(f.detail for f in found)
    assert all(f.ok or f.fix for f in found)


def test_a_guest_is_pristine_ours_and_gone_with_its_lease(given: Given) -> None:
    endpoints = []
    for name in ("first", "second"):
        deadline = Deadline.after(60)
        with given.provider.lease(given.image, run_id=RUN, name=name, deadline=deadline) as lease:
            assert lease.lost() is None
            endpoints.append(lease.endpoint)
            transport = given.connect(lease.endpoint)
            with pytest.raises(FileNotFoundError):
                transport.pull(FILE, deadline=deadline)
            transport.push(b"used", FILE, deadline=deadline)
            assert transport.pull(FILE, deadline=deadline) == (b"used", False)
            transport.close()
        lost = lease.lost()
        assert lost is not None
        assert not lost.crashed
        with pytest.raises(GuestUnreachable):
            given.connect(lease.endpoint)
    assert endpoints[0] != endpoints[1]


def test_a_guest_is_gone_after_an_error_inside_its_lease(given: Given) -> None:
    found: list[Endpoint] = []

    def fail_inside() -> None:
        with given.provider.lease(given.image, run_id=RUN, name="e", deadline=Deadline.after(60)) as lease:
            found.append(lease.endpoint)
            msg = "inside"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    with pytest.raises(GuestUnreachable):
        given.connect(found[0])


def test_a_guest_that_is_ended_from_outside_is_lost_and_did_not_crash(given: Given) -> None:
    with given.provider.lease(given.image, run_id=RUN, name="k", deadline=Deadline.after(60)) as lease:
        given.end(lease.endpoint)
        lost = lease.lost()
    assert lost is not None
    assert lost.summary
    assert not lost.crashed


def test_an_image_that_is_missing_is_told_with_what_to_do(given: Given) -> None:
    image = given.image.model_copy(update={"reference": "hts-compat/nowhere:missing"})
    with (
        pytest.raises(LabError, match="no image") as told,
        given.provider.lease(image, run_id=RUN, name="m", deadline=Deadline.after(60)),
    ):
        pass
    assert told.value.hint


def test_a_sweep_ends_what_one_run_left_and_nothing_else(given: Given) -> None:
    with Leaving() as leaving:
        left = [leaving.lease(given, "a"), leaving.lease(given, "b")]
        other = leaving.lease(given, "c", run_id=OTHER_RUN)
        assert given.provider.sweep(RUN) == 2
        assert [lease.lost() is not None for lease in left] == [True, True]
        assert other.lost() is None
        assert given.provider.sweep(RUN) == 0
        assert given.provider.sweep(OTHER_RUN) == 1


@pytest.mark.guest
def test_a_container_that_ends_by_itself_crashed(docker_provider: DockerProvider, reference_image: Image) -> None:
    deadline = Deadline.after(60)
    with docker_provider.lease(reference_image, run_id=RUN, name="crash", deadline=deadline) as lease:
        transport = DockerExecTransport(docker_provider.client, lease.endpoint.address)
        # The session is not the first process (docker's init is); when it ends, so does the container.
        script = "for p in $(cat /proc/1/task/1/children); do kill -SEGV $p; done"
        with suppress(GuestUnreachable):  # the container may be gone before the answer is here
            transport.run(["/bin/sh", "-c", script], deadline=deadline)
        for _ in deadline.sooner(10).poll(0.1):
            if lease.lost() is not None:
                break
        lost = lease.lost()
        transport.close()
    assert lost is not None
    assert lost.crashed
