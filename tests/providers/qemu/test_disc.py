"""A disc holds one file, is made once for each content, and is whole or made again; one that is read stays."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pycdlib import PyCdlib

from harness.deadline import Deadline
from harness.errors import InputError, LabError
from harness.providers.build_command import ImageBuildFailed
from harness.providers.qemu import disc, layer
from harness.transports.payload import Verified
from tests.builders import sha256_of

BUILD = bytes(range(256)) * 1000 + "끝".encode()
SHA256 = sha256_of(BUILD)


class Counted:
    """A payload that says how often it was read, in pieces that fit into nothing."""

    def __init__(self, content: bytes = BUILD) -> None:
        self.content = content
        self.read = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def pieces(self) -> Iterator[bytes]:
        self.read += 1
        for at in range(0, len(self.content), 9973):
            yield self.content[at : at + 9973]


def soon() -> Deadline:
    return Deadline.after(30)


def folders(layers: Path) -> list[str]:
    return sorted(path.name for path in layers.iterdir() if path.is_dir())


def on_the_disc(image: Path) -> bytes:
    """Read the file as Windows does, by its Joliet name."""
    opened, found = PyCdlib(), io.BytesIO()
    opened.open(str(image))
    assert [child.file_identifier() for child in opened.list_children(joliet_path="/")][2:] == [
        "build.bin".encode("utf-16-be")
    ]
    opened.get_file_from_iso_fp(found, joliet_path="/build.bin")
    opened.close()
    return found.getvalue()


@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, len(BUILD)])
def test_a_disc_holds_the_file_and_nothing_else(size: int, tmp_path: Path) -> None:
    disc.write_image(Counted(BUILD[:size]), tmp_path / "disc.iso")
    assert on_the_disc(tmp_path / "disc.iso") == BUILD[:size]


def test_a_disc_is_made_once_for_each_content_and_nobody_may_write_to_it(layers: Path) -> None:
    content = Counted()
    for _ in range(2):
        with disc.lent(content, sha256=SHA256, deadline=soon()) as image:
            assert on_the_disc(image) == BUILD
            assert image.stat().st_mode & 0o222 == 0
    assert content.read == 1
    other = Counted(b"another build")
    with disc.lent(other, sha256=sha256_of(other.content), deadline=soon()) as image:
        assert on_the_disc(image) == b"another build"
    assert len(folders(layers)) == 2


def test_several_that_want_the_same_disc_make_it_once(layers: Path) -> None:
    content, found = Counted(), []
    together = threading.Barrier(4)

    def want() -> None:
        together.wait()
        with disc.lent(content, sha256=SHA256, deadline=soon()) as image:
            found.append(on_the_disc(image))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BUILD] * 4
    assert content.read == 1
    assert folders(layers) == [disc.folder_of(SHA256).name]


HOLDS = """
import sys
from pathlib import Path
from harness.providers.qemu import layer
with layer.locked(Path(sys.argv[1]), report=print), layer.begun(Path(sys.argv[1])) as begun:
    (begun / "disc.iso").write_text("half")
    print("begun", flush=True)
    sys.stdin.readline()
"""


def test_another_process_that_makes_it_is_waited_for_and_not_for_ever_and_its_half_is_never_used(layers: Path) -> None:
    argv = [sys.executable, "-c", HOLDS, str(disc.folder_of(SHA256))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert [other.stdout.readline() for _ in range(1)] == ["begun\n"]
        with (
            pytest.raises(LabError, match="in time"),
            disc.lent(Counted(), sha256=SHA256, deadline=Deadline.after(0.1)),
        ):
            pytest.fail("half of a disc was lent")
        other.kill()
    with disc.lent(Counted(), sha256=SHA256, deadline=soon()) as image:
        assert on_the_disc(image) == BUILD
    assert folders(layers) == [disc.folder_of(SHA256).name]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_the_lab_s_trouble_and_leaves_nothing(
    number: int, layers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_content: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(disc, "write_image", full)
        with (
            pytest.raises(ImageBuildFailed, match="disk is full") as caught,
            disc.lent(Counted(), sha256=SHA256, deadline=soon()),
        ):
            pytest.fail("half of a disc was lent")
    assert caught.value.hint
    assert folders(layers) == []
    with disc.lent(Counted(), sha256=SHA256, deadline=soon()) as image:
        assert on_the_disc(image) == BUILD


def test_a_disk_that_has_no_room_for_a_real_image_is_the_lab_s_trouble(tmp_path: Path) -> None:
    """In a process of its own, for it is a limit of the process (setrlimit(2), RLIMIT_FSIZE)."""
    script = """
import resource, signal
from harness.deadline import Deadline
from harness.providers.build_command import ImageBuildFailed
from harness.providers.qemu import disc, layer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    with disc.lent(bytes(300_000), sha256="0" * 64, deadline=Deadline.after(30)):
        pass
except ImageBuildFailed as error:
    print(error.summary, [path.name for path in layer.layers_folder().iterdir() if path.is_dir()])
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.stdout.startswith("The disk is full"), done.stderr
    assert done.stdout.endswith("[]\n")


def test_a_build_that_is_another_one_gets_no_disc(layers: Path) -> None:
    wrong = Verified(b"changed", sha256=SHA256, complaint=InputError("It was changed."))
    with pytest.raises(InputError, match="changed"), disc.lent(wrong, sha256=SHA256, deadline=soon()):
        pytest.fail("it was lent")
    assert folders(layers) == []


def cut(image: Path) -> None:
    os.truncate(image, image.stat().st_size // 2)


def flip(image: Path) -> None:
    with image.open("r+b") as stream:
        stream.seek(image.stat().st_size // 2)
        stream.write(b"\xff\x00")


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink], ids=["cut", "changed", "gone"])
def test_a_disc_that_is_not_what_was_made_is_made_again(harm: object, layers: Path) -> None:
    content = Counted()
    with disc.lent(content, sha256=SHA256, deadline=soon()) as image:
        pass
    image.chmod(0o644)
    assert callable(harm)
    harm(image)
    with disc.lent(content, sha256=SHA256, deadline=soon()) as image:
        assert on_the_disc(image) == BUILD
    assert content.read == 2
    assert folders(layers) == [disc.folder_of(SHA256).name]


@pytest.mark.parametrize("about", ["", "{}", '{"content": "0", "size_bytes": 1, "files": {}}'])
def test_a_disc_that_does_not_say_what_it_is_is_made_again(about: str, layers: Path) -> None:
    with disc.lent(BUILD, sha256=SHA256, deadline=soon()) as image:
        pass
    (image.parent / disc.ABOUT).write_text(about)
    with disc.lent(BUILD, sha256=SHA256, deadline=soon()) as image:
        assert on_the_disc(image) == BUILD
    assert len(folders(layers)) == 1


def test_discs_that_were_not_used_for_longest_go_and_one_that_is_used_stays(
    layers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = [bytes([number]) * 100_000 for number in range(4)]
    with disc.lent(builds[0], sha256=sha256_of(builds[0]), deadline=soon()) as image:
        size = image.stat().st_size
    monkeypatch.setattr(disc, "KEPT_BYTES", 2 * size)
    with ExitStack() as stack:
        reading = stack.enter_context(disc.lent(builds[0], sha256=sha256_of(builds[0]), deadline=soon()))
        for number, build in enumerate(builds[1:], 1):
            with disc.lent(build, sha256=sha256_of(build), deadline=soon()) as image:
                os.utime(image.parent / disc.ABOUT, (number + 10**9, number + 10**9))
            os.utime(reading.parent / disc.ABOUT, (1, 1))
        assert reading.exists()
        assert folders(layers) == sorted(disc.folder_of(sha256_of(builds[n])).name for n in (0, 2, 3))
    with disc.lent(builds[3], sha256=sha256_of(builds[3]), deadline=soon()):
        pass
    assert folders(layers) == sorted(disc.folder_of(sha256_of(builds[n])).name for n in (2, 3))


def test_a_disc_that_is_lent_is_not_deleted(layers: Path) -> None:
    del layers
    with disc.lent(BUILD, sha256=SHA256, deadline=soon()) as image:
        assert not layer.delete(image.parent, image.parent / disc.ABOUT)
        assert image.exists()
    assert layer.delete(image.parent, image.parent / disc.ABOUT)
    assert not image.parent.exists()


def test_a_disc_says_the_digest_of_its_image(layers: Path) -> None:
    del layers
    with disc.lent(BUILD, sha256=SHA256, deadline=soon()) as image:
        about = json.loads((image.parent / disc.ABOUT).read_bytes())
        assert about["files"] == {disc.IMAGE: hashlib.sha256(image.read_bytes()).hexdigest()}
        assert (about["content"], about["size_bytes"]) == (SHA256, len(BUILD))
