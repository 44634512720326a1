from __future__ import annotations

import os

import pytest

from harness.inspection.model import SectionSeen
from harness.inspection.packers import entropy, hints


def section(name: str, *, bits: float = 6.0, size: int = 100_000) -> SectionSeen:
    return SectionSeen(name=name, size_bytes=size, entropy=bits)


@pytest.mark.parametrize(
    ("data", "bits"), [(b"", 0.0), (b"aaaa", 0.0), (b"ab" * 50, 1.0), (bytes(range(256)) * 4, 8.0)]
)
def test_entropy_is_in_bits_a_byte(data: bytes, bits: float) -> None:
    assert entropy(data) == bits


def test_random_bytes_are_near_eight() -> None:
    assert entropy(os.urandom(100_000)) > 7.99


@pytest.mark.parametrize(
    ("name", "packer"), [("UPX0", "UPX"), (".themida", "Themida"), (".vmp0", "VMProtect"), (".Aspack", "ASPack")]
)
def test_a_packer_s_section_is_a_hint_and_says_that_it_is_no_more(name: str, packer: str) -> None:
    (said,) = hints([section(name)])
    assert said == f"{packer}: a section is called '{name}' (a name is only a hint)."


@pytest.mark.parametrize(
    ("name", "bits", "size", "expected"),
    [(".text", 7.9, 100_000, 1), (".text", 6.8, 100_000, 0), (".rsrc", 7.9, 100_000, 0), (".text", 7.9, 100, 0)],
)
def test_code_that_looks_like_noise_is_a_hint(name: str, bits: float, size: int, expected: int) -> None:
    assert len(hints([section(name, bits=bits, size=size)])) == expected
