"""Pure. Which names a file may have on Windows, and which would lead out of the folder that they are meant for.

Source: Microsoft, "Naming Files, Paths, and Namespaces" (reserved characters and names, trailing spaces and periods).
"""

from __future__ import annotations

_RESERVED_CHARACTERS = frozenset('<>:"|?*')
_RESERVED_NAMES = frozenset(
    ["con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))]
)

#: A component has at most so many UTF-16 units; a path in a build has to leave room for the install folder before it.
MAX_NAME = 255
MAX_PATH = 220
_FIRST_PRINTABLE = 0x20


def why_no_name(name: str) -> str | None:
    """Say why a file on Windows cannot have this name (one component, no path); None when it can.

    Example:
        >>> why_no_name("a?.exe")
        "'?' cannot stand in a name on Windows"
        >>> why_no_name("데모 HTS 설치.exe") is None
        True
    """
    if not name:
        return "a name is empty"
    bad = next((c for c in name if c in _RESERVED_CHARACTERS or ord(c) < _FIRST_PRINTABLE or c in "/\\"), None)
    if bad is not None:
        return f"{bad!r} cannot stand in a name on Windows"
    if name[-1] in " .":
        return "a name on Windows does not end with a period or a space"
    if name.split(".", maxsplit=1)[0].strip().casefold() in _RESERVED_NAMES:
        return f"'{name}' is the name of a device on Windows"
    if _units(name) > MAX_NAME:
        return f"a name is longer than {MAX_NAME} characters"
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name):  # noqa: PLR2004 - surrogates
        return "a name is no valid text"
    return None


def why_no_path(path: str) -> str | None:
    """Say why a relative path (with / or backslashes) cannot lie below a folder on Windows; None when it can.

    Example:
        >>> why_no_path("data/../../evil.exe")
        'it leads out of its folder'
    """
    parts = path.replace("\\", "/").split("/")
    if parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":"):  # noqa: PLR2004 - a drive is a letter and a colon
        return "it is absolute"
    if ".." in parts:
        return "it leads out of its folder"
    if _units(path) > MAX_PATH:
        return f"it is longer than {MAX_PATH} characters"
    return next((why for why in map(why_no_name, parts) if why is not None), None)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
