"""The shape of the code, read by ``ast``: kinds of module, who may import whom, and one outside library, one module."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.rig import ROOT

HARNESS = ROOT / "harness"
FILES = sorted(path for path in HARNESS.rglob("*.py") if "__pycache__" not in path.parts)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
NAMES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
MODULES = [path for path in FILES if path.name != "__init__.py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


by_name = pytest.mark.parametrize("path", MODULES, ids=name_of)


@cache
def kind_of(path: Path) -> str:
    """Give the first word of the docstring: 'Pure', 'Effects' or 'Driver'."""
    return (ast.get_docstring(TREES[path]) or "").partition(".")[0]


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Give every module that a file imports, anywhere in it and for types too, as a dotted name."""
    return frozenset(name for name, _ in _imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} has a relative import"
            module = node.module or ""
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield (whole if whole in NAMES else module), node.lineno


def loaded_with(path: Path) -> set[str]:
    """Give the modules of ours that load when this one does: neither for types only, nor on use."""
    for_types = [n for n in ast.walk(TREES[path]) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    later = [n for n in ast.walk(TREES[path]) if isinstance(n, ast.FunctionDef)]
    hidden = {line for n in [*for_types, *later] for line in range(n.lineno, (n.end_lineno or n.lineno) + 1)}
    return {name for name, line in _imports(path) if line not in hidden and name in NAMES and NAMES[name] != path}


def libraries_of(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(path)} - {"harness"}


# --- kinds ------------------------------------------------------------------------------------------------------------


@by_name
def test_every_module_says_of_which_kind_it_is(path: Path) -> None:
    assert kind_of(path) in {"Pure", "Effects", "Driver"}


#: What a decision must not depend on. ``deadline.py`` alone is a promise about the clock.
IMPURE = frozenset(
    {
        "os", "subprocess", "socket", "sqlite3", "time", "random", "secrets", "uuid", "threading", "tempfile", "shutil",
        "signal", "logging", "yaml", "docker", "sqlalchemy", "alembic", "jinja2", "rich", "typer", "paramiko", "winrm",
        "pefile", "pytest", "requests",
    }
)  # fmt: skip
PURE = [path for path in MODULES if kind_of(path) == "Pure"]


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_modules_import_only_pure_modules(path: Path) -> None:
    inner = {name for name in imports_of(path) if name.partition(".")[0] == "harness"}
    impure = {name for name in inner if NAMES[name] in MODULES and kind_of(NAMES[name]) != "Pure"}
    packages = {name for name in inner if NAMES[name] not in MODULES and any(imports_of(NAMES[name]))}
    assert not impure | (packages - {"harness"}), "Pure never imports Effects or Drivers"


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_modules_touch_neither_system_nor_clock_nor_chance(path: Path) -> None:
    allowed = {"time"} if path == HARNESS / "deadline.py" else set()
    assert not libraries_of(path) & IMPURE - allowed


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_modules_neither_read_files_nor_print_nor_ask_the_clock(path: Path) -> None:
    called = {ast.unparse(node.func) for node in ast.walk(TREES[path]) if isinstance(node, ast.Call)}
    asked = {
        c for c in called if re.search(r"(^|\.)(now|utcnow|today|read_text|read_bytes|write_text|write_bytes)$", c)
    }
    assert not called & {"open", "print", "input", "exit"} | asked


# --- one outside library, one module ----------------------------------------------------------------------------------

HOMES = {
    "docker": r"providers/docker\w*\.py|transports/docker_exec\.py",
    "qemu": r"providers/qemu/monitor\.py",
    "pycdlib": r"providers/qemu/disc\.py",
    "paramiko": r"transports/ssh\.py",
    "winrm": r"transports/winrm\.py",
    "yaml": r"yaml_source\.py",
    "pefile": r"inspect_pe\.py|inspection/\w+\.py",
    "sqlalchemy": r"stores/.*",
    "alembic": r"stores/.*",
    "jinja2": r"renderers/\w+\.py",
    "rich": r"cli/\w+\.py",
    "typer": r"cli/\w+\.py",
    "pytest": r"pytest_plugin/\w+\.py",
    "allure_commons": r"renderers/allure_results\.py|pytest_plugin/allure_link\.py",
}


@by_name
def test_an_outside_library_is_imported_in_its_own_place_only(path: Path) -> None:
    here = path.relative_to(HARNESS).as_posix()
    strangers = {name for name in libraries_of(path) & set(HOMES) if not re.fullmatch(HOMES[name], here)}
    assert not strangers


# --- layers -----------------------------------------------------------------------------------------------------------


@by_name
def test_only_the_command_line_imports_the_command_line(path: Path) -> None:
    if path.parent.name != "cli":
        assert not [name for name in imports_of(path) if name.startswith("harness.cli")]


@by_name
def test_nothing_below_the_faces_imports_the_pytest_plugin(path: Path) -> None:
    if path.parent.name not in {"cli", "pytest_plugin"}:
        assert not [name for name in imports_of(path) if name.startswith("harness.pytest_plugin")]


#: From above to below: a module may import what stands below it or beside it, never above.
ORDER = (
    ("harness.session", "harness.report"),
    ("harness.cell_run", "harness.control_book", "harness.watch", "harness.from_store", "harness.attempt_maker"),
    ("harness.run_cell", "harness.turns"),
    ("harness.step_run", "harness.products"),
    ("harness.systems",),
    ("harness.providers", "harness.transports"),
)


def rank_of(name: str) -> int | None:
    return next((at for at, layer in enumerate(ORDER) if name.startswith(layer)), None)


@by_name
def test_lower_layers_do_not_import_upper_ones(path: Path) -> None:
    rank = rank_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if rank is None or kind_of(path) == "Pure":
        return
    upper = {name for name in imports_of(path) if (above := rank_of(name)) is not None and above < rank}
    assert not upper


@pytest.mark.parametrize("folder", ["renderers", "stores"])
def test_renderers_and_stores_import_pure_modules_and_their_own_folder_only(folder: str) -> None:
    for path in (p for p in MODULES if folder in p.parts):
        inner = {name for name in imports_of(path) if name.startswith("harness.") and NAMES[name] in MODULES}
        outer = {name for name in inner if not name.startswith(f"harness.{folder}")}
        assert {name for name in outer if kind_of(NAMES[name]) != "Pure"} == set(), name_of(path)


def test_no_module_is_part_of_a_cycle() -> None:
    edges = {name: loaded_with(path) for name, path in NAMES.items()}
    while leaves := [name for name, below in edges.items() if not below & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert sorted(edges) == []


# --- nothing of the demo, and nothing that a reader of results would need an engine for -------------------------------

DEMO_WORDS = re.compile(r"hts_comm|demohts|2026-11|데모증권", re.IGNORECASE)
#: Modules that exist for tests and for the demo alone.
OF_THE_DEMO = {HARNESS / "fake_guest.py", HARNESS / "systems" / "fake.py", HARNESS / "cli" / "demo.py"}


def words_of(path: Path) -> str:
    """Give a file's text without its comments and docstrings."""
    texts = {
        node.body[0].value.lineno: node.body[0].value.end_lineno or 0
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    hidden = {line for begin, end in texts.items() for line in range(begin, end + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    kept = (t for t in tokens if t.type != tokenize.COMMENT and t.start[0] not in hidden)
    return " ".join(t.string for t in kept)


@pytest.mark.parametrize("path", [p for p in FILES if p not in OF_THE_DEMO], ids=name_of)
def test_the_engine_knows_nothing_of_the_demo(path: Path) -> None:
    assert DEMO_WORDS.findall(words_of(path)) == []


def test_data_files_of_the_engine_know_nothing_of_the_demo() -> None:
    kinds = {".json", ".j2", ".css", ".js"}
    # Schemas are made from docstrings, which may name examples.
    files = [p for p in HARNESS.rglob("*") if p.suffix in kinds and p.parent.name != "schemas"]
    texts = {p.name: p.read_text(encoding="utf-8") for p in files}
    assert texts
    assert [name for name, text in texts.items() if re.search(r"hts_comm|데모증권", text)] == []


@pytest.mark.parametrize("modules", ["harness.report, harness.judge, harness.renderers.page", "harness.cli.show"])
def test_results_are_read_and_judged_with_no_driver_of_guests_loaded(modules: str) -> None:
    code = f"import sys; import {modules}; print(sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=50
    )
    assert not {"docker", "paramiko", "winrm", "libvirt"} & set(ast.literal_eval(done.stdout))
