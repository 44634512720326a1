from __future__ import annotations

import json
import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import jsonschema
import pytest
import yaml

from harness import json_schemas
from harness.build import BuildKind
from harness.errors import InputError, LabError
from harness.image import Lab
from harness.load import (
    load_expectations,
    load_image_definition,
    load_policy,
    load_scenario,
    load_signature_sets,
    load_suite,
)
from harness.machine import Machine
from harness.plan import CellFilter, Plan, Sentinels, expand
from harness.rig import make_rig
from harness.scenario import VerifyFiles
from harness.yaml_source import MAX_BYTES
from tests.builders import make_build, make_image
from tests.fake_project import BUILD_SCRIPT, RECIPE, SUITE, Project, tiny_program
from tests.zip_files import write_zip

ROOT = Path(__file__).resolve().parents[1]
PRODUCTS = ["none", "clamav", "fapolicyd", "guard"]
SHIPPED = sorted(
    [
        *(ROOT / "scenarios").rglob("*.yaml"),
        *(ROOT / "seeds" / "signatures").glob("*.yaml"),
        *(ROOT / "seeds" / "hts").glob("recipe*.yaml"),
        *(ROOT / "vm_images").glob("*/image.yaml"),
    ]
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    return Project(root)


def problems_of(project: Project) -> list[str]:
    """Load a suite that must not load, and give the lines of its report."""
    with pytest.raises(InputError) as caught:
        project.load()
    assert caught.value.exit_code == 2
    assert caught.value.hint
    return caught.value.detail.splitlines()


def only_problem(project: Project) -> str:
    lines = problems_of(project)
    assert len(lines) == 1, lines
    return lines[0]


# --- what loads ------------------------------------------------------------------------------------------------------


def test_a_suite_becomes_concrete_axes(project: Project) -> None:
    loaded = project.load()
    suite = loaded.suite
    assert [build.version for build in suite.builds] == ["1.0.0", "1.1.0"]
    assert suite.max_age_s == 72000
    assert suite.retries == 1
    assert [[s.label for s in choice.schedule] for choice in suite.products] == [
        ["2026-11-04"],
        ["2026-11-04", "2026-11-05"],
    ]
    assert [cell.id for cell in expand(suite).cells] == [
        "1.0.0/reference/clamav-standard/2026-11-04/fresh-install",
        "1.1.0/reference/clamav-standard/2026-11-04/fresh-install",
        "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated",
        "1.1.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated",
    ]


def test_a_suite_admits_images_unless_it_says_otherwise_and_chooses_its_sentinels(project: Project) -> None:
    suite = project.load().suite
    assert (suite.admission, suite.sentinels) == (True, None)
    project.edit("suite.yaml", "max_age", "admission: false\nsentinels: {every: 9, bad: {build: 1.1.0}}\nmax_age")
    suite = project.load().suite
    assert (suite.admission, suite.sentinels) == (False, Sentinels(every=9, bad=CellFilter(build="1.1.0")))


def test_a_set_is_made_concrete_from_the_bytes_of_the_builds(project: Project) -> None:
    suite = project.load().suite
    known = {s.label: {k.threat: k.sha256 for k in s.known} for s in suite.products[0].known}
    assert known["2026-11-04"] == {}
    assert known["2026-11-05"]["Win.Trojan.Setup"] == suite.builds[1].installer.sha256
    assert len(suite.products[0].known[1].known) == 3


def test_unquoted_dates_and_versions_stay_the_text_that_was_written(project: Project) -> None:
    project.edit("suite.yaml", "version: 1.1.0", "version: 1.10")
    assert project.load().suite.builds[1].version == "1.10"


def test_service_files_are_digested_and_their_paths_stay_out_of_the_suite(project: Project) -> None:
    loaded = project.load()
    assert loaded.service_files["fresh-install"]["trading"] == (project.root / "server.py",)
    digests = loaded.suite.scenarios[0].service_digests
    assert list(digests) == ["trading/server.py"]
    assert str(project.root) not in loaded.suite.model_dump_json()


def test_a_service_file_that_changes_changes_the_cells_key(project: Project) -> None:
    before = expand(project.load().suite).cells[0].execution_key()
    project.write("server.py", "print('other')\n")
    assert expand(project.load().suite).cells[0].execution_key() != before


def test_a_step_without_settings_has_all_defaults(project: Project) -> None:
    project.edit("fresh.yaml", "  - deliver:\n", "  - deliver:\n  - verify_files:\n")
    scenario, _ = load_scenario(project.root / "fresh.yaml")
    assert scenario.steps[1].verify_files == VerifyFiles()


def test_an_anchor_may_be_used_again(project: Project) -> None:
    project.edit("suite.yaml", "version: 1.0.0", "version: &first 1.0.0")
    project.edit("suite.yaml", "version: 1.1.0", "version: 1.1.0")
    project.write("suite.yaml", (project.root / "suite.yaml").read_text() + "only:\n  - {build: *first}\n")
    assert {cell.build.version for cell in expand(project.load().suite).cells} == {"1.0.0"}


@pytest.mark.parametrize("axis", ["images", "builds", "products", "scenarios"])
def test_an_empty_axis_loads_and_gives_an_empty_plan(project: Project, axis: str) -> None:
    document = yaml.load(SUITE, Loader=yaml.BaseLoader)  # noqa: S506 - BaseLoader makes texts alone
    without = {key: value for key, value in document.items() if key != axis}
    for document in (without, {**without, axis: []}):
        project.write("suite.yaml", yaml.safe_dump(document))
        assert expand(project.load().suite).cells == ()


def test_a_suite_with_nothing_but_a_name_loads(project: Project) -> None:
    project.write("suite.yaml", "schema: hts-compat/suite/1\nname: empty\nlab: reference\n")
    assert expand(project.load().suite).cells == ()


def test_a_build_beside_the_suite_joins_it(project: Project) -> None:
    loaded = load_suite(
        project.root / "suite.yaml",
        images={"reference": make_image()},
        known_products=PRODUCTS,
        extra_builds=[make_build("2.0.0")],
    )
    assert [build.version for build in loaded.suite.builds] == ["1.0.0", "1.1.0", "2.0.0"]


def test_a_build_that_is_a_file_installs_where_the_suite_says(project: Project) -> None:
    project.write("setup.exe", tiny_program())
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{path: setup.exe, version: 0.9.0}")
    project.edit("suite.yaml", "max_age", "install_dir: D:\\HTS\nmax_age")
    loaded = load_suite(
        project.root / "suite.yaml",
        images={"reference": make_image()},
        known_products=PRODUCTS,
        extra_builds=[make_build("2.0.0")],
    )
    assert {build.version: build.install_dir for build in loaded.suite.builds} == {
        "0.9.0": r"D:\HTS",
        "1.1.0": r"C:\Program Files\DemoHTS",
        "2.0.0": r"D:\HTS",
    }


def test_images_are_looked_up_only_when_nothing_is_wrong(project: Project) -> None:
    class Lazy(dict[str, object]):
        def __getitem__(self, key: str) -> object:
            raise AssertionError(key)

    project.edit("suite.yaml", "clamav", "clamaf")
    with pytest.raises(InputError):
        project.load(images=Lazy(reference=None))  # type: ignore[arg-type]


# --- what does not ---------------------------------------------------------------------------------------------------


def test_all_problems_of_all_files_stand_in_one_report_with_their_places(project: Project) -> None:
    project.edit("suite.yaml", "max_age: 20h", "max_age: long\nretires: 2")
    project.edit("suite.yaml", "images: [reference]", "images: [referense]")
    project.edit("fresh.yaml", "timeout_s: 90", "timeout: 90")
    project.edit("sets.yaml", "threat: Win.Trojan.Comm", "treat: Win.Trojan.Comm")
    assert problems_of(project) == [
        "suite.yaml:4:10: unknown image 'referense'; did you mean 'reference'?",
        "suite.yaml:13:10: 'long' is no age; write a number and s, m, h or d, such as 20h",
        "suite.yaml:14:1: unknown key 'retires'; did you mean 'retries'?",
        "fresh.yaml:10:15: unknown key 'timeout'; did you mean 'timeout_s'?",
        "sets.yaml:7:9: the key 'threat' is missing",
        "sets.yaml:7:42: unknown key 'treat'; did you mean 'threat'?",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("suite.yaml", "product: clamav", "product: clamva", "unknown product 'clamva'; did you mean 'clamav'?"),
        ("suite.yaml", "[2026-11-04,", "[2026-11-14,", "unknown signature '2026-11-14'; did you mean '2026-11-04'?"),
        ("suite.yaml", "-> 2026-11-05", "-> none-such", "unknown signature 'none-such' (known: 2026-11-04, "),
        ("suite.yaml", "[reference]", "[windows]", "unknown image 'windows' (known: reference)"),
        ("suite.yaml", "fresh.yaml", "fersh.yaml", "the file 'fersh.yaml' does not exist"),
        ("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{version: 1.0.0}", "either 'recipe' and 'version',"),
        ("suite.yaml", "version: 1.1.0", "version: 1/1", "is '1/1', which does not fit"),
        ("suite.yaml", "lab: reference", "lab: referenz", "should be one of reference, windows, and is 'referenz';"),
        ("suite.yaml", "lab: reference", "lab: windows", "the image 'reference' belongs to the lab 'reference'"),
        ("suite.yaml", "name: nightly", "nam: nightly", "unknown key 'nam'; did you mean 'name'?"),
        ("suite.yaml", "signatures: [2026-11-04,", "signatures: [2026-11-04, 2026-11-04,", "'2026-11-04' is here twi"),
        ("suite.yaml", "scenarios: [fresh.yaml,", "scenarios: [fresh.yaml, fresh.yaml,", "'fresh-install' is here tw"),
        ("suite.yaml", "suite/1", "scenario/1", "the file says that it is 'hts-compat/scenario/1'"),
        ("suite.yaml", "schema: hts-compat/suite/1\n", "", "the key 'schema' is missing; begin the file with 'schema:"),
        ("suite.yaml", ", 2026-11-04 -> 2026-11-05]", "]", "no product of this suite has a schedule of 2 signatures"),
        ("suite.yaml", ", updated.yaml]", "]", "no scenario of this suite has 1 vendor_update step for"),
        ("suite.yaml", "max_age", "only: [{build: 3.*}]\nmax_age", "this fits no cell of the suite"),
        ("suite.yaml", "max_age", "leave_out: [{build: 1.0.0}]\nmax_age", "the key 'reason' is missing"),
        ("suite.yaml", "max_age", "jobs: many\nmax_age", "'jobs' should be a whole number, and is 'many'"),
        ("suite.yaml", "max_age", "jobs: 0\nmax_age", "'jobs' should be greater than or equal to 1, and is '0'"),
        ("suite.yaml", "max_age", "retries: 4\nmax_age", "'retries' should be less than or equal to 3, and is '4'"),
        ("suite.yaml", "max_age", "drill: maybe\nmax_age", "'drill' should be true or false, and is 'maybe'"),
        ("suite.yaml", "max_age", "jobs:\nmax_age", "'jobs' should be a whole number, and is empty"),
        ("suite.yaml", "max_age", "egress: 10.0.0.1:443\nmax_age", "'egress' is 'none', or a mapping with 'hosts'"),
        ("suite.yaml", "max_age", "egress: {}\nmax_age", "'egress' opens nothing; write 'egress: none'"),
        ("suite.yaml", "max_age", "egress: {hosts: ['*.a.kr:443']}\nmax_age", "'*.a.kr:443' has a wildcard"),
        ("suite.yaml", "max_age", "egress: {hosts: [a.kr]}\nmax_age", "'a.kr' is no 'host:port'"),
        ("suite.yaml", "max_age", "egress: {hosts: ['10.0.0.1:443']}\nmax_age", "name it under 'private_hosts'"),
        ("suite.yaml", "max_age", "egress: {private_hosts: ['169.254.169.254:80']}\nmax_age", "can never be opened"),
        ("suite.yaml", "max_age", "egress: {host: ['a.kr:1']}\nmax_age", "unknown key 'host'; did you mean 'hosts'?"),
        (
            "suite.yaml",
            "max_age",
            "egress:\n  vendor_clouds: [{name: c, product: defender, hosts: ['a.kr:1']}]\nmax_age",
            "unknown product of this suite 'defender'",
        ),
        ("fresh.yaml", "server.py]", "gone.py]", "the service's file 'gone.py' cannot be read (no such file)"),
        ("fresh.yaml", "- deliver:", "- delivre:", "unknown key 'delivre'; did you mean 'deliver'?"),
        ("fresh.yaml", "- deliver:", "- deliver", "is 'deliver'; is a colon missing after it?"),
        ("fresh.yaml", "{tcp: 7001}", "{tcp: 77777}", "'services.ready.tcp' should be less than or equal to 65535"),
        ("fresh.yaml", "name: fresh-install", "name: fresh-install\nservice_digests: {}", "unknown key 'service_dige"),
        ("fresh.yaml", "name: fresh-install", "name: Fresh Install", "is 'Fresh Install', which does not fit"),
        ("fresh.yaml", "- launch: {", "- launch: {connect: x, ", "unknown key 'connect'"),
        ("fresh.yaml", "- deliver:", "- {deliver: {}, install: {}}", "a step has exactly one kind, this one has 2"),
        ("sets.yaml", "product: clamav", "product: fapolicyd", "these are sets of 'fapolicyd', and the product is"),
        ("sets.yaml", "label: 2026-11-05", "label: 2026-11-04", "the set '2026-11-04' is here twice"),
        ("sets.yaml", "label: 2026-11-05", "label: a/b", "is 'a/b', which does not fit"),
        ("sets.yaml", "  - label: 2026-11-04", "  - {label: 2026-11-04, marker_of: 2026-11-03}", "unknown set"),
        ("sets.yaml", "label: 2026-11-05", "label: 2026-11-05\n    says: x", "only a test product (guard) behaves as"),
        ("sets.yaml", "threat: Win.Trojan.Comm", "threat: T, behaviour: {}", "and 'clamav' is none"),
        ("sets.yaml", "file: hts_comm.dll", "file: hts_com.dll", "names the file 'hts_com.dll', which no matching"),
        ("suite.yaml", "version: 1.1.0", "version: 9.9.9", "was refused by its command. no such version"),
        ("recipe.yaml", "inputs: [make.py]", "inputs: [src/*.c]", "names the inputs 'src/*.c', and no file fits"),
        ("recipe.yaml", "inputs: [make.py]", "inputs: []", "'inputs' should not be empty"),
        ("recipe.yaml", ', "{out}"', "", "the command does not use {out}"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_sentence_at_its_place(
    project: Project, file: str, old: str, new: str, said: str
) -> None:
    project.edit(file, old, new)
    lines = problems_of(project)
    assert any(said in line for line in lines), lines
    assert project.times_built() == 0 or any(
        late in lines[0] for late in ("which no matching build has", "fits no cell", "was refused by its command")
    )
    assert all(re.match(r"^\S+\.yaml:\d+:\d+: ", line) for line in lines)
    assert all("\n" not in line and "pydantic" not in line for line in lines)


def test_a_secret_is_known_by_its_first_place_and_its_value_is_no_part_of_a_suite(project: Project) -> None:
    connect = "- connect:\n            fill: [{window: a, field: b, secret: PIN}]"
    again = f"  - repeat:\n      times: 2\n      steps:\n        {connect}\n"
    project.edit("fresh.yaml", "  - launch:", f"{again}  - launch:")
    loaded = project.load()
    assert {name: str(place) for name, place in loaded.secrets.items()} == {"PIN": "fresh.yaml:15:50"}
    assert '"secret":"PIN"' in loaded.suite.model_dump_json()


def test_a_secret_that_is_missing_is_told_before_there_is_a_rig(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = "  - connect: {fill: [{window: a, field: b, secret: PIN}]}\n"
    project.edit("fresh.yaml", "  - launch:", f"{login}  - launch:")
    monkeypatch.delenv("HTS_SECRET_PIN", raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(InputError) as caught:
        make_rig("auto", project.load())
    assert caught.value.detail.startswith("fresh.yaml:11:52: the secret 'PIN' is not set (HTS_SECRET_PIN, or")


OVER = """\
schema: hts-compat/scenario/1
name: over-older
steps:
  - deliver: {build: older}
  - install:
  - deliver:
  - update:
"""


def test_a_build_is_put_over_the_older_one_that_the_suite_names(project: Project) -> None:
    project.write("over.yaml", OVER)
    project.edit("suite.yaml", "updated.yaml]", "updated.yaml, over.yaml]")
    project.edit("suite.yaml", "version: 1.1.0", "version: 1.1.0, update_from: 1.0.0")
    cells = [c for c in expand(project.load().suite).cells if c.scenario.name == "over-older"]
    assert [(c.build.version, c.older and c.older.version) for c in cells] == [("1.1.0", "1.0.0")]


def test_the_suites_older_build_is_that_of_every_other_build_also_of_the_command_line(project: Project) -> None:
    project.write("over.yaml", OVER)
    project.edit("suite.yaml", "updated.yaml]", "updated.yaml, over.yaml]")
    project.edit("suite.yaml", "max_age", "update_from: 1.0.0\nmax_age")
    extra = make_build("2.0.0").model_copy(update={"install_dir": r"C:\Program Files\DemoHTS"})
    images = {"reference": make_image()}
    loaded = load_suite(project.root / "suite.yaml", images=images, known_products=PRODUCTS, extra_builds=[extra])
    assert loaded.suite.update_from == {"1.1.0": "1.0.0", "2.0.0": "1.0.0"}


@pytest.mark.parametrize(
    ("scenarios", "of_build", "of_suite", "said"),
    [
        (", over.yaml", ", update_from: 1.9.9", "", "suite.yaml:7:56: unknown build '1.9.9'"),
        (", over.yaml", "", "update_from: 3.0.0\n", "suite.yaml:13:14: unknown build '3.0.0'"),
        (", over.yaml", ", update_from: 1.1.0", "", "suite.yaml:7:56: the build '1.1.0' cannot be installed over its"),
        (", over.yaml", "", "", "suite.yaml:12:39: 'over-older' updates an older build, and no build of this suite"),
        ("", ", update_from: 1.0.0", "", "suite.yaml:7:56: no scenario of this suite has an 'update' step"),
    ],
)  # fmt: skip
def test_an_older_build_that_leads_nowhere_is_told_at_its_line(
    project: Project, scenarios: str, of_build: str, of_suite: str, said: str
) -> None:
    project.write("over.yaml", OVER)
    project.edit("suite.yaml", "updated.yaml", f"updated.yaml{scenarios}")
    project.edit("suite.yaml", "version: 1.1.0", f"version: 1.1.0{of_build}")
    project.edit("suite.yaml", "max_age", f"{of_suite}max_age")
    assert only_problem(project).startswith(said)


def test_two_builds_that_are_one_file_cannot_update_each_other(project: Project) -> None:
    project.write("setup.exe", tiny_program())
    project.write("over.yaml", OVER)
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{path: setup.exe, version: 0.9.0}")
    project.edit(
        "suite.yaml", "{recipe: recipe.yaml, version: 1.1.0}", "{path: setup.exe, version: 1.1.0, update_from: 0.9.0}"
    )
    project.edit("suite.yaml", "updated.yaml]", "updated.yaml, over.yaml]")
    project.edit("sets.yaml", '      - {build: "*", file: hts_comm.dll, threat: Win.Trojan.Comm}\n', "")
    assert "suite.yaml:7:52: the builds '0.9.0' and '1.1.0' are the same file" in only_problem(project)


def test_builds_that_install_in_two_places_cannot_update_each_other(project: Project) -> None:
    project.write("setup.exe", tiny_program())
    project.write("over.yaml", OVER)
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{path: setup.exe, version: 0.9.0}")
    project.edit("suite.yaml", "version: 1.1.0", "version: 1.1.0, update_from: 0.9.0")
    project.edit("suite.yaml", "updated.yaml]", "updated.yaml, over.yaml]")
    project.edit("suite.yaml", "max_age", "install_dir: D:\\HTS\nmax_age")
    assert r"'0.9.0' installs in D:\HTS and '1.1.0' in C:\Program Files\DemoHTS" in only_problem(project)


def test_a_build_that_no_scenario_can_ask_is_told(project: Project) -> None:
    project.write("over.yaml", OVER)
    more = "version: 1.1.0, update_from: 1.0.0}\n  - {recipe: recipe.yaml, version: 1.2.0"
    project.edit("suite.yaml", "version: 1.1.0", more)
    project.edit("suite.yaml", "[fresh.yaml, updated.yaml]", "[over.yaml]")
    project.edit("suite.yaml", "[2026-11-04, 2026-11-04 -> 2026-11-05]", "[2026-11-04]")
    said = "suite.yaml:8:5: every scenario updates an older build, and '1.2.0' has none"
    assert only_problem(project).startswith(said)


def test_an_update_without_its_older_build_is_told_at_the_scenarios_line(project: Project) -> None:
    project.write("over.yaml", OVER.replace("  - update:\n", ""))
    project.edit("suite.yaml", "updated.yaml]", "updated.yaml, over.yaml]")
    assert only_problem(project).startswith("over.yaml:4:3: an older build is delivered, and no 'update' step")


def test_an_older_builds_file_that_is_missing_is_told_at_its_line(project: Project) -> None:
    project.write("over.yaml", OVER)
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{path: gone.exe, version: 1.0.0}")
    project.edit("suite.yaml", "version: 1.1.0", "version: 1.1.0, update_from: 1.0.0")
    assert only_problem(project) == "suite.yaml:6:12: The build 'gone.exe' does not exist."


def test_two_files_with_two_sets_under_one_label_are_refused(project: Project) -> None:
    project.write("other.yaml", "schema: hts-compat/signatures/1\nproduct: clamav\nsets:\n  - label: 2026-11-05\n")
    entry = "  - {product: clamav, signature_sets: other.yaml, signatures: [2026-11-05]}\n"
    project.edit("suite.yaml", "scenarios:", f"{entry}scenarios:")
    assert only_problem(project) == "other.yaml:4:5: the set '2026-11-05' is declared otherwise in sets.yaml"


def test_a_build_that_is_no_program_is_told_at_its_line(project: Project) -> None:
    project.write("setup.exe", b"")
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{path: setup.exe, version: 1.0.0}")
    assert only_problem(project) == "suite.yaml:6:12: The build 'setup.exe' is empty (0 bytes)."


def test_two_builds_of_one_version_are_refused(project: Project) -> None:
    project.edit("suite.yaml", "version: 1.1.0", "version: 1.0.0")
    with pytest.raises(InputError, match="1 problem") as caught:
        project.load()
    assert "two builds are version '1.0.0'" in caught.value.detail


def test_a_build_beside_the_suite_that_no_cell_is_about_is_refused(project: Project) -> None:
    project.edit("suite.yaml", "max_age", "only: [{build: 1.0.0}]\nmax_age")
    with pytest.raises(InputError) as caught:
        load_suite(
            project.root / "suite.yaml",
            images={"reference": make_image()},
            known_products=PRODUCTS,
            extra_builds=[make_build("2.0.0")],
        )
    assert "no cell of 'only' is about the build '2.0.0'" in caught.value.detail


# --- files that are no YAML of ours ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "suite.yaml:1:1: the file is empty"),
        (b"# nothing\n", "suite.yaml:1:1: the file is empty"),
        (b"just text\n", "suite.yaml:1:1: the file must be a mapping that begins with"),
        (b"- a\n- b\n", "suite.yaml:1:1: the file must be a mapping that begins with"),
        (b"name: a\n\tlab: reference\n", "suite.yaml:2:1: a tab indents this line; YAML wants spaces"),
        (b"jobs:\n\t- 1\n", "suite.yaml:2:1: a tab indents this line; YAML wants spaces"),
        (b"name: [a, b\n", "suite.yaml:2:1: not YAML: "),
        (b"name: 'a\n", "suite.yaml:2:1: not YAML: "),
        (b"name: a\nname: b\n", "suite.yaml:2:1: the key 'name' is here twice; the first is at line 1"),
        (b"a: 1\n---\nb: 2\n", "the file has more than one YAML document ('---'); write one"),
        (b"name: *nowhere\n", "suite.yaml:1:7: found undefined alias"),
        (b"name: !!python/object:os.system x\n", "tags are not used here"),
        (b"<<: {a: 1}\n", "merge keys (<<) are not used here"),
        (b"? [a, b]\n: c\n", "a key must be plain text"),
        (b"\xef\xbb\xbfname: a\n", "begins with a byte order mark (BOM); save it as UTF-8 without one"),
        ("name: a\n".encode("utf-16"), "the file is UTF-16; save it as UTF-8"),
        ("name: a\ndescription: 데모증권\n".encode("cp949"),
         "suite.yaml:2:14: the file is not UTF-8; it looks like CP949 (Korean Windows); save it as UTF-8"),
        (b"name: \xff\xff\n", "suite.yaml:1:7: the file is not UTF-8; save it as UTF-8"),
        (b"name: a\x00b\n", "suite.yaml:1:8: a control character; YAML allows text only"),
        (b"a: " + b"[" * 40 + b"]" * 40, "nested more than 32 levels deep"),
        (b"a: " + b"[" * 100_000, "nested more than 32 levels deep"),
        (b"a:\n" + b"- 1\n" * 30_000, "more than 20000 values in one file"),
        (b"#" * (MAX_BYTES + 1), "the file is larger than 1 MiB"),
        (b"a: &a [*a]\n", "an anchor that contains itself"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_ours_is_told_in_one_sentence(project: Project, content: bytes, said: str) -> None:
    project.write("suite.yaml", content)
    lines = problems_of(project)
    assert any(said in line for line in lines), lines


def test_aliases_of_aliases_do_not_multiply(project: Project) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    project.write("suite.yaml", "\n".join(lines) + "\n")
    assert any("aliases multiply to more than 20000 values" in line for line in problems_of(project))


def test_a_chain_of_aliases_does_not_nest_without_end(project: Project) -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))]
    project.write("suite.yaml", "\n".join(lines) + "\n")
    assert any("aliases nest more than 32 levels deep" in line for line in problems_of(project))


def test_a_suite_that_is_missing_or_a_folder_is_told(project: Project) -> None:
    for name, said in (("none.yaml", "the file does not exist"), (".", "is a folder or a device, not a YAML file")):
        with pytest.raises(InputError) as caught:
            load_suite(project.root / name, images={}, known_products=PRODUCTS)
        assert said in caught.value.detail


def test_the_summary_counts_problems_and_files(project: Project) -> None:
    project.edit("suite.yaml", "[reference]", "[other]")
    project.edit("fresh.yaml", "- deliver:", "- delivre:")
    with pytest.raises(InputError) as caught:
        project.load()
    assert caught.value.summary == "suite.yaml or a file that it refers to has 2 problems."


# --- what we ship ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", json_schemas.DOCUMENTS)
def test_the_json_schema_on_disk_is_up_to_date(kind: str) -> None:
    """When this fails: python -m harness.json_schemas."""
    assert (json_schemas.FOLDER / f"{kind}.schema.json").read_text("utf-8") == json_schemas.schema_text(kind)


@pytest.mark.parametrize("path", SHIPPED, ids=[str(path.relative_to(ROOT)) for path in SHIPPED])
def test_a_shipped_file_names_its_schema_for_editors_and_fits_it(path: Path) -> None:
    first = path.read_text("utf-8").splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert match is not None
    schema = json.loads((path.parent / match[1]).read_text("utf-8"))
    # An editor reads YAML 1.2, where a date is a text.
    loader = type("Editor", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {
        key: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith("timestamp")]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }})  # fmt: skip
    document = yaml.load(path.read_text("utf-8"), Loader=loader)  # noqa: S506 - a SafeLoader
    jsonschema.validate(document, schema)


def test_the_shipped_parts_load() -> None:
    for path in (ROOT / "scenarios").glob("*.yaml"):
        assert load_scenario(path)[0].name == path.stem
    for path in (ROOT / "scenarios" / "policies").glob("*.yaml"):
        assert load_policy(path).name == path.stem
    for path in (ROOT / "seeds" / "signatures").glob("*.yaml"):
        assert load_signature_sets(path).product in PRODUCTS
    for path in (ROOT / "vm_images").glob("*/image.yaml"):
        assert load_image_definition(path).lab in Lab


def test_the_shipped_policies_differ_in_the_lab_that_they_accept() -> None:
    policies = ROOT / "scenarios" / "policies"
    assert not load_policy(policies / "release.yaml").allow_reference_lab
    assert load_policy(policies / "demo.yaml").allow_reference_lab


def plan_without_a_compiler(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Load a shipped suite; its builds come from a script that takes a second less than a compiler."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for part in ("scenarios", "seeds"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / "seeds" / "hts" / "make.py").write_text(BUILD_SCRIPT)
    for recipe in (folder / "seeds" / "hts").glob("recipe*.yaml"):
        recipe.write_text(RECIPE)
    path = folder / "scenarios" / "suites" / f"{name}.yaml"
    images = {name: make_image(name) for name in ("reference", "reference-32")}
    return expand(load_suite(path, images=images, known_products=PRODUCTS).suite)


@pytest.mark.parametrize(
    ("suite", "cells"), [("smoke", 2), ("demo", 12), ("full", 22), ("drills", 3), ("guard", 15), ("rig", 6)]
)
def test_a_shipped_suite_has_the_cells_of_its_story(
    suite: str, cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_without_a_compiler(suite, tmp_path, monkeypatch)
    assert len(plan.cells) == cells
    assert plan.suite.drill == (suite in {"drills", "guard", "rig"})
    if suite in {"smoke", "demo", "full"}:
        incident = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"
        assert incident in [cell.id for cell in plan.cells]


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios" / "suites").glob("*.expected.yaml")), ids=lambda p: p.name)
def test_what_a_suite_is_documented_to_show_names_each_of_its_cells(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns = [expected.cell for expected in load_expectations(path).cells]
    cells = plan_without_a_compiler(path.name.removesuffix(".expected.yaml"), tmp_path, monkeypatch).cells
    assert [c.id for c in cells if not any(fnmatchcase(c.id, pattern) for pattern in patterns)] == []


def definition(**changes: str | None) -> str:
    """Give the reference image's definition with other or fewer keys."""
    known = yaml.safe_load((ROOT / "vm_images" / "reference" / "image.yaml").read_text("utf-8"))
    known |= {"packages": None, **changes}
    return yaml.safe_dump({key: value for key, value in known.items() if value is not None}, allow_unicode=True)


@pytest.mark.parametrize(
    ("like", "said"),
    [("elsewhere", "there is no image definition 'elsewhere'"), ("mine", "an image definition cannot be like itself")],
)
def test_an_image_is_like_another_one_that_is_there(project: Project, like: str, said: str) -> None:
    (project.root / "mine").mkdir()
    with pytest.raises(InputError) as caught:
        load_image_definition(project.write("mine/image.yaml", definition(name="mine", like=like)))
    assert said in caught.value.detail


def test_the_image_for_32_bit_programs_is_the_reference_image_in_all_that_the_guest_scripts_rely_on() -> None:
    plain, wow = (load_image_definition(ROOT / "vm_images" / n / "image.yaml") for n in ("reference", "reference-32"))
    assert (wow.like, wow.user, wow.service_user, wow.drives) == (
        plain.name,
        plain.user,
        plain.service_user,
        plain.drives,
    )
    assert (plain.machines, wow.machines) == ((Machine.X64,), (Machine.X64, Machine.X86))
    assert not (ROOT / "vm_images" / "reference-32" / "Dockerfile").exists(), "shared, not copied"


def test_a_suite_with_one_of_its_images_missing_loads_and_its_cells_say_so(project: Project) -> None:
    project.edit("suite.yaml", "images: [reference]", "images: [reference, other]")
    gone = make_image("other", content="missing:0123").model_copy(update={"missing": "It has not been built."})
    plan = expand(project.load(images={"reference": make_image(), "other": gone}).suite)
    assert {(cell.image.name, cell.without_guest) for cell in plan.cells} == {
        ("reference", None),
        ("other", "It has not been built."),
    }


def test_a_suite_with_none_of_its_images_is_the_labs_trouble_and_makes_no_build(project: Project) -> None:
    gone = make_image(content="missing:0123").model_copy(update={"missing": "It has not been built."})
    with pytest.raises(LabError, match="has not been built") as caught:
        project.load(images={"reference": gone})
    assert caught.value.exit_code == 5
    assert project.times_built() == 0


def test_an_image_definition_is_named_as_its_folder(project: Project) -> None:
    text = (ROOT / "vm_images" / "reference" / "image.yaml").read_text("utf-8").replace("packages: packages.txt", "")
    with pytest.raises(InputError) as caught:
        load_image_definition(project.write("image.yaml", text))
    assert "the image is 'reference' and its folder is 'project'" in caught.value.detail


# --- a program of one's own -------------------------------------------------------------------------------------------


def test_the_template_for_a_program_of_one_s_own_loads_and_waits_for_a_build(project: Project) -> None:
    template = ROOT / "scenarios" / "suites" / "my-hts.yaml"
    images = {"reference": make_image()}
    loaded = load_suite(template, images=images, known_products=PRODUCTS)
    assert [scenario.name for scenario in loaded.suite.scenarios] == ["my-hts"]
    assert expand(loaded.suite).cells == ()
    loaded = load_suite(template, images=images, known_products=PRODUCTS, extra_builds=[make_build("2.3.1")])
    assert [cell.product.schedule[0].label for cell in expand(loaded.suite).cells] == [
        "nothing-known",
        "installer-known",
    ]
    assert loaded.suite.builds[0].install_dir == r"C:\Program Files\MyHTS"


def test_what_the_template_shows_in_comments_is_right_too(project: Project) -> None:
    text = (ROOT / "scenarios" / "my-hts.yaml").read_text(encoding="utf-8")
    text = re.sub(r"^  # (- |    )", r"  \1", text, flags=re.MULTILINE)
    text = text.replace("  - install:\n      args", "  - update:\n      args", 1).replace(
        "      # modules", "      modules", 1
    )
    scenario, _ = load_scenario(project.write("mine.yaml", text))
    assert [step.kind for step in scenario.steps].count("launch") == 3
    assert [step.kind for step in scenario.steps].count("update") == 1
    assert scenario.secrets == {"MYHTS_ACCOUNT", "MYHTS_PASSWORD"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("window: 데모증권 HTS", "window: {matches: '('}", "'(' is no regular expression"),
        ("window: 데모증권 HTS", "window: {contains: a, matches: b}", "has either 'contains' or 'matches'"),
        (
            "window: 데모증권 HTS",
            "window: [a]",
            "a window's title should be a text, or {matches: a regular expression}",
        ),
        ("window: 데모증권 HTS", "window: {match: a}", "unknown key 'match'; did you mean 'matches'?"),
        ("window: 데모증권 HTS", "window: ''", "should not be empty"),
        (", window: 데모증권 HTS", "", "a launch has either 'window' (the program stays) or 'exit_codes'"),
        ("window: 데모증권 HTS", "window: a, exit_codes: [0]", "a launch has either 'window' (the program stays) or"),
        (", window: 데모증권 HTS", ", exit_codes: []", "should not be empty"),
    ],
)
def test_a_launch_that_says_nothing_sensible_is_told(project: Project, old: str, new: str, said: str) -> None:
    project.edit("fresh.yaml", old, new)
    lines = problems_of(project)
    assert len(lines) == 1
    assert said in lines[0]
    assert re.match(r"^fresh\.yaml:\d+:\d+: ", lines[0])


def test_a_suite_s_build_may_be_a_zip_or_a_folder(project: Project) -> None:
    (project.root / "한글 폴더").mkdir()
    (project.root / "한글 폴더" / "App.exe").write_bytes(tiny_program())
    write_zip(project.root / "app.zip", {"App.exe": tiny_program()})
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.0.0}", "{path: 한글 폴더, version: 1.0.0}")
    project.edit("suite.yaml", "{recipe: recipe.yaml, version: 1.1.0}", "{path: ../project/app.zip, version: 1.1.0}")
    project.edit("suite.yaml", "2026-11-04 -> 2026-11-05]", "2026-11-04 -> 2026-11-08]")
    project.write(
        "sets.yaml",
        "schema: hts-compat/signatures/1\nproduct: clamav\nsets: [{label: 2026-11-04}, {label: 2026-11-08}]\n",
    )
    folder, archive = project.load().suite.builds
    assert folder.kind is archive.kind is BuildKind.PORTABLE
    assert folder.files == archive.files
    assert folder.installer.file_name == "한글 폴더.zip"
