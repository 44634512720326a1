#!/usr/bin/python3
"""Open and hash every file below a folder as the desktop user: one JSON request on stdin, one JSON answer on stdout.

Opening is what on-access scanners react to: this is run once, after the last step of a cell, never before.

Request: ``{"root": PATH, "max_files": 20000}``. Answer: ``{"files": [{"path", "size", "sha256"|null, "errno"|null}],
"truncated": bool}``, sorted by path. Links are not followed. A program (``.exe``) that could be read has ``head_b64``
besides: its first bytes, which say what it is made for.
"""

import base64
import hashlib
import json
import os
import stat
import sys
from typing import Any

import desktop_user

MAX_FILES = 20_000
MAX_BYTES = 512 * 1024**2
HEAD_BYTES = 1024


def digest(path: bytes) -> dict[str, Any]:
    """Give a file's sha256, or the errno that kept us from reading it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as problem:
        return {"sha256": None, "errno": problem.errno}
    total = hashlib.sha256()
    read = 0
    head = b""
    try:
        while piece := os.read(descriptor, 1024**2):
            head = head or piece[:HEAD_BYTES]
            total.update(piece)
            read += len(piece)
            if read > MAX_BYTES:
                return {"sha256": None, "errno": 27}  # EFBIG: too large to be hashed here
    except OSError as problem:
        return {"sha256": None, "errno": problem.errno}
    finally:
        os.close(descriptor)
    facts: dict[str, Any] = {"sha256": total.hexdigest(), "errno": None}
    if path.lower().endswith(b".exe"):
        facts["head_b64"] = base64.b64encode(head).decode("ascii")
    return facts


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.read())
    limit = min(int(request.get("max_files", MAX_FILES)), MAX_FILES)
    if os.getuid() == 0:
        desktop_user.become_user(desktop_user.USER)
    files: list[dict[str, Any]] = []
    truncated = False
    for folder, folders, names in os.walk(os.fsencode(request["root"])):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if not stat.S_ISREG(status.st_mode):
                continue
            if len(files) >= limit:
                truncated = True
                break
            shown = path.decode("utf-8", "backslashreplace")
            files.append({"path": shown, "size": status.st_size, **digest(path)})
    json.dump({"files": files, "truncated": truncated}, sys.stdout, ensure_ascii=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
