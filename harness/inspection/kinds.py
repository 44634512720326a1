"""Pure. What kind of installer a Windows program is, by marks that its maker leaves in every one of them.

Each mark is one line with its source. A program without a mark is a plain program: that is no proof that it installs
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.inspection.model import Kind

#: ``firstheader`` of an NSIS installer: 4 bytes of flags, 0xDEADBEEF, "NullsoftInst"; at a multiple of 512.
#: Source: NSIS 3, Source/exehead/fileform.h (FH_SIG, FH_INT1-3).
NSIS_MARK = b"\xef\xbe\xad\xdeNullsoftInst"
#: Source: 7-Zip's 7zFormat.txt, RAR 5 archive format, PKWARE APPNOTE 4.3.7.
ARCHIVES = {b"7z\xbc\xaf\x27\x1c": Kind.SFX_7ZIP, b"Rar!\x1a\x07": Kind.SFX_RAR, b"PK\x03\x04": Kind.SFX_ZIP}
#: Configuration of a 7-Zip SFX for installers stands before the archive. Source: 7-Zip, "SFX Modules for Installers".
SFX_CONFIG = b";!@Install@!UTF-8!"
#: Marks of Inno Setup's loader and of its data. Source: Inno Setup, SetupLdrOffsetTableID and SetupID.
INNO_MARKS = (b"rDlPtS", b"Inno Setup Setup Data (")
#: The comment in the version resource of each of its installers. Source: Inno Setup, its compiler's version info.
INNO_COMMENT = "built with Inno Setup"
#: Section of a WiX bundle. Source: WiX, burn/engine/section.cpp.
BURN_SECTION = ".wixburn"

#: How to install silently. Sources: NSIS Users Manual 3.2.1; Inno Setup Help, "Setup Command Line Parameters";
#: Revenera, "Setup.exe and Update.exe Command-Line Parameters"; WiX, "Bundle command line"; 7-Zip, "-y"; WinRAR, "SFX".
SILENT: Mapping[Kind, tuple[str, ...]] = {
    Kind.NSIS: ("/S",),
    Kind.INNO: ("/VERYSILENT", "/SUPPRESSMSGBOXES", "/NORESTART", "/SP-"),
    Kind.INSTALLSHIELD: ("/s", "/v/qn"),
    Kind.BURN: ("/quiet", "/norestart"),
    Kind.SFX_7ZIP: ("-y",),
    Kind.SFX_RAR: ("/s",),
    Kind.SFX_ZIP: (),
    Kind.PROGRAM: (),
    Kind.LIBRARY: (),
    Kind.MSI: ("/qn", "/norestart"),
    Kind.ZIP: (),
    Kind.FOLDER: (),
}

NAMES: Mapping[Kind, str] = {
    Kind.NSIS: "NSIS installer",
    Kind.INNO: "Inno Setup installer",
    Kind.INSTALLSHIELD: "InstallShield installer",
    Kind.BURN: "WiX bundle (Burn)",
    Kind.SFX_7ZIP: "7-Zip self-extracting archive",
    Kind.SFX_RAR: "RAR self-extracting archive",
    Kind.SFX_ZIP: "program with a zip behind it",
    Kind.PROGRAM: "plain Windows program (no known installer)",
    Kind.LIBRARY: "Windows library (DLL)",
    Kind.MSI: "Windows Installer package (MSI)",
    Kind.ZIP: "zip archive",
    Kind.FOLDER: "folder",
}

#: Kinds whose content is unpacked rather than installed.
PORTABLE = frozenset({Kind.ZIP, Kind.FOLDER})


def kind_of_program(
    *, is_dll: bool, section_names: Sequence[str], texts: Mapping[str, str], overlay: bytes, samples: Sequence[bytes]
) -> Kind:
    """Tell a program's kind.

    Args:
        is_dll: It is a library.
        section_names: In order.
        texts: The version resource.
        overlay: The beginning of what lies behind the last section.
        samples: The beginnings of the sections, the resources among them.
    """
    if is_dll:
        return Kind.LIBRARY
    if BURN_SECTION in section_names:
        return Kind.BURN
    if NSIS_MARK in overlay:
        return Kind.NSIS
    if INNO_COMMENT in texts.get("Comments", "") or any(mark in s for mark in INNO_MARKS for s in (*samples, overlay)):
        return Kind.INNO
    said = " ".join(texts.get(name, "") for name in ("FileDescription", "CompanyName", "ISInternalDescription"))
    if overlay.startswith((b"InstallShield", b"ISSetupStream")) or "InstallShield" in said:
        return Kind.INSTALLSHIELD
    if overlay.startswith(SFX_CONFIG):
        return Kind.SFX_7ZIP
    return next((kind for magic, kind in ARCHIVES.items() if overlay.startswith(magic)), Kind.PROGRAM)
