"""One cell by hand: ``docker run``, ``docker exec`` and the guest's own scripts, in the order in which the engine goes.

This is what a person would write who needs this one cell and no tool: nothing of the engine is used, nothing is
recorded, and each script is asked once where one question does. What must come true is checked, so that the figure is
that of a cell that worked. The paths and titles are those of the reference image and of ``fresh-install``.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PYTHON, TOOLS, WINE = "/usr/bin/python3", "/opt/hts-compat", "/usr/lib/wine/wine64"
DRIVE_C = "/home/trader/.wine/drive_c"
INSTALL_DIR = f"{DRIVE_C}/Program Files/DemoHTS"
DOWNLOADS = f"{DRIVE_C}/users/trader/Downloads"
TEMP = f"{DRIVE_C}/users/trader/AppData/Local/Temp"
FOLDERS = (DOWNLOADS, TEMP, f"{DRIVE_C}/Program Files", f"{DRIVE_C}/users/trader/AppData/Roaming")
PROGRAM_LOG = f"{INSTALL_DIR}/logs/hts.log"
TITLE, UPDATE, LOGIN = "데모증권 HTS", "업데이트 확인", "로그인"
CLAMAV = "/run/hts-compat/clamav"
SCANNER_LOGS = (f"{CLAMAV}/clamd.log", f"{CLAMAV}/clamonacc.log")
EPERM = 1

#: As the desktop session itself (guest/desktop_user.py).
DESKTOP = {
    "HOME": "/home/trader",
    "LANG": "ko_KR.UTF-8",
    "LC_ALL": "ko_KR.UTF-8",
    "DISPLAY": ":9",
    "WINEPREFIX": "/home/trader/.wine",
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree,mshtml=",
}

START_CLAMAV = f"""set -e
install -d -o clamav -g clamav {CLAMAV} {CLAMAV}/db
install -d -m 0700 {CLAMAV}/quarantine
tar -x -C {CLAMAV} --no-same-owner
chown -R clamav:clamav {CLAMAV}/db
setsid clamd -c {CLAMAV}/clamd.conf < /dev/null > {CLAMAV}/clamd.out 2>&1 &
until clamdscan -c {CLAMAV}/clamd.conf --ping 1 > /dev/null 2>&1; do sleep 0.02; done
exec < /dev/null > {CLAMAV}/clamonacc.out 2>&1
setsid clamonacc -c {CLAMAV}/clamd.conf -F --fdpass --move={CLAMAV}/quarantine --log={SCANNER_LOGS[1]} &
"""

#: How often a condition is looked at, and how long one may take to come true.
LOOK_EVERY_S, DWELL_LOOK_EVERY_S, LIMIT_S = 0.15, 0.75, 60.0

Json = dict[str, object]


class BareError(Exception):
    """A cell by hand did not work; the text says which step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BareServer:
    """A stand-in server: its files by name, its command, and the port on which it must listen."""

    name: str
    files: Mapping[str, bytes]
    command: Sequence[str]
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BareCell:
    """What one cell is made of, as plain bytes.

    Attributes:
        run_options: Options of ``docker run``; the same guest as the engine's.
        markers: Text of each known set's marker, by label; ``loaded`` is the one that must be denied.
    """

    image: str
    run_options: Sequence[str]
    clamd_conf: bytes
    database: bytes
    markers: Mapping[str, str]
    loaded: str
    servers: Sequence[BareServer]
    installer: bytes
    installer_name: str


def run_bare_cell(cell: BareCell, *, name: str) -> int:
    """Do all steps in a container of this name, and remove it; give how many ``docker exec`` that took.

    Raises:
        BareError: A step did not come to what it must.
    """
    with _container(cell, name):
        guest = _Guest(name)
        _until(lambda: guest.run("head", "-c", "65536", "/run/hts-compat/session.json", check=False), 0.05, "session")
        scanner = _Scanner(guest, cell)
        scanner.start()
        for server in cell.servers:
            _serve(guest, server)
        scanner.canaries(FOLDERS)
        scanner.sample()
        steps: tuple[Callable[[], None], ...] = (
            lambda: _deliver(guest, cell),
            lambda: _install(guest, cell),
            lambda: _list(guest),
            lambda: _launch(guest, scanner),
            lambda: _self_update(guest),
            lambda: _log_in(guest),
            lambda: _dwell(guest),
        )
        for step in steps:
            step()
            scanner.sample()
        scanner.canaries((*FOLDERS, INSTALL_DIR))
        guest.script("inspect_files.py", {"root": INSTALL_DIR})
        scanner.read_logs([])
        guest.observe({"list": [{"root": f"{CLAMAV}/quarantine"}]})
        guest.run("cat", f"{CLAMAV}/clamd.conf")
        return guest.execs


def exec_seconds(cell: BareCell, *, name: str, times: int) -> list[float]:
    """Give the seconds of ``docker exec`` of a program that does nothing, in an idle container of this name."""
    taken: list[float] = []
    with _container(cell, name):
        guest = _Guest(name)
        _until(lambda: guest.run("head", "-c", "65536", "/run/hts-compat/session.json", check=False), 0.05, "session")
        for _ in range(times):
            began = time.perf_counter()
            guest.run("true")
            taken.append(time.perf_counter() - began)
    return taken


@contextmanager
def _container(cell: BareCell, name: str) -> Iterator[None]:
    try:
        _docker("run", "--detach", "--name", name, *cell.run_options, cell.image)
        yield
    finally:
        _docker("rm", "--force", "--volumes", name, check=False)


def _docker(*arguments: str, stdin: bytes = b"", check: bool = True) -> bytes:
    try:
        done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, timeout=LIMIT_S, check=False)
    except FileNotFoundError as error:
        msg = "There is no command 'docker' in the PATH; a cell by hand is made with it."
        raise BareError(msg) from error
    except subprocess.TimeoutExpired as error:
        msg = f"docker {' '.join(arguments)[:200]} did not end within {LIMIT_S:g} s"
        raise BareError(msg) from error
    if done.returncode != 0:
        if not check:
            return b""
        said = done.stderr[-500:].decode("utf-8", "replace")
        msg = f"docker {' '.join(arguments)[:200]} ended with {done.returncode}: {said}"
        raise BareError(msg)
    return done.stdout


class _Guest:
    """``docker exec`` in one container."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.execs = 0

    def run(self, *argv: str, stdin: bytes = b"", check: bool = True) -> bytes:
        """Run a program as the administrator; give what it wrote (nothing when it failed and that may be)."""
        self.execs += 1
        return _docker("exec", "--interactive", self._name, *argv, stdin=stdin, check=check)

    def run_in_desktop(self, *argv: str, stdin: bytes = b"") -> bytes:
        """Run a program as the desktop user."""
        self.execs += 1
        variables = [part for key, value in DESKTOP.items() for part in ("--env", f"{key}={value}")]
        return _docker("exec", "--interactive", "--user", "trader", *variables, self._name, *argv, stdin=stdin)

    def script(self, name: str, request: Json) -> Json:
        """Ask one of the guest's scripts."""
        answer = json.loads(self.run(PYTHON, f"{TOOLS}/{name}", stdin=json.dumps(request).encode()))
        return dict(answer)

    def observe(self, request: Json) -> Json:
        """Ask the passive observer."""
        return self.script("observe.py", {"limit_s": 10.0, **request})

    def click(self, button: str) -> None:
        """Press a button of the program."""
        self.run_in_desktop(WINE, f"{TOOLS}/winview.exe", "click", "--window", TITLE, "--button", button)

    def screenshot(self) -> None:
        """Take a picture of the screen."""
        file = "/tmp/bare-screen.png"
        script = 'import -silent -window root "$1" && cat "$1" && rm -f "$1"'
        self.run_in_desktop("/bin/sh", "-c", script, "shot", file)


class _Scanner:
    """ClamAV in one guest: started, tried, and its logs read."""

    def __init__(self, guest: _Guest, cell: BareCell) -> None:
        self._guest = guest
        self._cell = cell
        self._serial = itertools.count(1)
        self._offsets: dict[str, tuple[object, object]] = dict.fromkeys(SCANNER_LOGS, (0, None))

    def start(self) -> None:
        """Start clamd and clamonacc, and wait until the marker of the set is denied and no other."""
        files = {"clamd.conf": self._cell.clamd_conf, "db/set.hdb": self._cell.database}
        self._guest.run("/bin/sh", "-c", START_CLAMAV, stdin=_tar(files))
        _until(lambda: list(self._markers()) == [self._cell.loaded], 0.1, "marker")

    def canaries(self, folders: Sequence[str]) -> None:
        """Plant a canary in each folder; all must be denied."""
        denied = self._plant([{"kind": "eicar", "folder": folder, "until_denied_s": 3.0} for folder in folders])
        if len(denied) != len(folders):
            msg = "a canary could be opened"
            raise BareError(msg)
        self.read_logs(list(denied.values()))

    def sample(self) -> None:
        """Plant every marker: the set must still be the same; read the logs up to their records."""
        denied = self._markers()
        if list(denied) != [self._cell.loaded]:
            msg = f"the markers {sorted(denied)} were denied"
            raise BareError(msg)
        self.read_logs(list(denied.values()))

    def read_logs(self, awaited: Sequence[str]) -> None:
        """Read what the logs have gained until every name is there."""
        missing = {name.encode() for name in awaited}

        def complete() -> bool:
            asked = [{"path": path, "offset": at, "inode": inode} for path, (at, inode) in self._offsets.items()]
            for piece in _objects(self._guest.observe({"tail": asked}).get("tail")):
                content = base64.b64decode(str(piece.get("data_b64", "")))
                missing.difference_update([name for name in missing if name in content])
                self._offsets[str(piece["path"])] = piece.get("offset", 0), piece.get("inode")
            return not missing

        _until(complete, 0.05, "the scanner's log")

    def _markers(self) -> dict[str, str]:
        labels = sorted(self._cell.markers)
        items: list[Json] = [{"kind": "text", "text": self._cell.markers[label], "folder": TEMP} for label in labels]
        return {labels[at]: name for at, name in self._plant(items).items()}

    def _plant(self, items: Sequence[Json]) -> dict[int, str]:
        """Plant objects; give the names of those that were denied, by their place in the request."""
        nonce = f"bare-{next(self._serial)}"
        named: list[Json] = [{**item, "name": f"hts-probe-{nonce}-{at}.com"} for at, item in enumerate(items)]
        answer = self._guest.script("plant.py", {"nonce": nonce, "items": named, "limit_s": 20.0})
        reactions = enumerate(_objects(answer.get("items")))
        return {at: str(named[at]["name"]) for at, item in reactions if item.get("open_errno") == EPERM}


def _serve(guest: _Guest, server: BareServer) -> None:
    folder = f"/srv/hts-compat/{server.name}"
    unpack = 'mkdir -p "$1" && tar -x -C "$1" --no-same-owner && chown svc "$1"'
    guest.run("/bin/sh", "-c", unpack, "unpack", folder, stdin=_tar(server.files))
    start = 'cd "$1" && shift && exec setsid "$@" > service.log 2>&1 < /dev/null &'
    as_service = ("/usr/sbin/runuser", "-u", "svc", "--", "/bin/sh", "-c", start, "service", folder)
    guest.run(*as_service, *server.command)

    def listens() -> bool:
        items = _sockets(guest.observe({"tcp": True}))
        return any(i.get("state") == "LISTEN" and i.get("local_port") == server.port for i in items)

    _until(listens, 0.05, server.name)


def _deliver(guest: _Guest, cell: BareCell) -> None:
    path = f"{DOWNLOADS}/{cell.installer_name}"
    guest.run_in_desktop("/bin/sh", "-c", 'cat > "$1"', "deliver", path, stdin=cell.installer)


def _install(guest: _Guest, cell: BareCell) -> None:
    argv = [f"C:\\users\\trader\\Downloads\\{cell.installer_name}", "/S"]
    guest.script("desktop.py", {"action": "start", "id": "install", "argv": argv, "limit_s": LIMIT_S})
    ended = guest.script("desktop.py", {"action": "wait", "id": "install", "limit_s": LIMIT_S, "tree": True})
    if ended.get("exit_code") != 0:
        msg = f"the installer: {ended}"
        raise BareError(msg)


def _list(guest: _Guest) -> None:
    guest.observe({"list": [{"root": INSTALL_DIR}]})


def _launch(guest: _Guest, scanner: _Scanner) -> None:
    scanner.canaries((INSTALL_DIR,))
    argv = ["C:\\Program Files\\DemoHTS\\DemoHTS.exe"]
    guest.script("desktop.py", {"action": "start", "id": "launch", "argv": argv, "limit_s": LIMIT_S})
    _until(lambda: _shows(guest.observe({"windows": True}), TITLE), LOOK_EVERY_S, "window")
    guest.screenshot()


def _self_update(guest: _Guest) -> None:
    guest.click(UPDATE)
    _until(lambda: _logged(guest.observe(_program_log()), "update done exit=0"), LOOK_EVERY_S, "update")


def _log_in(guest: _Guest) -> None:
    guest.click(LOGIN)

    def connected() -> bool:
        seen = guest.observe({"windows": True, "tcp": True, **_program_log()})
        open_to = {i.get("remote_port") for i in _sockets(seen) if i.get("state") == "ESTABLISHED"}
        return _shows(seen, "접속됨") and _logged(seen, "connected server=") and 7001 in open_to

    _until(connected, LOOK_EVERY_S, "login")
    guest.screenshot()


def _dwell(guest: _Guest) -> None:
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        if not _shows(guest.observe({"windows": True}), TITLE):
            msg = "the program's window has gone"
            raise BareError(msg)
        time.sleep(max(0.0, min(DWELL_LOOK_EVERY_S, end - time.monotonic())))
    guest.screenshot()


def _program_log() -> Json:
    return {"tail": [{"path": PROGRAM_LOG, "offset": 0, "max_bytes": 1024**2}]}


def _shows(seen: Json, title: str) -> bool:
    listed = seen.get("windows")
    windows = listed.get("json") if isinstance(listed, dict) else None
    return any(title in str(window.get("title")) for window in _objects(windows))


def _logged(seen: Json, pattern: str) -> bool:
    pieces = [base64.b64decode(str(piece.get("data_b64", ""))) for piece in _objects(seen.get("tail"))]
    return re.search(pattern, b"".join(pieces).decode("utf-8", "replace")) is not None


def _sockets(seen: Json) -> list[Json]:
    listed = seen.get("tcp")
    return _objects(listed.get("items") if isinstance(listed, dict) else None)


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _until(done: Callable[[], object], every_s: float, what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() >= end:
            msg = f"{what}: nothing within {LIMIT_S:g} s"
            raise BareError(msg)
        time.sleep(every_s)


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
