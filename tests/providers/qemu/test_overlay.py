"""What a boot finds is an archive that a kernel takes in front of another one, and the same bytes each time."""

from __future__ import annotations

import io
import tarfile

import pytest

from harness.providers.qemu.overlay import archive_of, tar_of


def entries(archive: bytes) -> dict[str, bytes]:
    """Read a newc archive as cpio(5) has it, from its first entry to its trailer."""
    found: dict[str, bytes] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        begin = (at + 110 + name_size + 3) // 4 * 4
        at = (begin + size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert not archive[at:].strip(b"\0")
            return found
        found[name] = archive[begin : begin + size]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 511, 512, 70_001])
def test_an_archive_holds_its_file_and_ends_where_another_may_begin(size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    archive = archive_of("scripts.tar", content)
    assert entries(archive) == {"scripts.tar": content}
    assert len(archive) % 512 == 0


def test_a_tar_is_root_s_has_no_date_and_keeps_who_may_be_executed() -> None:
    files = {"b.py": (b"two", False), "a": (b"one", True)}
    packed = tar_of(files)
    assert packed == tar_of(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        seen = [(item.name, item.mode, item.uid, item.gid, item.mtime) for item in tar]
        assert seen == [("a", 0o755, 0, 0, 0), ("b.py", 0o644, 0, 0, 0)]
        extracted = tar.extractfile("a")
        assert extracted is not None
        assert extracted.read() == b"one"
