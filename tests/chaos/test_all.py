"""The driver of ``make chaos``: nothing that a part finds is lost, and no part is left out because of another."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.__main__ import PARTS, Part, main

FIGURES = '{"name":"x","metrics":{"tried":{"value":7},"leaks":{"value":1,"met":%s}}}'


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., Part]:
    """Give a part that is a program of ours."""

    def made(name: str, code: str, *, counts: str | None = None) -> Part:
        script = tmp_path / f"{name.replace(' ', '_')}.py"
        script.write_text(code)
        return Part(name=name, asked=str(script), many=5, few=2, counts=counts, env={"HTS_MANY": "{many}"})

    return made


def says(met: str) -> str:
    """Give a program that prints figures as a part does."""
    return f"print({FIGURES % met!r})"


def test_every_part_runs_and_one_that_fails_makes_the_end_non_zero(
    part: Callable[..., Part], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [part("bad", "raise SystemExit(3)"), replace(part("good", says("true")), real=True)]
    assert main(["--out", str(tmp_path)], parts=parts) == 1
    said = capsys.readouterr().out
    assert "not held: bad\n" in said
    assert "| good | `HTS_MANY=5 python " in said
    assert "**ended with 3**" in (tmp_path / "summary.md").read_text()
    assert json.loads((tmp_path / "good.json").read_text())["figures"] == {"tried": 7, "leaks": 1}


@pytest.mark.parametrize(
    ("name", "code"),
    [("a goal is missed though it ended with 0", says("false")), ("it ended with 0 and counted nothing", "pass")],
)
def test_a_part_holds_only_by_its_figures(name: str, code: str, part: Callable[..., Part], tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)], parts=[part(name, code)]) == 1


def test_a_run_of_no_part_is_no_success(part: Callable[..., Part], tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path), "--only", "nothing like it"], parts=[part("good", says("true"))]) == 1


def test_the_cut_makes_less_of_every_part_and_leaves_none_out(part: Callable[..., Part], tmp_path: Path) -> None:
    assert all(0 < one.few < one.many for one in PARTS)
    shows = part("it", "import os; assert os.environ['HTS_MANY'] == '2'", counts="cuts")
    assert main(["--quick", "--out", str(tmp_path)], parts=[shows]) == 0
    assert json.loads((tmp_path / "it.json").read_text())["figures"] == {"cuts": 2}
