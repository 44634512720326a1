"""The pipelines of ``examples/ci``: valid by their servers' schemas, real command lines, and red stays red."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from harness.cli.main import app
from harness.rig import ROOT
from tests.examples.pipelines import (
    FOLDER,
    GITHUB,
    GITLAB,
    JENKINS,
    PIPELINES,
    commands,
    groovy,
    jenkinsfile,
    nightly,
    smoke,
    yaml_of,
)

SCHEMAS = {GITHUB: "vendor.github-workflows", GITLAB: "vendor.gitlab-ci"}
every_pipeline = pytest.mark.parametrize("path", PIPELINES, ids=lambda p: p.name)


# --- valid ------------------------------------------------------------------------------------------------------------


def checked(path: Path, schema: str) -> subprocess.CompletedProcess[str]:
    """Run check-jsonschema, which brings the schemas of SchemaStore and the dialect of their patterns."""
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda p: p.name)
def test_the_file_fits_its_server_s_schema(path: Path) -> None:
    done = checked(path, SCHEMAS[path])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("path", "old", "new"), [(GITHUB, "runs-on: ubuntu-latest", "run-on: x"), (GITLAB, "when: always", "when: often")]
)
def test_the_schema_would_find_a_slip(path: Path, old: str, new: str, tmp_path: Path) -> None:
    slip = tmp_path / path.name
    text = path.read_text(encoding="utf-8")
    assert old in text
    slip.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert checked(slip, SCHEMAS[path]).returncode == 1


def test_the_jenkinsfile_is_groovy() -> None:
    text = JENKINS.read_text(encoding="utf-8")
    assert not groovy(text).has_error
    assert groovy(text.replace("stages {", "stages", 1)).has_error


#: Source: Jenkins handbook, "Pipeline Syntax", declarative: sections and directives, and where each is allowed.
DECLARATIVE = {
    "agent", "environment", "libraries", "options", "parameters", "post", "stages", "tools", "triggers"
}  # fmt: skip
OF_A_STAGE = {
    "agent",
    "environment",
    "input",
    "matrix",
    "options",
    "parallel",
    "post",
    "stages",
    "steps",
    "tools",
    "when",
}
CONDITIONS = {
    "always", "changed", "fixed", "regression", "aborted", "failure", "success", "unstable", "unsuccessful", "cleanup"
}  # fmt: skip


def test_the_jenkinsfile_has_the_structure_of_a_declarative_pipeline() -> None:
    (pipeline,) = jenkinsfile()
    sections = {block.name: block for block in pipeline.inside}
    assert pipeline.name == "pipeline"
    assert len(sections) == len(pipeline.inside)
    assert {"agent", "stages", "triggers", "post"} <= set(sections) <= DECLARATIVE
    stages = sections["stages"].inside
    assert [(stage.name, stage.arguments) for stage in stages] == [
        ("stage", f"'{name}'") for name in ("Setup", "Smoke", "Matrix", "Gate")
    ]
    for stage in stages:
        names = [block.name for block in stage.inside]
        assert names.count("steps") == 1
        assert set(names) <= OF_A_STAGE
    assert {block.name for block in sections["post"].inside} <= CONDITIONS
    steps = {block.name: block.arguments for block in sections["post"].all()}
    assert "testResults: 'reports/junit.xml'" in steps["junit"]
    assert "artifacts: 'reports/**'" in steps["archiveArtifacts"]
    assert [block.name for block in sections["triggers"].inside] == ["cron"]


def test_gitlab_is_given_the_junit_report_and_the_gate_waits_for_the_matrix() -> None:
    pipeline = yaml_of(GITLAB)
    for job in ("smoke", "matrix"):
        assert pipeline[job]["artifacts"]["reports"]["junit"] == "reports/junit.xml"
        assert pipeline[job]["artifacts"]["when"] == "always"
    assert pipeline["gate"]["needs"] == ["matrix"]
    assert pipeline["gate"]["rules"] == pipeline["matrix"]["rules"]


def test_a_fork_s_code_never_reaches_a_machine_of_our_own() -> None:
    for job in yaml_of(GITHUB)["jobs"].values():
        of_forks = job["if"] == "github.event_name == 'pull_request'"
        assert ("self-hosted" in job["runs-on"]) is not of_forks


# --- real command lines -----------------------------------------------------------------------------------------------


def parsed(arguments: list[str]) -> dict[str, object]:
    """Parse a command line as the tool would, without running it; give the values by parameter."""
    command: Any = get_command(app)
    words = [*arguments]
    while (below := getattr(command, "commands", None)) is not None:
        command = below[words.pop(0)]
    given: dict[str, object] = command.make_context(command.name, words).params
    return given


@every_pipeline
def test_every_command_line_is_one_that_the_tool_takes_and_names_files_that_exist(path: Path) -> None:
    pipelines = (nightly(path), smoke(path))
    lines = [line for pipeline in pipelines for script in pipeline.scripts for line in commands(script)]
    assert {line[0] for line in lines} >= {"run", "gate"}
    variables = pipelines[0].variables
    for line in lines:
        given = parsed([re.sub(r"\$(\w+)", lambda m: variables.get(m[1], "a-run"), word) for word in line])
        files = [str(given[name]) for name in ("suite", "policy") if given.get(name) is not None]
        assert [file for file in files if not (ROOT / file).is_file()] == []


@every_pipeline
def test_no_command_line_of_the_file_is_overlooked(path: Path) -> None:
    scripts = {*nightly(path).scripts, *smoke(path).scripts}
    found = sum(len(list(commands(script))) for script in scripts)
    text = re.sub(r"^\s*(?:#|//).*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found == len(re.findall(r"bin/hts-compat ", text))


def test_an_option_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option: --junit"):
        parsed(["run", "suite.yaml", "--junit", "x.xml"])


@pytest.mark.parametrize("document", ["README.md", "docs/foreign-programs.md", "docs/performance.md"])
def test_the_command_lines_of_a_document_are_ones_that_the_tool_takes(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in commands(block):
            assert parsed(line) is not None


# --- exit codes -------------------------------------------------------------------------------------------------------

STUB = """\
#!/bin/sh
echo "$1 $2" >> "$ASKED"
case $1 in
    run) [ "$RUN_CODE" -gt 3 ] || { echo '{"run": "night-7"}'; : > reports/junit.xml; }; exit "$RUN_CODE" ;;
    gate) exit "$GATE_CODE" ;;
esac
"""


def carried_out(path: Path, folder: Path, *, at_night: bool, run: int, gate: int = 0) -> tuple[bool, list[str]]:
    """Run a pipeline's scripts with a tool that only ends as told; give whether all is green, and what was asked."""
    tools = folder / ".venv" / "bin"
    tools.mkdir(parents=True)
    (folder / "reports").mkdir()
    (folder / "reports" / "junit.xml").write_text("of yesterday")
    for program, text in {tools / "hts-compat": STUB, folder / "make": "#!/bin/sh\n"}.items():
        program.write_text(text)
        program.chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    pipeline = nightly(path) if at_night else smoke(path)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "RUN_CODE": str(run),
        "GATE_CODE": str(gate),
        "ASKED": str(folder / "asked"),
        **pipeline.variables,
    }
    green = True
    for script in pipeline.scripts:
        done = subprocess.run(
            [*pipeline.shell, "-c", script], cwd=folder, env=environment, capture_output=True, check=False, timeout=20
        )
        if done.returncode:
            green = False
            break
    return green, (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []


@every_pipeline
def test_no_server_is_told_to_forgive_a_failure(path: Path) -> None:
    words = (
        r"continue-on-error|allow_failure|catchError|warnError|returnStatus|unstable|\bcurrentBuild|\|\| *true|set \+e"
    )
    assert re.findall(words, path.read_text(encoding="utf-8")) == []


@every_pipeline
@pytest.mark.parametrize("run", [0, 1, 2, 3, 4, 5, 130])
def test_for_a_change_every_exit_code_but_0_is_red(path: Path, run: int, tmp_path: Path) -> None:
    green, asked = carried_out(path, tmp_path, at_night=False, run=run)
    assert green is (run == 0)
    assert asked[-1] == "run scenarios/suites/smoke.yaml"


@every_pipeline
@pytest.mark.parametrize(
    ("run", "decides"), [(0, True), (1, True), (3, True), (2, False), (4, False), (5, False), (137, False)]
)
@pytest.mark.parametrize("gate", [0, 1, 2, 3, 4])
def test_at_night_the_gate_decides_about_this_run_or_nobody_does(
    path: Path, run: int, decides: bool, gate: int, tmp_path: Path
) -> None:
    green, asked = carried_out(path, tmp_path, at_night=True, run=run, gate=gate)
    assert green is (decides and gate == 0)
    assert asked[0].startswith("doctor --sweep")
    assert ("gate night-7" in asked) is decides


@every_pipeline
def test_a_night_without_a_run_shows_no_report_of_the_night_before(path: Path, tmp_path: Path) -> None:
    carried_out(path, tmp_path, at_night=True, run=5)
    assert not (tmp_path / "reports" / "junit.xml").exists()


def test_the_table_of_exit_codes_is_the_tool_s() -> None:
    rows = dict(
        re.findall(r"^\| (\d) \| ([^|]+?) \|", (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    said = (get_command(app).commands["run"].help or "").partition("Exit:")[2]  # type: ignore[attr-defined]
    assert re.findall(r"\d", said) == sorted(rows)
