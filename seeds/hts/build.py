"""Driver. Build one version of the demo HTS with mingw-w64 and NSIS, the same bit for bit every time.

Usage: python3 build.py VERSION OUT_DIR [--machine x64|x86] [--builds FILE]

What may differ between two runs is kept out of the files: the compiler works in a scratch folder with
relative names, the PE files carry no time, and every input of the installer and the zip gets the build's
`released` time.

Exit codes: 0 built, 1 a tool failed, 2 bad input, 5 a tool is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent

COMMON_CFLAGS = ("-std=gnu17", "-Wall", "-Wextra", "-DUNICODE", "-D_UNICODE", "-DWIN32_LEAN_AND_MEAN")
LINK_FLAGS = ("-s", "-static", "-Wl,--no-insert-timestamp", "-Wl,--build-id=none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a program for one kind of processor is made with, and where Windows keeps it."""

    prefix: str
    packages: str
    nsis_target: str
    program_files: str
    nsis_program_files: str
    registry_bits: int

    @property
    def tools(self) -> dict[str, str]:
        """Every tool that a build needs, with the package that holds it."""
        return {
            f"{self.prefix}gcc": f"gcc-mingw-w64-{self.packages}",
            f"{self.prefix}windres": f"binutils-mingw-w64-{self.packages}",
            "makensis": "nsis",
        }


MACHINES = {
    "x64": Machine(
        prefix="x86_64-w64-mingw32-",
        packages="x86-64",
        nsis_target="amd64-unicode",
        program_files="Program Files",
        nsis_program_files="$PROGRAMFILES64",
        registry_bits=64,
    ),
    "x86": Machine(
        prefix="i686-w64-mingw32-",
        packages="i686",
        nsis_target="x86-unicode",
        program_files="Program Files (x86)",
        nsis_program_files="$PROGRAMFILES32",
        registry_bits=32,
    ),
}

OVERLAY_MAGIC = b"HTSPACK1"
MAX_OVERLAY_BYTES = 1 << 24
MAX_PORT = 65535
MAX_PATCH_LEVEL = 65535  # a number of a PE version has 16 bits
FIRST_ZIP_YEAR = 1980
# The programs themselves run while the updater works, and Windows lets nobody replace a running program.
PATCHABLE = ("core", "comm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSource:
    """How one file of the program is made."""

    sources: tuple[str, ...]
    libraries: tuple[str, ...]
    is_dll: bool
    component: str
    description: str


MODULES = {
    "main": ModuleSource(
        sources=("demohts.c", "quote_panel.c", "hts_log.c"),
        libraries=("comctl32", "gdi32"),
        is_dll=False,
        component="main",
        description="홈트레이딩 시스템",
    ),
    "core": ModuleSource(
        sources=("hts_core.c",), libraries=(), is_dll=True, component="module", description="주문 및 시세 모듈"
    ),
    "comm": ModuleSource(
        sources=("hts_comm.c", "net_line.c"),
        libraries=("ws2_32",),
        is_dll=True,
        component="module",
        description="통신 모듈",
    ),
    "updater": ModuleSource(
        sources=("hts_update.c", "hts_log.c", "net_line.c", "sha256.c"),
        libraries=("ws2_32",),
        is_dll=False,
        component="updater",
        description="업데이트 프로그램",
    ),
}


class BuildError(Exception):
    """One sentence for the person who started the build, and the exit code that goes with it."""

    def __init__(self, summary: str, *, exit_code: int) -> None:
        super().__init__(summary)
        self.exit_code = exit_code


def bad_input(summary: str) -> BuildError:
    """Return the error for something that the user can fix in builds.yaml or on the command line."""
    return BuildError(summary, exit_code=2)


# ---- asked: builds.yaml -> Build ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """Data after the PE image of a module."""

    codec: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One entry of builds.yaml, complete and checked."""

    product: dict[str, str]
    label: str
    machine: str
    released: date
    protocol: int
    features: tuple[str, ...]
    cflags: tuple[str, ...]
    modules: dict[str, str]
    overlay: dict[str, Overlay]
    patch: dict[str, int]
    server: tuple[str, int]
    patch_server: tuple[str, int]
    user: str

    @property
    def epoch_s(self) -> int:
        """The one time that every file of the build has: 09:00 in Korea (00:00 UTC) of its release day."""
        return int(datetime.combine(self.released, time(), tzinfo=UTC).timestamp())

    @property
    def install_dir(self) -> str:
        """Where the installer puts the program."""
        return f"C:\\{MACHINES[self.machine].program_files}\\{self.product['name']}"

    @property
    def version(self) -> str:
        """What the program calls itself: the label without what tells builds of one version apart."""
        return self.label.partition("-")[0]

    def module_version(self, role: str, *, patched: bool) -> str:
        """Return what the module calls itself: VERSION, or VERSION+patchN in the patch set."""
        return f"{self.version}+patch{self.patch[role]}" if patched and role in self.patch else self.version


ENTRY_KEYS = frozenset(Build.__dataclass_fields__) - {"product", "label"}
PRODUCT_KEYS = frozenset({"name", "title", "company", "copyright"})
FILE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}\.(exe|dll)")
# Written into C, NSIS and resource scripts: keep out what would end a string there.
PLAIN_TEXT = re.compile(r"[^\"\\$%\n\r]{1,60}")


def need(*, holds: bool, where: str, what: str) -> None:
    """Raise unless the condition holds."""
    if not holds:
        raise bad_input(f"{where} {what}.")


def known_keys(mapping: object, allowed: frozenset[str], where: str) -> dict[str, Any]:
    """Return the mapping if all its keys are allowed ones."""
    if not isinstance(mapping, dict):
        raise bad_input(f"{where} must be a mapping.")
    for key in mapping:
        need(
            holds=key in allowed,
            where=where,
            what=f"has the unknown key {key!r}; known are {', '.join(sorted(allowed))}",
        )
    return mapping


def endpoint(value: object, where: str) -> tuple[str, int]:
    """Read HOST:PORT."""
    match = re.fullmatch(r"([A-Za-z0-9.-]{1,60}):(\d{1,5})", str(value))
    if match is None or not 0 < int(match[2]) <= MAX_PORT:
        raise bad_input(f"{where} must look like 127.0.0.1:7001.")
    return match[1], int(match[2])


def string_list(value: object, pattern: str, where: str) -> tuple[str, ...]:
    """Read a list of strings that all match the pattern."""
    if not isinstance(value, list) or not all(isinstance(item, str) and re.fullmatch(pattern, item) for item in value):
        raise bad_input(f"{where} must be a list of strings like {pattern}.")
    return tuple(value)


def module_names(value: object, where: str) -> dict[str, str]:
    """Read the file name of every module; each is a plain name, used once."""
    names = known_keys(value, frozenset(MODULES), where)
    for role, spec in MODULES.items():
        need(
            holds=isinstance(names.get(role), str) and FILE_NAME.fullmatch(names[role]) is not None,
            where=f"{where}.{role}",
            what="must be a plain file name ending in .exe or .dll",
        )
        suffix = ".dll" if spec.is_dll else ".exe"
        need(holds=names[role].endswith(suffix), where=f"{where}.{role}", what=f"must end in {suffix}")
    lowered = {name.lower() for name in names.values()}
    need(holds=len(lowered) == len(names), where=where, what="must give each module a name of its own")
    need(holds="uninstall.exe" not in lowered, where=where, what="must leave uninstall.exe to the uninstaller")
    return {role: names[role] for role in MODULES}


def overlays(value: object, where: str) -> dict[str, Overlay]:
    """Read which modules carry data after their PE image."""
    result = {}
    for role, fields in known_keys(value, frozenset(MODULES), where).items():
        entry = known_keys(fields, frozenset({"codec", "size_bytes"}), f"{where}.{role}")
        size = entry.get("size_bytes")
        need(holds=entry.get("codec") == "zlib", where=f"{where}.{role}.codec", what="must be zlib")
        need(
            holds=isinstance(size, int) and 0 < size <= MAX_OVERLAY_BYTES,
            where=f"{where}.{role}.size_bytes",
            what=f"must be 1 to {MAX_OVERLAY_BYTES}",
        )
        result[role] = Overlay(codec="zlib", size_bytes=int(entry["size_bytes"]))
    return result


def patch_levels(value: object, where: str) -> dict[str, int]:
    """Read which modules the patch server offers in a newer version."""
    levels = known_keys(value, frozenset(PATCHABLE), where)
    for role, level in levels.items():
        need(
            holds=isinstance(level, int) and 0 < level <= MAX_PATCH_LEVEL,
            where=f"{where}.{role}",
            what="must be a level from 1 on",
        )
    return dict(levels)


def load_build(path: Path, label: str) -> Build:
    """Return the declared build, or say in one sentence what is wrong with the declaration."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise bad_input(f"Cannot read {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise bad_input(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error

    top = known_keys(document, frozenset({"product", "defaults", "builds"}), path.name)
    product = known_keys(top.get("product"), PRODUCT_KEYS, "product")
    for key in sorted(PRODUCT_KEYS):
        need(
            holds=isinstance(product.get(key), str) and PLAIN_TEXT.fullmatch(product[key]) is not None,
            where=f"product.{key}",
            what="must be a short text without quotes, backslash, $ or %",
        )
    name = product["name"]
    need(holds=re.fullmatch(r"[A-Za-z0-9_-]+", name) is not None, where="product.name", what="must be a plain word")

    builds = top.get("builds")
    if not isinstance(builds, dict) or label not in builds:
        declared = ", ".join(str(key) for key in builds) if isinstance(builds, dict) else "none"
        raise bad_input(f"There is no build {label!r} in {path.name}; it declares {declared}.")
    need(
        holds=re.fullmatch(r"\d{1,4}\.\d{1,4}\.\d{1,4}(-[a-z0-9]{1,10})?", label) is not None,
        where=f"The build {label!r}",
        what="must be three numbers, like 1.0.0, or 1.0.0-x86 for another build of that version",
    )

    where = f"builds.{label}"
    entry = dict(known_keys(top.get("defaults"), ENTRY_KEYS, "defaults"))
    for key, value in known_keys(builds[label], ENTRY_KEYS, where).items():
        inherited = entry.get(key)
        entry[key] = {**inherited, **value} if isinstance(inherited, dict) and isinstance(value, dict) else value
    missing = sorted(ENTRY_KEYS - set(entry))
    need(holds=not missing, where=where, what=f"and defaults lack {', '.join(missing)}")
    need(holds=type(entry["released"]) is date, where=f"{where}.released", what="must be a date like 2026-09-07")
    need(
        holds=entry["released"].year >= FIRST_ZIP_YEAR,
        where=f"{where}.released",
        what=f"must be in {FIRST_ZIP_YEAR} or later: zip files know no earlier times",
    )
    need(holds=entry["machine"] in MACHINES, where=f"{where}.machine", what=f"must be one of {', '.join(MACHINES)}")
    need(holds=type(entry["protocol"]) is int, where=f"{where}.protocol", what="must be a number")
    need(
        holds=re.fullmatch(r"[A-Za-z0-9_]{1,30}", str(entry["user"])) is not None,
        where=f"{where}.user",
        what="must be a plain word",
    )
    return Build(
        product=product,
        label=label,
        machine=entry["machine"],
        released=entry["released"],
        protocol=entry["protocol"],
        features=string_list(entry["features"], r"[a-z][a-z0-9_]*", f"{where}.features"),
        cflags=string_list(entry["cflags"], r"-\S+", f"{where}.cflags"),
        modules=module_names(entry["modules"], f"{where}.modules"),
        overlay=overlays(entry["overlay"], f"{where}.overlay"),
        patch=patch_levels(entry["patch"], f"{where}.patch"),
        server=endpoint(entry["server"], f"{where}.server"),
        patch_server=endpoint(entry["patch_server"], f"{where}.patch_server"),
        user=str(entry["user"]),
    )


# ---- made: Build -> files in a scratch folder ----


def run(arguments: list[str], scratch: Path, epoch_s: int) -> None:
    """Run a tool in the scratch folder; show what it says only when it fails."""
    environment = os.environ | {"LC_ALL": "C.UTF-8", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(epoch_s)}
    done = subprocess.run(  # noqa: S603 - our own tools and checked names, no shell
        arguments, cwd=scratch, env=environment, capture_output=True, check=False
    )
    if done.returncode != 0:
        sys.stderr.write((done.stdout + done.stderr).decode("utf-8", "replace"))
        raise BuildError(f"{arguments[0]} ended with exit code {done.returncode}.", exit_code=1)


def config_header(build: Build, *, patched: bool) -> str:
    """Return hts_config.h: everything that the sources take from builds.yaml."""
    lines = [
        "/* Made by build.py from builds.yaml. */",
        "#ifndef HTS_CONFIG_H",
        "#define HTS_CONFIG_H",
        f'#define HTS_PRODUCT L"{build.product["name"]}"',
        f'#define HTS_TITLE L"{build.product["title"]}"',
        f'#define HTS_VERSION L"{build.version}"',
        f'#define HTS_CORE_VERSION L"{build.module_version("core", patched=patched)}"',
        f'#define HTS_COMM_VERSION L"{build.module_version("comm", patched=patched)}"',
        f"#define HTS_PROTOCOL {build.protocol}",
        *(f'#define HTS_FILE_{role.upper()} L"{name}"' for role, name in build.modules.items()),
        *(f"#define HTS_FEATURE_{feature.upper()} 1" for feature in build.features),
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def resource_script(build: Build, role: str, *, patched: bool) -> str:
    """Return the resources of a module: version, and for programs icon and manifest."""
    spec = MODULES[role]
    version = build.module_version(role, patched=patched)
    numbers = ",".join([*build.version.split("."), str(build.patch[role] if version != build.version else 0)])
    strings = {
        "CompanyName": build.product["company"],
        "FileDescription": f"{build.product['title']} {spec.description}",
        "FileVersion": version,
        "InternalName": Path(build.modules[role]).stem,
        "LegalCopyright": build.product["copyright"],
        "OriginalFilename": build.modules[role],
        "ProductName": build.product["title"],
        "ProductVersion": build.version,
    }
    head = "" if spec.is_dll else '1 ICON "app.ico"\n1 24 "app.manifest"\n'
    values = "".join(f'      VALUE "{key}", "{value}"\n' for key, value in strings.items())
    return (
        f"#pragma code_page(65001)\n{head}1 VERSIONINFO\n"
        f"FILEVERSION {numbers}\nPRODUCTVERSION {numbers}\n"
        f"FILEOS 0x40004\nFILETYPE {2 if spec.is_dll else 1}\nBEGIN\n"
        # 0x0412 is Korean, 1200 (0x04b0) UTF-16.
        f'  BLOCK "StringFileInfo"\n  BEGIN\n    BLOCK "041204b0"\n    BEGIN\n{values}    END\n  END\n'
        '  BLOCK "VarFileInfo"\n  BEGIN\n    VALUE "Translation", 0x412, 1200\n  END\nEND\n'
    )


def icon() -> bytes:
    """Return an .ico file: three candlesticks on dark blue, 32 x 32."""
    size = 32
    candles = {(5, 10): (16, 26, 12, 29, False), (13, 18): (10, 20, 6, 23, True), (21, 26): (5, 15, 3, 20, True)}
    pixels = [[(0x3C, 0x22, 0x14, 0xFF)] * size for _ in range(size)]
    for (left, right), (top, bottom, high, low, rising) in candles.items():
        colour = (0x3C, 0x3C, 0xE6, 0xFF) if rising else (0xF0, 0x8C, 0x3C, 0xFF)
        for y in range(high, low):
            for x in range(left, right) if top <= y < bottom else ((left + right) // 2,):
                pixels[y][x] = colour
    bitmap = struct.pack("<IiiHHIIiiII", 40, size, 2 * size, 1, 32, 0, 0, 0, 0, 0, 0)
    bitmap += b"".join(bytes(pixel) for row in reversed(pixels) for pixel in row)
    bitmap += bytes(size * size // 8)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, size, size, 0, 0, 1, 32, len(bitmap), 22) + bitmap


def overlay_bytes(role: str, overlay: Overlay) -> bytes:
    """Return a packer's tail: magic, unpacked size, compressed data. The content depends on the role alone."""
    blocks = (hashlib.sha256(f"{role} {number}".encode()).hexdigest() for number in range(overlay.size_bytes // 64 + 1))
    content = "".join(blocks).encode()[: overlay.size_bytes]
    return OVERLAY_MAGIC + struct.pack("<I", len(content)) + zlib.compress(content, 9)


def compile_module(build: Build, role: str, scratch: Path, out: str, *, patched: bool) -> None:
    """Compile one module to `out`, a path relative to the scratch folder."""
    spec = MODULES[role]
    config = "config_patch" if patched else "config"
    script = f"{role}_patch.rc" if patched else f"{role}.rc"
    resources = f"{script}.o"
    (scratch / script).write_text(resource_script(build, role, patched=patched), encoding="utf-8")
    prefix = MACHINES[build.machine].prefix
    run([f"{prefix}windres", "-c", "65001", "-O", "coff", script, resources], scratch, build.epoch_s)
    kind = ("-shared",) if spec.is_dll else ("-municode", "-mwindows")
    run(
        [
            f"{prefix}gcc", *COMMON_CFLAGS, *build.cflags, f"-I{config}", *kind,
            *(f"src/{source}" for source in spec.sources), resources, *LINK_FLAGS,
            "-o", out, *(f"-l{library}" for library in spec.libraries),
        ],
        scratch,
        build.epoch_s,
    )  # fmt: skip
    if role in build.overlay:
        with (scratch / out).open("ab") as file:
            file.write(overlay_bytes(role, build.overlay[role]))


def compile_all(build: Build, scratch: Path) -> None:
    """Compile every module and the patch set, as many at a time as there are processors."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = [
            pool.submit(compile_module, build, role, scratch, f"made/app/{name}", patched=False)
            for role, name in build.modules.items()
        ]
        jobs += [
            pool.submit(compile_module, build, role, scratch, f"made/patch/{build.modules[role]}", patched=True)
            for role in build.patch
        ]
        for job in jobs:
            job.result()


def config_nsh(build: Build, installer: str) -> str:
    """Return config.nsh: everything that the installer takes from builds.yaml."""
    machine = MACHINES[build.machine]
    values = {
        "INSTALLER": installer,
        "PRODUCT": build.product["name"],
        "TITLE": build.product["title"],
        "COMPANY": build.product["company"],
        "COPYRIGHT": build.product["copyright"],
        "VERSION": build.version,
        "TARGET": machine.nsis_target,
        "PROGRAM_FILES": machine.nsis_program_files,
        "REGISTRY_BITS": str(machine.registry_bits),
        **{role.upper(): name for role, name in build.modules.items()},
    }
    return "".join(f'!define {key} "{value}"\n' for key, value in values.items())


def write_data_files(build: Build, app: Path) -> None:
    """Write the configuration and the data that the program reads."""
    ini = (
        f"[server]\nhost={build.server[0]}\nport={build.server[1]}\n\n"
        f"[patch]\nhost={build.patch_server[0]}\nport={build.patch_server[1]}\n\n"
        f"[user]\nid={build.user}\n"
    )
    (app / "hts.ini").write_text(ini, encoding="utf-8", newline="\r\n")
    listed = "".join(f"{build.modules[role]} {build.version}\n" for role in PATCHABLE)
    (app / "modules.txt").write_text(listed, encoding="utf-8", newline="\n")
    shutil.copyfile(HERE / "data" / "symbols.txt", app / "symbols.txt")


def write_patch_manifest(build: Build, app: Path, patch: Path) -> None:
    """Write the patch server's list: every module in its newest version."""
    lines = []
    for role in PATCHABLE:
        patched = role in build.patch
        facts = file_facts((patch if patched else app) / build.modules[role])
        version = build.module_version(role, patched=True)
        lines.append(f"{build.modules[role]} {version} {facts['size']} {facts['sha256']}\n")
    (patch / "manifest.txt").write_text("".join(lines), encoding="utf-8", newline="\n")


def set_times(folder: Path, epoch_s: int) -> None:
    """Give every file and folder below (and the folder itself) the build's time."""
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (epoch_s, epoch_s))


def write_zip(build: Build, app: Path, target: Path) -> None:
    """Write the portable zip: the program's folder without the uninstaller."""
    released = (build.released.year, build.released.month, build.released.day, 0, 0, 0)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(app.iterdir()):
            if path.name == "uninstall.exe":
                continue
            entry = zipfile.ZipInfo(f"{build.product['name']}/{path.name}", released)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 0  # a zip of Windows, wherever it is made
            archive.writestr(entry, path.read_bytes())


def file_facts(path: Path) -> dict[str, Any]:
    """Return the digests and the size of a file."""
    content = path.read_bytes()
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "size": len(content),
    }


def manifest(build: Build, made: Path, installer: str, portable: str) -> dict[str, Any]:
    """Return what the build is: every file with its digests."""
    components = {build.modules[role]: spec.component for role, spec in MODULES.items()}
    components["uninstall.exe"] = "uninstaller"
    return {
        "name": build.product["name"],
        "version": build.label,
        "installer": {"file": installer, **file_facts(made / installer)},
        "portable": {"file": portable, **file_facts(made / portable)},
        "install_dir": build.install_dir,
        "files": [
            {"path": path.name, **file_facts(path), "component": components.get(path.name, "data")}
            for path in sorted((made / "app").iterdir())
        ],
        "patch": [
            {"path": build.modules[role], **file_facts(made / "patch" / build.modules[role])}
            for role in sorted(build.patch)
        ],
        # What the program writes by itself in its folder, besides the patch set.
        "writes": ["logs\\hts.log", "logs\\update.log", *(["modules.txt"] if build.patch else [])],
    }


def make(build: Build, scratch: Path) -> Path:
    """Build everything below the scratch folder; return the folder with the results."""
    made = scratch / "made"
    app, patch = made / "app", made / "patch"
    for folder in (made, app, patch, scratch / "config", scratch / "config_patch"):
        folder.mkdir()
    shutil.copytree(HERE / "src", scratch / "src")
    shutil.copyfile(HERE / "src" / "app.manifest", scratch / "app.manifest")
    shutil.copyfile(HERE / "installer.nsi", scratch / "installer.nsi")
    (scratch / "app.ico").write_bytes(icon())
    (scratch / "config" / "hts_config.h").write_text(config_header(build, patched=False), encoding="utf-8")
    (scratch / "config_patch" / "hts_config.h").write_text(config_header(build, patched=True), encoding="utf-8")
    installer = f"{build.product['name']}-{build.label}-setup.exe"
    portable = f"{build.product['name']}-{build.label}-portable.zip"
    (scratch / "config.nsh").write_text(config_nsh(build, installer), encoding="utf-8")

    compile_all(build, scratch)
    write_data_files(build, app)
    write_patch_manifest(build, app, patch)

    shutil.copytree(app, scratch / "app")
    set_times(scratch, build.epoch_s)
    run(["makensis", "-V2", "-WX", "-INPUTCHARSET", "UTF8", "installer.nsi"], scratch, build.epoch_s)
    shutil.move(scratch / installer, made / installer)
    shutil.move(scratch / "uninstall.exe", app / "uninstall.exe")
    (app / "uninstall.exe").chmod(0o644)
    write_zip(build, app, made / portable)
    facts = manifest(build, made, installer, portable)
    (made / "manifest.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    set_times(made, build.epoch_s)
    return made


def publish(made: Path, out_dir: Path) -> None:
    """Move the results into the output folder; the manifest comes last and so marks a complete build."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / "manifest.json").unlink(missing_ok=True)
        for path in sorted(made.iterdir(), key=lambda path: (path.name == "manifest.json", path.name)):
            target = out_dir / path.name
            if target.is_dir():
                shutil.rmtree(target)
            shutil.move(path, target)
    except OSError as error:
        raise bad_input(f"Cannot write to {out_dir}: {error.strerror}.") from error


def check_tools(machine: Machine) -> None:
    """Raise with the missing tools and the packages that hold them."""
    missing = [tool for tool in machine.tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(machine.tools[tool] for tool in missing)
        raise BuildError(f"Missing: {', '.join(missing)}; install with: apt-get install {packages}", exit_code=5)


def main(arguments: list[str] | None = None) -> int:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description="Build one version of the demo HTS.")
    parser.add_argument("version", metavar="VERSION", help="a build declared in builds.yaml, e.g. 1.0.0")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="where the results go")
    parser.add_argument(
        "--machine", choices=MACHINES, default="x64", help="what the build is declared for; default: %(default)s"
    )
    parser.add_argument(
        "--builds", metavar="FILE", type=Path, default=HERE / "builds.yaml", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        build = load_build(options.builds, options.version)
        # The recipe says which compilers it is made with; a build of another machine would not be known by them.
        need(
            holds=build.machine == options.machine,
            where=f"The build {build.label!r}",
            what=f"is made for {build.machine}; build it with --machine {build.machine}",
        )
        check_tools(MACHINES[build.machine])
        with tempfile.TemporaryDirectory(prefix="demo-hts-") as scratch:
            publish(make(build, Path(scratch)), options.out_dir)
    except BuildError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
