"""The demo HTS's build and its stand-in servers, without a guest.

The program itself runs under wine in the guest tests; here stands what must hold before that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.build_file import machine_of_file
from harness.inspect_pe import read_headers
from harness.machine import Machine

HTS = Path(__file__).resolve().parents[2] / "seeds" / "hts"
MISSING = [tool for tool in ("x86_64-w64-mingw32-gcc", "makensis") if shutil.which(tool) is None]
needs_toolchain = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt-get install mingw-w64 nsis)"
)


def build(version: str, out_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, HTS / "build.py", version, out_dir, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def build_well(version: str, out_dir: Path, *options: str) -> Path:
    done = build(version, out_dir, *options)
    assert done.returncode == 0, done.stderr
    return out_dir


def declarations() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((HTS / "builds.yaml").read_text(encoding="utf-8"))
    return loaded


def write_declarations(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "builds.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    return path


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def manifest_of(out_dir: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((out_dir / "manifest.json").read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_well("1.1.0", tmp_path_factory.mktemp("first") / "out")


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("renamed")
    document = declarations()
    document["defaults"]["modules"] |= {"comm": "hts_link.dll", "main": "OtherHTS.exe"}
    return build_well("1.0.0", folder / "out", "--builds", str(write_declarations(folder, document)))


@needs_toolchain
def test_two_builds_in_two_folders_are_the_same_bit_for_bit(built: Path, tmp_path: Path) -> None:
    again = build_well("1.1.0", tmp_path / "a folder with spaces" / "그리고 한글")
    assert digests(again) == digests(built)


@needs_toolchain
def test_manifest_lists_every_file_with_its_digests(built: Path) -> None:
    manifest = manifest_of(built)
    assert {entry["path"] for entry in manifest["files"]} == {path.name for path in (built / "app").iterdir()}
    listed = [(built / "app" / entry["path"], entry) for entry in manifest["files"]]
    listed += [(built / "patch" / entry["path"], entry) for entry in manifest["patch"]]
    listed += [(built / manifest[kind]["file"], manifest[kind]) for kind in ("installer", "portable")]
    for path, entry in listed:
        content = path.read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["md5"] == hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert entry["size"] == len(content)
    assert {entry["path"]: entry["component"] for entry in manifest["files"]} == {
        "DemoHTS.exe": "main",
        "hts_core.dll": "module",
        "hts_comm.dll": "module",
        "hts_update.exe": "updater",
        "hts.ini": "data",
        "modules.txt": "data",
        "symbols.txt": "data",
        "uninstall.exe": "uninstaller",
    }
    assert manifest["install_dir"] == "C:\\Program Files\\DemoHTS"


@needs_toolchain
def test_portable_zip_is_the_program_without_its_uninstaller(built: Path) -> None:
    with zipfile.ZipFile(built / "DemoHTS-1.1.0-portable.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
        assert {entry.date_time for entry in archive.infolist()} == {(2026, 10, 12, 0, 0, 0)}
    assert packed == {
        f"DemoHTS/{path.name}": path.read_bytes() for path in (built / "app").iterdir() if path.name != "uninstall.exe"
    }


@needs_toolchain
def test_patch_offers_a_newer_core_that_differs_and_leaves_comm_alone(built: Path) -> None:
    offers = {}
    for line in (built / "patch" / "manifest.txt").read_text(encoding="utf-8").splitlines():
        name, version, size, sha256 = line.split()
        offers[name] = version
        source = built / ("patch" if version.endswith("+patch1") else "app") / name
        assert (source.stat().st_size, hashlib.sha256(source.read_bytes()).hexdigest()) == (int(size), sha256)
    assert offers == {"hts_core.dll": "1.1.0+patch1", "hts_comm.dll": "1.1.0"}
    assert not (built / "patch" / "hts_comm.dll").exists()
    assert (built / "patch" / "hts_core.dll").read_bytes() != (built / "app" / "hts_core.dll").read_bytes()
    assert (built / "app" / "modules.txt").read_text(encoding="utf-8") == "hts_core.dll 1.1.0\nhts_comm.dll 1.1.0\n"


@needs_toolchain
def test_only_the_declared_module_ends_in_a_compressed_overlay(built: Path) -> None:
    carrying = [path.name for path in (built / "app").iterdir() if b"HTSPACK1" in path.read_bytes()]
    assert carrying == ["hts_core.dll"]
    tail = (built / "app" / "hts_core.dll").read_bytes().split(b"HTSPACK1")[1]
    assert len(zlib.decompress(tail[4:])) == int.from_bytes(tail[:4], "little") == 98304


@needs_toolchain
def test_nothing_imports_the_connection_module(built: Path) -> None:
    # An import table names DLLs in ASCII; LoadLibrary's argument is UTF-16.
    for path in (built / "app").glob("*.*"):
        if path.suffix in {".exe", ".dll"} and path.name != "hts_comm.dll":
            assert b"hts_comm.dll" not in path.read_bytes()
    assert "hts_comm.dll".encode("utf-16-le") in (built / "app" / "DemoHTS.exe").read_bytes()


@needs_toolchain
def test_no_file_tells_where_it_was_built(built: Path) -> None:
    traces = [os.fsencode(HTS), os.fsencode(built), b"demo-hts-", os.fsencode(Path.home()) + b"/"]
    for path in (built / "app").iterdir():
        content = path.read_bytes()
        assert not [trace for trace in traces if trace in content]


@needs_toolchain
def test_a_module_renamed_in_yaml_is_followed_everywhere(renamed: Path) -> None:
    manifest = manifest_of(renamed)
    names = {entry["path"] for entry in manifest["files"]}
    assert {"hts_link.dll", "OtherHTS.exe"} <= names
    assert names.isdisjoint({"hts_comm.dll", "DemoHTS.exe"})
    for path in renamed.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"hts_comm.dll" not in content
            assert "hts_comm.dll".encode("utf-16-le") not in content
    assert "hts_link.dll".encode("utf-16-le") in (renamed / "app" / "OtherHTS.exe").read_bytes()
    assert "hts_link.dll 1.0.0" in (renamed / "patch" / "manifest.txt").read_text(encoding="utf-8")


@needs_toolchain
def test_two_versions_share_no_program_file(built: Path, renamed: Path) -> None:
    programs = [
        {entry["sha256"] for entry in manifest_of(out)["files"] if entry["component"] != "data"}
        for out in (built, renamed)
    ]
    assert programs[0].isdisjoint(programs[1])


needs_x86_compiler = pytest.mark.skipif(
    shutil.which("i686-w64-mingw32-gcc") is None or bool(MISSING),
    reason="not installed: i686-w64-mingw32-gcc (make setup ARGS=--x86)",
)


@needs_x86_compiler
def test_a_32_bit_build_is_the_same_version_and_all_of_it_is_32_bit(tmp_path: Path) -> None:
    out = build_well("1.0.0-x86", tmp_path / "out", "--machine", "x86")
    manifest = manifest_of(out)
    assert manifest["version"] == "1.0.0-x86"
    assert manifest["install_dir"] == "C:\\Program Files (x86)\\DemoHTS"
    programs = [path for path in out.rglob("*") if path.suffix in {".exe", ".dll"}]
    assert {path.name: machine_of_file(path) for path in programs} == {path.name: Machine.X86 for path in programs}
    assert len(programs) == 7, "the installer, the uninstaller, five programs and modules with the patched one"
    assert read_headers(out / "app" / "DemoHTS.exe").texts["FileVersion"] == "1.0.0"


def test_a_build_is_refused_by_the_recipe_of_another_machine(tmp_path: Path) -> None:
    done = build("1.0.0-x86", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == "The build '1.0.0-x86' is made for x86; build it with --machine x86.\n"
    assert not (tmp_path / "out").exists()


def test_declared_builds_are_two_good_ones_and_one_of_another_protocol_and_the_first_for_x86() -> None:
    document = declarations()
    protocols = {
        version: entry.get("protocol", document["defaults"]["protocol"])
        for version, entry in document["builds"].items()
    }
    assert protocols == {"1.0.0": 3, "1.1.0": 3, "1.2.0": 4, "1.0.0-x86": 3}
    machines = {version: entry["machine"] for version, entry in document["builds"].items() if "machine" in entry}
    assert machines == {"1.0.0-x86": "x86"}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("builds", "1.0.0", "colour"), "red", r"unknown key 'colour'"),
        (("builds", "1.0.0", "released"), "soon", r"released must be a date"),
        (("builds", "1.0.0", "modules"), {"comm": "..\\x.dll"}, r"modules.comm must be a plain file name"),
        (("builds", "1.0.0", "modules"), {"comm": "hts_core.dll"}, r"a name of its own"),
        (("builds", "1.0.0", "overlay"), {"core": {"codec": "lzma", "size_bytes": 1}}, r"codec must be zlib"),
        (("builds", "1.0.0", "server"), "localhost", r"must look like"),
        (("defaults", "protocol"), "three", r"protocol must be a number"),
        (("builds", "1.0.0", "machine"), "itanium", r"machine must be one of x64, x86"),
    ],
)
def test_bad_declaration_is_one_sentence_and_makes_nothing(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    document = declarations()
    at = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    done = build("1.0.0", tmp_path / "out", "--builds", str(write_declarations(tmp_path, document)))
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unknown_version_names_the_declared_ones(tmp_path: Path) -> None:
    done = build("9.9.9", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == "There is no build '9.9.9' in builds.yaml; it declares 1.0.0, 1.1.0, 1.2.0, 1.0.0-x86.\n"


def test_missing_toolchain_is_named_with_its_packages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HTS / "build.py", "1.0.0", tmp_path / "out"],
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "apt-get install" in done.stderr


# ---- servers ----


@contextmanager
def running(script: str, *options: str) -> Iterator[int]:
    """Start a server on a free port; afterwards hold it to a clean end."""
    command = [sys.executable, str(HTS / "servers" / script), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = re.search(r"^listening .*port=(\d+)", process.stdout.readline())
            assert port is not None
            yield int(port[1])
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=5) == 0
            assert process.stdout.read().endswith("stopped\n")


@contextmanager
def talking(port: int) -> Iterator[Any]:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, connection.makefile("rw") as lines:
        yield lines


def ask(lines: Any, request: str) -> str:
    lines.write(f"{request}\n")
    lines.flush()
    return str(lines.readline()).rstrip("\n")


def test_trading_server_greets_logs_in_and_answers_heartbeats() -> None:
    with running("trading_server.py", "--interval", "60") as port, talking(port) as lines:
        assert ask(lines, "LOGIN demo01") == "ERR NOT_GREETED"
        assert ask(lines, "HELLO 3 1.0.0") == "OK 3"
        assert ask(lines, "ORDER BUY 900010 71200 10") == "ERR NOT_LOGGED_IN"
        assert ask(lines, "LOGIN") == "ERR BAD_USER"
        assert ask(lines, "LOGIN demo01") == "OK"
        assert ask(lines, "PING") == "PONG"
        assert ask(lines, "ORDER BUY 900010 71200 10") == "ORDER_OK 1"
        assert ask(lines, "ORDER BUY 123456 71200 10") == "ERR BAD_ORDER"
        assert ask(lines, "DANCE") == "ERR UNKNOWN_COMMAND"


def test_trading_server_refuses_another_protocol_and_hangs_up() -> None:
    with running("trading_server.py") as port, talking(port) as lines:
        assert ask(lines, "HELLO 4 1.2.0") == "ERR UNSUPPORTED_PROTOCOL"
        assert lines.readline() == ""


def test_trading_server_accepts_the_protocols_that_it_is_told() -> None:
    with running("trading_server.py", "--protocol", "3", "--protocol", "4") as port:
        for protocol in (3, 4):
            with talking(port) as lines:
                assert ask(lines, f"HELLO {protocol} 1.2.0") == f"OK {protocol}"


def test_trading_server_pushes_moving_quotes_of_the_programs_stocks_to_every_client() -> None:
    symbols = (HTS / "data" / "symbols.txt").read_text(encoding="utf-8").splitlines()
    closes = {line.split()[0]: int(line.split()[1]) for line in symbols}
    with running("trading_server.py", "--interval", "0.02") as port, talking(port) as one, talking(port) as two:
        seen: dict[str, set[int]] = {}
        for lines in (one, two):
            assert ask(lines, "HELLO 3 1.0.0") == "OK 3"
            assert ask(lines, "LOGIN demo01") == "OK"
            for _ in range(200):
                kind, code, price, volume = lines.readline().split()
                assert kind == "Q"
                assert int(volume) > 0
                seen.setdefault(code, set()).add(int(price))
    assert set(seen) == set(closes)
    assert all(abs(price - closes[code]) <= closes[code] // 4 for code in seen for price in seen[code])
    assert any(len(prices) > 1 for prices in seen.values())


def test_trading_server_survives_a_line_without_end() -> None:
    with running("trading_server.py") as port:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"x" * 4096)
            with suppress(ConnectionResetError):  # the server may hang up with our bytes unread
                assert connection.recv(1) == b""
        with talking(port) as lines:
            assert ask(lines, "HELLO 3 1.0.0") == "OK 3"


def test_patch_server_serves_its_folder_and_nothing_else(tmp_path: Path) -> None:
    served = tmp_path / "patch"
    served.mkdir()
    (served / "manifest.txt").write_bytes(b"a 1 2 3\n")
    (tmp_path / "outside.txt").write_bytes(b"secret")
    with running("patch_server.py", "--dir", str(served)) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/manifest.txt", timeout=5) as answer:
            assert answer.read() == b"a 1 2 3\n"
        for name in ("missing.dll", "../outside.txt", "%2e%2e/outside.txt", ""):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=5)
            assert refusal.value.code == 404
            refusal.value.close()


@pytest.mark.parametrize("script", ["trading_server.py", "patch_server.py"])
def test_server_on_a_taken_port_says_so_in_one_sentence(script: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ["--dir", str(tmp_path)] if script == "patch_server.py" else []
        done = subprocess.run(
            [sys.executable, HTS / "servers" / script, "--port", str(taken.getsockname()[1]), *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
