from __future__ import annotations

import pytest

from harness.windows_names import why_no_name, why_no_path


@pytest.mark.parametrize(
    "name", ["setup.exe", "데모 증권 HTS 설치.exe", "a.b.c", ".hidden", "com10.txt", "console.exe"]
)
def test_an_ordinary_name_is_one(name: str) -> None:
    assert why_no_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "", "a<b>.exe", 'a"b', "a:b", "a|b", "a?b", "a*b", "a/b", "a\\b", "a\x1b[31m", "a\nb", "a.", "a ", "con",
        "NUL.txt", "com1.log", "x" * 256, "\ud800",
    ],
)  # fmt: skip
def test_a_name_that_windows_cannot_have_is_told(name: str) -> None:
    why = why_no_name(name)
    assert why is not None
    assert why.isprintable()


@pytest.mark.parametrize("path", ["a/b.exe", "a\\b.exe", "한글 폴더/데모.exe"])
def test_a_relative_path_is_one(path: str) -> None:
    assert why_no_path(path) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../a", "leads out"),
        ("a/../../b", "leads out"),
        ("a\\..\\b", "leads out"),
        ("/etc/passwd", "absolute"),
        ("\\\\server\\share", "absolute"),
        ("C:\\a", "absolute"),
        ("C:", "absolute"),
        ("a//b", "empty"),
        ("a/./b", "period"),
        ("a/con/b", "device"),
        ("/".join(["folder"] * 50), "longer"),
    ],
)
def test_a_path_that_leaves_its_folder_is_told(path: str, why: str) -> None:
    assert why in (why_no_path(path) or "")
