"""Pure. Which kind of processor a Windows program is made for, read from its first bytes."""

from __future__ import annotations

import struct
from enum import StrEnum


class Machine(StrEnum):
    """A kind of processor, by the name that Windows people use."""

    X86 = "x86"
    X64 = "x64"
    ARM64 = "arm64"


#: COFF machine types. Source: Microsoft, "PE Format", Machine Types.
COFF = {0x14C: Machine.X86, 0x8664: Machine.X64, 0xAA64: Machine.ARM64}

#: Length of the DOS header, and where in it the offset of the PE header stands.
_DOS_BYTES, _LFANEW_AT = 0x40, 0x3C

#: How many bytes of a file ``machine_of`` needs: headers begin in the first kilobytes.
HEAD_BYTES = 4096

_PE32 = 0x10B
#: Where in a PE32 optional header the number of data directories stands, and where the CLR's own begins.
_DIRECTORIES_AT, _CLR_AT, _CLR_INDEX = 92, 96 + 14 * 8, 14


def machine_of(head: bytes) -> Machine | None:
    """Give the processor that a program or library is made for.

    Args:
        head: The first ``HEAD_BYTES`` of the file, or all of it when it is shorter.

    Returns:
        None where the header does not say it: no PE file, a machine that is none of ours, or a .NET program in PE32,
        which runs as 64-bit too.

    Source:
        Microsoft, "PE Format": e_lfanew at 0x3C, the signature, COFF header, PE32 optional header and its directories.
    """
    if len(head) < _DOS_BYTES or not head.startswith(b"MZ"):
        return None
    (at,) = struct.unpack_from("<I", head, _LFANEW_AT)
    if head[at : at + 4] != b"PE\0\0" or at + 26 > len(head):
        return None
    machine = COFF.get(struct.unpack_from("<H", head, at + 4)[0])
    return None if machine is Machine.X86 and _has_clr(head[at + 24 :]) else machine


def _has_clr(optional: bytes) -> bool:
    """Tell whether a PE32 optional header names a CLR header."""
    if len(optional) < _CLR_AT + 8 or struct.unpack_from("<H", optional)[0] != _PE32:
        return False
    (directories,) = struct.unpack_from("<I", optional, _DIRECTORIES_AT)
    (clr,) = struct.unpack_from("<I", optional, _CLR_AT)
    return bool(directories > _CLR_INDEX and clr != 0)
