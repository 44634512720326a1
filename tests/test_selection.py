from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.plan import Plan
from harness.selection import find, select
from tests.builders import make_build, make_cell, make_product, make_update_scenario
from tests.test_plan import make_suite

CELLS = (
    make_cell(),
    make_cell(build=make_build("1.1.0")),
    make_cell(product=make_product("fapolicyd", "baseline")),
    make_cell(product=make_product("clamav", "2026-11-04", "2026-11-05"), scenario=make_update_scenario()),
)
PLAN = Plan(suite=make_suite(), cells=CELLS)


def kept(expression: str | None) -> list[int]:
    return [CELLS.index(cell) for cell in select(PLAN, expression).cells]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("", [0, 1, 2, 3]),
        ("  ", [0, 1, 2, 3]),
        ("clamav", [0, 1, 3]),
        ("CLAMAV", [0, 1, 3]),
        ("not clamav", [2]),
        ("clamav and 1.0.0", [0, 3]),
        ("fapolicyd or 1.1.0", [1, 2]),
        ("1.1.0 or fapolicyd and baseline", [1, 2]),
        ("(1.1.0 or fapolicyd) and baseline", [2]),
        ("not (clamav and fresh-install)", [2, 3]),
        ("not not clamav", [0, 1, 3]),
        ("2026-11-04+2026-11-05", [3]),
        ("nothing-like-it", []),
    ],
)
def test_an_expression_keeps_the_cells_whose_id_fits(expression: str | None, expected: list[int]) -> None:
    assert kept(expression) == expected


@pytest.mark.parametrize("expression", ["and", "a and", "not", "(a", "a)", "()", "a b", "or a", "a or or b"])
def test_an_expression_that_does_not_parse_is_an_error(expression: str) -> None:
    with pytest.raises(ValueError, match="filter"):
        select(PLAN, expression)


def test_a_cell_is_found_by_its_name_or_by_its_beginning() -> None:
    assert find(CELLS, CELLS[1].id) == [CELLS[1]]
    assert find(CELLS, "1.1.0/") == [CELLS[1]]
    assert find(CELLS, "1.0.0/reference/clamav") == [CELLS[0], CELLS[3]]
    assert find(CELLS, "9.9.9") == []


def test_an_exact_name_comes_before_names_that_begin_with_it() -> None:
    longer = make_cell(scenario=make_cell().scenario.model_copy(update={"name": "fresh-install-twice"}))
    assert find([longer, CELLS[0]], CELLS[0].id) == [CELLS[0]]


words = st.sampled_from(["clamav", "1.1.0", "baseline", "fresh-install"])
expressions = st.recursive(
    words,
    lambda inner: st.one_of(
        inner.map(lambda a: f"not ({a})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) and ({pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) or ({pair[1]})"),
    ),
    max_leaves=6,
)


@given(expressions)
def test_an_expression_and_its_opposite_part_the_plan_in_two(expression: str) -> None:
    assert sorted(kept(expression) + kept(f"not ({expression})")) == [0, 1, 2, 3]


@given(st.text(alphabet="ab ()notr", max_size=20))
def test_any_text_selects_or_is_an_error_in_one_sentence(expression: str) -> None:
    try:
        chosen = select(PLAN, expression).cells
    except ValueError as error:
        said = str(error)
    else:
        said = "filter"
        assert all(cell in CELLS for cell in chosen)
    assert "filter" in said
