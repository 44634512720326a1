"""The guest scripts of the reference image, run on this machine as a guest would run them: JSON in, JSON out."""

from __future__ import annotations

import base64
import errno
import getpass
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "vm_images" / "reference" / "guest"
Json = dict[str, Any]


def ask(script: str, request: object) -> Json:
    """Run a guest script with a request and give its answer; whatever is asked, it ends well and answers in JSON."""
    text = request if isinstance(request, str) else json.dumps(request)
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script)],
        input=text.encode(),
        capture_output=True,
        timeout=25,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def plant(folder: Path, **item: object) -> Json:
    """Plant one item as this very user."""
    whole = {"folder": str(folder), "user": getpass.getuser(), **item}
    answer = ask("plant.py", {"nonce": "n0", "items": [whole]})
    (planted,) = answer["items"]
    return dict(planted)


def list_tree(root: Path, **more: object) -> Json:
    return dict(ask("observe.py", {"list": [{"root": str(root), **more}]})["list"][0])


def tail(path: Path, **more: object) -> Json:
    return dict(ask("observe.py", {"tail": [{"path": str(path), **more}]})["tail"][0])


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"HTS_COMPAT_RUN": "job-7"}
    with subprocess.Popen(["/bin/sleep", "60"], env=environment) as process:
        yield process
        process.kill()


# --- observe.py: listing


def test_listing_tells_type_size_and_times_of_each_entry(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "한글.dll").write_bytes(b"1234")
    (tmp_path / "link").symlink_to("folder")
    entries = {Path(entry["path"]).name: entry for entry in list_tree(tmp_path)["entries"]}
    status = (tmp_path / "folder" / "한글.dll").stat()
    assert entries["folder"]["type"] == "folder"
    assert entries["한글.dll"]["type"] == "file"
    assert entries["한글.dll"]["size"] == 4
    assert entries["한글.dll"]["mtime_ns"] == status.st_mtime_ns
    assert entries["한글.dll"]["ctime_ns"] == status.st_ctime_ns
    assert (entries["link"]["type"], entries["link"]["target"]) == ("link", "folder")


def test_listing_opens_no_file(tmp_path: Path) -> None:
    """An open and read would move the access time; an ordinary user's open would fail on the mode 000."""
    secret = tmp_path / "hts_comm.dll"
    secret.write_bytes(b"MZ")
    os.utime(secret, ns=(1, 1))
    secret.chmod(0)
    (entry,) = list_tree(tmp_path)["entries"]
    assert (entry["size"], entry["mode"]) == (2, 0)
    assert secret.stat().st_atime_ns == 1


def test_listing_says_truncated_at_its_cap(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / str(index)).touch()
    listed = list_tree(tmp_path, max_entries=3)
    assert [Path(entry["path"]).name for entry in listed["entries"]] == ["0", "1", "2"]
    assert listed["truncated"] is True
    assert list_tree(tmp_path, max_entries=5)["truncated"] is False


def test_listing_gives_a_name_that_is_no_utf_8_exactly(tmp_path: Path) -> None:
    name = "한글".encode("cp949")
    (Path(os.fsdecode(bytes(tmp_path) + b"/" + name))).touch()
    (entry,) = list_tree(tmp_path)["entries"]
    assert base64.b64decode(entry["path_b64"]).endswith(b"/" + name)
    assert "\\x" in entry["path"]


def test_listing_reports_a_missing_root_as_data(tmp_path: Path) -> None:
    listed = list_tree(tmp_path / "gone")
    assert listed["entries"] == []
    assert listed["errors"][0]["error"] == "ENOENT"


# --- observe.py: logs


def test_tail_gives_what_was_added_since_an_offset(tmp_path: Path) -> None:
    log = tmp_path / "clamd.log"
    log.write_bytes(b"old\nnew\n")
    answer = tail(log, offset=4)
    assert base64.b64decode(answer["data_b64"]) == b"new\n"
    assert (answer["offset"], answer["size"], answer["truncated"], answer["reset"]) == (8, 8, False, False)


def test_tail_says_truncated_when_more_is_there(tmp_path: Path) -> None:
    log = tmp_path / "clamd.log"
    log.write_bytes(b"0123456789")
    answer = tail(log, max_bytes=4)
    assert (base64.b64decode(answer["data_b64"]), answer["truncated"], answer["offset"]) == (b"0123", True, 4)


@pytest.mark.parametrize("how", ["shorter", "another file"])
def test_tail_starts_again_when_the_log_was_rotated(tmp_path: Path, how: str) -> None:
    log = tmp_path / "clamd.log"
    log.write_bytes(b"long old content\n")
    before = tail(log)
    if how == "shorter":
        log.write_bytes(b"new\n")
    else:
        fresh = tmp_path / "fresh"
        fresh.write_bytes(b"a whole new log of the same product\n")
        fresh.rename(log)
    after = tail(log, offset=before["offset"], inode=before["inode"])
    assert after["reset"] is True
    assert base64.b64decode(after["data_b64"]) == log.read_bytes()


def test_tail_reports_a_vanished_log_as_data(tmp_path: Path) -> None:
    assert tail(tmp_path / "gone")["error"] == "ENOENT"


# --- observe.py: processes and sockets


def test_processes_carry_the_mark_of_the_run_that_started_them(sleeper: subprocess.Popen[bytes]) -> None:
    processes = ask("observe.py", {"processes": True})["processes"]
    (found,) = [item for item in processes["items"] if item["pid"] == sleeper.pid]
    assert (found["run"], found["comm"], found["cmdline"]) == ("job-7", "sleep", "/bin/sleep 60")
    assert found["exe"].endswith("sleep")
    assert (found["ppid"], found["uid"]) == (os.getpid(), os.getuid())
    assert processes["truncated"] is False


def test_images_list_the_files_mapped_into_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    (item,) = ask("observe.py", {"images": [sleeper.pid]})["images"]
    assert any(file["path"].endswith("/sleep") and not file["deleted"] for file in item["files"])


def test_images_of_a_process_that_has_ended_are_an_error_in_the_item() -> None:
    with subprocess.Popen(["/bin/true"]) as gone:
        gone.wait()
    assert ask("observe.py", {"images": [gone.pid]})["images"] == [{"pid": gone.pid, "error": "ENOENT"}]


def test_tcp_lists_a_listener_with_its_process() -> None:
    code = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        sockets = ask("observe.py", {"tcp": True})["tcp"]["items"]
        server.kill()
    (found,) = [item for item in sockets if item["local_port"] == port and item["state"] == "LISTEN"]
    assert (found["local"], found["pids"]) == ("127.0.0.1", [server.pid])


def test_time_lies_between_the_callers_own_readings() -> None:
    before = time.monotonic()
    told = ask("observe.py", {"time": True})["time"]
    assert before <= told["monotonic_s"] <= time.monotonic()
    assert told["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@pytest.mark.parametrize("request_text", ["", "[]", "{", '{"list": 3}', '{"tail": [{}]}'])
def test_a_bad_request_is_answered(request_text: str) -> None:
    assert ask("observe.py", request_text)["error"] == "BAD_REQUEST"


# --- plant.py


def test_without_a_product_everything_planted_opens(tmp_path: Path) -> None:
    planted = plant(tmp_path, kind="text", text="marker 2026-11-04")
    for key in ("create_errno", "write_errno", "open_errno", "control_open_errno", "unlink_errno"):
        assert planted[key] == 0, key
    assert (planted["bytes_read"], planted["content_equal"], planted["errors"]) == (17, True, {})
    assert planted["finished"] is True
    assert list(tmp_path.iterdir()) == []


def test_eicar_is_whole_in_the_file_and_nowhere_in_the_scripts(tmp_path: Path) -> None:
    planted = plant(tmp_path, kind="eicar", cleanup=False)
    content = Path(planted["path"]).read_bytes()
    # The hash is that of the test file as its authors publish it (68 bytes, no line end).
    assert hashlib.sha256(content).hexdigest() == "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"
    assert planted["sha256"] == hashlib.sha256(content).hexdigest()
    for script in SCRIPTS.iterdir():
        if script.is_file():
            assert content not in script.read_bytes()
    assert Path(planted["control_path"]).exists()


def test_a_folder_that_is_not_there_shows_as_create_errno(tmp_path: Path) -> None:
    planted = plant(tmp_path / "gone", kind="text", text="x")
    assert planted["create_errno"] == errno.ENOENT
    assert planted["errors"]["create_errno"] == "ENOENT"
    assert (planted["open_errno"], planted["bytes_read"]) == (None, 0)


def test_a_name_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_text("theirs", encoding="utf-8")
    planted = plant(tmp_path, kind="text", text="x", name="theirs.txt", cleanup=False)
    assert planted["create_errno"] == errno.EEXIST
    assert (tmp_path / "theirs.txt").read_text(encoding="utf-8") == "theirs"


@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="the program is for x86-64")
def test_the_tiny_program_runs_and_its_tag_changes_its_hash(tmp_path: Path) -> None:
    first = plant(tmp_path, kind="exec", tag="canary")
    second = plant(tmp_path, kind="exec", tag="marker baseline")
    assert (first["exec_errno"], first["exit_code"], first["control_exit_code"]) == (0, 42, 42)
    assert first["sha256"] != second["sha256"]
    assert first["sha256"] == "0df097828c471a29c7c766cf39e9a8627a39c18f88772f76b143872fe5775529"


def test_bytes_that_are_no_program_show_as_exec_errno(tmp_path: Path) -> None:
    planted = plant(tmp_path, kind="exec", b64=base64.b64encode(b"\x7fELF nonsense").decode())
    assert planted["errors"]["exec_errno"] == "ENOEXEC"


def test_reopening_goes_on_for_as_long_as_asked(tmp_path: Path) -> None:
    planted = plant(tmp_path, kind="text", text="x", until_denied_s=0.2)
    assert planted["opens"] > 2
    assert planted["denied_after_s"] is None
    assert planted["elapsed_s"] >= 0.2


def test_an_item_that_does_not_end_is_killed_and_says_so(tmp_path: Path) -> None:
    item = {"folder": str(tmp_path), "kind": "text", "text": "x", "user": getpass.getuser(), "wait_s": 60}
    (planted,) = ask("plant.py", {"nonce": "n", "limit_s": 0.5, "items": [item]})["items"]
    assert planted["finished"] is False
    assert planted["create_errno"] == 0
    assert planted["open_errno"] is None


@pytest.mark.parametrize("item", [{"kind": "nonsense"}, {"kind": "text"}, {"kind": "bytes", "b64": "!"}])
def test_an_item_that_makes_no_sense_is_an_error_of_that_item(tmp_path: Path, item: Json) -> None:
    planted = plant(tmp_path, **item)
    assert planted["error"] == "BAD_ITEM"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_file_belongs_to_the_named_user_and_root_reads_nothing_for_him(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    refused = plant(tmp_path, kind="text", text="x", user="nobody")
    assert refused["errors"]["create_errno"] == "EACCES"


# --- desktop.py


def test_desktop_refuses_an_id_that_leads_elsewhere() -> None:
    answer = ask("desktop.py", {"action": "wait", "id": "../etc"})
    assert answer["error"] == "BAD_REQUEST"


def test_desktop_refuses_an_unknown_action() -> None:
    assert ask("desktop.py", {"action": "dance", "id": "x"})["error"] == "BAD_REQUEST"
