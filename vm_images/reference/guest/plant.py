#!/usr/bin/python3
"""Plant objects as the desktop user and tell how this guest reacts: one JSON request on stdin, one answer on stdout.

Each item is a file that is created, written, closed and then opened again (kind ``exec``: also executed) by an
ordinary user, with a clean control file beside it that must open. The script only tells what happened, as errno
values; what a denial proves is for the caller to decide.

Request: ``{"nonce": "...", "limit_s": 20, "items": [ITEM]}``. ITEM keys:
  folder           where to plant; it must exist
  kind             eicar | text | bytes | copy | exec
  text, b64, source  the content of kinds text; bytes and exec; copy (a path, opened for reading by that user)
  tag              kind exec without b64: content is the built-in program with this tag, see ``tiny_program``
  name             default ``hts-canary-NONCE-INDEX`` with .com, .txt, .bin or .elf
  user             default the desktop user
  until_denied_s   open again every 20 ms until an open is refused, at most so long (default 0: one open)
  cleanup          remove both files at the end (default true); a file that the product moved is no error
  wait_s           seconds between the close and the first open (default 0)

Answer per item: ``create_errno, write_errno, open_errno, exec_errno, control_create_errno, control_open_errno,
unlink_errno, control_unlink_errno`` (0 = done, a number = refused with that errno, null = not tried), ``errors`` with
their names, ``opens, bytes_read, content_equal, exit_code, sha256, size, elapsed_s, denied_after_s``, and ``finished``
(false: the child did not end in time and was killed; what it had told by then is there).

EICAR's test text is put together at run time and never stands whole in this file.
Source: www.eicar.org, "Intended use": the file begins with these 68 bytes.
"""

import base64
import errno
import hashlib
import json
import os
import select
import signal
import struct
import sys
import time
from typing import Any

import desktop_user

Json = dict[str, Any]
ENDINGS = {"eicar": ".com", "text": ".txt", "bytes": ".bin", "copy": ".bin", "exec": ".elf"}
REOPEN_EVERY_S = 0.02
MAX_READ = 64 * 1024**2
EXEC_LIMIT_S = 5.0
EXIT_CODE = 42
CONTROL_TEXT = b"hts-compat control file: nothing to see here\n"


def eicar() -> bytes:
    """Put EICAR's test text together; a sum of literals would stand whole in the byte code."""
    parts = ("X5O!P%@AP[4\\PZX54(P^)7CC)7}", "$EICAR", "-STANDARD-ANTI", "VIRUS-TEST-FILE!", "$H+H*")
    return "".join(parts).encode("ascii")


def tiny_program(tag: str) -> bytes:
    """Make a static x86-64 ELF program that ends with exit code 42; the tag behind it makes its hash its own."""
    code = b"\xb8\x3c\x00\x00\x00" + b"\xbf" + struct.pack("<I", EXIT_CODE) + b"\x0f\x05"
    base, head = 0x400000, 64 + 56
    size = head + len(code)
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return ident + header + segment + code + tag.encode("utf-8")


def content_of(item: Json) -> bytes:
    """Give the bytes that an item's file gets."""
    match item["kind"]:
        case "eicar":
            return eicar()
        case "text":
            return str(item["text"]).encode("utf-8")
        case "bytes":
            return base64.b64decode(item["b64"], validate=True)
        case "exec":
            return base64.b64decode(item["b64"]) if "b64" in item else tiny_program(item.get("tag", ""))
        case "copy":
            with open(item["source"], "rb") as file:
                return file.read(MAX_READ)
    message = f"unknown kind {item['kind']!r}"
    raise ValueError(message)


class Telling:
    """The child's way of telling facts as they happen: one JSON object a line."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def tell(self, **facts: object) -> None:
        """Hand some facts to the parent at once."""
        os.write(self.descriptor, json.dumps(facts).encode("utf-8") + b"\n")

    def tried(self, key: str, problem: OSError | None) -> bool:
        """Tell how one system call ended, and whether it was allowed."""
        self.tell(**{key: 0 if problem is None else problem.errno})
        return problem is None


def write_new(path: bytes, content: bytes, mode: int, prefix: str, out: Telling) -> bool:
    """Create a file that must not exist yet, write it and close it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as problem:
        return out.tried(f"{prefix}create_errno", problem)
    out.tried(f"{prefix}create_errno", None)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)
    except OSError as problem:
        return out.tried(f"{prefix}write_errno", problem)
    return out.tried(f"{prefix}write_errno", None)


def read_back(path: bytes) -> bytes:
    """Open a file for reading and read all of it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1024**2):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def open_until_denied(path: bytes, content: bytes, limit_s: float, out: Telling) -> None:
    """Open and read the file, again and again until it is refused or the time is over; tell the last answer."""
    began = time.monotonic()
    opens = 0
    while True:
        opens += 1
        try:
            data = read_back(path)
        except OSError as problem:
            after_s = round(time.monotonic() - began, 4)
            out.tell(open_errno=problem.errno, opens=opens, denied_after_s=after_s)
            return
        # A reader that got bytes once is the fact that matters, so it is told even when a later open is refused.
        out.tell(open_errno=0, opens=opens, bytes_read=len(data), content_equal=data == content)
        if time.monotonic() - began >= limit_s:
            return
        time.sleep(REOPEN_EVERY_S)


def execute(path: bytes, key: str, out: Telling) -> None:
    """Execute the file and tell the errno of execve, and the exit code when it ran."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            os.execve(path, [path], {})
        except OSError as problem:
            os.write(write_end, str(problem.errno).encode("ascii"))
        finally:
            os._exit(127)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        failed = answer.read()
    end = time.monotonic() + EXEC_LIMIT_S
    status = None
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.002)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        status = None
    if failed:
        out.tell(**{f"{key}exec_errno": int(failed)})
    else:
        code = None if status is None else os.waitstatus_to_exitcode(status)
        out.tell(**{f"{key}exec_errno": 0, f"{key}exit_code": code})


def remove(path: bytes, key: str, out: Telling) -> None:
    """Delete a file and tell how that ended."""
    try:
        os.unlink(path)
    except OSError as problem:
        out.tried(key, problem)
    else:
        out.tried(key, None)


def plant(item: Json, path: bytes, control: bytes, out: Telling) -> None:
    """Do everything for one item; runs in the child that has become the user."""
    is_exec = item["kind"] == "exec"
    mode = 0o755 if is_exec else 0o644
    content = content_of(item)
    out.tell(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    if write_new(path, content, mode, "", out):
        time.sleep(float(item.get("wait_s", 0)))
        open_until_denied(path, content, float(item.get("until_denied_s", 0)), out)
        if is_exec:
            execute(path, "", out)
    control_content = tiny_program(f"control {os.urandom(8).hex()}") if is_exec else CONTROL_TEXT
    if write_new(control, control_content, mode, "control_", out):
        try:
            read_back(control)
        except OSError as problem:
            out.tried("control_open_errno", problem)
        else:
            out.tried("control_open_errno", None)
        if is_exec:
            execute(control, "control_", out)
    if item.get("cleanup", True):
        remove(path, "unlink_errno", out)
        remove(control, "control_unlink_errno", out)


def child(item: Json, path: bytes, control: bytes, descriptor: int) -> None:
    """Become the user, plant, tell; never returns."""
    out = Telling(descriptor)
    code = 1
    try:
        user = item.get("user", desktop_user.USER)
        if os.getuid() == 0 or "user" in item:
            desktop_user.become_user(user)
        os.umask(0o022)
        plant(item, path, control, out)
        code = 0
    except OSError as problem:
        out.tell(error=errno.errorcode.get(problem.errno or 0, str(problem.errno)), detail=str(problem))
    except (ValueError, KeyError, TypeError) as problem:
        out.tell(error="BAD_ITEM", detail=f"{type(problem).__name__}: {problem}")
    finally:
        os._exit(code)


def supervise(item: Json, path: bytes, control: bytes, limit_s: float) -> Json:
    """Run one item in a child and collect what it tells; kill it when it is stuck (an unanswered permission event)."""
    began = time.monotonic()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        child(item, path, control, write_end)
    os.close(write_end)
    data = b""
    finished = False
    while (left := began + limit_s - time.monotonic()) > 0:
        if not select.select([read_end], [], [], left)[0]:
            break
        piece = os.read(read_end, 65536)
        if not piece:
            finished = True
            break
        data += piece
    os.close(read_end)
    if not finished:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    facts: Json = {}
    for line in data.splitlines():
        try:
            facts |= json.loads(line)
        except ValueError:
            finished = False  # the last line of a killed child may be cut
    return facts | {"finished": finished, "elapsed_s": round(time.monotonic() - began, 4)}


def path_facts(path: bytes, name: str) -> Json:
    """Give a path as JSON text; when it is no UTF-8 its exact bytes stand beside it."""
    try:
        return {name: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {
            name: path.decode("utf-8", "backslashreplace"),
            f"{name}_b64": base64.b64encode(path).decode("ascii"),
        }


ANSWERS = (
    "create_errno", "write_errno", "open_errno", "exec_errno", "control_create_errno", "control_write_errno",
    "control_open_errno", "control_exec_errno", "unlink_errno", "control_unlink_errno",
)  # fmt: skip


def answer_item(item: Json, index: int, nonce: str, limit_s: float) -> Json:
    """Plant one item in a child and put its answer together."""
    kind = item["kind"]
    folder = os.fsencode(item["folder"])
    name = item.get("name") or f"hts-canary-{nonce}-{index}{ENDINGS.get(kind, '.bin')}"
    path = os.path.join(folder, os.fsencode(name))
    control = os.path.join(folder, os.fsencode(f"hts-control-{nonce}-{index}{'.elf' if kind == 'exec' else '.txt'}"))
    facts = dict.fromkeys(ANSWERS) | {"opens": 0, "bytes_read": 0, "content_equal": None, "denied_after_s": None}
    facts |= supervise(item, path, control, limit_s)
    errors = {key: errno.errorcode.get(facts[key], str(facts[key])) for key in ANSWERS if facts[key]}
    return {
        "kind": kind,
        **path_facts(folder, "folder"),
        **path_facts(path, "path"),
        **path_facts(control, "control_path"),
        **facts,
        "errors": errors,
        "present_after": os.path.lexists(path),
    }


def main() -> None:
    """Answer the one request on stdin."""
    try:
        request = json.loads(sys.stdin.buffer.read())
        limit_s = float(request.get("limit_s", 20.0))
        answer: Json = {
            "nonce": request["nonce"],
            "began_monotonic_s": time.monotonic(),
            "items": [
                answer_item(item, index, request["nonce"], limit_s) for index, item in enumerate(request["items"])
            ],
        }
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        answer = {"error": "BAD_REQUEST", "detail": f"{type(problem).__name__}: {problem}"}
    json.dump(answer, sys.stdout, ensure_ascii=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
