"""A clone must be the machine that its template was; only its files, its private memory and its start may differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.providers.qemu.machine import DISC_DRIVE, QCODES, Hardware, Places, clicked, command_line, fingerprint
from harness.scenario import KEYS

HARDWARE = Hardware(accelerator="tcg", memory_mib=1024, cpus=2, kernel=Path("/t/vmlinuz"), initrd=Path("/t/initrd"))
PLACES = Places(
    memory="/proc/7/fd/3",
    shared=False,
    disk=Path("/run/vm-1/disk.qcow2"),
    agent_socket=Path("/run/vm-1/agent"),
    monitor_socket=Path("/run/vm-1/monitor"),
    serial_log=Path("/run/vm-1/serial.log"),
)


def test_a_clone_differs_from_its_template_in_files_private_memory_and_start_alone() -> None:
    template = command_line(HARDWARE, replace(PLACES, shared=True), incoming=False)
    clone = command_line(HARDWARE, PLACES, incoming=True)
    assert clone[len(template) :] == ["-incoming", "defer", "-S"]
    differing = [(a, b) for a, b in zip(template, clone, strict=False) if a != b]
    assert [(a.replace("share=on", "share=off"), b) for a, b in differing] == [(b, b) for _, b in differing]
    assert len(differing) == 1


def test_a_guest_has_no_network_device_and_does_not_start_anew_by_itself() -> None:
    line = command_line(HARDWARE, PLACES, incoming=True)
    assert not [word for word in line if "net" in word and "init=" not in word]
    assert "-nodefaults" in line
    assert "-no-reboot" in line


@pytest.mark.parametrize(
    "other",
    [
        replace(HARDWARE, memory_mib=2048),
        replace(HARDWARE, cpus=1),
        replace(HARDWARE, accelerator="kvm"),
    ],
    ids=["memory", "processors", "accelerator"],
)
def test_another_machine_has_another_fingerprint(other: Hardware) -> None:
    assert fingerprint(other, qemu_version="7.2") != fingerprint(HARDWARE, qemu_version="7.2")


def test_another_qemu_has_another_fingerprint_and_another_folder_has_not() -> None:
    assert fingerprint(HARDWARE, qemu_version="7.2") != fingerprint(HARDWARE, qemu_version="9.0")
    moved = replace(HARDWARE, kernel=Path("/elsewhere/vmlinuz"), initrd=Path("/elsewhere/initrd"))
    assert fingerprint(moved, qemu_version="7.2") == fingerprint(HARDWARE, qemu_version="7.2")


def test_a_guest_has_a_display_card_and_a_tablet_and_shows_them_to_nobody_by_itself() -> None:
    line = command_line(HARDWARE, PLACES, incoming=True)
    devices = [line[i + 1] for i, word in enumerate(line) if word == "-device"]
    assert "VGA,id=screen,vgamem_mb=4,xres=1024,yres=768" in devices
    assert "virtio-tablet-pci,id=pointer" in devices
    assert line[line.index("-display") + 1] == "none"
    assert line[line.index("-vnc") + 1] == "none,password=on"


def test_a_guest_has_an_empty_drive_and_tells_of_its_panic() -> None:
    line = command_line(HARDWARE, PLACES, incoming=True)
    devices = [line[i + 1] for i, word in enumerate(line) if word == "-device"]
    assert f"scsi-cd,bus=scsi.0,id={DISC_DRIVE}" in devices
    assert "pvpanic-pci" in devices
    assert [word.split(",")[1] for word in line if word.startswith("if=none")] == ["id=disk"], "no disc lies in it"


@pytest.mark.parametrize(
    ("x", "y", "there"), [(0, 0, (0, 0)), (1023, 767, (0x7FFF, 0x7FFF)), (4095, 4095, (0x7FFF, 0x7FFF))]
)
def test_a_click_goes_to_its_place_on_the_tablet_and_never_beyond(x: int, y: int, there: tuple[int, int]) -> None:
    move, *buttons = clicked(x, y)
    assert [event["data"] for event in move] == [{"axis": a, "value": v} for a, v in zip("xy", there, strict=True)]
    assert [event["data"] for (event,) in buttons] == [{"button": "left", "down": d} for d in (True, False)]


def test_every_key_of_a_scenario_has_a_name_of_qemu() -> None:
    """The names are those of QKeyCode in QEMU 7.2, of the keys that a scenario may press."""
    named = {*"abcdefghijklmnopqrstuvwxyz0123456789", *(f"f{n}" for n in range(1, 13)), "ret", "esc", "tab", "spc"}
    named |= {"backspace", "delete", "insert", "home", "end", "pgup", "pgdn", "up", "down", "left", "right"}
    named |= {"alt", "ctrl", "shift", "meta_l", "menu"}
    assert {QCODES.get(key, key) for key in KEYS} == named


def test_a_comma_in_a_path_is_no_option_of_its_own() -> None:
    line = command_line(HARDWARE, replace(PLACES, disk=Path("/a,readonly=on/d.qcow2")), incoming=False)
    assert "if=none,id=disk,file=/a,,readonly=on/d.qcow2,format=qcow2,cache=unsafe,discard=unmap" in line
