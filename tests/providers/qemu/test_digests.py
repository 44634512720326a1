"""A file that has not changed is not read again; one that was written to, replaced or cut is."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.providers.qemu import digests as module
from harness.providers.qemu.digests import Digests


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLED_S", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "disk"
    made.write_bytes(b"as it was made" * 1000)
    return made


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def is_known(note: Path, file: Path) -> bool:
    with file.open("rb") as stream:
        return Digests(note).known(stream.fileno()) is not None


@pytest.fixture
def note(tmp_path: Path, file: Path) -> Path:
    note = tmp_path / "digests.json"
    digests = Digests(note)
    assert digests.of(file) == digest(file)
    digests.save()
    assert is_known(note, file)
    return note


def with_the_old_times(file: Path, change: Callable[[Path], object]) -> None:
    """Change a file, then set its times back as far as a program can."""
    before = file.stat()
    change(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(b"A")


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"as it was MADE" * 1000)
    other.rename(file)


@pytest.mark.parametrize("change", [flip, replace, lambda file: os.truncate(file, 7)], ids=["flip", "replace", "cut"])
def test_a_file_that_changed_is_read_anew_whatever_times_it_says(
    file: Path, note: Path, change: Callable[[Path], object]
) -> None:
    with_the_old_times(file, change)
    assert not is_known(note, file)
    assert Digests(note).of(file) == digest(file)


def test_a_file_that_has_not_changed_is_not_read(file: Path, note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = digest(file)
    monkeypatch.setattr(hashlib, "sha256", None)
    assert Digests(note).of(file) == known


def test_a_file_that_changed_a_moment_ago_is_not_remembered(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED_S", 60.0)
    digests = Digests(tmp_path / "fresh.json")
    assert digests.of(file) == digest(file)
    digests.save()
    assert not is_known(tmp_path / "fresh.json", file)


def test_a_file_that_changes_while_it_is_read_is_not_remembered(file: Path, tmp_path: Path) -> None:
    digests = Digests(tmp_path / "fresh.json")
    with file.open("rb") as stream:
        before = os.fstat(stream.fileno())
        time.sleep(0.01)
        flip(file)
        digests.learn(before, "0" * 64)
        assert digests.known(stream.fileno()) is None


@pytest.mark.parametrize("nonsense", [b"", b"[]", b"{", b'{"x": 7}', b"[" * 100_000])
def test_a_note_that_cannot_be_read_costs_time_only(file: Path, tmp_path: Path, nonsense: bytes) -> None:
    note = tmp_path / "broken.json"
    note.write_bytes(nonsense)
    digests = Digests(note)
    assert digests.of(file) == digest(file)
    digests.save()
    assert is_known(note, file)


def test_a_note_that_cannot_be_written_costs_time_only(file: Path, tmp_path: Path) -> None:
    digests = Digests(tmp_path / "nowhere" / "digests.json")
    assert digests.of(file) == digest(file)
    digests.save()
    assert list(tmp_path.glob("**/.*")) == []
