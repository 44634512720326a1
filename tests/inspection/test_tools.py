from __future__ import annotations

from pathlib import Path

import pytest

from harness.inspection import tools
from harness.inspection.tools import run_tool


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the path of a tool of the test's own, found before all others."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "own-tool"


def write(tool: Path, script: str) -> None:
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_a_tool_that_is_not_there_is_named_with_its_package(tmp_path: Path) -> None:
    output = run_tool(("no-such-tool",), (), tmp_path, package="some-package")
    assert output == ("", "'no-such-tool' is not installed (apt-get install some-package).")


def test_a_tool_gets_its_words_and_the_whole_path(tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tool, 'printf "%s|" "$@"')
    monkeypatch.chdir(tool.parent)
    output = run_tool(("no-such-tool", "own-tool"), ("l", "--"), Path("-rf 한글.exe"), package="p", tail=("File",))
    assert output == (f"l|--|{tool.parent}/-rf 한글.exe|File|", "")


def test_a_tool_that_fails_keeps_what_it_printed(tool: Path) -> None:
    write(tool, "echo half; exit 2")
    assert run_tool(("own-tool",), (), tool, package="p") == ("half\n", "'own-tool' ended with exit code 2.")


def test_a_tool_that_does_not_end_is_ended(tool: Path) -> None:
    write(tool, "echo begun; exec sleep 60")
    output = run_tool(("own-tool",), (), tool, package="p", limit_s=0.5)
    assert output.text == "begun\n"
    assert "did not end within" in output.why_not


def test_a_tool_that_floods_is_cut(tool: Path) -> None:
    write(tool, "exec yes")
    output = run_tool(("own-tool",), (), tool, package="p")
    assert len(output.text) == tools.OUTPUT_LIMIT_BYTES
    assert output.why_not


def test_a_tool_that_wants_all_memory_gets_none(tool: Path) -> None:
    write(tool, "exec python3 -c 'print(len(bytearray(2 << 30)))'")
    output = run_tool(("own-tool",), (), tool, package="p")
    assert output.text == ""
    assert "exit code" in output.why_not
