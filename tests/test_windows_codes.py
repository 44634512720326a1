"""Exit codes and HRESULTs in Windows' own words."""

from __future__ import annotations

import pytest

from harness.windows_codes import code_text


@pytest.mark.parametrize(
    ("code", "start"),
    [
        (126, "ERROR_MOD_NOT_FOUND"),
        (-1073741515, "STATUS_DLL_NOT_FOUND"),
        (0x800700E1, "ERROR_VIRUS_INFECTED"),
        (-2147024671, "ERROR_VIRUS_INFECTED"),
    ],
)
def test_codes_are_mapped_signed_unsigned_and_as_hresult(code: int, start: str) -> None:
    assert (code_text(code) or "").startswith(start)


def test_an_unknown_code_has_no_name() -> None:
    assert code_text(424242) is None
    assert code_text(None) is None
