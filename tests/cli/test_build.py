"""``build inspect`` and bad builds as a person meets them: one sentence, a hint, exit 2, nothing started or lost."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.load import load_scenario
from tests.fake_project import tiny_program
from tests.zip_files import write_zip, zip_that_promises


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def hts_compat(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hts-compat", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(str(caught.value.code or 0))


def suite_with(build: str) -> Path:
    path = Path("suite.yaml")
    path.write_text(
        "schema: hts-compat/suite/1\nname: mine\nlab: reference\nimages: []\n"
        + f"builds:\n  - path: {json.dumps(build)}\n"
    )
    return path


def test_a_build_is_described(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("한글 설치.exe").write_bytes(tiny_program())
    assert hts_compat(monkeypatch, "build", "inspect", "한글 설치.exe") == 0
    out = capsys.readouterr().out
    assert "한글 설치.exe" in out
    assert "plain Windows program" in out


def test_json_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.exe").write_bytes(tiny_program())
    assert hts_compat(monkeypatch, "build", "inspect", "a.exe", "--json") == 0
    assert json.loads(capsys.readouterr().out)["machine"] == "x64"


def test_a_draft_is_written_and_loads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.exe").write_bytes(tiny_program())
    assert hts_compat(monkeypatch, "build", "inspect", "a.exe", "--draft", "new/mine.yaml") == 0
    assert load_scenario(Path("new/mine.yaml"))[0].name == "mine"
    assert Path("new/mine.suite.yaml").exists()
    assert "Fill in what is marked TODO" in capsys.readouterr().out


@pytest.mark.parametrize("taken", ["mine.yaml", "mine.suite.yaml"])
def test_a_draft_overwrites_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], taken: str
) -> None:
    Path("a.exe").write_bytes(tiny_program())
    Path(taken).write_text("mine")
    assert hts_compat(monkeypatch, "build", "inspect", "a.exe", "--draft", "mine.yaml") == 2
    assert Path(taken).read_text() == "mine"
    assert sorted(p.name for p in Path().iterdir()) == sorted(["a.exe", taken])
    assert "is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [True, False])
def test_hostile_names_are_shown_and_not_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    names = [
        "\x1b[31mred.exe",
        "<img src=x onerror=alert(1)>.exe",
        "../../../etc/x",
        "\u202egpj.exe",
        "\x9b2J.txt",
        "a\rb",
    ]
    write_zip(Path("a.zip"), [(name, b"x") for name in names])
    assert hts_compat(monkeypatch, "build", "inspect", "a.zip", *(["--json"] if as_json else [])) == 0
    out = capsys.readouterr().out
    assert all(c == "\n" or c.isprintable() for c in out)
    assert "<img src=x onerror=alert(1)>.exe" in out
    if as_json:
        assert [f["path"] for f in json.loads(out)["contents"]["files"]] == names


BAD = {
    "zip bomb": ("bomb.zip", zip_that_promises(3 << 30), "zip bomb"),
    "truncated program": ("cut.exe", tiny_program()[:700], "is cut short"),
    "no program": ("text.exe", b"just text", "is not a Windows program"),
    "empty": ("empty.exe", b"", "is empty (0 bytes)"),
    "escapes in the name": ("a\x1b[31mb.exe", tiny_program(), "a name that it cannot have on a customer's PC"),
    "markup in the name": ("<b>bold<.exe", tiny_program(), "a name that it cannot have on a customer's PC"),
    "two gigabytes": ("huge.exe", None, "512 MiB are the most"),
    "zip slip": ("slip.zip", None, "it leads out of its folder"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("way", ["--build", "path"])
def test_a_bad_build_is_one_sentence_and_nothing_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str, way: str
) -> None:
    name, content, said = BAD[case]
    Path(name).write_bytes(content if content is not None else tiny_program())
    if case == "two gigabytes":
        os.truncate(name, 2 * 1000**3)
    if case == "zip slip":
        write_zip(Path(name), {"a.exe": b"a", "../../slipped.exe": b"evil"})
    Path("good.exe").write_bytes(tiny_program())
    suite = suite_with(name if way == "path" else "good.exe")
    before = sorted(p.name for p in Path().iterdir())
    words = ["--build", name] if way == "--build" else []
    assert hts_compat(monkeypatch, "run", str(suite), *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "\nhint: " in err
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert sorted(p.name for p in Path().iterdir()) == before  # no reports, no store
    assert not list(Path("..").rglob("slipped.exe"))


@pytest.mark.parametrize("name", ["한글 폴더/데모 설치 파일.exe", "../here/setup.exe", "a b/c d.exe"])
def test_a_path_with_korean_spaces_or_dots_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(tiny_program())
    assert hts_compat(monkeypatch, "run", str(suite_with(name))) == 4
    assert hts_compat(monkeypatch, "run", str(suite_with(name)), "--build", name) == 4
    assert "nothing to run" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["none.exe", "../none.exe", "no/such/folder/a.exe", "x" * 300])
def test_a_missing_build_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert hts_compat(monkeypatch, "build", "inspect", name) == 2
    assert capsys.readouterr().err.startswith("error: '")
