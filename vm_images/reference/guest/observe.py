#!/usr/bin/python3
"""Tell what is to be seen in this guest without touching it: one JSON request on stdin, one JSON object on stdout.

Rules:
1. No file of a build is ever opened: opening is what on-access scanners react to. Trees are listed by ``lstat``;
   only folders, /proc and the files named under ``tail`` (logs) are opened.
2. What goes wrong with one item is data in that item (``error``), never a traceback.
3. Everything has a cap, and says ``truncated`` when the cap cut something off.

Request keys, all optional: ``time``, ``processes``, ``tcp``, ``windows`` (true), ``images`` ([pid]), ``list``
([{root, max_entries}]), ``tail`` ([{path, offset, max_bytes, inode}]), ``limit_s`` (windows only).

/proc of another user's process shows ``exe``, ``maps`` and ``fd`` only to that user (or to CAP_SYS_PTRACE, which a
guest need not have), so these are read by a child that has become the owner.
"""

import base64
import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import desktop_user
import windows

MAX_PROCESSES = 2000
MAX_ENTRIES = 20_000
MAX_TAIL_BYTES = 4 * 1024**2
MAX_IMAGES = 1000
MAX_SOCKETS = 5000
MAX_TEXT = 4096
MAX_WINDOWS_BYTES = 4 * 1024**2
RUN_MARK = b"HTS_COMPAT_RUN="
# include/net/tcp_states.h of the kernel
TCP_STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip

Json = dict[str, Any]


def error_of(problem: OSError) -> Json:
    """Put an operating system error into words that do not depend on the locale."""
    return {"error": errno.errorcode.get(problem.errno or 0, str(problem.errno))}


def text_of(raw: bytes, name: str) -> Json:
    """Give bytes from the system as text; when they are no UTF-8 the exact bytes stand beside it in base64."""
    try:
        return {name: raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {
            name: raw.decode("utf-8", "backslashreplace"),
            f"{name}_b64": base64.b64encode(raw).decode("ascii"),
        }


def read_proc(path: str, max_bytes: int = 1024**2) -> bytes:
    """Read a file of /proc (whose size is not known beforehand), at most so many bytes."""
    with open(path, "rb") as file:
        return file.read(max_bytes)


def observe_time(_: object) -> Json:
    """Give the guest's clocks together, so that a caller can place guest times on its own clock."""
    return {
        "monotonic_s": time.monotonic(),
        "boottime_s": time.clock_gettime(time.CLOCK_BOOTTIME),
        "realtime_ns": time.time_ns(),
        "boot_id": read_proc("/proc/sys/kernel/random/boot_id").decode("ascii").strip(),
        "clock_ticks_per_s": os.sysconf("SC_CLK_TCK"),
    }


def process_ids() -> list[int]:
    """List the processes of this guest by id."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def process_record(pid: int) -> Json:
    """Read what everyone may know of one process. Raises OSError when it has gone."""
    raw = read_proc(f"/proc/{pid}/stat")
    # The name stands in parentheses and may hold any character, also ')' and blanks: split at the last one.
    fields = raw[raw.rindex(b")") + 2 :].split()
    status = os.stat(f"/proc/{pid}")
    name = raw[raw.index(b"(") + 1 : raw.rindex(b")")]
    cmdline = read_proc(f"/proc/{pid}/cmdline", MAX_TEXT + 1)
    shown = cmdline[:MAX_TEXT].rstrip(b"\0").replace(b"\0", b" ")
    return {
        "pid": pid,
        "ppid": int(fields[1]),
        "pgid": int(fields[2]),
        "sid": int(fields[3]),
        "state": fields[0].decode("ascii"),
        "start_ticks": int(fields[19]),
        "uid": status.st_uid,
        "gid": status.st_gid,
        **text_of(name, "comm"),
        **text_of(shown, "cmdline"),
        "cmdline_truncated": len(cmdline) > MAX_TEXT,
    }


def as_owner(uid: int, gid: int, work: Callable[[], object]) -> Any:
    """Run ``work`` in a child that has become the owner of the processes it looks at; give its JSON answer."""
    if os.getuid() != 0 or (uid, gid) == (0, 0):
        return work()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read_end)
            desktop_user.become(uid, gid)
            with os.fdopen(write_end, "w", encoding="utf-8") as answer:
                json.dump(work(), answer)
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    return json.loads(data) if data else None


def by_owner(records: list[Json]) -> dict[tuple[int, int], list[int]]:
    """Group process ids by the user and group that own them."""
    owners: dict[tuple[int, int], list[int]] = {}
    for record in records:
        owners.setdefault((record["uid"], record["gid"]), []).append(record["pid"])
    return owners


def private_details(pid: int) -> Json:
    """Read what only the owner may know: the program file, and the mark of the run that started it."""
    details: Json = {}
    try:
        details |= text_of(os.readlink(os.fsencode(f"/proc/{pid}/exe")), "exe")
    except OSError as problem:
        details |= {"exe": None, "exe_error": error_of(problem)["error"]}
    try:
        marks = [v for v in read_proc(f"/proc/{pid}/environ").split(b"\0") if v.startswith(RUN_MARK)]
        details["run"] = marks[0][len(RUN_MARK) :].decode("ascii", "replace") if marks else None
    except OSError as problem:
        details |= {"run": None, "run_error": error_of(problem)["error"]}
    return details


def records_now() -> tuple[list[Json], bool]:
    """Read the public facts of all processes, and whether there were more than the cap."""
    records: list[Json] = []
    ids = process_ids()
    for pid in ids[:MAX_PROCESSES]:
        try:
            records.append(process_record(pid))
        except (OSError, ValueError, IndexError):
            continue  # it ended between the listing and the reading, which is no fact about it
    return records, len(ids) > MAX_PROCESSES


def observe_processes(_: object) -> Json:
    """List the processes, each with the ``run`` mark that desktop.py gave it or one of its ancestors."""
    records, truncated = records_now()
    details: dict[str, Json] = {}
    for (uid, gid), pids in by_owner(records).items():
        answer = as_owner(uid, gid, lambda pids=pids: {str(pid): private_details(pid) for pid in pids})  # type: ignore[misc]
        details |= answer or {}
    unread = {"exe": None, "exe_error": "UNREAD", "run": None}
    items = [record | details.get(str(record["pid"]), unread) for record in records]
    return {"items": items, "truncated": truncated}


def mapped_files(pid: int) -> Json:
    """List the files mapped into one process; wine maps at least the header of each PE image that it loads."""
    try:
        lines = read_proc(f"/proc/{pid}/maps", 16 * 1024**2).splitlines()
    except OSError as problem:
        return error_of(problem)
    seen: dict[bytes, Json] = {}
    for line in lines:
        parts = line.split(None, 5)
        if len(parts) < 6 or not parts[5].startswith(b"/"):
            continue
        # The kernel writes a line feed in a name as \012, and adds ' (deleted)' to a file without a name.
        path = parts[5].replace(b"\\012", b"\n")
        deleted = path.endswith(b" (deleted)")
        path = path.removesuffix(b" (deleted)")
        seen.setdefault(path, {**text_of(path, "path"), "inode": int(parts[4]), "deleted": deleted})
    files = [seen[path] for path in sorted(seen)]
    return {"files": files[:MAX_IMAGES], "truncated": len(files) > MAX_IMAGES}


def observe_images(pids: list[int]) -> list[Json]:
    """List the files mapped into each process asked for."""
    items = []
    for pid in pids:
        try:
            owner = os.stat(f"/proc/{pid}")
        except OSError as problem:
            items.append({"pid": pid, **error_of(problem)})
            continue
        answer = as_owner(owner.st_uid, owner.st_gid, lambda pid=pid: mapped_files(pid))  # type: ignore[misc]
        items.append({"pid": pid, **(answer or {"error": "UNREAD"})})
    return items


def file_type(mode: int) -> str:
    """Name what a directory entry is."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def list_entry(path: bytes) -> Json:
    """Tell everything about one directory entry that does not need an open."""
    status = os.lstat(path)
    entry = {
        **text_of(path, "path"),
        "type": file_type(status.st_mode),
        "mode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
    }
    if entry["type"] == "link":
        entry |= text_of(os.readlink(path), "target")
    return entry


def observe_list(request: Json) -> Json:
    """List a tree, folder by folder in byte order of the names; links are told, not followed."""
    root = os.fsencode(request["root"])
    limit = min(int(request.get("max_entries", MAX_ENTRIES)), MAX_ENTRIES)
    result: Json = {"root": request["root"], "entries": [], "errors": [], "truncated": False}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            names = sorted(os.listdir(folder))
        except OSError as problem:
            result["errors"].append({**text_of(folder, "path"), **error_of(problem)})
            continue
        below = []
        for name in names:
            if len(result["entries"]) >= limit:
                result["truncated"] = True
                return result
            path = os.path.join(folder, name)
            try:
                entry = list_entry(path)
            except OSError as problem:
                result["errors"].append({**text_of(path, "path"), **error_of(problem)})
                continue
            result["entries"].append(entry)
            if entry["type"] == "folder":
                below.append(path)
        waiting.extend(reversed(below))
    return result


def observe_tail(request: Json) -> Json:
    """Give the bytes of a log from an offset.

    ``reset`` is true when the file is another one than before (``inode`` given and different) or shorter than the
    offset: then the bytes are from its start. ``truncated``: more was there than ``max_bytes``.
    """
    offset = int(request.get("offset", 0))
    limit = min(int(request.get("max_bytes", MAX_TAIL_BYTES)), MAX_TAIL_BYTES)
    answer: Json = {"path": request["path"]}
    try:
        with open(request["path"], "rb") as file:
            status = os.fstat(file.fileno())
            moved = request.get("inode") not in (None, status.st_ino)
            reset = moved or status.st_size < offset
            start = 0 if reset else offset
            file.seek(start)
            data = file.read(limit)
            size = os.fstat(file.fileno()).st_size
    except OSError as problem:
        return answer | error_of(problem)
    return answer | {
        "data_b64": base64.b64encode(data).decode("ascii"),
        "offset": start + len(data),
        "size": size,
        "truncated": start + len(data) < size,
        "reset": reset,
        "inode": status.st_ino,
    }


def address_of(field: bytes) -> tuple[str, int]:
    """Turn ``0100007F:1F90`` of /proc/net/tcp into an address and a port.

    Source: Documentation/networking/proc_net_tcp.rst; the address is in 32-bit words of the machine's byte order.
    """
    raw, port = field.split(b":")
    words = [bytes.fromhex(raw[at : at + 8].decode("ascii"))[::-1] for at in range(0, len(raw), 8)]
    packed = b"".join(words)
    if len(packed) == 4:
        return ".".join(str(byte) for byte in packed), int(port, 16)
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return ".".join(str(byte) for byte in packed[12:]), int(port, 16)
    return ":".join(packed[at : at + 2].hex() for at in range(0, 16, 2)), int(port, 16)


def socket_owners(pids: list[int]) -> dict[str, list[int]]:
    """Map socket inode numbers to the processes of one user that hold them."""
    owners: dict[str, list[int]] = {}
    for pid in pids:
        try:
            descriptors = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            except OSError:
                continue
            match = re.fullmatch(r"socket:\[(\d+)\]", target)
            if match and pid not in owners.setdefault(match[1], []):
                owners[match[1]].append(pid)
    return owners


def observe_tcp(_: object) -> Json:
    """List the TCP sockets of this network namespace with the processes that hold them.

    Only processes of a socket's own user are looked at: each user costs a child, and each process a walk.
    """
    items: list[Json] = []
    errors = []
    for table in ("tcp", "tcp6"):
        try:
            lines = read_proc(f"/proc/net/{table}", 4 * 1024**2).splitlines()[1:]
        except OSError as problem:
            errors.append({"table": table, **error_of(problem)})
            continue
        for line in lines:
            fields = line.split()
            local, local_port = address_of(fields[1])
            remote, remote_port = address_of(fields[2])
            items.append({
                "table": table, "local": local, "local_port": local_port, "remote": remote,
                "remote_port": remote_port, "state": TCP_STATES[int(fields[3], 16)], "uid": int(fields[7]),
                "inode": int(fields[9]),
            })  # fmt: skip
    cut = len(items) > MAX_SOCKETS
    items = items[:MAX_SOCKETS]
    # A socket that no process holds any more has the inode 0 and nobody's uid.
    wanted = {item["uid"] for item in items if item["inode"]}
    ids = process_ids()
    holders: dict[str, list[int]] = {}
    for (uid, gid), pids in owners_of(ids[:MAX_PROCESSES], wanted).items():
        for inode, found in (as_owner(uid, gid, lambda pids=pids: socket_owners(pids)) or {}).items():  # type: ignore[misc]
            holders.setdefault(inode, []).extend(found)
    for item in items:
        item["pids"] = sorted(holders.get(str(item["inode"]), []))
    return {"items": items, "errors": errors, "truncated": cut or len(ids) > MAX_PROCESSES}


def owners_of(pids: list[int], uids: set[int]) -> dict[tuple[int, int], list[int]]:
    """Group the processes of some users by the user and group that own them."""
    found: dict[tuple[int, int], list[int]] = {}
    for pid in pids if uids else []:
        try:
            status = os.stat(f"/proc/{pid}")
        except OSError:
            continue
        if status.st_uid in uids:
            found.setdefault((status.st_uid, status.st_gid), []).append(pid)
    return found


def observe_windows(_: object, limit_s: float) -> Json:
    """List the windows of the desktop through winview.exe, which runs as the desktop user (windows.py).

    ``exit_code`` None: it did not answer in time and was killed. Standard output is passed on as it came, parsed in
    ``json`` when it is JSON: a listing that cannot be read is evidence too. ``no_resident``: why a fresh program
    was started for it; null when none was.
    """
    began = time.monotonic()
    try:
        exit_code, output, why = windows.ask(["list"], "", limit_s)
    except (OSError, KeyError) as problem:
        return error_of(problem) if isinstance(problem, OSError) else {"error": "NO_DESKTOP_USER"}
    except subprocess.SubprocessError:
        return {"error": "NOT_STARTED"}
    answer: Json = {
        "exit_code": exit_code,
        "elapsed_s": round(time.monotonic() - began, 4),
        "truncated": len(output) > MAX_WINDOWS_BYTES,
        "no_resident": why,
    }
    output = output[:MAX_WINDOWS_BYTES]
    try:
        return answer | {"json": json.loads(output.decode("utf-8"))}
    except ValueError:
        return answer | {"json": None, "output_b64": base64.b64encode(output).decode("ascii")}


def observe(request: Json) -> Json:
    """Answer a whole request; the keys of the answer are those of the request."""
    limit_s = float(request.get("limit_s", 10.0))
    answer: Json = {}
    if request.get("time"):
        answer["time"] = observe_time(None)
    if request.get("processes"):
        answer["processes"] = observe_processes(None)
    if "images" in request:
        answer["images"] = observe_images(request["images"])
    if request.get("tcp"):
        answer["tcp"] = observe_tcp(None)
    if "tail" in request:
        answer["tail"] = [observe_tail(item) for item in request["tail"]]
    if "list" in request:
        answer["list"] = [observe_list(item) for item in request["list"]]
    if request.get("windows"):
        answer["windows"] = observe_windows(None, limit_s)
    return answer


def main() -> None:
    """Answer the one request on stdin."""
    try:
        request = json.loads(sys.stdin.buffer.read())
        answer = observe(request)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        answer = {"error": "BAD_REQUEST", "detail": f"{type(problem).__name__}: {problem}"}
    json.dump(answer, sys.stdout, ensure_ascii=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
