import json

import pytest

from harness.errors import InputError
from harness.renderers.api import RENDERERS, renderer
from harness.renderers.json_file import JsonRenderer
from tests.renderers.sample_run import sample_report


def test_the_file_is_the_contract() -> None:
    value = json.loads(JsonRenderer().render(sample_report()))
    assert value["schema"] == "hts-compat/matrix/1"
    assert len(value["cells"]) == value["run"]["expected_cells"] == 33


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_every_format_is_found_by_its_name_and_gives_the_same_bytes_twice(name: str) -> None:
    drawn = renderer(name)
    assert drawn.suffix == {"junit": ".xml"}.get(name, f".{name}")
    assert drawn.render(sample_report()) == drawn.render(sample_report())


def test_an_unknown_format_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError) as error:
        renderer("pdf")
    assert "csv, " in error.value.hint or ", csv" in error.value.hint
