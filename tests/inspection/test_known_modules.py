from __future__ import annotations

import re

import pytest

from harness.inspection.known_modules import MODULES, KnownModule, modules_in
from harness.inspection.model import FileSeen


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("$INSTDIR/ext/astx_setup.exe", "AhnLab Safe Transaction"),
        ("modules\\nos_setup.exe", "nProtect Online Security"),
        ("TouchEn_nxKey_Installer_32bit_new.exe", "TouchEn nxKey"),
        ("I3GSvcManager_3.0.0.24.exe", "IPinside"),
        ("SKCertServiceSetup_v2.5.18_152.exe", "SignKoreaCert"),
    ],
)
def test_a_module_is_known_by_its_installer_s_name(path: str, module: str) -> None:
    assert [found.module for found in modules_in([FileSeen(path=path)])] == [module]


@pytest.mark.parametrize(
    "path", ["DemoHTS.exe", "astx_setup.exe.txt", "my_nos_setup.exe", "nos_setup.exe/readme.txt", ""]
)
def test_another_file_is_none(path: str) -> None:
    assert modules_in([FileSeen(path=path)]) == ()


@pytest.mark.parametrize("known", MODULES, ids=lambda known: known.name)
def test_every_expression_compiles_and_fits_a_program(known: KnownModule) -> None:
    re.compile(known.file)
    assert known.file.endswith(r"\.exe")
    assert known.file == known.file.casefold()
