"""The ways into a virtual machine by name: what an endpoint holds, and where our key of an ssh server comes to lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable, LabError
from harness.fake_guest import FakeMachine
from harness.providers.api import Endpoint
from harness.providers.qemu import ways
from harness.transports.fake import FakeTransport
from harness.transports.ssh import address_in


def soon() -> Deadline:
    return Deadline.after(5)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    """Give a simulated guest that answers on the agent's port."""
    machine = FakeMachine("guest")
    monkeypatch.setattr(ways, "UnixSocketTransport", lambda _path: FakeTransport(machine))
    return machine


def test_an_endpoint_is_the_name_of_a_way_and_a_socket_beside_the_agent_s(tmp_path: Path) -> None:
    agent = tmp_path / "agent"
    assert ways.endpoint_of("agent", agent, deadline=soon()) == Endpoint(transport="unix_socket", address=str(agent))
    assert ways.endpoint_of("qga", agent, deadline=soon()) == Endpoint(transport="qga", address=str(tmp_path / "qga"))


def test_an_ssh_server_s_keys_come_from_the_guest_and_ours_is_nobody_else_s_to_read(
    tmp_path: Path, guest: FakeMachine
) -> None:
    guest.files |= {"/etc/hts-compat/ssh/host.pub": b"ssh-ed25519 QUFB\n", "/etc/hts-compat/ssh/own": b"the key\n"}
    endpoint = ways.endpoint_of("ssh", tmp_path / "agent", deadline=soon())
    address = address_in(endpoint.address)
    assert (address.at, address.host_key, address.user) == (str(tmp_path / "ssh"), "ssh-ed25519 QUFB", "root")
    key = Path(address.key_file)
    assert (key.parent, key.read_bytes(), key.stat().st_mode & 0o777) == (tmp_path, b"the key\n", 0o600)
    assert "the key" not in endpoint.address


def test_a_guest_without_an_ssh_server_says_what_to_do(tmp_path: Path, guest: FakeMachine) -> None:
    assert guest.files == {}
    with pytest.raises(LabError, match="no ssh server") as told:
        ways.endpoint_of("ssh", tmp_path / "agent", deadline=soon())
    assert "transport" in told.value.hint


def test_a_way_that_there_is_not_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    for ask in (
        lambda: ways.endpoint_of("winrm", tmp_path / "agent", deadline=soon()),
        lambda: ways.connect(Endpoint(transport="winrm", address="")),
    ):
        with pytest.raises(LabError, match="no way 'winrm'") as told:
            ask()
        assert "agent, qga, ssh" in told.value.hint


@pytest.mark.parametrize("transport", ["unix_socket", "qga"])
def test_a_machine_that_is_gone_cannot_be_reached(transport: str, tmp_path: Path) -> None:
    with pytest.raises(GuestUnreachable):
        ways.connect(Endpoint(transport=transport, address=str(tmp_path / "s")))
