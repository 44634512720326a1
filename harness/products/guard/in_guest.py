"""Driver. TEST product: the guard's own part, run in the guest as root by the guest's Python; no library, no security.

``in_guest.py serve`` asks the kernel for permission events and does what its set says; ``load FILE`` gives it a set and
``status`` asks it what it is, both over a socket without a file.

1. While it serves it opens no file of the watched mount: the kernel would ask it about its own open and wait for ever.
   Sets come over the socket, the log is open already, and no traceback is written (it would read the sources).
2. When it ends, by whatever fault, the kernel lets every waiting open through: it fails open, as real ones do.
3. A known file is known by its bytes. Only a file of a known size is read, so that all others cost a look.

Source: fanotify(7), fanotify_init(2), fanotify_mark(2); <linux/fanotify.h> for the numbers and both structures.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import heapq
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

NAME = "hts-compat guard (TEST)"
VERSION = "1.0"
#: Name of the process (prctl(2): 15 characters at most), and of the socket in the abstract namespace (unix(7)).
PROCESS = "hts-test-guard"
SOCKET = "\0hts-test-guard"
ROOT = "/var/lib/hts-compat/guard"
LOG = f"{ROOT}/guard.log"
QUARANTINE = f"{ROOT}/quarantine"

FAN_CLOEXEC, FAN_CLASS_CONTENT, FAN_UNLIMITED_QUEUE = 0x1, 0x4, 0x10
FAN_MARK_ADD, FAN_MARK_MOUNT = 0x1, 0x10
#: An execve is an open too, so the one event covers both; FAN_OPEN_EXEC_PERM besides would ask everything twice.
FAN_OPEN_PERM = 0x10000
FAN_ALLOW, FAN_DENY = 1, 2
AT_FDCWD = -100
PR_SET_NAME = 15
EVENT = struct.Struct("=IBBHQii")
ANSWER = struct.Struct("=iI")
MAX_REQUEST = 1 << 20
CHUNK = 1 << 20
PROGRAM_ENDING = ".exe"


class Guard:
    """What it knows, what it has begun and not ended, and what it will do when.

    Args:
        events: The fanotify group.
        log: Descriptor of the log, open for appending.
        quarantine: Folder on the same file system, where files are taken to.
    """

    def __init__(self, events: int, log: int, *, quarantine: str = QUARANTINE) -> None:
        self._events = events
        self._log = log
        self._quarantine_folder = quarantine
        self._pid = os.getpid()
        self._set: Json = {"label": None, "says": None}
        self._known: dict[str, Json] = {}
        self._sizes: frozenset[int] = frozenset()
        self._opened: dict[tuple[str, str], float] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._moved = 0
        self._asked = 0

    def load(self, wanted: Json) -> None:
        """Know this set and nothing else; what was begun for another is not done any more."""
        self._set = wanted
        self._known = {item["sha256"]: item for item in wanted["known"]}
        self._sizes = frozenset(item["size"] for item in wanted["known"])
        self._opened.clear()
        self._due.clear()

    def status(self) -> Json:
        """Say what it says of itself, which need not be true."""
        return {"product": NAME, "version": VERSION, "definitions": self._set["says"]}

    def wait_s(self) -> float | None:
        """Give the seconds until something is due; None when nothing is."""
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def do_due(self) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()

    def read_events(self) -> None:
        """Answer what the kernel asks."""
        data = os.read(self._events, 64 * EVENT.size)
        at = 0
        while at < len(data):
            length, _version, _reserved, _metadata, _mask, descriptor, pid = EVENT.unpack_from(data, at)
            at += length
            if descriptor < 0:
                continue
            decision: int | None = FAN_ALLOW
            try:
                if pid != self._pid:
                    decision = self.decide(descriptor, pid)
            finally:
                if decision is not None:
                    self._answer(descriptor, decision)

    def _answer(self, descriptor: int, decision: int) -> None:
        with contextlib.suppress(OSError):  # who asked may have been killed
            os.write(self._events, ANSWER.pack(descriptor, decision))
        os.close(descriptor)

    def decide(self, descriptor: int, pid: int) -> int | None:
        """Give the answer to one open; None when it is given later, or never."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size not in self._sizes:
            return FAN_ALLOW
        rule = self._known.get(_digest(descriptor))
        if rule is None:
            return FAN_ALLOW
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        key = (rule["sha256"], path)
        is_first = key not in self._opened
        first = self._opened.setdefault(key, time.monotonic())
        match rule["does"]:
            case "deny":
                self._tell("denied", rule, path, pid)
                return FAN_DENY
            case "alert":
                if is_first:
                    self._tell("alerted", rule, path, pid)
                return FAN_ALLOW
            case "lock":
                if is_first:
                    self._tell("locked", rule, path, pid)
                return FAN_DENY if time.monotonic() < first + rule["for_s"] else FAN_ALLOW
            case "hang":
                return self._hang(descriptor, rule) if is_first else FAN_ALLOW
            case "kill":
                if is_first:
                    self._later(rule["after_s"], lambda: self._kill(rule, path))
                return FAN_ALLOW
            case _:
                return self._quarantine(rule, path, pid, is_first=is_first)

    def _hang(self, descriptor: int, rule: Json) -> int | None:
        if rule["for_s"] is not None:
            self._later(rule["for_s"], lambda: self._answer(descriptor, FAN_ALLOW))
        return None

    def _quarantine(self, rule: Json, path: str, pid: int, *, is_first: bool) -> int:
        """Take a file away at once, or let it be opened until the time has come. What came back is left alone."""
        if not is_first:
            return FAN_ALLOW
        if rule["after_s"]:
            self._later(rule["after_s"], lambda: self._take(rule, path, pid))
            return FAN_ALLOW
        self._take(rule, path, pid)
        return FAN_DENY

    def _take(self, rule: Json, path: str, pid: int) -> None:
        self._moved += 1
        kept = f"{self._quarantine_folder}/{self._moved}"
        try:
            os.rename(path, kept)
        except OSError as problem:
            self._tell(f"failed {problem.errno}", rule, path, pid)
            return
        self._tell("quarantined", rule, path, pid)
        if rule["does"] == "put_back":
            self._later(rule["for_s"], lambda: self._put_back(rule, kept, path))
        else:
            # The same bytes under the same name again are met as the first time.
            self._opened.pop((rule["sha256"], path), None)

    def _put_back(self, rule: Json, kept: str, path: str) -> None:
        os.rename(kept, path)
        self._tell("restored", rule, path, 0)

    def _kill(self, rule: Json, path: str) -> None:
        """End every program that has the file loaded; what is named is the program, as behaviour is a program's."""
        for pid, mapped in _mapped_files():
            if path in mapped and pid != self._pid:
                program = next((name for name in mapped if name.lower().endswith(PROGRAM_ENDING)), path)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self._tell("killed", rule if program == path else rule | {"sha256": None}, program, pid)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._asked += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._asked, act))

    def _tell(self, action: str, rule: Json, path: str, pid: int) -> None:
        if rule["silent"]:
            return
        record = {
            "mono_s": round(time.monotonic(), 3),
            "action": action,
            "threat": rule["threat"],
            "path": path,
            "sha256": rule["sha256"],
            "late": bool(rule["after_s"]),
            "pid": pid,
            "exe": _program_of(pid),
        }
        os.write(self._log, json.dumps(record).encode() + b"\n")


def _digest(descriptor: int) -> str:
    total, at = hashlib.sha256(), 0
    while piece := os.pread(descriptor, CHUNK, at):
        total.update(piece)
        at += len(piece)
    return total.hexdigest()


def _program_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def _mapped_files() -> list[tuple[int, list[str]]]:
    """Give each process with the files that it has mapped, in the order of their addresses.

    /proc is another mount, so these opens are not asked about. Source: proc_pid_maps(5).
    """
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            descriptor = os.open(f"/proc/{name}/maps", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        maps = b""
        with contextlib.suppress(OSError):
            while piece := os.read(descriptor, CHUNK):
                maps += piece
        os.close(descriptor)
        paths = [os.fsdecode(line.split(None, 5)[5]) for line in maps.splitlines() if b" /" in line]
        found.append((int(name), list(dict.fromkeys(paths))))
    return found


class Line:
    """One client on the socket: what it has sent so far."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.data = b""

    def take(self, guard: Guard) -> bool:
        """Take what has come; when it is all, do it, answer, and tell that this is over."""
        piece = self.connection.recv(CHUNK)
        self.data += piece
        if piece and len(self.data) <= MAX_REQUEST:
            return False
        answer: Json = {"error": "no request"}
        with contextlib.suppress(ValueError, KeyError, TypeError):
            request = json.loads(self.data)
            if "load" in request:
                guard.load(request["load"])
            answer = guard.status()
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(answer).encode())
        self.connection.close()
        return True


def serve() -> None:
    """Guard the root mount until killed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NAME, PROCESS.encode(), 0, 0, 0)
    os.makedirs(QUARANTINE, mode=0o700, exist_ok=True)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(SOCKET)
    listener.listen(8)
    flags = FAN_CLOEXEC | FAN_CLASS_CONTENT | FAN_UNLIMITED_QUEUE
    events = libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC | os.O_LARGEFILE)
    if events < 0:
        sys.exit(f"{NAME}: fanotify_init failed with errno {ctypes.get_errno()}")
    guard = Guard(events, log)
    mask = ctypes.c_uint64(FAN_OPEN_PERM)
    if libc.fanotify_mark(events, FAN_MARK_ADD | FAN_MARK_MOUNT, mask, AT_FDCWD, b"/") != 0:
        sys.exit(f"{NAME}: fanotify_mark failed with errno {ctypes.get_errno()}")
    lines: dict[int, Line] = {}
    try:
        while True:
            ready, _, _ = select.select([events, listener, *lines], [], [], guard.wait_s())
            guard.do_due()
            for source in ready:
                if source is listener:
                    connection, _ = listener.accept()
                    lines[connection.fileno()] = Line(connection)
                elif source == events:
                    guard.read_events()
                elif lines[source].take(guard):
                    del lines[source]
    except BaseException as problem:  # noqa: BLE001 - rule 1: a traceback would open files and wait for our own answer
        os.write(log, json.dumps({"action": "ended", "why": f"{type(problem).__name__}: {problem}"}).encode() + b"\n")
        os._exit(1)


def ask(request: Json) -> int:
    """Send one request, print the answer; 1 when nobody answers."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.connect(SOCKET)
        client.sendall(json.dumps(request).encode())
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := client.recv(CHUNK):
            answer += piece
    except OSError:
        return 1
    sys.stdout.write(answer.decode() + "\n")
    return 0


def main(argv: list[str]) -> int:
    """Do as the arguments say."""
    if argv[:1] == ["serve"]:
        serve()
    if argv[:1] == ["load"]:
        with open(argv[1], encoding="utf-8") as file:
            return ask({"load": json.load(file)})
    return ask({})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
