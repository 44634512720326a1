"""What is drafted loads as it is, whatever the build calls itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.inspection.draft import draft_scenario, draft_suite, install_dir, quoted, slug
from harness.inspection.model import Contents, FileSeen, Inspection, Kind, ModuleSeen, Signed, Trust
from harness.load import load_image_definition, load_scenario, load_suite
from harness.machine import Machine
from harness.rig import ROOT
from harness.scenario import Title
from tests.builders import make_image
from tests.fake_project import tiny_program

FOUND = Inspection(
    path="setup.exe",
    file_name="setup.exe",
    kind=Kind.NSIS,
    size_bytes=1000,
    sha256="0" * 64,
    md5="0" * 32,
    bits=64,
    machine="x64",
    windowed=True,
    elevation="requireAdministrator",
    texts=(("ProductName", "데모증권 HTS"), ("ProductVersion", "1.2.3 (beta)")),
    signed=Signed(trust=Trust.UNSIGNED),
    contents=Contents(files=(FileSeen(path="데모증권HTS.exe", size_bytes=5),), by="7-Zip"),
    modules=(ModuleSeen(module="TouchEn nxKey", path="x\n- run: {}.exe", silent="/silence"),),
)
#: Names that try to become more than a name.
HOSTILE = [
    'a"\n- run: {command: [rm]}\n#', "a: b # c", "{{x}}", "\x1b]0;title\x07", "\u202eexe.txt", "\x85next\u2028line",
    "'", "\\", "\ud800", "*anchor &x !!python/object", "한글 이름", "x" * 5000, "",
]  # fmt: skip


def write(tmp_path: Path, found: Inspection) -> Path:
    (tmp_path / "setup.exe").write_bytes(tiny_program())
    sets = str(ROOT / "seeds" / "signatures" / "your-own.yaml")
    (tmp_path / "mine.yaml").write_text(draft_scenario(found, name="mine"), encoding="utf-8")
    suite = draft_suite(found, name="mine", scenario="mine.yaml", build="setup.exe", signature_sets=sets)
    (tmp_path / "mine.suite.yaml").write_text(suite, encoding="utf-8")
    return tmp_path / "mine.suite.yaml"


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.LIBRARY])
@pytest.mark.parametrize("windowed", [True, False, None])
def test_a_draft_loads_as_it_is(tmp_path: Path, kind: Kind, windowed: bool | None) -> None:
    suite_file = write(tmp_path, replace(FOUND, kind=kind, windowed=windowed))
    suite = load_suite(suite_file, images={"reference": make_image()}, known_products=["none", "clamav"]).suite
    (build,) = suite.builds
    assert build.version == "1.2.3-beta"
    (scenario,) = suite.scenarios
    kinds = [step.kind for step in scenario.steps]
    assert kinds[:4] == ["deliver", "install", "verify_files", "launch"]


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (Kind.NSIS, ("/S",)),
        (Kind.INNO, ("/VERYSILENT", "/SUPPRESSMSGBOXES", "/NORESTART", "/SP-")),
        (Kind.MSI, ("/qn", "/norestart")),
        (Kind.BURN, ("/quiet", "/norestart")),
        (Kind.ZIP, None),
    ],
)
def test_the_silent_switches_are_those_of_the_kind(tmp_path: Path, kind: Kind, args: tuple[str, ...] | None) -> None:
    write(tmp_path, replace(FOUND, kind=kind))
    scenario, _ = load_scenario(tmp_path / "mine.yaml")
    install = scenario.steps[1].install
    assert install is not None
    assert install.args == args


def test_a_console_program_ends_by_itself(tmp_path: Path) -> None:
    write(tmp_path, replace(FOUND, kind=Kind.ZIP, windowed=False))
    scenario, _ = load_scenario(tmp_path / "mine.yaml")
    launch = scenario.steps[-1].launch
    assert launch is not None
    assert (launch.exit_codes, launch.window) == ((0,), None)


def test_what_could_be_found_out_is_in_the_draft(tmp_path: Path) -> None:
    text = write(tmp_path, FOUND).with_name("mine.yaml").read_text()
    scenario, _ = load_scenario(tmp_path / "mine.yaml")
    launch = scenario.steps[3].launch
    assert launch is not None
    assert launch.program == "데모증권HTS.exe"
    assert launch.window == Title(contains="데모증권 HTS")
    assert "asks for an administrator" in text
    assert "TouchEn nxKey (silent by /silence)" in text
    assert text.count("TODO") >= 3


def test_a_32_bit_build_is_said_to_be_one_and_gets_the_image_that_runs_it(tmp_path: Path) -> None:
    text = write(tmp_path, replace(FOUND, bits=32)).read_text()
    assert "32-bit" in text
    assert "images: [reference-32]" in text
    assert Machine.X86 in (load_image_definition(ROOT / "vm_images" / "reference-32" / "image.yaml").machines or ())
    assert 'install_dir: "C:\\\\Program Files (x86)\\\\데모증권 HTS"' in text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_more_than_a_name(tmp_path: Path, name: str) -> None:
    found = replace(
        FOUND,
        texts=(("ProductName", name), ("ProductVersion", name)),
        file_name=name or "x",
        contents=Contents(files=(FileSeen(path=f"{name}.exe"),)),
    )
    suite_file = write(tmp_path, found)
    load_suite(suite_file, images={"reference": make_image()}, known_products=["none", "clamav"])
    scenario, _ = load_scenario(tmp_path / "mine.yaml")
    assert [step.kind for step in scenario.steps] == ["deliver", "install", "verify_files", "launch", "dwell"]
    for file in (suite_file, tmp_path / "mine.yaml"):
        assert all(c.isprintable() or c == "\n" for c in file.read_text(encoding="utf-8"))


@given(st.text())
def test_a_quoted_text_reads_back_as_it_was(text: str) -> None:
    clean = "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    assert yaml.safe_load(f"key: {quoted(text)}") == {"key": clean}


@given(st.text())
def test_names_and_folders_fit_whatever_the_product_is_called(text: str) -> None:
    assert 0 < len(slug(text)) <= 64
    folder = install_dir(replace(FOUND, texts=(("ProductName", text),)))
    assert folder.startswith("C:\\Program Files\\")
    assert not set(folder[3:]) & set('<>:"/|?*\n\r')
