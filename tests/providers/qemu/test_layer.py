"""A layer is whole or not there, whoever is killed or fails in its making; two that want it make it once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.providers.build_command import ImageBuildFailed
from harness.providers.qemu import layer

HOLDS = """
import sys
from pathlib import Path
from harness.providers.qemu import layer
with layer.locked(Path(sys.argv[1]), report=print), layer.begun(Path(sys.argv[1])) as begun:
    (begun / "half").write_text("made")
    print("begun", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "layers" / "reference-vm-0123"


def quiet(_line: str) -> None:
    """Report nothing."""


def make(folder: Path, said: list[str], made: list[str]) -> None:
    """Make the layer unless it is there, as every builder does."""
    with layer.locked(folder, report=said.append):
        if not folder.is_dir():
            with layer.begun(folder) as begun:
                (begun / "file").write_text("whole")
                made.append("made")


def make_by(folder: Path, write: Callable[[Path], None]) -> None:
    with layer.locked(folder, report=quiet), layer.begun(folder) as begun:
        write(begun)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()} - {layer.lock_of(folder).name}


def test_a_layer_is_there_when_its_making_ended_well(folder: Path) -> None:
    make(folder, [], [])
    assert (folder / "file").read_text() == "whole"
    assert names(folder) == {folder.name}


def test_a_making_that_failed_leaves_nothing(folder: Path) -> None:
    def stopped(begun: Path) -> None:
        (begun / "half").write_text("made")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_by(folder, stopped)
    assert names(folder) == set()


def test_a_layer_that_is_made_again_takes_the_place_of_the_old_one(folder: Path) -> None:
    make(folder, [], [])
    (folder / "old").write_text("old")
    with layer.locked(folder, report=quiet), layer.begun(folder) as begun:
        (begun / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_a_full_disk_leaves_nothing_and_says_where_room_is_needed(folder: Path) -> None:
    def too_much(begun: Path) -> None:
        (begun / "half").write_text("made")
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"one byte more")

    with pytest.raises(ImageBuildFailed, match="The disk is full") as caught:
        make_by(folder, too_much)
    assert names(folder) == set()
    assert str(folder.parent) in caught.value.hint
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_of_two_builders_one_makes_it_and_the_other_waits_and_says_so(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "begun\n"
        said: list[str] = []
        made: list[str] = []
        second = threading.Thread(target=make, args=(folder, said, made))
        second.start()
        second.join(0.05)
        assert second.is_alive()
        assert not folder.exists()
        first.stdin.write("\n")
        first.stdin.close()
        second.join(10)
        assert not second.is_alive()
    assert made == []
    assert "another process makes it" in said[0]
    assert [path.name for path in folder.iterdir()] == ["half"]


def test_what_a_killed_builder_left_is_gone_with_the_next_one(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        first.kill()
        first.wait()
    assert len(names(folder)) == 1
    made: list[str] = []
    make(folder, [], made)
    assert made == ["made"]
    assert names(folder) == {folder.name}
    assert [path.name for path in folder.iterdir()] == ["file"]


REFUSED = """
import sys
from pathlib import Path
from harness.errors import LabError
from harness.providers.qemu import layer
folder = Path(sys.argv[1]) / "reference-vm-0123"
try:
    with layer.locked(folder, report=print), layer.begun(folder) as begun:
        (begun / "half").write_text("made")
        raise LabError("The state of the virtual machine could not be written or restored.")
except LabError as error:
    print(error.summary, error.detail, error.hint, [path.name for path in folder.parent.glob("*reference*begun")])
"""


def test_a_machine_that_only_says_that_it_could_not_write_is_asked_about_the_disk(tmp_path: Path) -> None:
    """On a disk of 1 MiB: less than that is never left by a build that failed of itself."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = f'mount -t tmpfs -o size=1m tmpfs "{small}" && exec "$@"'
    argv = ["unshare", "-rm", "sh", "-c", mounted, "small", sys.executable, "-c", REFUSED, str(small)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=25)
    if done.returncode != 0 and "Traceback" not in done.stderr:
        pytest.skip(f"no disk of a test's own can be made here: {done.stderr.strip()}")
    assert "The disk is full" in done.stdout, done.stderr
    assert "could not be written or restored" in done.stdout
    assert "XDG_CACHE_HOME" in done.stdout
    assert done.stdout.strip().endswith("[]"), "nothing half made stays"


def test_a_build_that_fails_of_itself_is_told_as_it_is(folder: Path) -> None:
    def refused(_begun: Path) -> None:
        raise ImageBuildFailed("The guest's desktop did not come up.")

    with pytest.raises(ImageBuildFailed, match="desktop did not come up"):
        make_by(folder, refused)
