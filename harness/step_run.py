"""Effects. Does one step in a guest and says how it ended, in words that a control can be compared by.

An expectation is a stable word: delivered, unpacked, started, exit_code, files, older_files_gone, files_gone, closed,
field, click, alive, no_error_window, window, log, tcp, modules, desktop. Of a failure only step, expectation and code
are ever compared; the detail is for people.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType

from pydantic import JsonValue

from harness import look
from harness.attempt import INSTALL_JOB, LAUNCH_JOB, UNINSTALL_JOB, UPDATE_JOB, Kind
from harness.build import Build, BuildKind, fold
from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, InputError, LabError
from harness.image import Folder
from harness.plan import Cell
from harness.products.api import Product, Record, Scans
from harness.providers.api import LendsDiscs, ShowsScreen, TakesInput
from harness.scenario import (
    Action,
    Click,
    Close,
    Connect,
    Deliver,
    Dwell,
    Fill,
    Install,
    Launch,
    LogLine,
    Press,
    Reboot,
    Run,
    Scan,
    SelfUpdate,
    Step,
    Title,
    Uninstall,
    Update,
    VendorUpdate,
    VerifyFiles,
)
from harness.secret import Secret
from harness.systems.api import GuestSystem, ReadsDiscs
from harness.transports.api import CommandResult
from harness.transports.payload import Payload, size_of

#: What makes an installer silent when the scenario does not say it. Source: NSIS Users Manual 3.2.1 (``/S``);
#: Microsoft, "Standard Installer Command-Line Options".
SILENT_ARGS = {BuildKind.PROGRAM: ("/S",), BuildKind.MSI: ("/qn", "/norestart"), BuildKind.PORTABLE: ()}
MSIEXEC = (r"C:\windows\system32\msiexec.exe", "/i")

#: How often a condition is looked at. Each look costs the guest about 50 ms of one core.
LOOK_EVERY_S = 0.15
DWELL_LOOK_EVERY_S = 0.75
#: Longer than the guest's script waits for the desktop (10 s), so that it is the script that says that nobody answers.
LOOK_PATIENCE_S = 15.0
#: A program's log is read in such pieces (vm_images/reference/guest/observe.py gives no more at once), up to a limit.
LOG_PIECE_BYTES = 4 * 1024**2
MAX_LOG_BYTES = 4 * LOG_PIECE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """How a step ended; ``expectation`` None means that it passed."""

    expectation: str | None = None
    code: int | None = None
    timed_out: bool = False
    detail: str = ""
    dialog: str | None = None
    observed_s: float = 0.0


PASSED = StepEnd()


#: What of the guest was started anew by a step ``reboot``.
SESSION_ANEW: Mapping[str, JsonValue] = {"anew": "session"}
MACHINE_ANEW: Mapping[str, JsonValue] = {"anew": "machine"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """What must come true, and what must not, while a step is watched."""

    window: Title | None = None
    error_windows: tuple[Title, ...] = ()
    log: LogLine | None = None
    tcp_port: int | None = None
    modules: tuple[str, ...] = ()


class StepRunner:
    """Runs the steps of one cell in one guest.

    Args:
        installer: Gives a build's installer.
        secrets: Values of the secrets that the scenario names.
        product: Moved by ``vendor_update``.
        record: Looks, logs and screenshots are recorded through it; it must mask the secrets.
        screen: Shows the screen from outside; without it the guest makes its pictures itself.
        hands: Gives the guest keys and clicks from outside; without it a ``press`` cannot be done.
        discs: Puts discs into the guest's drive; None where it has none.
        reboot: Starts the guest's whole machine anew; None where only its desktop session can be.
    """

    def __init__(
        self,
        cell: Cell,
        guest: GuestSystem,
        product: Product,
        record: Record,
        *,
        installer: Callable[[Build], Payload],
        secrets: Mapping[str, Secret] = MappingProxyType({}),
        screen: ShowsScreen | None = None,
        hands: TakesInput | None = None,
        discs: LendsDiscs | None = None,
        reboot: Callable[[int, Deadline], None] | None = None,
    ) -> None:
        self._cell = cell
        self._guest = guest
        self._product = product
        self._record = record
        self._installer = installer
        self._delivered = cell.build
        self._delivered_to = ""
        self._installed = cell.build
        self._starts: Counter[str] = Counter()
        self._secrets = secrets
        self._reboot = reboot or self._restart_session
        self._shows_secret = False
        self._screen = screen
        self._hands = hands
        self._discs = discs
        self._last_frame: tuple[str, bytes] | None = None
        self._launch_job = LAUNCH_JOB
        self.running = False

    def run(self, index: int, step: Step, *, deadline: Deadline) -> StepEnd:  # noqa: PLR0912 - one branch a kind of step
        """Do a step until it passed, failed or its time is over.

        Raises:
            HarnessError: The lab failed, not the step.
            LookError: The guest's answer cannot be read.
        """
        action: Action = step.action
        within = deadline.sooner(action.timeout_s)
        match action:
            case Deliver():
                return self._deliver(action, within)
            case Install():
                return self._install(action, INSTALL_JOB, within)
            case Update():
                return self._update(action, within)
            case VerifyFiles():
                return self._verify_files(within)
            case Launch():
                return self._launch(action, within)
            case SelfUpdate():
                return self._act(action.click, _Watch(log=action.log, error_windows=action.error_windows), within)
            case Connect():
                watch = _Watch(
                    window=action.window,
                    error_windows=action.error_windows,
                    log=action.log,
                    tcp_port=action.tcp_port,
                    modules=action.modules or (),
                )
                unfilled = self._fill_all(action.fill or (), within)
                return unfilled or self._act(action.click, watch, within)
            case Press():
                return self._press(action, within)
            case Dwell():
                return self._dwell(index, action, within)
            case Scan():
                return self._scan(within)
            case Close():
                return self._close(action, within)
            case Reboot():
                self.running = False
                self._reboot(index, within)
                return PASSED
            case Uninstall():
                return self._uninstall(action, within)
            case VendorUpdate():
                self._product.pin(self._cell.scheduled(index, after=True), deadline=within)
                return PASSED
            case Run():
                return self._command(action, within)

    def _restart_session(self, index: int, within: Deadline) -> None:
        del index
        self._record(Kind.GUEST, "session", data=SESSION_ANEW, blob=self._guest.reboot(deadline=within))

    def screenshot(self, *, deadline: Deadline) -> None:
        """Record what the screen shows; a picture that cannot be made is left out.

        A picture cannot be masked. Once a secret stands in a field that shows it, no more are taken.
        """
        if self._shows_secret:
            self._record(Kind.LOOK, "screen withheld", data={"why": "a field shows a secret"})
            return
        if self._screen is not None:
            self._frame(self._screen, deadline)
            return
        picture = self._guest.screenshot(deadline=deadline.sooner(20.0))
        if picture is not None:
            self._record(Kind.SCREENSHOT, "screen.png", blob=picture)

    def _frame(self, screen: ShowsScreen, deadline: Deadline) -> None:
        """Record the screen as it is seen from outside; one that has not changed is the same blob again."""
        frame = screen.screen(deadline=deadline)
        if frame is None:
            self._record(Kind.LOOK, "screen withheld", data={"why": "the machine gave no picture"})
            return
        last = self._last_frame
        changed = last is None or last[0] != frame.digest
        shown = (frame.digest, frame.png()) if last is None or changed else last
        self._last_frame = shown
        data: dict[str, JsonValue] = {"from": "outside", "changed": changed}
        self._record(Kind.SCREENSHOT, "screen.png", data=data, blob=shown[1])

    def _deliver(self, action: Deliver, within: Deadline) -> StepEnd:
        build = self._cell.build if action.build is None else self._cell.older
        if build is None:
            msg = "the cell has no older build"
            raise ValueError(msg)
        content, name = self._installer(build), build.installer.file_name
        self._delivered = build
        self._delivered_to = f"{self._cell.image.folders[action.to]}\\{name}"
        try:
            result = self._write(content, build.installer.sha256, within)
        except GuestCommandTimeout:
            detail = f"Writing {self._delivered_to} did not end within {action.timeout_s:g} s."
            return StepEnd(expectation="delivered", timed_out=True, detail=detail)
        if not result.ok:
            return StepEnd(
                expectation="delivered",
                code=result.exit_code,
                detail=f"{self._delivered_to} could not be written.",
            )
        listing = self._listing(self._cell.image.folders[action.to], _patience(within))
        size = listing.get(fold(self._delivered_to))
        if size != size_of(content):
            found = "is gone" if size is None else f"has {size} bytes instead of {size_of(content)}"
            return StepEnd(expectation="delivered", detail=f"{self._delivered_to} {found}.")
        return PASSED

    def _write(self, content: Payload, sha256: str, within: Deadline) -> CommandResult:
        """Write what is delivered: from a disc where that is the sooner way in, and all the same to the guest."""
        disc, guest, size = self._discs, self._guest, size_of(content)
        if disc is None or not isinstance(guest, ReadsDiscs) or not disc.worth_a_disc(size):
            return guest.deliver(content, self._delivered_to, deadline=within)
        self._record(Kind.GUEST, "disc", data={"sha256": sha256, "size_bytes": size})
        with disc.disc(content, sha256=sha256, deadline=within):
            return guest.deliver_from_disc(self._delivered_to, size_bytes=size, sha256=sha256, deadline=within)

    def _install(self, action: Install | Update, name: str, within: Deadline) -> StepEnd:
        """Install what was delivered last."""
        self._installed = self._delivered
        kind = self._delivered.kind
        if kind is BuildKind.PORTABLE:
            return self._unpack(within)
        args = SILENT_ARGS[kind] if action.args is None else action.args
        argv = [*(MSIEXEC if kind is BuildKind.MSI else ()), self._delivered_to, *args]
        job = self._new_job(name)
        unstarted = self._start(job, argv, "installer", within)
        return unstarted or self._ended(job, action.exit_codes, "installer", within)

    def _update(self, action: Update, within: Deadline) -> StepEnd:
        """Install the cell's own build over the older one; then its files are there, and the older's alone are gone."""
        older = self._installed
        end = self._install(action, UPDATE_JOB, within)
        if end.expectation is not None:
            return end
        end = self._verify_files(within)
        if end.expectation is not None:
            return end
        own = {fold(file.path) for file in self._installed.files}
        past = {fold(file.path) for file in older.files} - own if own else set()
        left = sorted(past & set(self._below_install_folder(_patience(within))))
        left = [path for path in left if not any(fnmatchcase(path, fold(glob)) for glob in action.leaves)]
        if not left:
            return PASSED
        detail = f"{left[0]} of the older build {older.version} is still there ({len(left)} such files)."
        return StepEnd(expectation="older_files_gone", detail=detail)

    def _unpack(self, within: Deadline) -> StepEnd:
        folder = self._installed.install_dir
        try:
            result = self._guest.unpack(self._delivered_to, folder, deadline=within)
        except GuestCommandTimeout:
            return StepEnd(expectation="unpacked", timed_out=True, detail="Unpacking the build did not end in time.")
        self._record(Kind.LOOK, "unpack", blob=result.stdout + result.stderr)
        if not result.ok:
            detail = f"The build could not be unpacked into {folder} ({result.exit_code})."
            return StepEnd(expectation="unpacked", code=result.exit_code, detail=detail)
        return PASSED

    def _start(self, name: str, argv: Sequence[str], what: str, within: Deadline) -> StepEnd | None:
        """Start a program; None when it runs, else how the step failed."""
        started = self._job(self._guest.start(name, argv, deadline=within), name)
        if started.state != "failed":
            return None
        return StepEnd(expectation="started", code=started.code, detail=f"The {what} did not start ({started.code}).")

    def _ended(self, name: str, exit_codes: tuple[int, ...], what: str, within: Deadline) -> StepEnd:
        """Wait for the end of a program and of all that it started, and compare its exit code."""
        allowed_s = within.remaining_s
        job = self._job(self._guest.job(name, wait_s=allowed_s, deadline=within), name)
        if job.state != "ended":
            return StepEnd(
                expectation="exit_code",
                timed_out=True,
                detail=f"The {what} still ran after {allowed_s:.0f} s.",
                dialog=self._any_dialog(within),
            )
        return _exit_code(job, exit_codes, what)

    def _verify_files(self, within: Deadline) -> StepEnd:
        build = self._installed
        listing = self._listing(build.install_dir, _patience(within))
        if not listing:
            return StepEnd(expectation="files", detail=f"{build.install_dir} is missing or empty.")
        wrong = []
        for file in build.files:
            size = listing.get(fold(build.installed_path(file.path)))
            if size is None:
                wrong.append(f"{file.path} is missing")
            elif file.size_bytes is not None and size != file.size_bytes:
                wrong.append(f"{file.path} has {size} bytes instead of {file.size_bytes}")
        return StepEnd(expectation="files", detail="; ".join(wrong) + ".") if wrong else PASSED

    def _launch(self, action: Launch, within: Deadline) -> StepEnd:
        argv = [self._installed.installed_path(action.program), *action.args]
        self._launch_job = self._new_job(LAUNCH_JOB)
        unstarted = self._start(self._launch_job, argv, "program", within)
        if unstarted is not None:
            return unstarted
        if action.exit_codes is not None:
            return self._ended(self._launch_job, action.exit_codes, "program", within)
        self.running = True
        modules = action.modules or ()
        return self._until(_Watch(window=action.window, error_windows=action.error_windows, modules=modules), within)

    def _act(self, click: Click | None, watch: _Watch, within: Deadline) -> StepEnd:
        if click is not None and not self._click(click, within):
            return StepEnd(
                expectation="click",
                timed_out=True,
                detail=f"There is no button '{click.button}' in a window '{click.window}'.",
                dialog=self._any_dialog(within),
            )
        return self._until(watch, within)

    def _press(self, action: Press, within: Deadline) -> StepEnd:
        hands = self._hands
        if hands is None:
            msg = "This guest takes no keys and clicks from outside, as 'press' needs; a virtual machine's does."
            raise LabError(msg, hint="Run the cell with '--provider qemu'.")
        for chord in action.keys or ():
            hands.press(chord, deadline=within)
        if action.keys is not None:
            self._record(Kind.LOOK, "pressed", data={"keys": list(action.keys)})
        if action.at is not None:
            corner = self._corner(action.at.window, within)
            if corner is None:
                detail = f"There is no window '{action.at.window}' to click in."
                return StepEnd(expectation="click", timed_out=True, detail=detail, dialog=self._any_dialog(within))
            x, y = corner[0] + action.at.x, corner[1] + action.at.y
            hands.click_at(x, y, deadline=within)
            self._record(Kind.LOOK, "pressed", data={"x": x, "y": y})
        return self._until(_Watch(window=action.window, error_windows=action.error_windows), within)

    def _corner(self, window: str, within: Deadline) -> tuple[int, int] | None:
        """Wait for a window and say where it begins on the screen; None when it is not shown in time."""
        for _ in within.poll(LOOK_EVERY_S):
            raw = self._look(_patience(within), tcp=False)
            shown = look.windows(raw) if look.desktop_answers(raw) else ()
            corners = [w.corner for w in shown if window in w.title and w.corner is not None]
            if corners:
                return corners[0]
        return None

    def _click(self, click: Click, within: Deadline) -> bool:
        # A try that begins just before the step's end may still end: it is the step that failed then, not the lab.
        return any(self._clicked(click, within) for _ in within.poll(LOOK_EVERY_S) if not within.expired)

    def _clicked(self, click: Click, within: Deadline) -> bool:
        """Try once; a desktop that does not answer has no button, and may have one later."""
        try:
            return self._guest.click(window=click.window, button=click.button, deadline=_patience(within))
        except GuestCommandTimeout:
            return False

    def _fill_all(self, fills: Sequence[Fill], within: Deadline) -> StepEnd | None:
        """Fill in fields; None when all are, else how the step failed."""
        for fill in fills:
            if not self._fill(fill, within):
                detail = f"There is no {fill}."
                return StepEnd(expectation="field", timed_out=True, detail=detail, dialog=self._any_dialog(within))
        return None

    def _fill(self, fill: Fill, within: Deadline) -> bool:
        which = fill.field if fill.field is not None else fill.field_number or 1
        value = fill.text or ""
        if fill.secret is not None:
            if fill.secret not in self._secrets:
                raise InputError(f"The secret '{fill.secret}' of the run is not among the suite's any more.")
            value = self._secrets[fill.secret].reveal()
        for _ in within.poll(LOOK_EVERY_S):
            if within.expired:
                break
            filled = self._guest.fill(window=fill.window, field=which, value=value, deadline=_patience(within))
            if filled is not None:
                self._shows_secret = self._shows_secret or (fill.secret is not None and not filled.hidden)
                return True
        return False

    def _until(self, watch: _Watch, within: Deadline) -> StepEnd:
        """Look until all that must be is there, or something that must not be is, or time is over."""
        missing: tuple[str, str] = ("window", "nothing was looked at")
        for _ in within.poll(LOOK_EVERY_S):
            patience = _patience(within)
            raw = self._look(patience, tcp=watch.tcp_port is not None)
            if not look.desktop_answers(raw):
                # Whatever holds the desktop (a product that does not answer) holds the step: it may still let go.
                missing = "desktop", "The desktop did not answer."
                continue
            bad = self._alarm(raw, watch, patience)
            if bad is not None:
                self._record(Kind.LOOK, "windows", blob=raw)
                self._keep_log(watch.log, patience)
                return bad
            unmet = self._unmet(raw, watch, patience)
            if unmet is None:
                self._record(Kind.LOOK, "windows", blob=raw)
                return PASSED
            missing = unmet
        raw = self._look(_patience(within), tcp=False)
        self._record(Kind.LOOK, "windows", blob=raw)
        self._keep_log(watch.log, _patience(within))
        expectation, detail = missing
        return StepEnd(expectation=expectation, timed_out=True, detail=detail, dialog=_dialog_in(raw))

    def _new_job(self, name: str) -> str:
        """Name a start; every start's processes carry a name of their own."""
        self._starts[name] += 1
        return name if self._starts[name] == 1 else f"{name}-{self._starts[name]}"

    def _scan(self, within: Deadline) -> StepEnd:
        if isinstance(self._product, Scans):
            self._product.scan(self._installed.install_dir, deadline=within)
        else:
            self._record(Kind.LOOK, "scan", data={"finished": False})
        return PASSED

    def _close(self, action: Close, within: Deadline) -> StepEnd:
        if not self._guest.close_window(window=action.window, deadline=within):
            return StepEnd(expectation="window", detail=f"There is no window '{action.window}' to close.")
        job = self._job(self._guest.job(self._launch_job, wait_s=within.remaining_s, deadline=within), self._launch_job)
        self.running = job.state == "running"
        if self.running:
            detail = f"The program still ran {action.timeout_s:g} s after its window was closed."
            return StepEnd(expectation="closed", timed_out=True, detail=detail, dialog=self._any_dialog(within))
        return _exit_code(job, action.exit_codes, "program")

    def _uninstall(self, action: Uninstall, within: Deadline) -> StepEnd:
        build = self._installed
        argv = [build.installed_path(action.program), *action.args]
        job = self._new_job(UNINSTALL_JOB)
        unstarted = self._start(job, argv, "uninstaller", within)
        ended = unstarted or self._ended(job, action.exit_codes, "uninstaller", within)
        if ended.expectation is not None:
            return ended
        left: list[str] = []
        # Uninstallers go on in a copy of themselves after their first process has ended.
        for _ in within.poll(LOOK_EVERY_S):
            left = self._left_behind(action, _patience(within))
            if not left:
                return PASSED
        detail = f"{len(left)} files are left, among them {left[0]}."
        return StepEnd(expectation="files_gone", timed_out=True, detail=detail, dialog=self._any_dialog(within))

    def _left_behind(self, action: Uninstall, patience: Deadline) -> list[str]:
        found = self._below_install_folder(patience)
        return sorted(p for p in found if not any(fnmatchcase(p, fold(glob)) for glob in action.leaves))

    def _below_install_folder(self, patience: Deadline) -> list[str]:
        """Give the folded paths of all files below the install folder, relative to it."""
        root = fold(self._installed.install_dir) + "\\"
        return [path.removeprefix(root) for path in self._listing(self._installed.install_dir, patience)]

    def _dwell(self, index: int, action: Dwell, within: Deadline) -> StepEnd:
        watch = _Watch(window=action.window, error_windows=action.error_windows, tcp_port=action.tcp_port)
        again = sorted(action.look_again_at_s)
        raw = b""
        observed_s = 0.0
        for seen_s in within.sooner(action.seconds).poll(min(DWELL_LOOK_EVERY_S, action.seconds)):
            patience = Deadline.after(10.0)
            raw = self._look(patience, tcp=watch.tcp_port is not None)
            bad = self._alarm(raw, watch, patience) or self._lapsed(raw, watch, patience)
            if bad is not None:
                self._record(Kind.LOOK, "windows", blob=raw)
                return bad
            observed_s = seen_s
            if again and seen_s >= again[0]:
                again = [second for second in again if second > seen_s]
                self._product.sample(border=index, deadline=Deadline.after(30.0))
                self.screenshot(deadline=Deadline.after(30.0))
        self._record(Kind.LOOK, "windows", blob=raw)
        return StepEnd(observed_s=round(observed_s, 2))

    def _command(self, action: Run, within: Deadline) -> StepEnd:
        user = self._cell.image.user if action.user == "desktop" else None
        try:
            result = self._guest.admin.run(action.command, user=user, deadline=within)
        except GuestCommandTimeout:
            detail = f"'{action.command[0]}' did not end within {action.timeout_s:g} s."
            return StepEnd(expectation="exit_code", timed_out=True, detail=detail)
        self._record(
            Kind.LOOK,
            "command",
            blob=result.stdout + result.stderr,
            truncated=result.stdout_truncated or result.stderr_truncated,
        )
        if result.errno is not None:
            return StepEnd(expectation="started", code=result.errno, detail=f"'{action.command[0]}' did not start.")
        if result.exit_code not in action.exit_codes:
            detail = f"'{action.command[0]}' ended with exit code {result.exit_code}."
            return StepEnd(expectation="exit_code", code=result.exit_code, detail=detail)
        return PASSED

    def _alarm(self, raw: bytes, watch: _Watch, patience: Deadline) -> StepEnd | None:
        """Give the failure that is already certain: an error dialog, or a program that has ended."""
        shown = look.windows(raw)
        for window in shown:
            if any(title.fits(window.title) for title in watch.error_windows):
                detail = f"An error window '{window.title}' is shown."
                return StepEnd(expectation="no_error_window", detail=detail, dialog=window.text)
        if not self.running:
            return None
        answer = self._guest.job(self._launch_job, deadline=patience)
        job = look.job(answer)
        if job.state in {"ended", "failed"}:
            self._record(Kind.LOOK, "job", data={"job": self._launch_job}, blob=answer)
            detail = f"The program ended by itself with exit code {job.code}."
            return StepEnd(expectation="alive", code=job.code, detail=detail, dialog=_dialog(shown))
        return None

    def _lapsed(self, raw: bytes, watch: _Watch, patience: Deadline) -> StepEnd | None:
        """Give the failure when something that was there, and must stay, is there no longer."""
        unmet = self._unmet(raw, watch, patience)
        if unmet is None:
            return None
        expectation, detail = unmet
        return StepEnd(expectation=expectation, detail=detail, dialog=_dialog(look.windows(raw)))

    def _unmet(self, raw: bytes, watch: _Watch, patience: Deadline) -> tuple[str, str] | None:
        """Give the first expectation that is not met yet, with what is wrong; None when all are."""
        if watch.window is not None and not any(watch.window.fits(w.title) for w in look.windows(raw)):
            return "window", f"No window whose title {watch.window} was shown."
        if watch.log is not None and not self._log_has(watch.log, patience):
            return "log", f"{watch.log.file} has no line that matches '{watch.log.matches}'."
        if watch.tcp_port is not None and watch.tcp_port not in look.established_ports(raw):
            return "tcp", f"No connection to port {watch.tcp_port} is established."
        return self._unmet_module(watch.modules, patience) if watch.modules else None

    def _unmet_module(self, names: Sequence[str], patience: Deadline) -> tuple[str, str] | None:
        """Name the first program or DLL that is not there; the look at which all were is recorded."""
        pids = look.pids_beside(self._guest.observe({"processes": True}, deadline=patience), self._launch_job)
        raw = self._guest.observe({"images": list(pids)}, deadline=patience)
        there = {fold(path.replace("/", "\\")).rpartition("\\")[2] for path in look.mapped_files(raw)}
        missing = next((name for name in names if fold(name) not in there), None)
        if missing is not None:
            return "modules", f"'{missing}' does not run, and no program of the user has loaded it."
        self._record(Kind.LOOK, "running modules", data={"names": list(names)}, blob=raw)
        return None

    def _log_has(self, line: LogLine, patience: Deadline) -> bool:
        content, cut = self._log(line, patience)
        matched = re.search(line.matches, content.decode("utf-8", "replace"), re.MULTILINE) is not None
        if matched:
            self._record(Kind.LOOK, "program log", blob=content, truncated=cut)
        elif cut:
            # What was not read would read as a line that the program never wrote.
            msg = f"{line.file} has more than {MAX_LOG_BYTES >> 20} MiB and was not read to its end"
            raise look.LookError(msg)
        return matched

    def _keep_log(self, line: LogLine | None, patience: Deadline) -> None:
        """Record what the program wrote about a step that failed."""
        if line is not None:
            content, cut = self._log(line, patience)
            self._record(Kind.LOOK, "program log", blob=content, truncated=cut)

    def _log(self, line: LogLine, patience: Deadline) -> tuple[bytes, bool]:
        """Give the program's log and whether more of it is there; one that is missing is empty."""
        path = self._cell.image.guest_path(self._installed.installed_path(line.file))
        content, offset = b"", 0
        while len(content) < MAX_LOG_BYTES:
            request = {"tail": [{"path": path, "offset": offset, "max_bytes": LOG_PIECE_BYTES}]}
            piece = look.chunk(self._guest.observe(request, deadline=patience))
            content = piece.content if piece.reset else content + piece.content
            offset = piece.next_offset
            if not piece.truncated or not piece.content:
                return content, piece.truncated
        return content, True

    def _look(self, patience: Deadline, *, tcp: bool) -> bytes:
        return self._guest.observe({"windows": True, **({"tcp": True} if tcp else {})}, deadline=patience)

    def _any_dialog(self, within: Deadline) -> str | None:
        raw = self._look(_patience(within), tcp=False)
        self._record(Kind.LOOK, "windows", blob=raw)
        return _dialog_in(raw)

    def _listing(self, folder: str, patience: Deadline) -> Mapping[str, int]:
        """Give the files below a Windows folder, by folded Windows path; nothing is opened."""
        image = self._cell.image
        raw = self._guest.observe({"list": [{"root": image.guest_path(folder)}]}, deadline=patience)
        self._record(Kind.LOOK, "files", data={"folder": folder}, blob=raw)
        found, cut = look.entries(raw)
        if cut:
            # What is not listed would read as files that are missing.
            msg = f"the list of files in {folder} was cut"
            raise look.LookError(msg)
        paths = ((image.windows_path(entry.path), entry) for entry in found if entry.is_file)
        return {fold(path): entry.size_bytes for path, entry in paths if path is not None}

    def _job(self, answer: bytes, name: str) -> look.Job:
        self._record(Kind.LOOK, "job", data={"job": name}, blob=answer)
        return look.job(answer)


def _exit_code(job: look.Job, exit_codes: tuple[int, ...], what: str) -> StepEnd:
    if job.exit_code in exit_codes:
        return PASSED
    return StepEnd(expectation="exit_code", code=job.code, detail=f"The {what} ended with exit code {job.code}.")


def _patience(within: Deadline) -> Deadline:
    """Give a look that begins near a step's end time to finish: a late answer fails the step, none fails the lab."""
    return Deadline.after(max(within.remaining_s, LOOK_PATIENCE_S))


def _dialog_in(raw: bytes) -> str | None:
    """Give the text of the first message box; None also when the desktop does not answer."""
    return _dialog(look.windows(raw)) if look.desktop_answers(raw) else None


def _dialog(shown: tuple[look.Window, ...]) -> str | None:
    """Give the text of the first message box (window class #32770, Microsoft's 'About Dialog Boxes')."""
    return next((window.text for window in shown if window.class_name == "#32770"), None)


def tested_folders(cell: Cell, *, installed: bool) -> dict[Folder, str]:
    """Give the Windows path of each class of folder that the build uses; the install folder once it exists."""
    folders: dict[Folder, str] = dict(cell.image.folders)
    if installed:
        folders[Folder.INSTALL] = cell.build.install_dir
    return folders
