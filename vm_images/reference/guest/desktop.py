#!/usr/bin/python3
r"""Start, await and end programs in the desktop session: one JSON request on stdin, one JSON answer on stdout.

Every started program is a *job* with an id (the caller's choice), a folder /run/hts-compat/jobs/ID and a mark
``HTS_COMPAT_RUN=ID`` in its environment. Children inherit the mark, also those that wine starts in sessions of their
own and that no process group holds together, so the mark is what tells a job's processes.

Requests:
  {"action": "start", "id": "s3-launch", "argv": ["C:\\...\\App.exe", "/S"], "cwd": null, "env": {},
   "command_line": null, "user": "trader", "limit_s": 20}
      argv[0] is a Windows path (``C:\...``) or a Linux one. ``command_line``: the whole Windows command line as it
      is to be (for NSIS's unquoted /D=), instead of argv. ``limit_s``: how long to await the start itself.
  {"action": "wait", "id": "...", "limit_s": 10, "tree": false}    tree: until the job's last process has ended
  {"action": "kill", "id": "...", "grace_s": 1}
Answers: ``state`` is starting | running | ended | failed, see ``describe``.

The full 32-bit exit code of a Windows program comes from winrun.exe; wine itself hands on 8 bits (``unix_exit``).
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import desktop_user

JOBS = Path(desktop_user.RUN_FOLDER) / "jobs"
WINRUN = Path(desktop_user.TOOLS) / "winrun.exe"
POLL_S = 0.01
MAX_OUTPUT = 65536

Json = dict[str, Any]


class BadRequestError(Exception):
    """The request makes no sense; the text says why."""


def job_folder(job: str) -> Path:
    """Give a job's folder, refusing ids that would lead elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", job):
        message = f"id {job!r} may hold letters, digits, '.', '_' and '-' only"
        raise BadRequestError(message)
    return JOBS / job


def read_json(path: Path) -> Json:
    """Read one JSON object; empty when it is not there (yet)."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def write_json(path: Path, content: Json) -> None:
    """Write one JSON object so that a reader sees all of it or nothing."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    partial.rename(path)


def windows_path(path: Path) -> str:
    """Name a Linux path as wine sees it, over its drive Z:."""
    return "Z:" + str(path).replace("/", "\\")


def as_command(request: Json) -> str:
    """Give the Windows command line: as asked for, or the arguments quoted as Microsoft's C runtime splits them."""
    line = request.get("command_line")
    return str(line) if line is not None else subprocess.list2cmdline(request["argv"])


def prepare(request: Json, folder: Path) -> list[str]:
    """Write what winrun.exe reads, and give the argument list to start."""
    argv = [str(item) for item in request.get("argv") or []]
    if not argv and not request.get("command_line"):
        message = "start needs argv or command_line"
        raise BadRequestError(message)
    if argv and not re.match(r"[A-Za-z]:\\", argv[0]):
        return argv
    (folder / "command.txt").write_bytes(as_command(request).encode("utf-16-le"))
    if request.get("cwd"):
        (folder / "cwd.txt").write_bytes(str(request["cwd"]).encode("utf-16-le"))
    return [desktop_user.WINE, str(WINRUN), windows_path(folder)]


def keep(argv: list[str], request: Json, folder: Path, told: int) -> None:
    """Start the program and stay as its parent until it ends, to write down when and how. Runs in a forked child."""
    os.setsid()
    user = request.get("user", desktop_user.USER)
    environment = desktop_user.environment(user) | {"HTS_COMPAT_RUN": request["id"]} | request.get("env", {})
    is_windows = (folder / "command.txt").exists()
    cwd = None if is_windows else request.get("cwd")
    try:
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd or environment["HOME"],
                env=environment, start_new_session=True,
                **desktop_user.as_user(user),
            )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as problem:
        number = problem.errno if isinstance(problem, OSError) else None
        write_json(folder / "job.json", {"start_errno": number, "started_monotonic_s": time.monotonic()})
        os.write(told, b"x")
        return
    facts = {
        "pid": process.pid,
        "keeper_pid": os.getpid(),
        "is_windows": is_windows,
        "started_monotonic_s": time.monotonic(),
    }
    write_json(folder / "job.json", facts)
    os.write(told, b"x")
    os.close(told)
    code = process.wait()
    end = {
        "unix_exit": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "ended_monotonic_s": time.monotonic(),
    }
    write_json(folder / "unix_exit.json", end)


def start(request: Json) -> Json:
    """Start a job and await that the program exists (not that it has a window)."""
    folder = job_folder(request["id"])
    JOBS.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        message = f"a job with id {request['id']!r} exists already"
        raise BadRequestError(message) from None
    folder.chmod(0o777)  # winrun.exe writes into it as the desktop user; the guest is used once
    argv = prepare(request, folder)
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        try:
            os.close(read_end)
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            keep(argv, request, folder, write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    limit_s = float(request.get("limit_s", 20.0))
    end = time.monotonic() + limit_s
    select.select([read_end], [], [], limit_s)
    os.close(read_end)
    await_until(lambda: describe(folder)["state"] != "starting", end)
    return describe(folder)


def describe(folder: Path) -> Json:
    """Tell what is known of a job.

    ``state``: ``starting`` (no word yet), ``running``, ``ended``, ``failed`` (never started: ``start_errno`` from
    Linux or ``windows_error`` from CreateProcess). ``exit_code``: 0 to 2**32-1 for a Windows program, None when the
    full code is not known (killed; then ``unix_exit`` or ``signal`` is what there is).
    """
    job = read_json(folder / "job.json")
    started = read_json(folder / "started.json")
    end = read_json(folder / "unix_exit.json")
    code = read_json(folder / "exit.json").get("exit_code")
    is_windows = bool(job.get("is_windows"))
    if not is_windows:
        code = end.get("unix_exit")
    answer: Json = {
        "id": folder.name,
        "pid": job.get("pid"),
        "windows_pid": started.get("windows_pid"),
        "windows_error": started.get("error"),
        "start_errno": job.get("start_errno"),
        "exit_code": code,
        "unix_exit": end.get("unix_exit"),
        "signal": end.get("signal"),
        "started_monotonic_s": job.get("started_monotonic_s"),
        "ended_monotonic_s": end.get("ended_monotonic_s"),
        "stdout": str(folder / "stdout"),
        "stderr": str(folder / "stderr"),
    }
    if answer["start_errno"] is not None or answer["windows_error"] is not None:
        answer["state"] = "failed"
    elif end:
        answer["state"] = "ended"
    elif job and (started or not is_windows):
        answer["state"] = "running"
    else:
        answer["state"] = "starting"
    return answer


def await_until(done: Callable[[], bool], end: float) -> bool:
    """Poll until it is so or the point on the monotonic clock is reached."""
    while not done():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_S)
    return True


def marked(job: str, user_name: str) -> list[int]:
    """List the processes that carry the job's mark. Read as their owner: /proc/PID/environ is private."""
    wanted = f"HTS_COMPAT_RUN={job}".encode()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read_end)
            if os.getuid() == 0:
                desktop_user.become_user(user_name)
            found = []
            for name in os.listdir("/proc"):
                if not name.isdigit():
                    continue
                try:
                    values = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                except OSError:
                    continue
                if wanted in values:
                    found.append(name)
            os.write(write_end, " ".join(sorted(found, key=int)).encode("ascii"))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        data = answer.read()
    os.waitpid(child, 0)
    return [int(piece) for piece in data.split()]


def wait(request: Json) -> Json:
    """Await a job's end (``tree``: of all its processes), at most ``limit_s``."""
    folder = known_job(request)
    user = request.get("user", desktop_user.USER)
    end = time.monotonic() + float(request.get("limit_s", 10.0))
    await_until(lambda: describe(folder)["state"] in ("ended", "failed"), end)
    answer = describe(folder)
    left = marked(request["id"], user)
    if request.get("tree"):
        while left and time.monotonic() < end:
            time.sleep(POLL_S)
            left = marked(request["id"], user)
        answer["tree_ended_monotonic_s"] = None if left else time.monotonic()
    return answer | {"processes": left} | outputs(folder)


def outputs(folder: Path) -> Json:
    """Give the heads of the job's two outputs as text; what is longer lies in the files."""
    found: Json = {}
    for name in ("stdout", "stderr"):
        try:
            with (folder / name).open("rb") as file:
                data = file.read(MAX_OUTPUT + 1)
        except OSError:
            data = b""
        found[f"{name}_head"] = data[:MAX_OUTPUT].decode("utf-8", "backslashreplace")
        found[f"{name}_truncated"] = len(data) > MAX_OUTPUT
    return found


def kill(request: Json) -> Json:
    """End all processes of a job: SIGTERM, after ``grace_s`` SIGKILL."""
    folder = known_job(request)
    user = request.get("user", desktop_user.USER)
    first = marked(request["id"], user)
    left = first
    for number, limit_s in ((signal.SIGTERM, float(request.get("grace_s", 1.0))), (signal.SIGKILL, 2.0)):
        end = time.monotonic() + limit_s
        while left and time.monotonic() < end:
            for pid in left:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            time.sleep(POLL_S)
            left = marked(request["id"], user)
    await_until(lambda: describe(folder)["state"] in ("ended", "failed"), time.monotonic() + 0.5)
    return describe(folder) | {"killed": first, "processes": left}


def known_job(request: Json) -> Path:
    """Give the folder of a job that exists."""
    folder = job_folder(request["id"])
    if not folder.is_dir():
        message = f"no job with id {request['id']!r}"
        raise BadRequestError(message)
    return folder


ACTIONS = {"start": start, "wait": wait, "kill": kill}


def main() -> None:
    """Answer the one request on stdin."""
    try:
        request = json.loads(sys.stdin.buffer.read())
        answer = ACTIONS[request["action"]](request)
    except (BadRequestError, ValueError, KeyError, TypeError, AttributeError) as problem:
        answer = {"error": "BAD_REQUEST", "detail": f"{type(problem).__name__}: {problem}"}
    json.dump(answer, sys.stdout, ensure_ascii=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
