"""Pure. What Windows calls exit codes and HRESULTs."""

from __future__ import annotations

#: What Windows calls the codes that a failing start, load or connection ends with most often.
#: Source: Windows SDK, winerror.h and ntstatus.h (names are theirs, the words ours).
_CODES: dict[int, str] = {
    2: "ERROR_FILE_NOT_FOUND (a file is missing)",
    3: "ERROR_PATH_NOT_FOUND (a folder is missing)",
    5: "ERROR_ACCESS_DENIED (access denied)",
    32: "ERROR_SHARING_VIOLATION (another program holds the file)",
    126: "ERROR_MOD_NOT_FOUND (a module cannot be found)",
    127: "ERROR_PROC_NOT_FOUND (a function cannot be found in its module)",
    193: "ERROR_BAD_EXE_FORMAT (not a program for this system)",
    225: "ERROR_VIRUS_INFECTED (refused as malicious)",
    226: "ERROR_VIRUS_DELETED (removed as malicious)",
    740: "ERROR_ELEVATION_REQUIRED (needs administrator rights)",
    1260: "ERROR_ACCESS_DISABLED_BY_POLICY (blocked by policy)",
    4551: "ERROR_SYSTEM_INTEGRITY_POLICY_VIOLATION (blocked by application control)",
    10054: "WSAECONNRESET (the connection was reset)",
    10060: "WSAETIMEDOUT (the connection timed out)",
    10061: "WSAECONNREFUSED (the connection was refused)",
    0xC0000005: "STATUS_ACCESS_VIOLATION (the program crashed)",
    0xC0000022: "STATUS_ACCESS_DENIED (access denied)",
    0xC0000135: "STATUS_DLL_NOT_FOUND (a module is missing)",
    0xC0000142: "STATUS_DLL_INIT_FAILED (a module could not be initialised)",
    0xC0000409: "STATUS_STACK_BUFFER_OVERRUN (the program ended itself)",
    0xC0000906: "STATUS_VIRUS_INFECTED (refused as malicious)",
}


def code_text(code: int | None) -> str | None:
    """Say what Windows calls an exit code or HRESULT; None when it is not known here.

    Args:
        code: Raw, signed or unsigned; an HRESULT of the facility WIN32 is read as the error that it wraps.
    """
    if code is None:
        return None
    unsigned = code & 0xFFFFFFFF
    if unsigned >> 16 == 0x8007:  # noqa: PLR2004  # HRESULT_FROM_WIN32 (winerror.h)
        unsigned &= 0xFFFF
    return _CODES.get(unsigned)
