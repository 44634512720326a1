from __future__ import annotations

import base64
from pathlib import Path

import pytest

from harness.inspection.model import Trust
from harness.inspection.signers import MAX_BYTES, signed_by
from tests.fake_project import tiny_program

#: The tiny program, signed by a certificate that signed itself: made with openssl and osslsigncode.
SIGNED = base64.b64decode((Path(__file__).parent / "self_signed.b64").read_bytes())


def put(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def test_a_program_without_a_signature_is_not_signed(tmp_path: Path) -> None:
    signed = signed_by(put(tmp_path / "a.exe", tiny_program()))
    assert (signed.trust, signed.signers) == (Trust.UNSIGNED, ())


def test_a_signer_that_nobody_knows_is_named_and_not_trusted(tmp_path: Path) -> None:
    signed = signed_by(put(tmp_path / "a.exe", SIGNED))
    assert signed.trust is Trust.UNPROVEN
    (signer,) = signed.signers
    assert signer.subject == signer.issuer == "CN=Demo Securities, O=데모증권, C=KR"
    assert signer.valid_from == "2026-11-24"
    assert len(signer.sha256) == 64
    assert "self-signed" in signed.detail


def test_a_program_that_was_changed_after_it_was_signed_is_altered(tmp_path: Path) -> None:
    data = bytearray(SIGNED)
    data[600] ^= 1
    assert signed_by(put(tmp_path / "a.exe", data)).trust is Trust.ALTERED


@pytest.mark.parametrize("at", range(1024, 2600, 61))
def test_a_signature_with_a_wrong_byte_is_never_valid_and_never_trouble(tmp_path: Path, at: int) -> None:
    data = bytearray(SIGNED)
    data[at] ^= 0xFF
    assert signed_by(put(tmp_path / "a.exe", data)).trust is not Trust.VALID


def test_a_file_that_is_no_program_is_no_trouble(tmp_path: Path) -> None:
    assert signed_by(put(tmp_path / "a.txt", b"text")).trust is Trust.UNREADABLE


def test_a_file_that_is_too_large_to_be_hashed_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "a.exe"
    with path.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    assert signed_by(path).trust is Trust.UNCHECKED
