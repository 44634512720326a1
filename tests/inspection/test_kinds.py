from __future__ import annotations

import pytest

from harness.inspection.kinds import NAMES, NSIS_MARK, SILENT, kind_of_program
from harness.inspection.model import Kind


def kind(
    *, sections: tuple[str, ...] = (".text",), overlay: bytes = b"", samples: tuple[bytes, ...] = (), **texts: str
) -> Kind:
    return kind_of_program(is_dll=False, section_names=sections, texts=texts, overlay=overlay, samples=samples)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (kind(overlay=bytes(4) + NSIS_MARK + bytes(20)), Kind.NSIS),
        (kind(overlay=bytes(516) + NSIS_MARK), Kind.NSIS),
        (kind(Comments="This installation was built with Inno Setup."), Kind.INNO),
        (kind(samples=(b"", b"..rDlPtS..")), Kind.INNO),
        (kind(overlay=b"Inno Setup Setup Data (6.3.0)"), Kind.INNO),
        (kind(sections=(".text", ".wixburn")), Kind.BURN),
        (kind(FileDescription="InstallShield (R) Setup Launcher"), Kind.INSTALLSHIELD),
        (kind(overlay=b"ISSetupStream" + bytes(20)), Kind.INSTALLSHIELD),
        (kind(overlay=b"7z\xbc\xaf\x27\x1c" + bytes(20)), Kind.SFX_7ZIP),
        (kind(overlay=b";!@Install@!UTF-8!\nTitle=x\n;!@InstallEnd@!7z"), Kind.SFX_7ZIP),
        (kind(overlay=b"Rar!\x1a\x07\x01"), Kind.SFX_RAR),
        (kind(overlay=b"PK\x03\x04"), Kind.SFX_ZIP),
        (kind(overlay=b"anything"), Kind.PROGRAM),
        (kind(), Kind.PROGRAM),
    ],
)
def test_an_installer_is_known_by_the_mark_of_its_maker(found: Kind, expected: Kind) -> None:
    assert found is expected


def test_a_library_is_one_whatever_lies_behind_it() -> None:
    found = kind_of_program(is_dll=True, section_names=[], texts={}, overlay=NSIS_MARK, samples=[])
    assert found is Kind.LIBRARY


@pytest.mark.parametrize("which", list(Kind))
def test_every_kind_has_a_name_and_a_word_on_silence(which: Kind) -> None:
    assert NAMES[which]
    assert which in SILENT
