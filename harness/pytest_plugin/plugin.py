"""Driver. pytest's hooks: options, which files are suites, and the end of a session. All else is imported on use.

A project that has no suite pays for this module and a glance at the beginning of each YAML file, and for nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.pytest_plugin.background import BackgroundRun
    from harness.pytest_plugin.suite_file import SuiteFile

#: How a file says that it is a suite; it is the file's first key, so the beginning is enough.
_SUITE = re.compile(rb"^(?:\xef\xbb\xbf)?schema:[ \t]*[\"']?hts-compat/suite/1\b", re.MULTILINE)
_BEGINNING_BYTES = 4096

#: As many guests at once as a suite may ask for.
_MOST_JOBS = 256

MARKER = (
    "hts_cell(build, image, product, profile, signatures, scenario): a cell of a suite, for -m, such as"
    " -m \"hts_cell(product='clamav', scenario='fresh-install')\"; set by the plugin"
)

RUNS: pytest.StashKey[list[BackgroundRun]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all of them beginning with ``--hts-``."""
    group = parser.getgroup("hts-compat", "compatibility suites (files with 'schema: hts-compat/suite/1')")
    group.addoption("--hts-out", metavar="DIR", default="reports", help="Folder of reports and of the store.")
    group.addoption("--hts-fresh", action="store_true", help="Answer no cell from the store.")
    group.addoption("--hts-jobs", metavar="N", type=int, help="Guests at once (else the suite says).")
    group.addoption(
        "--hts-provider", metavar="NAME", default="auto", help="Where guests come from; auto chooses, and says why."
    )
    group.addoption("--hts-policy", metavar="FILE", help="A gate's policy; its waivers turn failures into xfail.")
    group.addoption("--hts-strict", action="store_true", help="DETECTED fails too.")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add our own hook, for a lab of one's own."""
    from harness.pytest_plugin import hooks  # noqa: PLC0415 - see above

    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and refuse what no run can be made with."""
    jobs = config.getoption("--hts-jobs")
    if jobs is not None and not 1 <= jobs <= _MOST_JOBS:
        msg = f"--hts-jobs: {jobs} is not between 1 and {_MOST_JOBS}"
        raise pytest.UsageError(msg)
    config.addinivalue_line("markers", MARKER)
    config.stash[RUNS] = []


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SuiteFile | None:
    """Collect a suite; every other file is left to others."""
    if file_path.suffix not in {".yaml", ".yml"} or not _names_suite(file_path):
        return None
    from harness.pytest_plugin.suite_file import SuiteFile  # noqa: PLC0415 - see above

    return SuiteFile.from_parent(parent, path=file_path)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what still runs: guests that run are finished and kept, what has not started never does."""
    for run in session.config.stash[RUNS]:
        run.finish(_told_by(session.config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say where each run's report is."""
    for run in config.stash[RUNS]:
        for line in run.summary():
            terminalreporter.write_line(line)


def _names_suite(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return _SUITE.search(stream.read(_BEGINNING_BYTES)) is not None
    except OSError:
        return False


def _told_by(config: pytest.Config):  # type: ignore[no-untyped-def]  # noqa: ANN202
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.write_line if reporter is not None else lambda line: None  # noqa: ARG005
