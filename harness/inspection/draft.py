"""Pure. A first scenario and suite for a build: what could be found out, and a TODO where a person must decide.

Every text of the build stands inside double quotes with its control characters escaped, or is left out: no name of a
file can become a key, a comment's end or a command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from harness.inspection.kinds import NAMES, PORTABLE, SILENT
from harness.inspection.main_program import below_install, main_program
from harness.inspection.model import Inspection, Kind
from harness.windows_names import why_no_name

_X86 = 32


def slug(text: str) -> str:
    """Give a text as a scenario's or suite's name.

    Example:
        >>> slug("My HTS (v2)")
        'my-hts-v2'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:64] or "my-hts"


def quoted(text: str) -> str:
    r"""Give a text as a YAML scalar in double quotes in which nothing acts.

    Example:
        >>> print(quoted('a"b\n접속'))
        "a\"b\n접속"
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in json.dumps(text, ensure_ascii=False))


def install_dir(found: Inspection) -> str:
    """Guess the install folder from the build's own name."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "", found.product or "").strip(" .")
    if found.kind in PORTABLE or not name or why_no_name(name):
        name = slug(found.file_name.rsplit(".", 1)[0])
    root = "Program Files (x86)" if found.bits == _X86 else "Program Files"
    return f"C:\\{root}\\{name[:64].strip(' .')}"


def draft_scenario(found: Inspection, *, name: str) -> str:
    """Give the YAML text of a scenario."""
    return "\n".join(_scenario_lines(found, name)) + "\n"


def draft_suite(found: Inspection, *, name: str, scenario: str, build: str, signature_sets: str) -> str:
    """Give the YAML text of a suite that runs the scenario over this build.

    Args:
        found: The inspection.
        name: The suite's name.
        scenario: Path of the scenario, relative to the suite.
        build: Path of the build, relative to the suite.
        signature_sets: Path of a file of sets that knows no build, relative to the suite.
    """
    return "\n".join(_suite_lines(found, name, scenario, build, signature_sets)) + "\n"


def _scenario_lines(found: Inspection, name: str) -> Iterator[str]:
    yield "# Drafted by 'hts-compat build inspect'. Every TODO is yours to decide; the rest is a guess worth checking."
    yield f"# Build: {NAMES[found.kind]}, {found.size_bytes} bytes, sha256 {found.sha256}."
    yield "schema: hts-compat/scenario/1"
    yield f"name: {name}"
    yield f"description: {quoted(f'TODO one sentence about {_plain(found.product or found.file_name)}')}"
    yield ""
    yield "# Globs below the install folder of what changes by itself: logs, settings, caches."
    yield "volatile: ['*.log', 'logs\\*']  # TODO"
    yield ""
    yield "steps:"
    yield "  - deliver: {to: downloads}"
    yield from _install_lines(found)
    yield "  - verify_files:"
    yield from _launch_lines(found)


def _install_lines(found: Inspection) -> Iterator[str]:
    if found.kind in PORTABLE:
        yield "  - install:  # a portable build: unpacked into the install folder by the desktop user"
        yield "      timeout_s: 300"
        return
    if found.elevation == "requireAdministrator":
        yield "  # The installer asks for an administrator. wine has no UAC; on Windows a standard user is asked."
    if found.kind is Kind.PROGRAM:
        yield "  # No known installer: if this is the program itself, put it into a folder and give that as the build."
    args = ", ".join(quoted(arg) for arg in SILENT[found.kind])
    todo = "" if found.kind in {Kind.NSIS, Kind.INNO, Kind.MSI, Kind.BURN} else "  # TODO its silent switches"
    yield "  - install:"
    yield f"      args: [{args}]{todo}"
    codes = "[0, 3010]  # 3010: done, wants a restart" if found.kind in {Kind.MSI, Kind.BURN} else "[0]"
    yield f"      exit_codes: {codes}"
    yield "      timeout_s: 300"
    for module in found.modules:
        silent = f"silent by {module.silent}" if module.silent else "silent switch unknown"
        yield f"  # Seems to bring {module.module} ({silent}), known by a file's name."


def _launch_lines(found: Inspection) -> Iterator[str]:
    listed = main_program(found.contents.files, found.product)
    program = None if listed is None else below_install(listed)
    yield "  - launch:"
    guess = "  # TODO a guess" if program else "  # TODO the program, relative to the install folder"
    yield f"      program: {quoted(program or 'TODO.exe')}{guess}"
    if found.kind in PORTABLE and found.windowed is False:
        yield "      # A console program: it does its work and ends by itself."
        yield "      args: [--version]  # TODO what it is to do"
        yield "      exit_codes: [0]"
        return
    yield "      # TODO text that the title of its window contains, or {matches: a regular expression}. A program that"
    yield "      # has no window and ends by itself has 'exit_codes: [0]' (and 'args: [...]') instead of 'window'."
    yield f"      window: {quoted(_plain(found.product or '') or 'TODO')}"
    yield "      error_windows: [{matches: '(?i)error|오류'}]"
    yield "      timeout_s: 120"
    yield "  - dwell:"
    yield "      seconds: 30"
    yield "      error_windows: [{matches: '(?i)error|오류'}]"


def _suite_lines(found: Inspection, name: str, scenario: str, build: str, signature_sets: str) -> Iterator[str]:
    yield "# Drafted by 'hts-compat build inspect'."
    yield "schema: hts-compat/suite/1"
    yield f"name: {name}"
    yield "lab: reference"
    if found.bits == _X86:
        yield "# The build is 32-bit; the image that runs it is made by 'hts-compat image build reference-32'."
    yield "images: [reference-32]" if found.bits == _X86 else "images: [reference]"
    yield ""
    yield "builds:"
    version = re.sub(r"[^\w.+-]+", "-", found.version or "", flags=re.ASCII).strip("-.+_")[:64]
    yield f"  - path: {quoted(build)}"
    yield f"    version: {quoted(version)}" if version else "    version: '1.0.0'  # TODO"
    yield f"    install_dir: {quoted(install_dir(found))}  # TODO a guess"
    yield ""
    yield "products:"
    yield "  - product: clamav"
    yield f"    signature_sets: {quoted(signature_sets)}"
    yield "    # The reference lab's ClamAV knows what is in that file, and nothing else: 'nothing-known' finds out"
    yield "    # whether the build works beside on-access scanning, 'installer-known' shows a detection."
    yield "    signatures: [nothing-known, installer-known]"
    yield ""
    yield f"scenarios: [{quoted(scenario)}]"
    yield "confirm: 2"
    yield "jobs: 1"
    yield "max_age: 20h"


def _plain(text: str) -> str:
    """Give a stranger's text as words that fit on a line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - no valid text, and no valid YAML
        return "\\uFFFD"
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"  # noqa: PLR2004 - the basic plane
