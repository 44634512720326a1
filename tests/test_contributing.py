"""Each recipe of CONTRIBUTING.md, followed once: its files are installed, its cells run, its contracts hold.

The contracts are in ``tests/products/test_contract.py`` and ``tests/providers/test_contract.py``, which take the page's
product and provider among their own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli.image import image_list
from harness.doctor import image, plug_ins
from harness.images import Images
from harness.load import LoadedSuite, load_suite
from harness.plan import expand
from harness.products import parser_of, product_names
from harness.report import matrix_for
from harness.rig import ROOT, make_rig
from harness.session import Options, run
from harness.stores.memory import MemoryStore
from tests.contributing import PAGE, PRODUCT, PROVIDER, files_of_the_page, project_of_the_page, simulated_desktop


@pytest.fixture
def loaded(example_plug_ins: Path, tmp_path: Path) -> LoadedSuite:
    """Load the page's suite in a project that has a recipe for builds already."""
    project_of_the_page(tmp_path)
    images = Images(example_plug_ins / "vm_images")
    return load_suite(tmp_path / "suite.yaml", images=images, known_products=product_names())


def test_the_page_shows_every_file_that_its_recipes_need() -> None:
    assert set(files_of_the_page()) == {
        "pyproject.toml",
        "example_guard/adapter.py",
        "example_guard/parse.py",
        "example_lab.py",
        "vm_images/example/image.yaml",
        "first-login.yaml",
        "example-sets.yaml",
        "suite.yaml",
    }


def test_the_recipes_cells_run_and_come_out_as_the_page_says(loaded: LoadedSuite) -> None:
    # Provider, transport, images, product and parser are the page's; only the simulated desktop is the tests'.
    rig = replace(make_rig("auto", loaded), system=simulated_desktop)
    store = MemoryStore()
    plan = expand(loaded.suite)
    options = Options(run_id="run-1", jobs=2, provider=rig.provider.name)
    result = run(plan, rig=rig, store=store, parsers=parser_of, options=options)
    assert result.trouble is None
    matrix = matrix_for(store, store.find_run("run-1"))
    told = {cell.signature: (cell.outcome.value, cell.stage) for cell in matrix.cells}
    assert told == {"2026-11-04": ("COMPATIBLE", None), "2026-11-05": ("QUARANTINED", "connect")}
    assert {cell.provider for cell in matrix.cells} == {PROVIDER}
    assert "QUARANTINED at `connect` with that of the 5th" in " ".join(PAGE.read_text(encoding="utf-8").split())


def test_doctor_lists_both_plug_ins(example_plug_ins: Path) -> None:
    found = {examined.name: examined for examined in plug_ins()}
    assert found[f"product {PRODUCT}"].detail == "parser 1, of hts-compat-example 1.0"
    assert found[f"provider {PROVIDER}"].ok
    assert found[f"{PROVIDER}: memory"].detail == "guests are simulated"


def test_the_page_s_image_is_listed_as_its_provider_knows_it(
    example_plug_ins: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # what this machine keeps is not the page's
    folder = example_plug_ins / "vm_images"
    assert image(folder / "example").detail == "content simulated-gu (example-lab)"
    stranger = tmp_path / "vm_images" / "stranger"
    stranger.mkdir(parents=True)
    text = files_of_the_page()["vm_images/example/image.yaml"]
    (stranger / "image.yaml").write_text(
        text.replace("example-lab", "gone-lab").replace("name: example", "name: stranger")
    )
    assert image_list(as_json=False, folder=folder) == image_list(as_json=False, folder=tmp_path / "vm_images") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["example", "content", "simulated-gu"],
        ["stranger", "There", "is", "no", "provider", "'gone-lab'."],
    ]
    examined = image(stranger)
    assert (examined.ok, examined.needed, examined.detail) == (False, False, "There is no provider 'gone-lab'")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z-]+)", PAGE.read_text(encoding="utf-8"), re.M))))
def test_every_make_target_of_the_page_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_file_and_word_that_the_page_names_exists() -> None:
    text = re.sub(r"```.*?```", "", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    named: list[str] = re.findall(r"`((?:tests|harness|vm_images)/[\w./]*)`", text)
    assert len(named) > 4
    assert [name for name in named if not (ROOT / name).exists()] == []
