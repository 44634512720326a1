"""Pure. Which of a build's files is the program that its users start. A guess; a person corrects it in the scenario."""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.inspection.model import FileSeen
from harness.windows_names import why_no_path

#: Programs that come with another one and are not it.
_HELPERS = re.compile(
    r"unins|setup|install|update|patch|redist|crash|report|helper|service|elevat|\bvc_|dotnet|notif|^7z", re.IGNORECASE
)
#: What installers unpack for themselves alone.
_OWN = ("$PLUGINSDIR", "tmp/", "tmp\\")


def main_program(files: Iterable[FileSeen], product: str | None = None) -> str | None:
    """Guess the main program: the one that is called as the product is, else the largest that looks like no helper.

    Args:
        files: As they are listed.
        product: The build's own name, where it is known.

    Returns:
        Its listed path; None when no program is listed.
    """
    programs = [f for f in files if f.path.casefold().endswith(".exe") and not f.path.startswith(_OWN)]
    programs = [f for f in programs if why_no_path(below_install(f.path)) is None]
    likely = [f for f in programs if not _HELPERS.search(_name(f))] or programs
    wanted = _letters(product or "")
    named = [f for f in likely if wanted and _letters(_name(f)[:-4]) == wanted]
    best = max(named or likely, key=lambda f: (f.size_bytes or 0, f.path), default=None)
    return None if best is None else best.path


def below_install(path: str) -> str:
    r"""Give a listed path below the install folder; tools name that folder in their own ways.

    Example:
        >>> below_install("$INSTDIR/bin/Demo.exe")
        'bin\\Demo.exe'
    """
    return re.sub(r"^(\$INSTDIR|app|\{app\})[/\\]", "", path).replace("/", "\\")


def _name(file: FileSeen) -> str:
    return file.path.replace("\\", "/").rsplit("/", 1)[-1]


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())
