"""A definition of a virtual machine of a test's own, and a template that was made from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.providers.image_files import ImageFiles
from harness.providers.qemu.template import Template
from tests.providers.qemu.small_templates import make_disk, make_template


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


@pytest.fixture
def parent(definition: ImageFiles, layers: Path, fake_qemu: Path) -> Template:
    """Give a small template, whose disk lies beside it."""
    assert layers.is_dir()
    assert fake_qemu.is_dir()
    make_disk(definition)
    return make_template(definition)
