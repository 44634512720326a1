"""Driver. Runs the programs that build an image: each with a limit, errors as sentences, output as progress."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import LabError

QUICK_S = 60.0
BUILD_S = 1800.0
KEPT_LINES = 40
SHOWN_CHARACTERS = 110

Report = Callable[[str], None]


class ImageBuildFailed(LabError):
    """A step of building an image ended with an error, or did not end."""


class BuildToolMissing(LabError):
    """A program that building needs is not installed, or the Docker engine does not answer."""


def run(argv: Sequence[str], *, what: str, limit_s: float) -> bytes:
    """Run a program to its end and give its standard output.

    Raises:
        BuildToolMissing: The program is not installed, or the Docker engine does not answer.
        ImageBuildFailed: It ended with an error, or not within ``limit_s``.
    """
    try:
        done = subprocess.run(  # noqa: S603 (the callers' argv are fixed programs)
            argv, capture_output=True, check=True, timeout=limit_s, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as problem:
        raise not_installed(argv[0]) from problem
    except subprocess.TimeoutExpired as problem:
        raise ImageBuildFailed(f"{what} did not end within {limit_s:.0f} s.") from problem
    except subprocess.CalledProcessError as problem:
        raise failed(what, problem.stderr.decode("utf-8", "replace"), exit_code=problem.returncode) from problem
    return done.stdout


def stream(
    argv: Sequence[str],
    *,
    what: str,
    report: Report,
    prefix: str,
    only: str = "",
    stdin: bytes = b"",
    environment: dict[str, str] | None = None,
    limit_s: float = BUILD_S,
) -> None:
    """Run a long program, passing on each line of its output that begins with ``only`` as progress.

    Raises:
        BuildToolMissing: The program is not installed, or the Docker engine does not answer.
        ImageBuildFailed: It ended with an error, or not within ``limit_s``. ``detail`` has its last lines.
    """
    last: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        process = subprocess.Popen(  # noqa: S603 (the callers' argv are fixed programs)
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
    except FileNotFoundError as problem:
        raise not_installed(argv[0]) from problem
    with process:
        # The timer ends the program, which ends the loop below; a read itself takes no time limit.
        timer = threading.Timer(limit_s, process.kill)
        timer.start()
        try:
            feed(process, stdin)
            for raw in process.stdout or ():
                line = raw.decode("utf-8", "replace").rstrip()
                last.append(line)
                if line.startswith(only):
                    report((prefix + line)[:SHOWN_CHARACTERS])
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    if process.returncode != 0:
        raise failed(what, "\n".join(last), exit_code=process.returncode)


def feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Hand a program its standard input; one that ends without reading it tells why by its exit code."""
    if process.stdin is not None:
        with suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(data)


def not_installed(program: str) -> BuildToolMissing:
    """Put a program that is not there into words."""
    return BuildToolMissing(f"'{program}' is not installed.", hint="Run 'make setup', which installs what is missing.")


def failed(what: str, output: str, *, exit_code: int) -> LabError:
    """Put a program's failure into words; an engine that does not answer is told apart, for its fix is another."""
    if "Cannot connect to the Docker daemon" in output:
        return BuildToolMissing(
            "The Docker engine does not answer.", detail=output, hint="Start it, or run 'make setup', which does."
        )
    if "permission denied" in output and "docker.sock" in output:
        return BuildToolMissing(
            "This user may not use the Docker engine.",
            detail=output,
            hint="Add the user to the group 'docker' and log in again.",
        )
    if "no space left on device" in output.lower():
        return ImageBuildFailed(f"{what} failed: the disk is full.", detail=output, hint="Free a few gigabytes.")
    return ImageBuildFailed(f"{what} failed with exit code {exit_code}.", detail=output)


def cache_folder() -> Path:
    """Give the folder for what is built: ``$XDG_CACHE_HOME/hts-compat``."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "hts-compat"


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder that goes away again, on the cache's disk: a base image is more than a small /tmp may hold."""
    parent = cache_folder() / "work"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield Path(name)
