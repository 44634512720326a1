#!/usr/bin/python3
"""Write the one file of the disc in the drive to a path as a user: a build that comes by disc.

The disc is read as it is, and mounted nowhere: what watches file systems sees a user's program create a file, as if it
had come by the agent's port. The last piece is written only when all of it has the digest that was asked for.

Request: ``{"path": PATH, "user": NAME, "size": BYTES, "sha256": HEX, "device": PATH}`` on stdin.
Answer: ``{"exit": CODE|null, "signal": N|null, "error": TEXT}``, how the program that wrote has ended, or
``{"trouble": TEXT}``: the disc cannot be read, or holds something else.

Source: ECMA-119 (ISO 9660), 8.4 (the descriptor in sector 16), 9.1 (an entry of a folder).
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import desktop_user

SECTOR = 2048
DESCRIPTOR_AT = 16 * SECTOR
ROOT_AT = 156
IS_FOLDER = 0x02
CHUNK = 1024 * 1024
#: A disc that has just been put in may not be there for the guest's first looks.
APPEARS_S = 10.0
WRITER = ("/bin/sh", "-c", 'cat > "$1"', "deliver")

Json = dict[str, Any]


class DiscError(Exception):
    """The disc does not hold what was asked for; the text says why."""


def opened(device: str) -> int:
    """Open the drive, as soon as it has a disc."""
    end = time.monotonic() + APPEARS_S
    while True:
        try:
            return os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as problem:
            if problem.errno not in {errno.ENOMEDIUM, errno.ENOENT, errno.EIO, errno.ENXIO} or time.monotonic() > end:
                raise
        time.sleep(0.02)


def place_of(disc: int) -> tuple[int, int]:
    """Give where the disc's first file begins, in bytes, and its size."""
    descriptor = os.pread(disc, SECTOR, DESCRIPTOR_AT)
    if descriptor[:6] != b"\x01CD001":
        message = "it is no disc of ours"
        raise DiscError(message)
    at, size, _ = entry(descriptor[ROOT_AT:])
    folder = os.pread(disc, min(size, SECTOR), at)
    place = 0
    while place < len(folder) and folder[place]:
        at, size, flags = entry(folder[place:])
        if not flags & IS_FOLDER:
            return at, size
        place += folder[place]
    message = "it holds no file"
    raise DiscError(message)


def entry(data: bytes) -> tuple[int, int, int]:
    """Give an entry's place in bytes, size and flags."""
    if len(data) < 33:
        message = "its folder is cut"
        raise DiscError(message)
    return int.from_bytes(data[2:6], "little") * SECTOR, int.from_bytes(data[10:14], "little"), data[25]


def pieces(disc: int, size_bytes: int, sha256: str) -> Iterator[bytes]:
    """Give the file's bytes; ``DiscError`` instead of the last piece when they are others than asked for."""
    at, size = place_of(disc)
    if size != size_bytes:
        message = f"its file has {size} bytes instead of {size_bytes}"
        raise DiscError(message)
    digest, end, waiting = hashlib.sha256(), at + size, b""
    while at < end:
        piece = os.pread(disc, min(CHUNK, end - at), at)
        if not piece:
            message = "its file is cut"
            raise DiscError(message)
        os.posix_fadvise(disc, at, len(piece), os.POSIX_FADV_DONTNEED)  # read once: the guest's memory is dear
        at += len(piece)
        digest.update(piece)
        if waiting:
            yield waiting
        waiting = piece
    if digest.hexdigest() != sha256:
        message = "its file has another digest"
        raise DiscError(message)
    yield waiting


def write(path: str, user: str, content: Iterator[bytes]) -> Json:
    """Let a user's program write to a path what comes; tell how it ended."""
    process = subprocess.Popen(
        [*WRITER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=desktop_user.environment(user),
        cwd="/",
        **desktop_user.as_user(user),
    )
    assert process.stdin is not None
    assert process.stderr is not None
    with contextlib.suppress(OSError):  # seen: half the time of a pipe of the usual 64 KiB
        fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, CHUNK)
    try:
        with contextlib.suppress(BrokenPipeError):
            for piece in content:
                process.stdin.write(piece)
            process.stdin.close()
    except BaseException:
        process.kill()
        process.wait()
        raise
    said = process.stderr.read(4096).decode("utf-8", "replace")
    code = process.wait()
    return {"exit": code if code >= 0 else None, "signal": -code if code < 0 else None, "error": said}


def main() -> None:
    """Answer the one request on stdin."""
    request = json.loads(sys.stdin.buffer.read())
    try:
        disc = opened(request.get("device", "/dev/sr0"))
        content = pieces(disc, int(request["size"]), str(request["sha256"]))
        answer = write(request["path"], request["user"], content)
    except (OSError, DiscError) as problem:
        answer = {"trouble": f"the disc cannot be used: {problem}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
