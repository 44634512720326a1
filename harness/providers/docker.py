"""Driver. Guests that are containers: no network but their own loopback, few capabilities, gone with their lease."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.types import LogConfig

from harness.deadline import Deadline
from harness.errors import HostDown, LabError
from harness.image import DEFAULT_TRANSPORT, Image
from harness.providers.api import Endpoint, Fitness, Loss

RUN_LABEL = "org.hts-compat.run"
OWNER_LABEL = "org.hts-compat.owner-pid"

#: What the reference guest's products need, and nothing more. ClamAV's on-access scanner and fapolicyd answer fanotify
#: permission events (SYS_ADMIN), read other users' files (DAC_OVERRIDE) and look at the asking process (SYS_PTRACE).
#: Source: capabilities(7), fanotify(7); tried one by one on the reference guest.
CAPABILITIES = (
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "AUDIT_WRITE",
    "SYS_PTRACE",
)
PIDS_LIMIT = 1024
ENGINE_TIMEOUT_S = 60

#: What docker-py raises: its own errors, and its HTTP client's about a connection (those of requests are OSErrors).
ENGINE_ERRORS = (DockerException, OSError)

#: Where docker-py looks when nothing is said. Source: docker.constants.DEFAULT_UNIX_SOCKET of docker-py 7.1.
DEFAULT_HOST = "unix:///var/run/docker.sock"

#: 128 + SIGKILL and 128 + SIGTERM: what a restart of the engine, or a person, leaves behind.
KILLED_FROM_OUTSIDE = frozenset({137, 143})


@dataclass(frozen=True, slots=True)
class _DockerLease:
    container: Container

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(transport="docker_exec", address=str(self.container.id))

    def lost(self) -> Loss | None:
        try:
            self.container.reload()
        except NotFound:
            return Loss(summary="the container is gone", crashed=False)
        except ENGINE_ERRORS as error:
            return Loss(summary=f"the container engine does not answer ({type(error).__name__})", crashed=False)
        state = self.container.attrs.get("State", {})
        if state.get("Running"):
            return None
        code, out_of_memory = state.get("ExitCode"), bool(state.get("OOMKilled"))
        memory = ", out of memory" if out_of_memory else ""
        return Loss(
            summary=f"the container ended with exit code {code}{memory}",
            crashed=out_of_memory or code not in KILLED_FROM_OUTSIDE,
        )


class DockerProvider:
    """Leases containers of local images. An image is never pulled: what is tested is what was built and identified."""

    name = "docker"

    def __init__(self) -> None:
        self._client = connect()

    @property
    def client(self) -> docker.DockerClient:
        """Give the engine's client, for the transport that reaches into containers."""
        return self._client

    def check(self) -> tuple[Fitness, ...]:
        """Say which engine answers."""
        version = self._client.version()
        return (Fitness(name="docker engine", ok=True, detail=str(version.get("Version"))),)

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[_DockerLease]:
        """Start one container; see ``Provider.lease``."""
        del deadline  # the engine's own timeout bounds each call; a start takes well under a second
        if image.transport != DEFAULT_TRANSPORT:
            msg = f"There is no way '{image.transport}' into containers."
            raise LabError(msg, hint=f"The image's 'transport' is '{DEFAULT_TRANSPORT}'.")
        safe = re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:100]
        try:
            found = self._client.images.get(image.reference)
        except ImageNotFound as error:
            msg = f"There is no image '{image.reference}'."
            raise LabError(msg, hint=f"Run 'hts-compat image build {image.name}'.") from error
        except ENGINE_ERRORS as error:
            raise _engine_trouble(error) from error
        try:
            try:
                container = self._client.containers.create(
                    str(found.id),
                    name=f"hts-{safe}",
                    hostname="hts-guest",
                    init=True,
                    network_mode="none",
                    cap_drop=["ALL"],
                    cap_add=list(CAPABILITIES),
                    mem_limit=f"{image.memory_mib}m",
                    pids_limit=PIDS_LIMIT,
                    labels={RUN_LABEL: run_id, OWNER_LABEL: str(os.getpid())},
                    log_config=LogConfig(type="none"),
                )
                container.start()
            except ENGINE_ERRORS as error:
                raise _engine_trouble(error) from error
            yield _DockerLease(container)
        finally:
            # By name: an engine that answered too late may have made it all the same.
            with contextlib.suppress(*ENGINE_ERRORS):
                self._client.containers.get(f"hts-{safe}").remove(force=True, v=True)

    def sweep(self, run_id: str | None) -> int:
        """Delete containers that carry our label and whose harness process is gone (or that belong to ``run_id``)."""
        label = RUN_LABEL if run_id is None else f"{RUN_LABEL}={run_id}"
        swept = 0
        try:
            found = self._client.containers.list(all=True, filters={"label": label})
        except ENGINE_ERRORS as error:
            raise _engine_trouble(error) from error
        for container in found:
            owner = container.labels.get(OWNER_LABEL, "")
            if run_id is None and owner.isdigit() and _alive(int(owner)):
                continue
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)
                swept += 1
        return swept


def _engine_trouble(error: Exception) -> LabError:
    """Tell an engine that refuses something from one that does not answer."""
    hint = "Run 'hts-compat doctor'."
    if isinstance(error, OSError) and not isinstance(error, APIError):
        return HostDown("The Docker engine does not answer.", detail=str(error), hint=hint)
    return LabError("The Docker engine could not start a guest.", detail=str(error), hint=hint)


def connect() -> docker.DockerClient:
    """Connect to the engine that the environment names.

    Raises:
        LabError: None answers, or this user may not use it.
    """
    try:
        _knock(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
        client = docker.from_env(timeout=ENGINE_TIMEOUT_S)
        client.ping()
    except (DockerException, OSError) as error:
        denied = "Permission denied" in str(error)
        msg = "This user may not use the Docker engine." if denied else "No Docker engine answers."
        hint = "Add the user to the group 'docker', or use sudo." if denied else "Run 'make setup'."
        raise LabError(msg, detail=str(error), hint=hint) from error
    return client


def _knock(host: str) -> None:
    """Find out whether somebody listens on a local socket; docker-py leaves its own socket open when nobody does."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(ENGINE_TIMEOUT_S)
            probe.connect(host.removeprefix("unix://"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
