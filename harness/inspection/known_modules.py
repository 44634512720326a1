"""Pure. Security modules that Korean sites make their customers install, known by their installers' file names.

A bundled module is one more vendor's driver or hook that a build brings along; its own silent switch may be needed.

Source: the public catalogue yourtablecloth/TableClothCatalog, docs/Catalog.xml of 2026-08-01 (2c6d248): names,
installers' file names and arguments as listed there, for modules that three sites or more ask for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from harness.inspection.model import FileSeen, ModuleSeen


class KnownModule(NamedTuple):
    """A module: its name, an expression for its installer's file name, its silent argument, and its sites of 272."""

    name: str
    file: str
    silent: str | None
    sites: int


MODULES = (
    KnownModule("Veraport", r"veraport-g3.*\.exe", "/silent", 135),
    KnownModule("nProtect Online Security", r"nos_setup.*\.exe", "/silent", 135),
    KnownModule("SignKoreaCert", r"skcertservicesetup.*\.exe", None, 92),
    KnownModule("AhnLab Safe Transaction", r"astx(_setup|dn).*\.exe", "/silent", 72),
    KnownModule("TouchEn nxKey", r"touchen_nxkey.*\.exe", "/silence", 46),
    KnownModule("Delfino", r"delfino-g3.*\.exe", "/silent", 42),
    KnownModule("AnySign", r"anysign_installer.*\.exe", "/S", 36),
    KnownModule("IPinside", r"i3gsvcmanager.*\.exe", "/nodlg", 36),
    KnownModule("ePageSafer", r"setup_epagesafer.*\.exe", "/silent", 20),
    KnownModule("INISAFE CrossWeb EX", r"inis_ex.*\.exe", "/S", 17),
    KnownModule("TouchEn Firewall", r"tefw_installer.*\.exe", "/silence", 12),
    KnownModule("KSCertRelay", r"kscertrelay.*\.exe", "/silent", 8),
    KnownModule("KOS", r"kos_setup.*\.exe", "/silent", 8),
    KnownModule("KeySharpBiz", r"ksbiz_installer.*\.exe", None, 6),
    KnownModule("iSASService", r"nxisas.*\.exe", "/silent", 5),
    KnownModule("UniSign", r"unisigncrs.*setup.*\.exe", "/silent", 4),
    KnownModule("MaWebDRM", r"inst_mawebdrm.*\.exe", "/silent", 4),
    KnownModule("MagicLine4NX", r"magicline4nx.*\.exe", "/silent", 3),
    KnownModule("VestCert", r"vestcertsetup.*\.exe", "/silent", 3),
)


def modules_in(files: Iterable[FileSeen]) -> tuple[ModuleSeen, ...]:
    """Find known modules among files, by the last part of each path."""
    return tuple(
        ModuleSeen(module=known.name, path=file.path, silent=known.silent)
        for file in files
        for known in MODULES
        if re.fullmatch(known.file, file.path.replace("\\", "/").rsplit("/", 1)[-1].casefold())
    )
