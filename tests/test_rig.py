"""Which images and tools a machine has, and what is said of those that it does not have."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli import image as image_face
from harness.doctor import examine
from harness.errors import InputError, LabError
from harness.images import Images
from harness.machine import Machine
from harness.providers import docker_build
from harness.rig import PIECE_BYTES, ROOT, image_files, installers_of
from harness.transports.payload import Payload, pieces_of, size_of, whole
from tests.builders import make_build
from tests.providers.fake_programs import FakePrograms

NOT_TO_BE_HAD = (
    "The image 'reference-32' could not be built: the i386 packages that it needs (wine32:i386) cannot be had from the "
    "apt sources used here. Give apt a Debian mirror whose bookworm main has i386, or leave cells of this image out."
)


@pytest.fixture
def without_i386(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """Give a machine without any image, whose apt has no i386, and on which somebody tried to build reference-32."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    programs = FakePrograms(tmp_path / "bin", monkeypatch)
    programs.mmdebstrap_says("E: Unable to locate package wine32:i386", exit_code=25)
    with pytest.raises(LabError):
        docker_build.build(image_files(ROOT / "vm_images" / "reference-32"))
    return programs


def test_an_image_that_is_not_there_stands_for_itself_and_says_why(without_i386: FakePrograms) -> None:
    image = Images(ROOT / "vm_images")["reference-32"]
    assert image.missing == NOT_TO_BE_HAD
    assert image.machines == (Machine.X64, Machine.X86)
    assert image.content.startswith("missing:"), "no answer of a real image is taken for its own"


def test_the_list_of_images_says_why_one_is_missing(
    without_i386: FakePrograms, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image_face.image_list(as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"reference-32     {NOT_TO_BE_HAD}" in lines
    assert lines[0].endswith("run 'hts-compat image build reference'.")
    assert image_face.image_list(as_json=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["images"]}
    assert (rows["reference-32"]["built"], rows["reference-32"]["why_not"]) == (False, NOT_TO_BE_HAD)


def test_what_32_bit_programs_need_is_looked_for_and_not_required(
    without_i386: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine.sock")
    found = {seen.name: seen for seen in examine(ROOT)}
    assert found["reference image"].needed
    assert not found["reference-32 image"].needed
    assert found["reference-32 image"].fix == "hts-compat image build reference-32"
    compiler = found["mingw-w64 32-bit"]
    assert (compiler.ok, compiler.needed, compiler.fix) == (False, False, "apt-get install gcc-mingw-w64-i686")


@pytest.mark.skipif(shutil.which("make") is None, reason="not installed: make")
def test_the_set_up_gets_the_arguments_of_make_only_when_it_was_asked_for_itself() -> None:
    def shown(*words: str) -> list[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not 'make test's
        argv = ["make", "--no-print-directory", "-n", *words]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True, env=own)
        return [line.strip() for line in done.stdout.splitlines()]

    assert shown("setup", "ARGS=--x86") == [".ci/setup.sh auto --x86"]
    assert shown("demo", "ARGS=--quick")[0] == ".ci/setup.sh auto"
    assert shown("demo")[1] == ".venv/bin/hts-compat demo --provider auto"
    assert shown("demo", "PROVIDER=qemu")[1] == ".venv/bin/hts-compat demo --provider qemu"
    assert shown("test")[0] == ".ci/setup.sh all --browser", "guests of both kinds are tested"


# --- installers -------------------------------------------------------------------------------------------------------


def an_installer(tmp_path: Path, content: bytes) -> tuple[Path, Payload]:
    path = tmp_path / "한글 설치 (1).exe"
    path.write_bytes(content)
    build = make_build()
    digest = hashlib.sha256(content).hexdigest()
    made = build.installer.model_copy(
        update={"host_path": str(path), "sha256": digest, "size_bytes": len(content)},
    )
    build = build.model_copy(update={"installer": made})
    return path, installers_of((build,))(build)


def test_an_installer_is_read_in_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * (2 * PIECE_BYTES // 256) + b"end"
    _, payload = an_installer(tmp_path, content)
    assert size_of(payload) == len(content)
    assert [len(piece) for piece in pieces_of(payload)] == [PIECE_BYTES, PIECE_BYTES, 3]
    assert whole(payload) == content


def test_an_installer_that_grows_is_read_as_far_as_it_was_promised(tmp_path: Path) -> None:
    path, payload = an_installer(tmp_path, b"MZ and more")
    path.write_bytes(b"MZ and more, and something behind it")
    assert whole(payload) == b"MZ and more"


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"MZ")], ids=["gone", "shorter"])
def test_an_installer_that_is_gone_or_shorter_is_told(tmp_path: Path, harm: Callable[[Path], object]) -> None:
    path, payload = an_installer(tmp_path, b"MZ and more")
    harm(path)
    with pytest.raises(InputError) as caught:
        whole(payload)
    assert str(path) in caught.value.summary
    assert caught.value.hint
