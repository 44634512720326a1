from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from pathlib import Path

import pytest

from harness.build_file import build_from_file
from harness.documents import Recipe
from harness.errors import InputError, LabError
from harness.machine import Machine
from harness.recipes import LoadedRecipe, RecipeFailed, build_from_recipe, builds_folder
from tests.fake_project import Project, tiny_program


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "project"
    root.mkdir()
    return Project(root)


def recipe(project: Project, **changes: object) -> LoadedRecipe:
    command = ("python3", "make.py", "{version}", "{out}")
    made = Recipe.model_validate({"name": "DemoHTS", "command": command, "inputs": ("make.py",), **changes})
    return LoadedRecipe(recipe=made, folder=project.root)


def one_liner(text: str) -> tuple[str, ...]:
    return ("python3", "-c", text, "{version}", "{out}")


# --- builds that a recipe makes --------------------------------------------------------------------------------------


def test_a_build_is_made_once_and_then_kept(project: Project) -> None:
    said: list[str] = []
    first = build_from_recipe(recipe(project), "1.0.0", progress=said.append)
    second = build_from_recipe(recipe(project), "1.0.0", progress=said.append)
    assert first == second
    assert project.times_built() == 1
    assert said == ["making DemoHTS 1.0.0"]


def test_a_build_says_what_is_in_it_and_where_it_lies(project: Project) -> None:
    build = build_from_recipe(recipe(project), "1.0.0")
    installer = Path(build.installer.host_path)
    assert hashlib.sha256(installer.read_bytes()).hexdigest() == build.installer.sha256
    assert build.file_at(r"c:\program files\demohts\HTS_COMM.DLL") is not None
    assert [file.path for file in build.patch] == ["hts_core.dll"]
    assert (Path(build.patch_host_dir) / "hts_core.dll").is_file()
    assert installer.is_relative_to(builds_folder())


def test_a_build_says_what_its_setup_program_is_made_for(project: Project) -> None:
    assert build_from_recipe(recipe(project), "1.0.0").installer.machine is None
    project.edit("make.py", '("setup " + version).encode()', f"bytes.fromhex('{tiny_program().hex()}')")
    assert build_from_recipe(recipe(project), "1.0.0").installer.machine is Machine.X64


def test_the_kept_place_is_no_part_of_a_builds_identity(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = build_from_recipe(recipe(project), "1.0.0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    there = build_from_recipe(recipe(project), "1.0.0")
    assert here.installer.host_path != there.installer.host_path
    assert here.digest() == there.digest()


def test_another_input_version_or_tool_makes_another_build(project: Project) -> None:
    build_from_recipe(recipe(project), "1.0.0")
    build_from_recipe(recipe(project), "1.1.0")
    build_from_recipe(recipe(project, toolchain=[["echo", "13.1"]]), "1.0.0")
    project.write("make.py", (project.root / "make.py").read_text() + "\n# changed\n")
    build_from_recipe(recipe(project), "1.0.0")
    assert project.times_built() == 4


def test_a_kept_build_that_was_changed_is_made_anew(project: Project) -> None:
    kept = Path(build_from_recipe(recipe(project), "1.0.0").installer.host_path)
    kept.write_bytes(b"something else")
    assert Path(build_from_recipe(recipe(project), "1.0.0").installer.host_path).read_bytes() == b"setup 1.0.0"
    (kept.parent / "patch" / "hts_core.dll").unlink()
    build_from_recipe(recipe(project), "1.0.0")
    assert project.times_built() == 3


def _build_in_a_process(root: str, ready: object, cache: str) -> None:
    os.environ["XDG_CACHE_HOME"] = cache
    command = ("python3", "make.py", "{version}", "{out}")
    made = Recipe(name="DemoHTS", command=command, inputs=("make.py",))
    ready.wait()  # type: ignore[attr-defined]
    build_from_recipe(LoadedRecipe(recipe=made, folder=Path(root)), "1.0.0")


def test_two_processes_make_a_build_once(project: Project) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    arguments = (str(project.root), ready, os.environ["XDG_CACHE_HOME"])
    processes = [context.Process(target=_build_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0]
    assert project.times_built() == 1


def test_a_failed_command_shows_its_last_lines_and_leaves_nothing(project: Project) -> None:
    with pytest.raises(RecipeFailed, match="failed with exit code 1") as caught:
        build_from_recipe(recipe(project), "6.6.6")
    assert caught.value.detail.splitlines()[-1] == "line 49"
    assert len(caught.value.detail.splitlines()) == 20
    assert [path.suffix for path in builds_folder().iterdir()] == [".lock"]


def test_a_version_that_the_command_refuses_is_the_users_mistake(project: Project) -> None:
    with pytest.raises(InputError, match="refused by its command") as caught:
        build_from_recipe(recipe(project), "9.9.9")
    assert caught.value.detail == "no such version"


def test_a_command_that_does_not_end_is_ended_with_its_children(project: Project) -> None:
    text = "import subprocess; subprocess.run(['sleep', '60'])"
    with pytest.raises(RecipeFailed, match="did not end within"):
        build_from_recipe(recipe(project, command=one_liner(text), timeout_s=0.6), "1.0.0")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": ("no-such-tool", "{version}", "{out}")}, "cannot run 'no-such-tool'"),
        ({"toolchain": [["no-such-compiler", "--version"]]}, "The tool 'no-such-compiler' is missing"),
        ({"command": one_liner("pass")}, "made no manifest.json"),
        ({"name": "Other"}, "The recipe 'Other' was asked for version 1.0.0 and made DemoHTS 1.0.0"),
    ],
)
def test_a_recipe_that_cannot_work_is_the_labs_trouble_in_one_sentence(
    project: Project, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(RecipeFailed) as caught:
        build_from_recipe(recipe(project, **changes), "1.0.0")
    assert said in caught.value.summary
    assert caught.value.hint
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"installer": {"file": "../x", "sha256": "0", "md5": "0", "size": 1}}, "is not as it should be"),
        ({"installer": {"file": "gone.exe", "sha256": "0", "md5": "0", "size": 1}}, "names 'gone.exe', and it was not"),
        ({"installer": {"file": "manifest.json", "sha256": "0", "md5": "0", "size": 1}}, "is not the file that its"),
        ({"unknown": 1}, "is not as it should be"),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(project: Project, change: dict[str, object], said: str) -> None:
    right = {"name": "DemoHTS", "version": "1.0.0", "install_dir": "C:\\x", "files": []}
    text = json.dumps({**right, **change})
    script = f"import pathlib, sys; p = pathlib.Path(sys.argv[2]); p.mkdir(); (p/'manifest.json').write_text({text!r})"
    with pytest.raises(RecipeFailed, match=said):
        build_from_recipe(recipe(project, command=one_liner(script)), "1.0.0")


def test_inputs_that_change_while_a_build_is_made_spoil_nothing(project: Project) -> None:
    project.write("make.py", (project.root / "make.py").read_text() + "\nopen(__file__, 'a').write('# more')\n")
    with pytest.raises(RecipeFailed, match="changed while version"):
        build_from_recipe(recipe(project), "1.0.0")
    assert [path.suffix for path in builds_folder().iterdir()] == [".lock"]


def test_a_builds_folder_that_cannot_be_used_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.root / "make.py"))
    with pytest.raises(LabError, match="cannot be used") as caught:
        build_from_recipe(recipe(project), "1.0.0")
    assert "XDG_CACHE_HOME" in caught.value.hint


# --- builds that are there as files: test_build_file.py has the rest --------------------------------------------------


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "setup.exe"
    path.write_bytes(tiny_program())
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        build_from_file(path)
