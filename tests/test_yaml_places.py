"""Where a cell and its steps are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.plan import NO_PRODUCT
from harness.products.fake_log import NAME
from harness.scenario import Scenario
from harness.yaml_places import MAX_LINES, SuitePlaces
from tests.builders import make_cell
from tests.fake_lab import CLEAN, INCIDENT, product

SUITE = f"""\
schema: hts-compat/suite/1
products:
  - product: none
  - product: {NAME}
    profile: strict
    signatures: [{CLEAN}]
  - product: {NAME}
    signatures:
      - {CLEAN}
      - {CLEAN}  ->   {INCIDENT}
"""
SCENARIO = """\
schema: hts-compat/scenario/1
name: lifecycle
steps:
  - deliver:
  # a comment belongs to the step before it
  - repeat:
      times: 2
      steps:
        - run: {command: [/bin/true]}
        - close:
            window: HTS

  - uninstall: {program: uninstall.exe}
"""


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuitePlaces:
    monkeypatch.chdir(tmp_path)
    Path("suite.yaml").write_text(SUITE, encoding="utf-8")
    Path("scenario.yaml").write_text(SCENARIO, encoding="utf-8")
    return SuitePlaces([Path("suite.yaml"), Path("scenario.yaml"), Path("gone.yaml")])


LIFECYCLE = Scenario.model_construct(name="lifecycle", steps=())


@pytest.mark.parametrize(
    ("chosen", "place"),
    [
        (NO_PRODUCT, "suite.yaml:3:5"),
        (product(CLEAN), "suite.yaml:9:9"),
        (product(CLEAN).model_copy(update={"profile": "strict"}), "suite.yaml:6:18"),
        (product(CLEAN, INCIDENT), "suite.yaml:10:9"),
        (product(INCIDENT), "suite.yaml:3:3"),  # not written anywhere: the list of products
    ],
    ids=["control", "schedule", "profile", "two sets", "unknown"],
)
def test_a_cell_stands_where_its_schedule_is_written(places: SuitePlaces, chosen: object, place: str) -> None:
    written = places.of_cell(make_cell().model_copy(update={"product": chosen}))
    assert written is not None
    assert str(written.place) == place
    assert len(written.lines) == 1


@pytest.mark.parametrize(
    ("index", "line", "text"),
    [
        (0, 4, ["  - deliver:", "  # a comment belongs to the step before it"]),
        (1, 9, ["        - run: {command: [/bin/true]}"]),
        (2, 10, ["        - close:", "            window: HTS"]),
        (3, 9, ["        - run: {command: [/bin/true]}"]),
        (4, 10, ["        - close:", "            window: HTS"]),
        (5, 13, ["  - uninstall: {program: uninstall.exe}"]),
    ],
)
def test_a_step_stands_where_it_is_written_repetitions_too(
    places: SuitePlaces, index: int, line: int, text: list[str]
) -> None:
    written = places.of_step(make_cell().model_copy(update={"scenario": LIFECYCLE}), index)
    assert written is not None
    assert (written.place.line, list(written.lines)) == (line, text)


def test_what_is_not_written_has_no_place(places: SuitePlaces) -> None:
    cell = make_cell()
    assert places.of_step(cell, 0) is None
    assert places.of_step(cell.model_copy(update={"scenario": LIFECYCLE}), 6) is None
    assert SuitePlaces([]).of_cell(cell) is None


def test_the_lines_are_numbered_inert_and_have_an_end(tmp_path: Path) -> None:
    path = tmp_path / "scenario.yaml"
    long = "schema: hts-compat/scenario/1\nname: lifecycle\nsteps:\n  - run:\n" + "      # \u202e\n" * 40
    path.write_text(long, encoding="utf-8")
    written = SuitePlaces([path, path]).of_step(make_cell().model_copy(update={"scenario": LIFECYCLE}), 0)
    assert written is not None
    shown = written.shown()
    assert len(shown) == MAX_LINES + 1
    assert shown[1] == "    4 |   - run:"
    assert "\u202e" not in "".join(shown)
