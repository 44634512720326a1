"""A small project on disk, as a user would have one: recipe, sets, scenario and suite, made without a compiler."""

from __future__ import annotations

import struct
from pathlib import Path
from textwrap import dedent

from harness.image import Image
from harness.load import LoadedSuite, load_suite
from tests.builders import make_image

BUILD_SCRIPT = dedent(
    """
    import hashlib, json, pathlib, sys
    version, out = sys.argv[1], pathlib.Path(sys.argv[2])
    if version == "9.9.9":
        print("no such version"); sys.exit(2)
    if version == "6.6.6":
        [print("line", n) for n in range(50)]; sys.exit(1)
    (out / "patch").mkdir(parents=True)
    with open(pathlib.Path(__file__).parent / "runs.txt", "a") as runs: runs.write(version + "\\n")
    def facts(data): return {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(),
                             "size": len(data)}
    setup = ("setup " + version).encode(); (out / "setup.exe").write_bytes(setup)
    core = b"patched core"; (out / "patch" / "hts_core.dll").write_bytes(core)
    files = [{"path": p, "component": c, **facts((p + version).encode())} for p, c in
             [("DemoHTS.exe", "main"), ("hts_comm.dll", "module"), ("hts_update.exe", "updater")]]
    (out / "manifest.json").write_text(json.dumps({
        "name": "DemoHTS", "version": version, "installer": {"file": "setup.exe", **facts(setup)},
        "install_dir": "C:\\\\Program Files\\\\DemoHTS", "files": files,
        "patch": [{"path": "hts_core.dll", **facts(core)}]}))
    """
)

RECIPE = """\
schema: hts-compat/recipe/1
name: DemoHTS
command: [python3, make.py, "{version}", "{out}"]
inputs: [make.py]
"""

SETS = """\
schema: hts-compat/signatures/1
product: clamav
sets:
  - label: 2026-11-04
  - label: 2026-11-05
    rules:
      - {build: "*", file: hts_comm.dll, threat: Win.Trojan.Comm}
      - {build: 1.1.0, file: installer, threat: Win.Trojan.Setup}
"""

FRESH = """\
schema: hts-compat/scenario/1
name: fresh-install
services:
  - name: trading
    files: [server.py]
    command: [python3, server.py]
    ready: {tcp: 7001}
steps:
  - deliver:
  - install: {timeout_s: 90}
  - launch: {program: DemoHTS.exe, window: 데모증권 HTS}
"""

UPDATED = """\
schema: hts-compat/scenario/1
name: released-then-updated
steps:
  - deliver:
  - install:
  - vendor_update:
  - launch: {program: DemoHTS.exe, window: 데모증권 HTS}
"""

SUITE = """\
schema: hts-compat/suite/1
name: nightly
lab: reference
images: [reference]
builds:
  - {recipe: recipe.yaml, version: 1.0.0}
  - {recipe: recipe.yaml, version: 1.1.0}
products:
  - product: clamav
    signature_sets: sets.yaml
    signatures: [2026-11-04, 2026-11-04 -> 2026-11-05]
scenarios: [fresh.yaml, updated.yaml]
max_age: 20h
"""


class Project:
    """The files of a project; write one anew to break it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("make.py", BUILD_SCRIPT)
        self.write("recipe.yaml", RECIPE)
        self.write("sets.yaml", SETS)
        self.write("fresh.yaml", FRESH)
        self.write("updated.yaml", UPDATED)
        self.write("server.py", "print('ready')\n")
        self.write("suite.yaml", SUITE)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.root / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new, 1))

    def load(self, *, images: dict[str, Image] | None = None) -> LoadedSuite:
        return load_suite(
            self.root / "suite.yaml",
            images={"reference": make_image()} if images is None else images,
            known_products=["none", "clamav", "fapolicyd"],
        )

    def times_built(self) -> int:
        runs = self.root / "runs.txt"
        return len(runs.read_text().splitlines()) if runs.exists() else 0


def tiny_program(*, is_dll: bool = False, promised_bytes: int = 512) -> bytes:
    """Give the smallest PE32+ file that reads as a program: headers, and one section of 512 bytes."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    characteristics = 0x2022 if is_dll else 0x0022
    file_header = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, characteristics)
    optional = struct.pack("<HBBIIIII", 0x20B, 14, 0, 512, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 0x140000000, 0x1000, 512, 6, 0, 0, 0, 6, 0, 0, 0x2000, 512, 0, 2, 0)
    optional += struct.pack("<QQQQII", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16) + bytes(128)
    section = b".text\0\0\0" + struct.pack("<IIIIIIHHI", 512, 0x1000, promised_bytes, 512, 0, 0, 0, 0, 0x60000020)
    head = dos + b"PE\0\0" + file_header + optional + section
    return head.ljust(512, b"\0") + bytes(512)
