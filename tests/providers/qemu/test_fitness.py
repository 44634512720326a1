"""What virtual machines find here: programs, memory, and which accelerator a guest really started under."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import LabError
from harness.providers.api import Fitness
from harness.providers.qemu import fitness
from harness.providers.qemu.fitness import accelerator, check
from harness.providers.qemu.template import About, write_about


class Tries:
    """Starts guests in no time, and counts them."""

    def __init__(self, name: str = "tcg") -> None:
        self.name = name
        self.made = 0

    def __call__(self, kernel: Path) -> tuple[str, str]:
        self.made += 1
        return self.name, f"seen with {kernel.name}"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a kernel, on a machine of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "hts-compat" / "qemu").mkdir(parents=True)
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"kernel")
    return path


def seen(kernel: Path, tries: Tries, version: str = "7.2") -> tuple[str, str]:
    found = accelerator(kernel, try_it=tries, version=lambda: version)
    return found.name, found.why


def test_an_accelerator_is_tried_once_and_remembered_with_the_reason(kernel: Path) -> None:
    tries = Tries()
    assert seen(kernel, tries) == seen(kernel, tries) == ("tcg", "seen with vmlinuz")
    assert tries.made == 1


@pytest.mark.parametrize("change", ["kernel", "qemu", "boot", "note"])
def test_what_it_depends_on_has_changed_and_it_is_tried_again(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    tries = Tries()
    seen(kernel, tries)
    tries.name = "kvm"
    match change:
        case "kernel":
            kernel.write_bytes(b"another kernel")
        case "boot":
            (tmp_path / "boot").write_text("another")
            monkeypatch.setattr(fitness, "BOOT_ID", tmp_path / "boot")
        case "note":
            (tmp_path / "hts-compat" / "qemu" / fitness.NOTE).write_text("{")
        case _:
            pass
    assert seen(kernel, tries, "8.0" if change == "qemu" else "7.2")[0] == "kvm"


def test_a_cache_that_cannot_be_written_costs_another_try_and_no_answer(kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "hts-compat" / "qemu").rmdir()
    tries = Tries("kvm")
    assert [seen(kernel, tries)[0] for _ in range(2)] == ["kvm", "kvm"]
    assert tries.made == 2


def test_a_kernel_that_is_gone_is_trouble_and_starts_nothing(kernel: Path) -> None:
    kernel.unlink()
    tries = Tries()
    with pytest.raises(LabError, match="is not there"):
        seen(kernel, tries)
    assert tries.made == 0


# --- all of it --------------------------------------------------------------------------------------------------------


def programs(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        (folder / name).write_text('#!/bin/sh\necho "QEMU emulator version 7.2"\n')
        (folder / name).chmod(0o755)


def found(available_mib: int = 10_000) -> dict[str, Fitness]:
    return {fit.name: fit for fit in check(private_mib=400, reserve_mib=500, available_mib=available_mib)}


def test_each_program_is_named_with_its_package_and_building_alone_needs_some(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "SBIN", "/nonexistent")
    programs(tmp_path / "bin", "qemu-img", "setpriv")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    fits = found()
    assert (fits["qemu-system-x86_64"].ok, fits["qemu-system-x86_64"].needed) == (False, True)
    assert fits["qemu-system-x86_64"].fix == "apt-get install qemu-system-x86"
    assert (fits["fakechroot"].ok, fits["fakechroot"].needed) == (False, False)
    assert "only building" in fits["fakechroot"].detail
    assert "accelerator" not in fits, "without QEMU there is none to look for"


@pytest.mark.parametrize(("available", "guests"), [(10_000, 23), (1_300, 2), (900, 1), (899, 0), (10, 0)])
def test_memory_is_told_as_guests_at_once(kernel: Path, available: int, guests: int) -> None:
    memory = found(available)["memory for guests"]
    assert (memory.ok, memory.needed) == (guests > 0, True)
    assert f"{guests} guests at once" in memory.detail


def frozen(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "hts-compat" / "qemu" / f"vm-{kind}"
    folder.mkdir()
    (folder / "vmlinuz").write_bytes(b"kernel")
    files = {"vmlinuz": "0" * 64}
    texts = dict.fromkeys(("name", "recipe", "disk", "fingerprint", "qemu_version", "nonce"), "x")
    sizes = {"memory_mib": 8, "cpus": 1, "packages": 1}
    write_about(folder, About.model_validate({**texts, **sizes, "accelerator": kind, "files": files}))


@pytest.mark.parametrize(("kind", "usable"), [("tcg", True), ("kvm", False)])
def test_a_template_that_was_frozen_under_kvm_is_of_no_use_where_kvm_runs_nothing(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, usable: bool
) -> None:
    monkeypatch.setattr(fitness, "accelerator", lambda kernel: accelerator(kernel, try_it=Tries(), version=str))
    programs(tmp_path / "bin", "qemu-system-x86_64", "qemu-img", "setpriv")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin")
    frozen(tmp_path, kind)
    seen_here = found()["accelerator"]
    assert seen_here.ok is usable
    assert f"frozen under {kind}" in seen_here.detail


def test_without_a_template_there_is_no_kernel_to_try(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", "qemu-system-x86_64", "qemu-img", "setpriv")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert found()["accelerator"].detail.startswith("not tried")
