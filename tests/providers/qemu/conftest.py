"""Folders and programs of a machine that has virtual machines, all of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.providers.image_files import ImageFiles
from harness.providers.qemu import tools
from tests.providers.qemu.small_templates import VERSION


@pytest.fixture
def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A QEMU that says a version, and does nothing else; give the folder that is all of PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (programs / name).write_text(f"#!/bin/sh\necho '{VERSION}'\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    tools.qemu_version.cache_clear()
    yield programs
    tools.qemu_version.cache_clear()


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which layers are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "hts-compat" / "qemu"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def definition(tmp_path: Path) -> ImageFiles:
    """A definition of a virtual machine, like another one."""
    shared, own = tmp_path / "vm_images" / "reference", tmp_path / "vm_images" / "reference-vm"
    for path, text in {
        shared / "Dockerfile": "FROM x",
        shared / "image.yaml": "name: reference",
        shared / "packages.txt": "wine\n",
        shared / "prepare.sh": "true",
        shared / "prefix.reg": "REGEDIT4",
        shared / "guest" / "agent.py": "pass",
        own / "image.yaml": "name: reference-vm",
        own / "packages.txt": "kmod\n",
        own / "first_boot.py": "pass",
        tmp_path / "vm_images" / "guest_tools" / "winview.c": "int main;",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ImageFiles(folder=own, like=shared)
