"""Driver. Ordinary tools that list what an installer holds, run on hostile files: bounded in time, memory and output.

They list and never extract. A tool that is not there is no error: the inspection says what it would take.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

TIME_LIMIT_S = 30.0
MEMORY_LIMIT_BYTES = 1 << 30
OUTPUT_LIMIT_BYTES = 16 << 20

#: Names under which distributions ship 7-Zip; the first that is there is used.
SEVEN_ZIP = ("7zz", "7z", "7za")


class Output(NamedTuple):
    """What a tool printed; ``why_not`` when it could not be used, or did not do its work to the end."""

    text: str
    why_not: str


def run_tool(
    names: tuple[str, ...],
    words: tuple[str, ...],
    path: Path,
    *,
    package: str,
    tail: tuple[str, ...] = (),
    limit_s: float = TIME_LIMIT_S,
) -> Output:
    """Run the first of these tools that is there on a file.

    Args:
        names: The tool's names, best first.
        words: Its words before the file.
        path: The file; given as an absolute path, so that its name is never read as an option.
        tail: Words behind the file.
        limit_s: When the tool is ended.
        package: The Debian package, for the sentence when there is none.
    """
    found = next((tool for name in names if (tool := shutil.which(name))), None)
    if found is None:
        return Output("", f"'{names[0]}' is not installed (apt-get install {package}).")
    with TemporaryFile() as out:
        try:
            done = subprocess.run(  # noqa: S603 - found on PATH, no shell
                [found, *words, str(path.absolute()), *tail],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                timeout=limit_s,
                preexec_fn=_limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Output(_text(out), f"'{names[0]}' did not end within {limit_s:g} s and was ended.")
        except (OSError, subprocess.SubprocessError) as error:
            return Output("", f"'{names[0]}' could not be run ({error}).")
        text = _text(out)
    return Output(text, "" if done.returncode == 0 else f"'{names[0]}' ended with exit code {done.returncode}.")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (int(TIME_LIMIT_S), int(TIME_LIMIT_S)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT_LIMIT_BYTES, OUTPUT_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _text(out: IO[bytes]) -> str:
    out.seek(0)
    return out.read(OUTPUT_LIMIT_BYTES).decode("utf-8", "replace")
