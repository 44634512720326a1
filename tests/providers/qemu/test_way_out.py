"""Which port of a virtual machine carries its way out, and what is said when none can."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.errors import GuestUnreachable
from harness.providers.api import Endpoint
from harness.providers.qemu.machine import GUEST_AGENT_PORT, SSH_PORT
from harness.providers.qemu.way_out import carry, free_port
from harness.transports.api import CommandResult
from harness.transports.fake import PROGRAMS, FakeTransport
from harness.transports.ssh import SshAddress
from tests.fake_lab import guarded_machine


def test_the_way_out_takes_no_port_that_the_way_in_uses(tmp_path: Path) -> None:
    ssh = SshAddress(at=str(tmp_path / "ssh"), host_key="ssh-ed25519 AAAA", user="root", key_file="key")
    for endpoint, name, port in (
        (Endpoint(transport="unix_socket", address=str(tmp_path / "agent")), "ssh", SSH_PORT),
        (Endpoint(transport="qga", address=str(tmp_path / "qga")), "ssh", SSH_PORT),
        (Endpoint(transport="ssh", address=ssh.model_dump_json()), "qga", GUEST_AGENT_PORT),
    ):
        assert free_port(endpoint) == (tmp_path / name, port)


def said(monkeypatch: pytest.MonkeyPatch, *results: CommandResult) -> FakeTransport:
    left = list(results)
    monkeypatch.setitem(PROGRAMS, "/bin/sh", lambda _called: left.pop(0))
    return FakeTransport(guarded_machine("guest"))


def test_a_machine_without_such_a_port_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = said(monkeypatch, CommandResult(exit_code=1, stderr=b"no port"))
    endpoint = Endpoint(transport="unix_socket", address=str(tmp_path / "agent"))
    with pytest.raises(GuestUnreachable, match="no port for its way out"):
        carry(endpoint, ["program"], transport=transport, deadline=Deadline.after(5))


def test_a_socket_at_which_nobody_listens_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = said(monkeypatch, CommandResult(exit_code=0, stdout=b"/dev/vport0p3\n"))
    endpoint = Endpoint(transport="unix_socket", address=str(tmp_path / "agent"))
    with pytest.raises(GuestUnreachable, match="does not answer"):
        carry(endpoint, ["program"], transport=transport, deadline=Deadline.after(5))


def test_a_part_that_does_not_start_leaves_nobody_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = CommandResult(exit_code=0, stdout=b"/dev/vport0p3\n")
    transport = said(monkeypatch, found, CommandResult(exit_code=2, stderr=b"cannot open"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ssh"))
        listener.listen()
        endpoint = Endpoint(transport="unix_socket", address=str(tmp_path / "agent"))
        with pytest.raises(GuestUnreachable, match="could not be started"):
            carry(endpoint, ["program"], transport=transport, deadline=Deadline.after(5))
        connected, _ = listener.accept()
        with connected:
            assert connected.recv(1) == b""
