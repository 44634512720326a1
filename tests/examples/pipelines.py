"""The pipelines of ``examples/ci``: their jobs as the shell scripts that a runner would run, one after the other."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tree_sitter
import tree_sitter_groovy
from ruamel.yaml import YAML

from harness.rig import ROOT

FOLDER = ROOT / "examples" / "ci"
GITHUB, GITLAB, JENKINS = (FOLDER / name for name in ("github-actions.yml", "gitlab-ci.yml", "Jenkinsfile"))
PIPELINES = (GITHUB, GITLAB, JENKINS)


@dataclass(frozen=True)
class Pipeline:
    """What one server does for an occasion: its scripts in their order, and the shell that each begins with."""

    scripts: tuple[str, ...]
    shell: tuple[str, ...]
    variables: dict[str, str]


def nightly(path: Path) -> Pipeline:
    """Give what is done at night: set up, the matrix, the gate."""
    return _PIPELINES[path](at_night=True)


def smoke(path: Path) -> Pipeline:
    """Give what is done for a change."""
    return _PIPELINES[path](at_night=False)


def yaml_of(path: Path) -> Any:
    """Read a file as the servers do: YAML 1.2, where ``on`` is a word."""
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def _github(*, at_night: bool) -> Pipeline:
    workflow = yaml_of(GITHUB)
    steps = workflow["jobs"]["matrix" if at_night else "smoke"]["steps"]
    scripts = tuple(step["run"] for step in steps if "run" in step)
    # Source: GitHub documentation, "Workflow syntax", jobs.<job_id>.steps[*].shell: unspecified on Linux is 'bash -e'.
    return Pipeline(scripts, ("bash", "-e"), dict(workflow["env"]))


def _gitlab(*, at_night: bool) -> Pipeline:
    pipeline = yaml_of(GITLAB)
    setup = pipeline["default"]["before_script"]
    jobs = [pipeline[name] for name in (("matrix", "gate") if at_night else ("smoke",))]
    # Source: GitLab documentation, "Types of shells": before_script and script are one bash script with these options.
    scripts = tuple("\n".join([*setup, *job["script"]]) for job in jobs)
    variables = {name: value for name, value in pipeline["variables"].items() if isinstance(value, str)}
    return Pipeline(scripts, ("bash", "-eo", "pipefail"), variables)


def _jenkins(*, at_night: bool) -> Pipeline:
    wanted = {"Setup", "Matrix", "Gate"} if at_night else {"Setup", "Smoke"}
    scripts = tuple(script for stage, script in jenkins_scripts() if stage in wanted)
    text = JENKINS.read_text(encoding="utf-8")
    variables = dict(re.findall(r"^\s+([A-Z]+) = '([^']*)'$", text, re.MULTILINE))
    # Source: Jenkins, Pipeline: Nodes and Processes, step 'sh': 'sh -xe' unless the script has a shebang.
    return Pipeline(scripts, ("sh", "-xe"), variables)


_PIPELINES = {GITHUB: _github, GITLAB: _gitlab, JENKINS: _jenkins}


# --- Groovy -----------------------------------------------------------------------------------------------------------


def groovy(text: str) -> tree_sitter.Node:
    """Parse Groovy; the root of the tree."""
    language = tree_sitter.Language(tree_sitter_groovy.language())
    return tree_sitter.Parser(language).parse(text.encode()).root_node


@dataclass(frozen=True)
class Block:
    """A call of a Jenkinsfile: its name, its arguments as text, and the calls inside its braces."""

    name: str
    arguments: str
    inside: tuple[Block, ...]

    def all(self) -> Iterator[Block]:
        yield self
        for block in self.inside:
            yield from block.all()


def jenkinsfile() -> tuple[Block, ...]:
    """Give the calls at the top of the Jenkinsfile."""
    return tuple(_blocks(groovy(JENKINS.read_text(encoding="utf-8"))))


def jenkins_scripts() -> list[tuple[str, str]]:
    """Give each ``sh`` script with the name of its stage."""
    return [
        (ast.literal_eval(stage.arguments), ast.literal_eval(step.arguments))  # Groovy's quotes are Python's here
        for top in jenkinsfile()
        for stage in top.all()
        if stage.name == "stage"
        for step in stage.all()
        if step.name == "sh"
    ]


def _blocks(node: tree_sitter.Node) -> Iterator[Block]:
    for child in node.named_children:
        if child.type in {"method_invocation", "juxt_function_call", "function_call"}:
            name, *rest = child.named_children
            closures = [r for r in _deep(rest) if r.type == "closure"]
            arguments = " ".join(_text(r) for r in rest if r.type != "closure").strip("() \n")
            inside = tuple(block for closure in closures for block in _blocks(closure))
            yield Block(
                _text(name), re.sub(r"\s*\{.*", "", arguments, flags=re.DOTALL) if inside else arguments, inside
            )
        else:
            yield from _blocks(child)


def _deep(nodes: list[tree_sitter.Node]) -> Iterator[tree_sitter.Node]:
    for node in nodes:
        yield node
        if node.type != "closure":
            yield from _deep(node.named_children)


def _text(node: tree_sitter.Node) -> str:
    return (node.text or b"").decode()


# --- shell ------------------------------------------------------------------------------------------------------------


def commands(script: str) -> Iterator[list[str]]:
    """Give the arguments of every ``hts-compat`` that a script calls."""
    for match in re.finditer(r"(?<![\w-])hts-compat +([^|;&>\n]*)", script.replace("\\\n", " ")):
        yield shlex.split(match[1], comments=True)
