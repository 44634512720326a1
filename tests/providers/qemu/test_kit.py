"""A machine without QEMU has no virtual machines, and says what would give it some; it still reads its suites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.providers.qemu import tools
from harness.providers.qemu.kit import QemuKit
from harness.rig import ROOT

FOLDER = ROOT / "vm_images" / "reference-vm"
LIKE = ROOT / "vm_images" / "reference"


@pytest.fixture
def no_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    tools.qemu_version.cache_clear()
    yield
    tools.qemu_version.cache_clear()


@pytest.mark.usefixtures("no_qemu")
def test_without_qemu_no_template_is_found_and_the_reason_names_the_set_up() -> None:
    assert QemuKit().find(FOLDER, like=LIKE) is None
    why = QemuKit().why_missing(FOLDER, like=LIKE)
    assert "'qemu-system-x86_64' is not installed" in why
    assert "make setup" in why


@pytest.mark.usefixtures("fake_qemu", "layers")
def test_without_a_template_the_reason_names_the_build() -> None:
    assert QemuKit().find(FOLDER, like=LIKE) is None
    assert "hts-compat image build reference-vm" in QemuKit().why_missing(FOLDER, like=LIKE)
