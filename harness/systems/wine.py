"""Driver. Guests of the reference lab: Windows programs under wine, through the image's scripts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from harness import look
from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, LabError
from harness.image import Image
from harness.scenario import Service
from harness.systems.api import Filled
from harness.transports.api import CommandResult, Transport
from harness.transports.payload import Payload

TOOLS = "/opt/hts-compat"
PYTHON = "/usr/bin/python3"
WINE = "/usr/lib/wine/wine64"
PROXY_FILE = "/run/hts-compat/proxy.reg"
READY_FILE = "/run/hts-compat/session.json"
SERVICE_USER = "svc"
SERVICE_ROOT = "/srv/hts-compat"

#: Exit codes of winview (guest_tools/winview.c) that are answers and no trouble; of a window that does not answer, and
#: of a helper that was killed at its limit.
_DONE, _NO_WINDOW, _NO_CONTROL, _DISABLED, _HUNG, _KILLED = 0, 3, 4, 5, 6, 124

#: How long a window may be too busy to be asked, before that is trouble.
BUSY_S, BUSY_EVERY_S = 10.0, 0.2

#: A script that waits until the deadline begins some time after us, and answers some time after it.
SCRIPT_GRACE_S = 5.0

#: The longest pause between two looks whether a stand-in server listens. In an emulated machine each look delays what
#: it waits for: 17 looks were made until the demo's stood.
SERVICE_LOOK_S = 0.4


class WineSystem:
    """A reference guest behind any transport."""

    def __init__(self, image: Image, transport: Transport) -> None:
        self.image = image
        self._transport = transport

    @property
    def admin(self) -> Transport:
        """Give the administrator's way in."""
        return self._transport

    def await_ready(self, *, deadline: Deadline) -> bytes:
        """Wait for the session's ready file; see ``GuestSystem.await_ready``."""
        for _ in deadline.poll(0.05):
            try:
                content, _cut = self._transport.pull(READY_FILE, deadline=deadline)
            except FileNotFoundError:
                continue
            return content
        msg = "The guest's desktop session did not come up."
        raise GuestUnreachable(msg)

    def reboot(self, *, deadline: Deadline) -> bytes:
        """Start the desktop session anew; see ``GuestSystem.reboot``. The system's own services go on."""
        argv = ["/bin/sh", "-c", f"rm -f {READY_FILE} && pkill -HUP -f '^/usr/bin/python3 {TOOLS}/session$'"]
        if not self._transport.run(argv, deadline=deadline).ok:
            msg = "The guest's desktop session could not be restarted."
            raise LabError(msg)
        return self.await_ready(deadline=deadline)

    def deliver(self, content: Payload, path: str, *, deadline: Deadline) -> CommandResult:
        """Write a file as the desktop user; see ``GuestSystem.deliver``."""
        argv = ["/bin/sh", "-c", 'cat > "$1"', "deliver", self.image.guest_path(path)]
        return self._transport.run(argv, user=self.image.user, stdin=content, deadline=deadline)

    def deliver_from_disc(self, path: str, *, size_bytes: int, sha256: str, deadline: Deadline) -> CommandResult:
        """Write the disc's one file as the desktop user; see ``ReadsDiscs.deliver_from_disc``."""
        guest_path = self.image.guest_path(path)
        request = {"path": guest_path, "user": self.image.user, "size": size_bytes, "sha256": sha256}
        written = look.written(self._script("from_disc.py", request, deadline=deadline))
        return CommandResult(exit_code=written.exit_code, signal=written.signal, stderr=written.error.encode("utf-8"))

    def unpack(self, archive: str, folder: str, *, deadline: Deadline) -> CommandResult:
        """Unpack a zip as the desktop user; see ``GuestSystem.unpack``."""
        argv = [PYTHON, f"{TOOLS}/unpack.py", self.image.guest_path(archive), self.image.guest_path(folder)]
        return self._transport.run(argv, user=self.image.user, deadline=deadline)

    def start(self, job: str, argv: Sequence[str], *, deadline: Deadline) -> bytes:
        """Start a program in the session; see ``Desktop.start``."""
        request = {"action": "start", "id": job, "argv": list(argv), "limit_s": deadline.remaining_s}
        return self._script("desktop.py", request, deadline=_outlasting(deadline))

    def job(self, job: str, *, deadline: Deadline, wait_s: float = 0.0) -> bytes:
        """Tell how a started program is; see ``Desktop.job``."""
        request = {"action": "wait", "id": job, "limit_s": min(wait_s, deadline.remaining_s), "tree": wait_s > 0}
        return self._script("desktop.py", request, deadline=_outlasting(deadline))

    def click(self, *, window: str, button: str, deadline: Deadline) -> bool:
        """Press a button through winview; see ``Desktop.click``."""
        return self._winview(["click", "--window", window, "--button", button], deadline)

    def fill(self, *, window: str, field: str | int, value: str, deadline: Deadline) -> Filled | None:
        """Fill a field through winview, which reads the value from its input; see ``Desktop.fill``."""
        which = ["--number", str(field)] if isinstance(field, int) else ["--label", field]
        result = self._run_winview(["fill", "--window", window, *which], deadline, stdin=value)
        if result.exit_code != _DONE:
            return None
        try:
            return Filled(hidden=look.answer(result.stdout).get("hidden") is True)
        except look.LookError:
            return Filled(hidden=False)

    def close_window(self, *, window: str, deadline: Deadline) -> bool:
        """Close a window through winview; see ``Desktop.close_window``."""
        return self._winview(["close", "--window", window], deadline)

    def _winview(self, words: Sequence[str], deadline: Deadline) -> bool:
        return self._run_winview(words, deadline).exit_code == _DONE

    def _run_winview(self, words: Sequence[str], deadline: Deadline, *, stdin: str = "") -> CommandResult:
        result = self._ask_winview(words, deadline, stdin)
        busy = deadline.sooner(BUSY_S)
        while result.exit_code == _HUNG and not busy.expired:
            time.sleep(BUSY_EVERY_S)
            result = self._ask_winview(words, deadline, stdin)
        if result.exit_code not in {_DONE, _NO_WINDOW, _NO_CONTROL, _DISABLED}:
            msg = "The window helper failed in the guest."
            raise LabError(msg, detail=result.stderr[-2000:].decode("utf-8", "replace"))
        return result

    def _ask_winview(self, words: Sequence[str], deadline: Deadline, stdin: str) -> CommandResult:
        request = {"argv": list(words), "stdin": stdin, "limit_s": max(deadline.remaining_s, 0.1)}
        argv, asked = [PYTHON, f"{TOOLS}/windows.py"], json.dumps(request).encode()
        result = self._transport.run(argv, stdin=asked, deadline=_outlasting(deadline))
        if result.exit_code == _KILLED:
            msg = "The window helper did not end in time in the guest."
            raise GuestCommandTimeout(msg)
        return result

    def screenshot(self, *, deadline: Deadline) -> bytes | None:
        """Give a PNG of the screen, None when that fails: no picture is worth an attempt."""
        result = self._transport.run([PYTHON, f"{TOOLS}/screen.py"], user=self.image.user, deadline=deadline)
        return result.stdout if result.ok and not result.stdout_truncated and result.stdout else None

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        """Answer a request of the passive observer; see ``Watcher.observe``."""
        return self._script("observe.py", {"limit_s": 10.0, **request}, deadline=deadline)

    def plant(self, nonce: str, items: Sequence[Mapping[str, object]], *, deadline: Deadline) -> bytes:
        """Plant objects; see ``Watcher.plant``."""
        request = {"nonce": nonce, "items": list(items), "limit_s": min(20.0, max(deadline.remaining_s, 0.1))}
        return self._script("plant.py", request, deadline=deadline)

    def inspect(self, folder: str, *, deadline: Deadline) -> bytes:
        """Open and hash what lies below a folder; see ``Watcher.inspect``."""
        request = {"root": self.image.guest_path(folder)}
        return self._script("inspect_files.py", request, deadline=deadline)

    def start_service(self, service: Service, files: Mapping[str, bytes], *, deadline: Deadline) -> None:
        """Start a stand-in server; see ``GuestSystem.start_service``."""
        folder = f"{SERVICE_ROOT}/{service.name}"
        for name, content in files.items():
            self._transport.push(content, f"{folder}/{name}", deadline=deadline)
        script = 'cd "$1" && shift && exec setsid "$@" > service.log 2>&1 < /dev/null &'
        made = self._transport.run(
            ["/bin/sh", "-c", f'mkdir -p "$1" && chown {SERVICE_USER} "$1"', "make", folder], deadline=deadline
        )
        argv = ["/usr/sbin/runuser", "-u", SERVICE_USER, "--", "/bin/sh", "-c", script, "service", folder]
        started = self._transport.run([*argv, *service.command], deadline=deadline)
        if not (made.ok and started.ok):
            msg = f"The stand-in server '{service.name}' could not be started in the guest."
            raise LabError(msg, detail=started.stderr[-2000:].decode("utf-8", "replace"))
        within, look_s = deadline.sooner(20.0), 0.05
        while True:
            if service.ready.tcp in look.listening_ports(self.observe({"tcp": True}, deadline=deadline)):
                return
            if within.expired:
                break
            time.sleep(min(look_s, within.remaining_s))
            look_s = min(look_s * 2, SERVICE_LOOK_S)
        log, _cut = self._transport.pull(f"{folder}/service.log", deadline=deadline)
        msg = f"The stand-in server '{service.name}' does not listen on port {service.ready.tcp}."
        raise LabError(msg, detail=log[-2000:].decode("utf-8", "replace"))

    def use_proxy(self, address: str, *, deadline: Deadline) -> None:
        r"""Import it into the user's registry; see ``UsesProxy.use_proxy``.

        Source: WinINet's registry values (Microsoft, "Per-connection proxy settings"); wine gives a program that is
        started from outside the variables of ``HKCU\Environment``.
        """
        self._transport.push(proxy_settings(address), PROXY_FILE, deadline=deadline)
        argv = [WINE, "regedit", "/S", f"Z:{PROXY_FILE}".replace("/", "\\")]
        result = self._transport.run(argv, user=self.image.user, deadline=deadline)
        if not result.ok:
            msg = "The proxy could not be set for the guest's programs."
            raise LabError(msg, detail=result.stderr[-2000:].decode("utf-8", "replace"))

    def _script(self, name: str, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        result = self._transport.run([PYTHON, f"{TOOLS}/{name}"], stdin=json.dumps(request).encode(), deadline=deadline)
        if not result.ok:
            msg = f"The script '{name}' failed in the guest."
            raise GuestUnreachable(msg, detail=result.stderr[-2000:].decode("utf-8", "replace"))
        return result.stdout


def proxy_settings(address: str) -> bytes:
    """Give the .reg file that makes ``host:port`` the proxy of a user's programs, as regedit reads it (UTF-16)."""
    variables = "".join(f'"{name}"="http://{address}"\r\n' for name in ("HTTP_PROXY", "HTTPS_PROXY"))
    text = (
        "Windows Registry Editor Version 5.00\r\n\r\n"
        "[HKEY_CURRENT_USER\\Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings]\r\n"
        f'"ProxyEnable"=dword:00000001\r\n"ProxyServer"="{address}"\r\n\r\n'
        f"[HKEY_CURRENT_USER\\Environment]\r\n{variables}"
    )
    return text.encode("utf-16")


def _outlasting(deadline: Deadline) -> Deadline:
    """Give a script that itself stops waiting at the deadline the time to say so."""
    return Deadline(deadline.at_s + SCRIPT_GRACE_S)
