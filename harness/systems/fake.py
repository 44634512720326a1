"""Effects. The desktop of a guest in memory, for tests: it installs, launches and clicks as a ``FakeProgram`` says."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from harness.deadline import Deadline
from harness.fake_guest import ENOENT, EPERM, FakeMachine, FakeProgram
from harness.image import Image
from harness.scenario import Service
from harness.systems.api import Filled
from harness.transports.api import CommandResult, Transport
from harness.transports.fake import FakeTransport, hang
from harness.transports.payload import Payload, whole

MAIN_WINDOW = "데모증권 HTS"
CONNECTED = "접속됨"
CONNECT_ERROR = "접속 오류"
UPDATE_ERROR = "업데이트 오류"
UPDATE_BUTTON = "업데이트 확인"
LOGIN_BUTTON = "로그인"
SERVER_PORT = 7001

#: The exit code of unpack.py for what is no zip.
BAD_ARCHIVE = 200

#: Exit codes of the program and its installer when they fail by themselves.
INSTALL_FAULT, LAUNCH_FAULT, DEATH = 3, 5, 9
_PNG = b"\x89PNG\r\n\x1a\n"
Json = dict[str, object]


class FakeSystem:
    """The desktop of one simulated guest; see ``GuestSystem``.

    Args:
        image: Gives the folders.
        transport: The way into the machine.
        program: What the delivered installer installs; without it, programs start, show nothing and end with 0.
    """

    def __init__(self, image: Image, transport: FakeTransport, program: FakeProgram | None = None) -> None:
        self.image = image
        self._transport = transport
        self._machine: FakeMachine = transport.machine
        self._program = program
        self._jobs: dict[str, Json] = {}
        self._windows: list[Json] = []
        self._listening: set[int] = set()
        self._mapped: list[str] = []
        self._connected = False
        self._filled: dict[str, str] = {}
        self.proxy: str | None = None

    def use_proxy(self, address: str, *, deadline: Deadline) -> None:
        """Note the proxy; see ``UsesProxy.use_proxy``."""
        del deadline
        self.proxy = address

    @property
    def admin(self) -> Transport:
        """Give the administrator's way in."""
        return self._transport

    def await_ready(self, *, deadline: Deadline) -> bytes:
        """Be ready at once; see ``GuestSystem.await_ready``."""
        self._happens("ready", deadline)
        return b'{"simulated": true}'

    def deliver(self, content: Payload, path: str, *, deadline: Deadline) -> CommandResult:
        """Write a file as the desktop user; see ``GuestSystem.deliver``."""
        self._happens("deliver", deadline)
        if self._machine.mischief.hangs_at == "deliver":
            hang(deadline, "deliver")
        self._machine.files[self.image.guest_path(path)] = whole(content)
        return CommandResult(exit_code=0)

    def unpack(self, archive: str, folder: str, *, deadline: Deadline) -> CommandResult:
        """Put the program's files in place, or what the zip really holds; see ``GuestSystem.unpack``."""
        self._happens("install", deadline)
        if self._machine.mischief.hangs_at == "install":
            hang(deadline, "unpack")
        errno, content = self._machine.opened(self.image.guest_path(archive))
        if errno:
            return CommandResult(exit_code=errno)
        if self._program is not None:
            return CommandResult(exit_code=int(str(self._installed(self._program)["exit_code"])))
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as opened:
                found = {item.filename: opened.read(item) for item in opened.infolist() if not item.is_dir()}
        except zipfile.BadZipFile:
            return CommandResult(exit_code=BAD_ARCHIVE)
        self._machine.files |= {self.image.guest_path(f"{folder}\\{name}"): data for name, data in found.items()}
        return CommandResult(exit_code=0)

    def start(self, job: str, argv: Sequence[str], *, deadline: Deadline) -> bytes:
        """Start the installer, the program or anything else; see ``Desktop.start``."""
        moment = "launch" if job.startswith("launch") else job
        self._happens(moment, deadline)
        path = argv[0]
        windows = len(path) > 1 and path[1] == ":"
        errno = self._machine.opened(self.image.guest_path(path))[0] if windows else 0
        if errno:
            self._jobs[job] = {"state": "failed", "start_errno": errno}
        elif self._machine.mischief.hangs_at == moment:
            self._jobs[job] = {"state": "running"}
        elif self._program is not None and path.endswith(self._program.main):
            self._jobs[job] = self._launched(self._program)
        elif self._program is not None and path.endswith(self._program.uninstaller):
            self._jobs[job] = self._uninstalled(self._program)
        else:
            self._jobs[job] = self._installed(self._program)
        return _answer(self._jobs[job])

    def job(self, job: str, *, deadline: Deadline, wait_s: float = 0.0) -> bytes:
        """Tell how a started program is; see ``Desktop.job``."""
        self._machine.reach()
        if job not in self._jobs:
            return _answer({"error": "BAD_REQUEST", "detail": f"no job with id '{job}'"})
        for _ in deadline.sooner(wait_s).poll(0.01):
            if self._jobs[job]["state"] != "running":
                break
        return _answer(self._jobs[job])

    def click(self, *, window: str, button: str, deadline: Deadline) -> bool:
        """Press one of the program's two buttons; see ``Desktop.click``."""
        self._machine.reach()
        presses: dict[str, Callable[[FakeProgram, Deadline], None]] = {
            UPDATE_BUTTON: self._updates,
            LOGIN_BUTTON: self._logs_in,
        }
        if self._program is None or button not in presses or not any(window in str(w["title"]) for w in self._windows):
            return False
        presses[button](self._program, deadline)
        return True

    def fill(self, *, window: str, field: str | int, value: str, deadline: Deadline) -> Filled | None:
        """Fill in one of the program's fields; see ``Desktop.fill``."""
        del deadline
        self._machine.reach()
        fields = dict(self._program.fields) if self._program is not None else {}
        label = field if isinstance(field, str) else next(islice(fields, field - 1, None), "")
        if label not in fields or not any(window in str(w["title"]) for w in self._windows):
            return None
        self._filled[label] = value
        return Filled(hidden=fields[label])

    def close_window(self, *, window: str, deadline: Deadline) -> bool:
        """Close the program's window, and the program with it unless it hangs; see ``Desktop.close_window``."""
        self._happens("close", deadline)
        if not any(window in str(w["title"]) for w in self._windows):
            return False
        self._windows = []
        if self._machine.mischief.hangs_at != "close":
            self._end_all(exit_code=0)
        return True

    def reboot(self, *, deadline: Deadline) -> bytes:
        """End everything on the desktop; see ``GuestSystem.reboot``."""
        self._happens("reboot", deadline)
        self._windows = []
        self._connected = False
        self._end_all(exit_code=None)
        return self.await_ready(deadline=deadline)

    def screenshot(self, *, deadline: Deadline) -> bytes | None:
        """Give a picture's first bytes; see ``Desktop.screenshot``."""
        del deadline
        self._machine.reach()
        return _PNG

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        """Answer as the guest's observer does; see ``Watcher.observe``."""
        del deadline
        self._machine.reach()
        if self._machine.since(self._machine.mischief.garbled_from):
            return b"\xff\xfe no JSON"
        answers: dict[str, Callable[[object], object]] = {
            "windows": lambda _: {"exit_code": 0, "json": self._windows, "truncated": False},
            "tcp": lambda _: {"items": self._sockets(), "errors": [], "truncated": False},
            "processes": lambda _: {"items": self._processes(), "truncated": False},
            "images": lambda pids: [self._mapped_into(pid) for pid in (pids if isinstance(pids, list) else ())],
            "list": lambda roots: [self._list(root) for root in _items(roots)],
            "tail": lambda logs: [self._tail(log) for log in _items(logs)],
        }
        return _answer({key: answers[key](value) for key, value in request.items() if key in answers})

    def plant(self, nonce: str, items: Sequence[Mapping[str, object]], *, deadline: Deadline) -> bytes:
        """Plant objects as the desktop user; see ``Watcher.plant``."""
        del nonce, deadline
        self._machine.reach()
        return _answer({"items": [self._planted(item) for item in items]})

    def inspect(self, folder: str, *, deadline: Deadline) -> bytes:
        """Open and hash what lies below a folder; see ``Watcher.inspect``."""
        self._happens("inspect", deadline)
        files: list[dict[str, object]] = []
        for path in sorted(p for p in self._machine.files if p.startswith(self.image.guest_path(folder) + "/")):
            size = len(self._machine.files[path])
            errno, content = self._machine.opened(path)
            digest = None if errno else hashlib.sha256(content).hexdigest()
            files.append({"path": path, "size": size, "sha256": digest, "errno": errno or None})
            if path.endswith(".exe") and not errno:
                files[-1]["head_b64"] = base64.b64encode(content[:1024]).decode("ascii")
        return _answer({"files": files, "truncated": False})

    def start_service(self, service: Service, files: Mapping[str, bytes], *, deadline: Deadline) -> None:
        """Listen at once; see ``GuestSystem.start_service``."""
        for name, content in files.items():
            self._transport.push(content, f"/srv/hts-compat/{service.name}/{name}", deadline=deadline)
        self._listening.add(service.ready.tcp)

    # --- the program ------------------------------------------------------------------------------------------------

    def _installed(self, program: FakeProgram | None) -> Json:
        if program is not None and program.fault_at == "install":
            return {"state": "ended", "exit_code": INSTALL_FAULT}
        for name, content in program.files.items() if program is not None else ():
            self._machine.files[self._path(name)] = content
        return {"state": "ended", "exit_code": 0}

    def _uninstalled(self, program: FakeProgram) -> Json:
        """Take away what was installed, but for the log; a faulty one leaves its module behind."""
        stays = {program.log, program.module} if program.fault_at == "uninstall" else {program.log}
        for path in [p for p in self._machine.files if p.startswith(self._path("") + "/")]:
            if path not in {self._path(name) for name in stays}:
                del self._machine.files[path]
        return {"state": "ended", "exit_code": 0}

    def _end_all(self, *, exit_code: int | None) -> None:
        for job, value in self._jobs.items():
            if value["state"] == "running":
                self._jobs[job] = {"state": "ended", "exit_code": exit_code}

    def _launched(self, program: FakeProgram) -> Json:
        if program.fault_at == "launch" or self._machine.mischief.dies_at == "launch":
            return {"state": "ended", "exit_code": LAUNCH_FAULT if program.fault_at == "launch" else DEATH}
        self._mapped.append(self._path(program.main))
        self._show(MAIN_WINDOW)
        return {"state": "running"}

    def _updates(self, program: FakeProgram, deadline: Deadline) -> None:
        if not self._goes_on("self_update", deadline):
            return
        errno, _ = self._machine.opened(self._path(program.updater))
        if errno or program.fault_at == "self_update":
            self._show(UPDATE_ERROR)
            return
        for name, content in program.patch.items():
            self._machine.files[self._path(name)] = content
        self._write_log(program, "update done exit=0")

    def _logs_in(self, program: FakeProgram, deadline: Deadline) -> None:
        if not self._goes_on("connect", deadline):
            return
        errno, _ = self._machine.opened(self._path(program.module))
        if errno or program.fault_at == "connect":
            why = f"{program.module} ({errno})" if errno else "protocol"
            self._show(CONNECT_ERROR, class_name="#32770", text=f"서버에 접속할 수 없습니다: {why}")
            return
        self._connected = True
        self._mapped.append(self._path(program.module))
        self._windows = []
        for label, value in self._filled.items():
            self._write_log(program, f"{label}={value}")
        self._show(f"{MAIN_WINDOW} - {CONNECTED}")
        self._write_log(program, "connected server=demo")

    def _goes_on(self, moment: str, deadline: Deadline) -> bool:
        """Let a moment begin in the running program; False when the program ends or hangs in it."""
        self._happens(moment, deadline)
        if self._machine.mischief.dies_at == moment:
            self._end_all(exit_code=DEATH)
            self._windows = []
            return False
        return self._machine.mischief.hangs_at != moment

    def _happens(self, moment: str, deadline: Deadline) -> None:
        del deadline
        self._machine.reach()
        self._machine.happens(moment)

    def _show(self, title: str, *, class_name: str = "HtsMain", text: str = "") -> None:
        children = [{"text": text}] if text else []
        self._windows.append({"title": title, "class": class_name, "pid": 1, "children": children})

    def _write_log(self, program: FakeProgram, line: str) -> None:
        path = self._path(program.log)
        self._machine.files[path] = self._machine.files.get(path, b"") + line.encode() + b"\n"

    def _path(self, name: str) -> str:
        folder = self._program.install_dir if self._program is not None else "C:"
        return self.image.guest_path(f"{folder}\\{name}")

    # --- what the observer and the planter see ------------------------------------------------------------------------

    def _sockets(self) -> list[Json]:
        sockets: list[Json] = [{"local_port": port, "state": "LISTEN"} for port in sorted(self._listening)]
        return sockets + [{"remote_port": SERVER_PORT, "state": "ESTABLISHED"}] * self._connected

    def _processes(self) -> list[Json]:
        running = [job for job, value in self._jobs.items() if value["state"] == "running"]
        return [{"pid": 100 + number, "run": job} for number, job in enumerate(running)]

    def _mapped_into(self, pid: object) -> Json:
        return {"pid": pid, "files": [{"path": path, "deleted": False} for path in self._mapped], "truncated": False}

    def _list(self, request: Mapping[str, object]) -> Json:
        below = str(request["root"]).rstrip("/") + "/"
        entries = [
            {"path": path, "type": "file", "size": len(content)}
            for path, content in sorted(self._machine.files.items())
            if path.startswith(below)
        ]
        missing = [] if entries else [{"path": request["root"], "error": "ENOENT"}]
        return {"root": request["root"], "entries": entries, "errors": missing, "truncated": False}

    def _tail(self, request: Mapping[str, object]) -> Json:
        path, offset = str(request["path"]), int(str(request.get("offset", 0)))
        content = self._machine.files.get(path)
        if content is None:
            return {"path": path, "error": "ENOENT"}
        data = content[offset : offset + int(str(request.get("max_bytes", 4 * 1024**2)))]
        return {
            "path": path,
            "data_b64": base64.b64encode(data).decode("ascii"),
            "offset": offset + len(data),
            "inode": 1,
            "truncated": self._machine.since(self._machine.mischief.log_cut_from) or offset + len(data) < len(content),
            "reset": False,
        }

    def _planted(self, item: Mapping[str, object]) -> Json:
        path = f"{item['folder']}/{item['name']}"
        content = str(item["text"]).encode()
        self._machine.files[path] = content
        errno, seen = self._machine.opened(path)
        self._machine.files.pop(path, None)
        return {
            "create_errno": 0,
            "write_errno": 0,
            "open_errno": errno,
            "exec_errno": None,
            "control_open_errno": 0,
            "control_exec_errno": None,
            "bytes_read": len(seen),
            "finished": errno in {0, EPERM, ENOENT},
            "elapsed_s": 0.001,
        }


def _answer(value: Mapping[str, object]) -> bytes:
    return json.dumps(value).encode()


def _items(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
