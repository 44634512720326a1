"""The set-up's choice of guests: containers where an engine can be had, else virtual machines, said in one sentence."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.rig import ROOT

ANSWERS, REFUSED, NONE = "exit 0", "echo permission denied >&2; exit 1", "echo no daemon >&2; exit 1"
ROOT_USER, ORDINARY = "0", "1000"

#: Found on PATH before anything real, so that nothing is installed and nothing is started.
TOOLS = (
    *("qemu-system-x86_64", "qemu-img", "mmdebstrap", "fakechroot", "fakeroot", "mke2fs"),
    *(
        "x86_64-w64-mingw32-gcc",
        "i686-w64-mingw32-gcc",
        "makensis",
        "chromium",
        "setsid",
        "systemctl",
        "dockerd",
        "sleep",
    ),
)


@dataclass(frozen=True)
class Machine:
    """A checkout with its tools, all of them scripts."""

    folder: Path

    def program(self, name: str, script: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def set_up(self, *words: str) -> tuple[int, str, list[str]]:
        """Run the set-up; give its exit code, what it said, and the images that were built, sorted."""
        done = subprocess.run(
            [str(self.folder / ".ci" / "setup.sh"), *words],
            env={"PATH": f"{self.folder / 'bin'}:{os.defpath}", "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        built = self.folder / "built"
        images = sorted(built.read_text().split()) if built.exists() else []
        return done.returncode, done.stdout + done.stderr, images


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "setup.sh", tmp_path / ".ci")
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text("")
    for name in TOOLS:
        made.program(f"bin/{name}", "exit 0")
    made.program("bin/apt-get", "exit 1")
    made.program("bin/sudo", "exit 1")
    made.program("bin/id", f'case "$1" in -u) echo {ROOT_USER} ;; *) echo somebody ;; esac')
    made.program("bin/docker", ANSWERS)
    made.program(".venv/bin/python", "exit 0")
    made.program(".venv/bin/hts-compat", f'[ "$2" = list ] || echo "$3" >> {tmp_path}/built')
    (tmp_path / ".venv" / ".stamp").write_text(hashlib.sha256(b"").hexdigest() + "  -\n")
    return made


def by(machine: Machine, *, engine: str, user: str) -> Machine:
    machine.program("bin/docker", engine)
    machine.program("bin/id", f'case "$1" in -u) echo {user} ;; *) echo somebody ;; esac')
    return machine


@pytest.mark.parametrize(
    ("host", "words", "images", "why"),
    [
        ((ANSWERS, ROOT_USER), ["auto"], ["reference"], ""),
        ((ANSWERS, ORDINARY), [], ["reference"], ""),
        ((ANSWERS, ROOT_USER), ["qemu"], ["reference-vm"], ""),
        ((ANSWERS, ROOT_USER), ["all", "--browser"], ["reference", "reference-vm"], ""),
        ((REFUSED, ORDINARY), ["auto"], ["reference-vm"], "somebody may not use it"),
        ((NONE, ORDINARY), ["auto"], ["reference-vm"], "none answers, and somebody may not start one"),
        ((NONE, ROOT_USER), ["auto"], ["reference-vm"], "it was started and did not answer within a minute"),
        ((NONE, ORDINARY), ["qemu"], ["reference-vm"], ""),
    ],
)
def test_guests_are_containers_where_an_engine_can_be_had_else_virtual_machines(
    machine: Machine, host: tuple[str, str], words: list[str], images: list[str], why: str
) -> None:
    engine, user = host
    code, said, built = by(machine, engine=engine, user=user).set_up(*words)
    assert (code, built) == (0, images), said
    assert why in said
    assert ("no Docker engine can run here" in said) is bool(why)


@pytest.mark.parametrize(
    ("engine", "user", "said"),
    [
        (REFUSED, ORDINARY, "usermod -aG docker"),
        (NONE, ORDINARY, "The Docker engine is not running"),
        (NONE, ROOT_USER, "did not start within a minute"),
    ],
)
def test_who_asks_for_containers_is_told_what_is_in_the_way(
    machine: Machine, engine: str, user: str, said: str
) -> None:
    code, told, built = by(machine, engine=engine, user=user).set_up("docker")
    assert (code, built) == (5, [])
    assert said in told


def test_a_build_that_fails_is_not_lost_behind_one_that_goes_well(machine: Machine) -> None:
    machine.program(
        ".venv/bin/hts-compat",
        f'[ "$2" = list ] && exit 0; echo "$3" >> {machine.folder}/built; [ "$3" = reference-vm ] || exit 5',
    )
    code, _, built = machine.set_up("all")
    assert (code, built) == (5, ["reference", "reference-vm"])


def test_a_word_that_is_not_known_is_wrong_use(machine: Machine) -> None:
    code, said, built = machine.set_up("dokcer")
    assert (code, built) == (2, [])
    assert "'dokcer' is not known" in said


def test_what_an_ordinary_user_lacks_is_named_with_the_command_for_root(machine: Machine) -> None:
    for name in ("fakechroot", "fakeroot"):
        (machine.folder / "bin" / name).unlink()
    code, said, built = by(machine, engine=NONE, user=ORDINARY).set_up("auto")
    missing = [name for name in ("fakechroot", "fakeroot") if shutil.which(name, path=os.defpath) is None]
    assert code == (5 if missing else 0), said
    assert all(f"apt-get install --no-install-recommends {name}" in said for name in missing)
    assert bool(built) is not bool(missing)
