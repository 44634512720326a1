"""Driver. Looks into one build without running or unpacking it, and joins what is found.

1. The file is read in pieces; of a program of 2 GB a few mebibytes are ever in memory.
2. What cannot be read is said, never guessed: the inspection has the reason beside what it has.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.build_file import MAX_BYTES, digest_file, is_msi, is_zip, portable_folder
from harness.errors import InputError
from harness.inspect_pe import NotAProgram, ProgramHeaders, read_headers
from harness.inspection import tool_lists
from harness.inspection.kinds import kind_of_program
from harness.inspection.known_modules import modules_in
from harness.inspection.main_program import main_program
from harness.inspection.model import Contents, FileSeen, Inspection, Kind, SectionSeen, Signed, Trust
from harness.inspection.packers import entropy, hints
from harness.inspection.signers import signed_by
from harness.inspection.tools import SEVEN_ZIP, run_tool
from harness.portable import NotPortable, copy_out, list_zip, pack_folder
from harness.windows_names import why_no_name

#: Digesting more than this takes longer than anybody waits; no installer is so large.
MAX_INSPECTED_BYTES = 8 << 30
OVERLAY_SAMPLE_BYTES = 1 << 20

#: COFF machine types. Source: Microsoft, "PE Format", Machine Types.
MACHINES = {0x14C: ("x86", 32), 0x8664: ("x64", 64), 0xAA64: ("ARM64", 64), 0x1C4: ("ARM", 32)}
_CONSOLE = 3
#: Installers that 7-Zip lists. What it says of a plain program are the program's own parts.
_SEVEN_ZIP_KINDS = frozenset({Kind.NSIS, Kind.SFX_7ZIP, Kind.SFX_RAR, Kind.SFX_ZIP, Kind.BURN, Kind.INSTALLSHIELD})


def inspect_build(path: Path) -> Inspection:
    """Find out what a build is and holds.

    Args:
        path: A program, an .msi, a .zip or a folder.

    Raises:
        InputError: It is missing, empty, too large to be digested, or none of these.
    """
    try:
        _check(path)
        if path.is_dir():
            return _archive(pack_folder(path, portable_folder()), Kind.FOLDER, asked=path)
        if is_zip(path):
            return _archive(path, Kind.ZIP, asked=path)
        return _msi(path) if is_msi(path) else _program(path)
    except (NotAProgram, NotPortable) as error:
        hint = "It can be a program (.exe, .dll), a package (.msi), a zip or a folder."
        raise InputError(f"'{path}' {error}.", hint=hint) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"'{path}' cannot be read ({why}).", hint="Check the path and its permissions.") from error


def _check(path: Path) -> None:
    if not path.exists():
        raise InputError(f"'{path}' does not exist.", hint="Check the path; it is relative to the current folder.")
    if path.is_dir():
        return
    if not path.is_file():
        raise InputError(f"'{path}' is no ordinary file.", hint="Name a setup program.")
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"'{path}' is empty (0 bytes).", hint="Was the download or the copy finished?")
    if size > MAX_INSPECTED_BYTES:
        raise InputError(f"'{path}' has {size >> 30} GiB; 8 GiB are the most.", hint="Name the installer alone.")


def _program(path: Path) -> Inspection:
    headers = read_headers(path)
    sections = tuple(
        SectionSeen(name=s.name, size_bytes=s.size_bytes, entropy=entropy(s.sample)) for s in headers.sections
    )
    kind = kind_of_program(
        is_dll=headers.is_dll,
        section_names=[s.name for s in sections],
        texts=headers.texts,
        overlay=_overlay(path, headers),
        samples=[s.sample for s in headers.sections],
    )
    machine, bits = MACHINES.get(headers.machine, (f"machine {headers.machine:#06x}", None))
    signed = signed_by(path)
    if headers.signed and signed.trust is Trust.UNSIGNED:
        signed = Signed(trust=Trust.UNREADABLE, detail="There is a certificate table, and no signature reads in it.")
    contents = _listed(path, kind)
    digests = digest_file(path)
    notes = []
    if kind is Kind.PROGRAM and headers.overlay_bytes:
        notes.append(f"{headers.overlay_bytes} bytes lie behind the program: data, or an installer of an unknown kind.")
    if kind is Kind.NSIS and bits == 32:  # noqa: PLR2004 - bits
        notes.append("The installer itself is 32-bit, as most NSIS installers are; what it installs may be 64-bit.")
    return Inspection(
        path=str(path),
        file_name=path.name,
        kind=kind,
        size_bytes=digests.size_bytes,
        sha256=digests.sha256,
        md5=digests.md5,
        bits=bits,
        machine=machine,
        windowed=None if headers.is_dll else headers.subsystem != _CONSOLE,
        elevation=_elevation(headers.manifest),
        texts=tuple(sorted((name, text) for name, text in headers.texts.items() if text)),
        signed=signed,
        sections=sections,
        overlay_bytes=headers.overlay_bytes,
        hints=hints(sections),
        contents=contents,
        modules=modules_in((FileSeen(path=path.name), *contents.files)),
        notes=tuple(notes),
        refused="A library cannot be installed by itself." if headers.is_dll else _refused(path, digests.size_bytes),
    )


def _msi(path: Path) -> Inspection:
    digests = digest_file(path)
    summary = run_tool(("msiinfo",), ("suminfo",), path, package="msitools")
    properties = run_tool(("msiinfo",), ("export",), path, package="msitools", tail=("Property",))
    files = run_tool(("msiinfo",), ("export",), path, package="msitools", tail=("File",))
    if files.why_not:
        contents = _listed(path, Kind.MSI)
    else:
        contents = Contents(files=tool_lists.msi_files(files.text), by="msiinfo")
    bits = tool_lists.msi_bits(summary.text)
    return Inspection(
        path=str(path),
        file_name=path.name,
        kind=Kind.MSI,
        size_bytes=digests.size_bytes,
        sha256=digests.sha256,
        md5=digests.md5,
        bits=bits,
        machine={32: "x86", 64: "x64"}.get(bits or 0),
        texts=tool_lists.msi_properties(properties.text),
        signed=signed_by(path),
        contents=contents,
        modules=modules_in(contents.files),
        notes=tuple(dict.fromkeys(why for why in (summary.why_not, properties.why_not) if why)),
        refused=_refused(path, digests.size_bytes),
    )


def _archive(archive: Path, kind: Kind, *, asked: Path) -> Inspection:
    """Inspect a zip. Of its files only the main program is looked into; machine, texts and signature are that one's."""
    listed = list_zip(archive)
    files = tuple(FileSeen(path=e.path, size_bytes=e.size_bytes) for e in listed.entries)
    digests = digest_file(archive)
    setups = [f.path for f in files if f.path.casefold().endswith((".msi", "setup.exe", "install.exe"))]
    notes = [f"It holds '{setups[0]}': if that is the installer, unpack it and name that file."] if setups else []
    found = Inspection(
        path=str(asked),
        file_name=archive.name,
        kind=kind,
        size_bytes=digests.size_bytes,
        sha256=digests.sha256,
        md5=digests.md5,
        signed=Signed(trust=Trust.UNCHECKED, detail="A zip carries no signature that Windows looks at."),
        contents=Contents(files=files, by="zipfile"),
        modules=modules_in(files),
        refused=f"It {listed.refused}." if listed.refused else _refused(archive, digests.size_bytes),
    )
    main = main_program(files) if listed.refused is None else None
    if main is None:
        return replace(found, notes=tuple(notes))
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "main.exe"
        try:
            copy_out(archive, main, copy)
            inner = _program(copy)
        except (NotPortable, NotAProgram) as error:
            return replace(found, notes=(*notes, f"Its program '{main}' {error}."))
    return replace(
        found,
        bits=inner.bits,
        machine=inner.machine,
        windowed=inner.windowed,
        elevation=inner.elevation,
        texts=inner.texts,
        signed=inner.signed,
        sections=inner.sections,
        hints=inner.hints,
        notes=(*notes, f"Machine, texts, sections and signature are those of '{main}'."),
    )


def _listed(path: Path, kind: Kind) -> Contents:
    if kind is Kind.INNO:
        output = run_tool(("innoextract",), ("--list", "--color=0", "--progress=0"), path, package="innoextract")
        return Contents(files=tool_lists.innoextract(output.text), by="innoextract", why_not=output.why_not)
    if kind not in _SEVEN_ZIP_KINDS and kind is not Kind.MSI:
        return Contents(why_not="A program shows only itself; what it may carry is not listed.")
    # The empty password keeps 7-Zip from asking a person for one.
    output = run_tool(SEVEN_ZIP, ("l", "-slt", "-sccUTF-8", "-p", "--"), path, package="7zip")
    files = tool_lists.seven_zip(output.text)
    return Contents(files=files, by="7-Zip" if files else None, why_not=output.why_not)


def _overlay(path: Path, headers: ProgramHeaders) -> bytes:
    with path.open("rb") as stream:
        stream.seek(headers.overlay_offset)
        return stream.read(min(headers.overlay_bytes, OVERLAY_SAMPLE_BYTES))


def _elevation(manifest: str) -> str | None:
    """Give the level that the manifest asks for. Source: Microsoft, "Application manifests", trustInfo."""
    return next(
        (level for level in ("requireAdministrator", "highestAvailable", "asInvoker") if level in manifest), None
    )


def _refused(path: Path, size_bytes: int) -> str | None:
    why = why_no_name(path.name)
    if why is not None:
        return f"Its name is impossible on Windows: {why}."
    if size_bytes > MAX_BYTES:
        return f"It has {size_bytes >> 20} MiB; a run takes {MAX_BYTES >> 20} MiB at most."
    return None
