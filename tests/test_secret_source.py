"""Where the values of secrets come from, and the one sentence about each that is not there. No sentence has a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.secret_source import secrets_for, without_secrets
from harness.yaml_source import Place

ASKED = {"ACCOUNT": Place("a.yaml", 7, 9)}


def refused(environment: dict[str, str]) -> InputError:
    with pytest.raises(InputError) as caught:
        secrets_for(ASKED, environment)
    assert caught.value.exit_code == 2
    assert "Nothing was started" in caught.value.hint
    for value in environment.values():
        assert value.strip() not in f"{caught.value.summary}{caught.value.detail}" or "/" in value
    return caught.value


def test_a_value_comes_from_the_environment() -> None:
    assert secrets_for(ASKED, {"HTS_SECRET_ACCOUNT": "hong-1234"})["ACCOUNT"].reveal() == "hong-1234"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_value_comes_from_a_file_without_its_line_end(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "account"
    file.write_bytes(f"홍길동-1234{ending}".encode())
    assert secrets_for(ASKED, {"HTS_SECRET_ACCOUNT_FILE": str(file)})["ACCOUNT"].reveal() == "홍길동-1234"


def test_nothing_is_asked_for_nothing() -> None:
    assert secrets_for({}, {}) == {}


def test_every_missing_secret_is_told_with_its_line() -> None:
    with pytest.raises(InputError, match="2 secrets are not there") as caught:
        secrets_for({**ASKED, "PASSWORD": Place("a.yaml", 8, 9)}, {})
    assert caught.value.detail.splitlines() == [
        "a.yaml:7:9: the secret 'ACCOUNT' is not set (HTS_SECRET_ACCOUNT, or HTS_SECRET_ACCOUNT_FILE)",
        "a.yaml:8:9: the secret 'PASSWORD' is not set (HTS_SECRET_PASSWORD, or HTS_SECRET_PASSWORD_FILE)",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("12345", "has 5 characters; 6 to 256"),
        ("x" * 257, "has 257 characters"),
        ("hong\n1234", "has control characters"),
        (" hong-1234", "blanks around it"),
    ],
)
def test_a_value_that_cannot_be_kept_out_of_records_is_refused(value: str, said: str) -> None:
    assert said in refused({"HTS_SECRET_ACCOUNT": value}).detail


def test_a_secret_that_is_given_twice_is_refused() -> None:
    given = {"HTS_SECRET_ACCOUNT": "hong-1234", "HTS_SECRET_ACCOUNT_FILE": "/run/secrets/account"}
    assert "is given twice" in refused(given).detail


def test_a_file_in_a_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "sub").mkdir()
    file = tmp_path / "repo" / "sub" / "account"
    file.write_text("hong-1234")
    assert "keep it outside" in refused({"HTS_SECRET_ACCOUNT_FILE": str(file)}).detail
    link = tmp_path / "link"
    link.symlink_to(file)
    assert "keep it outside" in refused({"HTS_SECRET_ACCOUNT_FILE": str(link)}).detail


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff\xfe\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "account"
    if content is not None:
        file.write_bytes(content)
    assert "cannot be read" in refused({"HTS_SECRET_ACCOUNT_FILE": str(file)}).detail


def test_programs_of_a_recipe_do_not_inherit_secrets() -> None:
    given = {"PATH": "/bin", "HTS_SECRET_ACCOUNT": "hong-1234", "HTS_SECRET_ACCOUNT_FILE": "/x"}
    assert without_secrets(given) == {"PATH": "/bin"}
