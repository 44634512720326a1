"""Bundles: what goes out comes back, and what comes from anyone is not trusted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.attempt import Role
from harness.errors import InputError, StoreError
from harness.stores.bundle import BundleBlobs, export_attempt, load_bundle, write_bundle
from harness.stores.memory import MemoryStore
from harness.stores.sqlite import SqliteStore
from tests.builders import attempt_for, make_attempt, make_cell, make_plan, make_run, sha256_of

RAWS = (b"clamd: \xff\x00 FOUND\n", b"", "로그".encode("cp949"))
FIRST = sha256_of(RAWS[0])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus" / "quarantined-1"
    write_bundle(make_attempt(raws=RAWS), folder)
    return folder


def edit(folder: Path, change: Callable[[dict[str, object]], object]) -> None:
    value = json.loads((folder / "attempt.json").read_bytes())
    change(value)
    (folder / "attempt.json").write_text(json.dumps(value))


def test_a_bundle_is_the_attempt(bundle: Path) -> None:
    attempt, loaded = make_attempt(raws=RAWS), load_bundle(bundle)
    assert (loaded.meta, loaded.events) == (attempt.meta, attempt.events)
    assert [loaded.blobs.get(sha256_of(raw)) for raw in RAWS] == list(RAWS)
    assert sorted(p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()) == sorted(
        ["attempt.json", "events.jsonl", *(f"blobs/{sha256_of(raw)}" for raw in RAWS)]
    )


def test_an_attempt_goes_from_store_to_bundle_and_back(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store")
    cell = make_cell()
    store.start_run(make_run(), make_plan(cell))
    claim = store.claim("run-1", cell, role=Role.FIRST, ordinal=1)
    attempt = attempt_for(claim, cell, raws=RAWS)
    store.save(claim, attempt)
    export_attempt(store, claim.attempt_id, tmp_path / "bundle")
    store.close()
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.meta, loaded.events) == (attempt.meta, attempt.events)


def test_paths_of_this_host_do_not_leave_it(tmp_path: Path) -> None:
    cell = make_cell()
    secret = cell.build.installer.model_copy(update={"host_path": "/home/kim/secret/setup.exe"})
    cell = cell.model_copy(update={"build": cell.build.model_copy(update={"installer": secret})})
    write_bundle(make_attempt(cell), tmp_path / "bundle")
    assert "kim" not in (tmp_path / "bundle" / "attempt.json").read_text()


def test_an_attempt_that_the_store_does_not_have_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        export_attempt(MemoryStore(), "never", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    for folder in (bundle, link):
        with pytest.raises(InputError, match="already"):
            write_bundle(make_attempt(), folder)


def test_a_place_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_bundle(make_attempt(), tmp_path / "file" / "bundle")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["attempt.json", "events.jsonl", f"blobs/{FIRST}"])
@pytest.mark.parametrize("damage", ["gone", "altered", "a link", "a pipe", "a folder", "empty"])
def test_a_file_that_is_not_as_it_was_written_is_refused(bundle: Path, tmp_path: Path, name: str, damage: str) -> None:
    path = bundle / name
    raw = path.read_bytes()
    path.unlink()
    match damage:
        case "altered":
            path.write_bytes(raw[:-2] + b"?\n")
        case "a link":
            (tmp_path / "elsewhere").write_bytes(raw)
            path.symlink_to(tmp_path / "elsewhere")
        case "a pipe":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "empty" if name != "events.jsonl":
            path.touch()
        case _:
            assert not path.exists()
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_bundle(bundle)
    assert caught.value.hint


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        load_bundle(tmp_path / "nothing")


def test_a_folder_of_blobs_that_is_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "blobs").rename(tmp_path / "blobs")
    (bundle / "blobs").symlink_to(tmp_path / "blobs")
    with pytest.raises(InputError, match="link"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "name", ["../attempt.json", "/etc/passwd", "", ".", FIRST.upper(), FIRST + "\n", FIRST + "/../x"]
)
def test_a_blobs_name_that_is_no_digest_never_becomes_a_path(bundle: Path, name: str) -> None:
    path = bundle / "events.jsonl"
    path.write_text(path.read_text().replace(json.dumps(FIRST), json.dumps(name)))
    with pytest.raises(InputError, match="no sha256"):
        load_bundle(bundle)
    with pytest.raises(KeyError):
        BundleBlobs(bundle / "blobs").get(name)


@pytest.mark.parametrize("name", ["../../x", "", ".hidden", "a/b", "a\nb", "x" * 200, "\x1b[2J"])
def test_an_id_that_is_no_plain_name_is_refused(bundle: Path, name: str) -> None:
    edit(bundle, lambda value: value.update(id=name))
    with pytest.raises(InputError, match="no plain name") as caught:
        load_bundle(bundle)
    assert "\x1b" not in caught.value.summary


@pytest.mark.parametrize(
    "change", [lambda v: v.update(extra=1), lambda v: v.pop("cell"), lambda v: v.update(nonce="../")]
)
def test_a_head_of_another_form_is_refused(bundle: Path, change: Callable[[dict[str, object]], object]) -> None:
    edit(bundle, change)
    with pytest.raises(InputError, match="wrong form"):
        load_bundle(bundle)


def test_events_that_are_not_all_there_are_refused(bundle: Path) -> None:
    lines = (bundle / "events.jsonl").read_bytes().splitlines(keepends=True)
    (bundle / "events.jsonl").write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(InputError, match="without gaps"):
        load_bundle(bundle)


def test_events_that_were_cut_off_at_a_line_make_an_incomplete_attempt(bundle: Path) -> None:
    """A known limit: a bundle does not say how many events it had. Without its end an attempt is never good news."""
    lines = (bundle / "events.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        (bundle / "events.jsonl").write_bytes(b"".join(lines[:kept]))
        assert not load_bundle(bundle).complete


def test_a_file_that_would_fill_the_memory_is_refused(bundle: Path) -> None:
    os.truncate(bundle / "blobs" / FIRST, 10 * 1024**4)
    with pytest.raises(InputError, match="plain file"):
        load_bundle(bundle)


def test_a_blob_that_is_altered_after_loading_is_noticed_when_it_is_read(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    (bundle / "blobs" / FIRST).write_bytes(b"altered")
    with pytest.raises(ValueError, match="not the bytes"):
        loaded.blobs.get(FIRST)
    (bundle / "blobs" / FIRST).unlink()
    with pytest.raises(KeyError):
        loaded.blobs.get(FIRST)
