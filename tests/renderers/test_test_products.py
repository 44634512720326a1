"""A test product of ours is never shown as a real one, whatever draws the matrix."""

from __future__ import annotations

import json

import pytest

from harness.evidence import CellEvidence
from harness.matrix import Matrix
from harness.renderers.api import RENDERERS, Report, renderer
from harness.renderers.explain import explain
from harness.renderers.grid import causes, column_of, sections
from harness.verdict import Outcome
from tests.builders import make_matrix_cell
from tests.renderers.sample_run import sample_report
from tests.renderers.test_page import lines


def report(product: str, *, ours: bool) -> Report:
    cells = tuple(
        make_matrix_cell(outcome, product=product, test_product=ours, signature=f"s{at}")
        for at, outcome in enumerate((Outcome.COMPATIBLE, Outcome.BLOCKED))
    )
    evidence: dict[str, CellEvidence] = {}
    return Report(matrix=Matrix(run=sample_report().matrix.run, cells=cells), evidence=evidence)


OURS, OTHER = report("guard", ours=True), report("defender", ours=False)


def drawn(name: str, given: Report) -> str:
    return renderer(name).render(given).decode("utf-8-sig")


@pytest.mark.parametrize("name", [name for name in RENDERERS if name not in {"json", "csv"}])
def test_every_text_says_test_before_its_name(name: str) -> None:
    assert ["TEST guard" in drawn(name, given) for given in (OURS, OTHER)] == [True, False]


def test_columns_heads_causes_and_the_proof_say_it_too() -> None:
    first = OURS.matrix.cells[0]
    assert column_of(first).title.startswith("TEST guard")
    assert [name for name, _, _ in sections(OURS.matrix)[0].products] == ["TEST guard"]
    assert [cause.product for cause in causes(OURS.matrix)] == ["TEST guard standard"]
    assert "TEST guard: TEST guard" in explain(first)


def test_data_says_it_in_a_field_of_its_own() -> None:
    assert [cell["test_product"] for cell in json.loads(drawn("json", OURS))["cells"]] == [True, True]
    heads, *lines = drawn("csv", OURS).splitlines()
    at = heads.split(",").index("test_product")
    assert [line.split(",")[at] for line in lines] == ["true", "true"]


def test_the_page_s_cells_carry_the_name_with_test() -> None:
    shown = [json.loads(line)["product"] for line in lines(drawn("html", OURS), "d-cells")]
    assert shown == ["TEST guard", "TEST guard"]


def test_the_page_warns_at_its_top_and_only_then() -> None:
    tops = [drawn("html", given).partition("<script")[0] for given in (OURS, OTHER)]
    assert ["A test product of ours: guard." in top for top in tops] == [True, False]
