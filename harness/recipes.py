"""Driver. Builds that are made from sources here: a recipe's command runs once, and its result is kept by content.

1. A kept build is named by everything that it was made from: the recipe, its version, the bytes of all inputs and what
   the tools say of themselves.
2. It appears whole or not at all (made in a temporary folder beside it, then renamed), and only one process makes it.
3. What is kept is not trusted: its digests are checked at each use, and a build that is not what it was is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from harness.build import Artifact, Build, BuildFile, Component
from harness.build_file import digest_file, machine_of_file
from harness.documents import Recipe
from harness.errors import InputError, LabError
from harness.frozen import Frozen, digest_of
from harness.secret_source import without_secrets

#: Takes one line of progress at a time.
Report = Callable[[str], None]

#: How many of the last lines of a failed command are shown.
_LAST_LINES = 20
_TOOL_TIMEOUT_S = 30.0


def silent(_line: str) -> None:
    """Report nothing."""


class RecipeFailed(LabError):
    """A recipe's command did not make what it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRecipe:
    """A recipe and the folder that its command runs in and its globs start from."""

    recipe: Recipe
    folder: Path


class _ManifestFile(Frozen):
    path: str = Field(min_length=1)
    sha256: str
    md5: str
    size: int = Field(ge=0)
    component: Component = Component.MODULE

    def as_build_file(self) -> BuildFile:
        return BuildFile(
            path=self.path, sha256=self.sha256, md5=self.md5, size_bytes=self.size, component=self.component
        )


class _ManifestArtifact(Frozen):
    file: str = Field(pattern=r"^[^/\\]+$")
    sha256: str
    md5: str
    size: int = Field(ge=1)


class _Manifest(Frozen):
    """``manifest.json`` as a recipe's command writes it."""

    name: str
    version: str
    installer: _ManifestArtifact
    portable: _ManifestArtifact | None = None
    install_dir: str
    files: tuple[_ManifestFile, ...]
    patch: tuple[_ManifestFile, ...] = ()
    writes: tuple[str, ...] = ()


def builds_folder() -> Path:
    """Give the folder of all kept builds, outside any checkout."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "hts-compat" / "builds"


def build_from_recipe(loaded: LoadedRecipe, version: str, *, progress: Report = silent) -> Build:
    """Give a build, making it when it is not kept yet.

    Args:
        loaded: The recipe, and where it lies.
        version: Which version of the program.
        progress: Told when something is really made.

    Raises:
        InputError: The recipe names no inputs, or its command refuses the version (exit code 2).
        RecipeFailed: The command or one of its tools failed, or made something else than its manifest says.
    """
    root = builds_folder()
    folder = root / _digest(loaded, version)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root / f"{folder.name}.lock"):
            kept = _kept(folder)
            if kept is None:
                progress(f"making {loaded.recipe.name} {version}")
                _make(loaded, version, folder)
                kept = _read(folder)
    except OSError as error:
        msg = f"The builds' folder {root} cannot be used ({error.strerror or error})."
        raise LabError(msg, hint="Set XDG_CACHE_HOME to a folder that can be written, with room left.") from error
    if kept.version != version or kept.name != loaded.recipe.name:
        msg = f"The recipe '{loaded.recipe.name}' was asked for version {version} and made {kept.name} {kept.version}."
        raise RecipeFailed(msg, hint=f"Look at {folder / 'manifest.json'}.")
    return kept


def _digest(loaded: LoadedRecipe, version: str) -> str:
    recipe = loaded.recipe
    inputs: dict[str, str] = {}
    for pattern in recipe.inputs:
        hits = [path for path in loaded.folder.glob(pattern) if path.is_file() and "__pycache__" not in path.parts]
        if not hits:
            msg = f"The recipe in {loaded.folder} names the inputs '{pattern}', and no file fits."
            raise InputError(msg, hint="Correct 'inputs'; they are globs relative to the recipe's folder.")
        inputs |= {path.relative_to(loaded.folder).as_posix(): digest_file(path).sha256 for path in hits}
    tools = [_tool_says(command) for command in recipe.toolchain]
    return digest_of({"recipe": recipe.digest(), "version": version, "inputs": inputs, "tools": tools})


def _tool_says(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the recipe is the user's own
            list(command),
            capture_output=True,
            timeout=_TOOL_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=without_secrets(os.environ),
        )
    except FileNotFoundError as error:
        msg = f"The tool '{command[0]}' is missing, and the recipe's builds are made with it."
        raise RecipeFailed(msg, hint="'hts-compat doctor' names the package to install.") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"The tool '{command[0]}' does not say its version."
        raise RecipeFailed(msg, detail=str(error)) from error
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file's lock; it goes with the process, however that ends. The file stays: to delete it is a race."""
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _kept(folder: Path) -> Build | None:
    if not folder.is_dir():
        return None
    try:
        return _read(folder)
    except RecipeFailed:
        shutil.rmtree(folder)
        return None


def _make(loaded: LoadedRecipe, version: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-", dir=folder.parent) as scratch:
        out = Path(scratch) / "out"
        command = [_filled(word, version=version, out=out) for word in loaded.recipe.command]
        _run(command, loaded, version)
        _read(out)
        if _digest(loaded, version) != folder.name:
            msg = f"The inputs of the recipe '{loaded.recipe.name}' changed while version {version} was made."
            raise RecipeFailed(msg, hint="Run the command again when nobody edits them.")
        out.rename(folder)


def _filled(word: str, *, version: str, out: Path) -> str:
    if word in {"python3", "{python}"}:
        return sys.executable
    return word.replace("{python}", sys.executable).replace("{version}", version).replace("{out}", str(out))


def _run(command: list[str], loaded: LoadedRecipe, version: str) -> None:
    limit_s = loaded.recipe.timeout_s
    what = f"The recipe '{loaded.recipe.name}' for version {version}"
    try:
        process = subprocess.Popen(  # noqa: S603 - the recipe is the user's own
            command,
            cwd=loaded.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=without_secrets(os.environ),
            start_new_session=True,
        )
    except OSError as error:
        msg = f"{what} cannot run '{command[0]}' ({error.strerror})."
        raise RecipeFailed(msg, hint="Correct the recipe's command.") from error
    with process:
        try:
            output, _ = process.communicate(timeout=limit_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            msg = f"{what} did not end within {limit_s:.0f} s."
            raise RecipeFailed(msg, detail=_last(output), hint="Set the recipe's 'timeout_s' higher.") from error
    if process.returncode == InputError("").exit_code:
        raise InputError(f"{what} was refused by its command.", detail=_last(output), hint="Is the version declared?")
    if process.returncode != 0:
        msg = f"{what} failed with exit code {process.returncode}."
        raise RecipeFailed(msg, detail=_last(output), hint=f"Run it by hand in {loaded.folder}: {' '.join(command)}")


def _last(output: bytes) -> str:
    return "\n".join(output.decode("utf-8", "replace").splitlines()[-_LAST_LINES:])


def _read(folder: Path) -> Build:
    """Read a made build and check every digest that its manifest states of a file that is there.

    Raises:
        RecipeFailed: The manifest is missing or wrong.
    """
    path = folder / "manifest.json"
    try:
        manifest = _Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecipeFailed("The recipe's command made no manifest.json.", hint="It belongs into {out}.") from error
    except ValidationError as error:
        raise RecipeFailed("The recipe's manifest.json is not as it should be.", detail=str(error)) from error
    artifacts = [manifest.installer, *([manifest.portable] if manifest.portable else [])]
    for artifact in artifacts:
        _verify(folder / artifact.file, artifact.sha256, artifact.md5, artifact.size)
    patch = folder / "patch"
    for file in manifest.patch:
        _verify(patch / file.path.replace("\\", "/"), file.sha256, file.md5, file.size)
    installer = manifest.installer
    return Build(
        name=manifest.name,
        version=manifest.version,
        installer=Artifact(
            file_name=installer.file,
            host_path=str(folder / installer.file),
            sha256=installer.sha256,
            md5=installer.md5,
            size_bytes=installer.size,
            machine=machine_of_file(folder / installer.file),
        ),
        install_dir=manifest.install_dir,
        files=tuple(file.as_build_file() for file in manifest.files),
        patch=tuple(file.as_build_file() for file in manifest.patch),
        patch_host_dir=str(patch) if patch.is_dir() else "",
    )


def _verify(path: Path, sha256: str, md5: str, size_bytes: int) -> None:
    if not path.is_file():
        raise RecipeFailed(f"The manifest names '{path.name}', and it was not made.")
    found = digest_file(path)
    if (found.sha256, found.md5, found.size_bytes) != (sha256, md5, size_bytes):
        raise RecipeFailed(f"'{path.name}' is not the file that its manifest describes.")
