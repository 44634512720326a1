"""The files of CONTRIBUTING.md, taken out of the page and installed as a package would be."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from harness.fake_guest import FakeProgram
from harness.plan import Cell
from harness.probes import is_probe
from harness.rig import ROOT
from harness.systems.fake import FakeSystem
from harness.transports.api import Transport
from harness.transports.fake import FakeTransport
from tests.fake_project import Project

PAGE = ROOT / "CONTRIBUTING.md"
PRODUCT, PROVIDER = "example-guard", "example-lab"

_FILE = re.compile(r"^```(?:python|yaml|toml)\n# (?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def files_of_the_page() -> dict[str, str]:
    """Give every file that the page shows, by its path."""
    return {match["path"]: match["text"] for match in _FILE.finditer(PAGE.read_text(encoding="utf-8"))}


def install(folder: Path, files: dict[str, str]) -> None:
    """Write files, and beside them what an installer makes of ``pyproject.toml``: its entry points."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    metadata = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    groups = project.get("entry-points", {})
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def project_of_the_page(folder: Path) -> Project:
    """Give a project with the page's suite, and a recipe for its build."""
    project = Project(folder)
    for name, text in files_of_the_page().items():
        if "/" not in name and name.endswith(".yaml"):
            project.write(name, text)
    return project


def simulated_desktop(cell: Cell, transport: Transport) -> FakeSystem:
    """Give the desktop of a simulated guest on which the project's program can be installed."""
    assert isinstance(transport, FakeTransport)
    if is_probe(cell):  # no trading program: what is in its zip is unpacked
        return FakeSystem(cell.image, transport)
    files = {f.path: (f.path + cell.build.version).encode() for f in cell.build.files}
    return FakeSystem(cell.image, transport, FakeProgram(install_dir=cell.build.install_dir, files=files))
