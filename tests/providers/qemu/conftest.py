"""A definition of a virtual machine, of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.providers.image_files import ImageFiles


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
