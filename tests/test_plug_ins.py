"""Plug-ins that are broken, doubled or named like ours: one sentence, for those alone who ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from harness import products
from harness.doctor import plug_ins
from harness.egress import Egress
from harness.errors import HarnessError, InputError, LabError
from harness.load import LoadedSuite
from harness.plug_ins import Group, found
from harness.providers import PROVIDERS, kit_of, provider_names
from harness.renderers.api import renderer
from harness.rig import make_rig, sweep
from tests.builders import make_image, make_suite
from tests.contributing import install

ADAPTER = "class A:\n    arm = pin = sample = canary = collect = None\nADAPTER = A\n"
PARSER = "def PARSER(attempt):\n    return ()\nPARSER.version = 1\n"
KIT = """\
class P:
    name, asked = "{name}", []
    def check(self): return ()
    def lease(self, image, *, run_id, name, deadline): raise NotImplementedError
    def sweep(self, run_id):
        self.asked.append(run_id)
        return {swept}
class Kit:
    provider = P()
    def connect(self, endpoint): ...
    def find(self, folder): ...
"""

Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that installs a package with one entry point, for one test."""

    def make(group: Group, name: str, target: str, files: dict[str, str], *, by: str = "acme-pack") -> None:
        folder = tmp_path / by
        folder.mkdir()
        project = (
            f'[project]\nname = "{by}"\nversion = "2.0"\n[project.entry-points."{group}"]\n"{name}" = "{target}"\n'
        )
        install(folder, {"pyproject.toml": project, **files})
        monkeypatch.syspath_prepend(str(folder))

    return make


def suite_with(product: str, *providers: str) -> LoadedSuite:
    images = tuple(make_image(name).model_copy(update={"provider": name}) for name in providers)
    chosen = make_suite().products[0].model_copy(update={"name": product})
    suite = make_suite().model_copy(update={"images": images, "products": (chosen,)})
    return LoadedSuite(suite=suite, service_files={}, sources=())


@pytest.mark.parametrize(
    ("package", "files", "why"),
    [
        ("broken_a", {"broken_a/parse.py": "import nowhere_at_all\n"}, "ModuleNotFoundError: No module named 'nowhere"),
        ("broken_b", {"broken_b/parse.py": "raise SystemError('two\\nlines')\n"}, "SystemError: two lines"),
        ("broken_c", {"broken_c/parse.py": "parser = 1\n"}, "AttributeError: .*PARSER"),
        ("broken_d", {"broken_d/parse.py": "def PARSER(a): ...\n"}, "no whole number as its 'version'"),
        ("broken_e", {"broken_e/parse.py": PARSER, "broken_e/adapter.py": "ADAPTER = 7\n"}, "lacks arm, pin, sample"),
        ("broken_f", {"broken_f/parse.py": PARSER}, "ModuleNotFoundError"),
    ],
)
def test_a_broken_product_is_one_sentence_before_anything_starts(
    installed: Install, package: str, files: dict[str, str], why: str
) -> None:
    installed(Group.PRODUCTS, package, package, files)
    with pytest.raises(LabError, match=why) as told:
        make_rig("auto", suite_with(package))
    assert str(told.value).startswith(f"The product '{package}' of the package acme-pack 2.0 cannot be used: ")
    assert "\n" not in str(told.value)
    assert "uninstall" in told.value.hint
    (examined,) = (e for e in plug_ins() if e.name == f"product {package}")
    assert (examined.ok, examined.needed, examined.detail) == (False, False, str(told.value))


def test_a_broken_product_hurts_nobody_who_does_not_ask_for_it(installed: Install) -> None:
    installed(Group.PRODUCTS, "broken_g", "broken_g", {"broken_g/parse.py": "raise ValueError\n"})
    assert "broken_g" in products.product_names()
    products.require(["clamav", "none"])
    assert products.parser_of("clamav").version >= 1


def test_a_name_of_our_own_cannot_be_taken_over(installed: Install) -> None:
    installed(Group.PRODUCTS, "clamav", "taken", {"taken/parse.py": PARSER, "taken/adapter.py": ADAPTER})
    assert products.parser_of("clamav").__class__.__module__ == "harness.products.clamav.parse"
    assert products.product_names().count("clamav") == 1
    (examined,) = (e for e in plug_ins() if e.name == "product clamav")
    assert (examined.ok, "this tool's own" in examined.detail) == (False, True)


def test_two_packages_with_the_same_product_are_named_both(installed: Install) -> None:
    files = {"twin/parse.py": PARSER, "twin/adapter.py": ADAPTER}
    installed(Group.PRODUCTS, "twin", "twin", files, by="one")
    installed(Group.PRODUCTS, "twin", "twin", files, by="two")
    with pytest.raises(LabError, match=r"product 'twin' is brought by (one 2\.0 and two 2\.0|two 2\.0 and one 2\.0)"):
        products.parser_of("twin")
    assert products.product_names().count("twin") == 1
    assert [e.ok for e in plug_ins() if e.name == "product twin"] == [False, False]


def test_what_nobody_brings_is_bad_input_that_names_what_there_is() -> None:
    with pytest.raises(InputError, match="no product 'nothing'") as told:
        products.parser_of("nothing")
    assert "clamav" in told.value.hint
    with pytest.raises(InputError, match="no provider 'nothing'") as told:
        kit_of("nothing")
    assert told.value.hint == f"Providers: {', '.join(provider_names())}."


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("lab_a", "import nowhere_at_all\n", "ModuleNotFoundError"),
        ("lab_b", "Kit = 5\n", "lacks connect, find"),
        (
            "lab_c",
            KIT.format(name="x", swept=0).replace("provider = P()", "provider = None"),
            "lacks check, lease, sweep",
        ),
        (
            "lab_d",
            KIT.format(name="x", swept=0) + "    def __init__(self): raise OSError('no bus')\n",
            "OSError: no bus",
        ),
    ],
)
def test_a_broken_provider_is_one_sentence(installed: Install, module: str, source: str, why: str) -> None:
    installed(Group.PROVIDERS, module, f"{module}:Kit", {f"{module}.py": source})
    with pytest.raises(LabError, match=why) as told:
        make_rig("auto", suite_with("none", module))
    assert str(told.value).startswith(f"The provider '{module}' of the package acme-pack 2.0 cannot be used: ")
    assert [e.ok for e in plug_ins() if e.name == f"provider {module}"] == [False]


def test_auto_is_the_provider_that_the_images_name(installed: Install) -> None:
    installed(Group.PROVIDERS, "lab-m", "lab_m:Kit", {"lab_m.py": KIT.format(name="lab-m", swept=0)})
    assert make_rig("auto", suite_with("none", "lab-m")).provider.name == "lab-m"
    with pytest.raises(InputError, match="images are of 2 providers: docker, lab-m"):
        make_rig("auto", suite_with("none", "docker", "lab-m"))
    with pytest.raises(InputError, match="image 'other' is of the provider 'other', not of 'lab-m'"):
        make_rig("lab-m", suite_with("none", "other"))


def test_a_sweep_asks_every_provider_and_then_says_who_did_not_answer(
    installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(PROVIDERS, "docker")
    installed(Group.PROVIDERS, "lab-s", "lab_s:Kit", {"lab_s.py": KIT.format(name="lab-s", swept=3)})
    assert sweep("run-1") == 3
    installed(Group.PROVIDERS, "lab-r", "lab_r:Kit", {"lab_r.py": "import nowhere_at_all\n"}, by="other-pack")
    with pytest.raises(LabError, match="provider 'lab-r'"):
        sweep("run-2")
    assert import_module("lab_s").P.asked == ["run-1", "run-2"]


def test_a_broken_renderer_is_one_sentence(installed: Install) -> None:
    installed(Group.RENDERERS, "pdf", "pdf_pack:Pdf", {"pdf_pack.py": "import nowhere_at_all\n"})
    with pytest.raises(HarnessError, match=r"renderer 'pdf' cannot be used: ModuleNotFoundError"):
        renderer("pdf")
    assert [e.ok for e in plug_ins() if e.name == "renderer pdf"] == [False]


def test_looking_for_plug_ins_imports_none(installed: Install) -> None:
    import sys

    installed(Group.PRODUCTS, "lazy", "lazy_pack", {"lazy_pack/parse.py": PARSER})
    assert [p.name for p in found(Group.PRODUCTS) if p.name == "lazy"] == ["lazy"]
    assert not [name for name in sys.modules if name.startswith("lazy_pack")]


def test_a_provider_that_carries_no_way_out_refuses_a_suite_that_opens_one_before_anything_starts(
    installed: Install,
) -> None:
    installed(Group.PROVIDERS, "lab-w", "lab_w:Kit", {"lab_w.py": KIT.format(name="lab-w", swept=0)})
    loaded = suite_with("none", "lab-w")
    opened = replace(loaded, suite=loaded.suite.model_copy(update={"egress": Egress(hosts=("a.kr:443",))}))
    with pytest.raises(InputError, match="'lab-w' can give its guests no way out") as told:
        make_rig("auto", opened)
    assert told.value.exit_code == 2
    assert make_rig("auto", loaded).carry is None
