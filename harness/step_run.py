"""Effects. Does one step in a guest and says how it ended, in words that a control can be compared by.

An expectation is a stable word: delivered, started, exit_code, files, click, alive, no_error_window, window, log, tcp.
Of a failure only step, expectation and code are ever compared; the detail is for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness import look
from harness.attempt import INSTALL_JOB, LAUNCH_JOB, Kind
from harness.build import fold
from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout
from harness.image import Folder
from harness.plan import Cell
from harness.products.api import Product, Record
from harness.scenario import (
    Action,
    Click,
    Connect,
    Deliver,
    Dwell,
    Install,
    Launch,
    LogLine,
    Run,
    SelfUpdate,
    Step,
    VendorUpdate,
    VerifyFiles,
)
from harness.systems.api import GuestSystem

#: How often a condition is looked at. Each look costs the guest about 50 ms of one core.
LOOK_EVERY_S = 0.15
DWELL_LOOK_EVERY_S = 0.75
LOG_TAIL_BYTES = 1024 * 1024


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """What must come true, and what must not, while a step is watched."""

    window: str | None = None
    error_windows: tuple[str, ...] = ()
    log: LogLine | None = None
    tcp_port: int | None = None


class StepRunner:
    """Runs the steps of one cell in one guest.

    Args:
        installer: The build's installer, as bytes.
        product: Moved by ``vendor_update``.
        record: Looks, logs and screenshots are recorded through it.
    """

    def __init__(self, cell: Cell, guest: GuestSystem, product: Product, record: Record, *, installer: bytes) -> None:
        self._cell = cell
        self._guest = guest
        self._product = product
        self._record = record
        self._installer = installer
        self._delivered_to = ""
        self._log_offsets: dict[str, int] = {}
        self.running = False

    def run(self, index: int, step: Step, *, deadline: Deadline) -> StepEnd:
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
                return self._install(action, within)
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
                )
                return self._act(action.click, watch, within)
            case Dwell():
                return self._dwell(action, within)
            case VendorUpdate():
                self._product.pin(self._cell.scheduled(index, after=True), deadline=within)
                return PASSED
            case Run():
                return self._command(action, within)

    def screenshot(self, *, deadline: Deadline) -> None:
        """Record what the screen shows; a picture that cannot be made is left out."""
        picture = self._guest.screenshot(deadline=deadline.sooner(20.0))
        if picture is not None:
            self._record(Kind.SCREENSHOT, "screen.png", blob=picture)

    def _deliver(self, action: Deliver, within: Deadline) -> StepEnd:
        name = self._cell.build.installer.file_name
        self._delivered_to = f"{self._cell.image.folders[action.to]}\\{name}"
        try:
            result = self._guest.deliver(self._installer, self._delivered_to, deadline=within)
        except GuestCommandTimeout:
            detail = f"Writing {self._delivered_to} did not end within {action.timeout_s:g} s."
            return StepEnd(expectation="delivered", timed_out=True, detail=detail)
        if not result.ok:
            return StepEnd(
                expectation="delivered",
                code=result.exit_code,
                detail=f"{self._delivered_to} could not be written.",
            )
        listing = self._listing(self._cell.image.folders[action.to], within)
        size = listing.get(fold(self._delivered_to))
        if size != len(self._installer):
            found = "is gone" if size is None else f"has {size} bytes instead of {len(self._installer)}"
            return StepEnd(expectation="delivered", detail=f"{self._delivered_to} {found}.")
        return PASSED

    def _install(self, action: Install, within: Deadline) -> StepEnd:
        argv = [self._delivered_to, *action.args]
        started = self._job(self._guest.start(INSTALL_JOB, argv, deadline=within), INSTALL_JOB)
        if started.state == "failed":
            return StepEnd(
                expectation="started", code=started.code, detail=f"The installer did not start ({started.code})."
            )
        job = self._job(self._guest.job(INSTALL_JOB, wait_s=within.remaining_s, deadline=within), INSTALL_JOB)
        if job.state != "ended":
            return StepEnd(
                expectation="exit_code",
                timed_out=True,
                detail=f"The installer still ran after {action.timeout_s:g} s.",
                dialog=self._any_dialog(within),
            )
        if job.exit_code not in action.exit_codes:
            return StepEnd(
                expectation="exit_code", code=job.code, detail=f"The installer ended with exit code {job.code}."
            )
        return PASSED

    def _verify_files(self, within: Deadline) -> StepEnd:
        build = self._cell.build
        listing = self._listing(build.install_dir, within)
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
        argv = [self._cell.build.installed_path(action.program), *action.args]
        started = self._job(self._guest.start(LAUNCH_JOB, argv, deadline=within), LAUNCH_JOB)
        if started.state == "failed":
            return StepEnd(
                expectation="started", code=started.code, detail=f"The program did not start ({started.code})."
            )
        self.running = True
        return self._until(_Watch(window=action.window, error_windows=action.error_windows), within)

    def _act(self, click: Click | None, watch: _Watch, within: Deadline) -> StepEnd:
        if click is not None and not self._click(click, within):
            return StepEnd(
                expectation="click",
                timed_out=True,
                detail=f"There is no button '{click.button}' in a window '{click.window}'.",
                dialog=self._any_dialog(within),
            )
        return self._until(watch, within)

    def _click(self, click: Click, within: Deadline) -> bool:
        # A try that begins just before the step's end may still end: it is the step that failed then, not the lab.
        return any(
            self._guest.click(window=click.window, button=click.button, deadline=_patience(within))
            for _ in within.poll(LOOK_EVERY_S)
            if not within.expired
        )

    def _until(self, watch: _Watch, within: Deadline) -> StepEnd:
        """Look until all that must be is there, or something that must not be is, or time is over."""
        missing: tuple[str, str] = ("window", "nothing was looked at")
        for _ in within.poll(LOOK_EVERY_S):
            patience = _patience(within)
            raw = self._look(patience, tcp=watch.tcp_port is not None)
            bad = self._alarm(raw, watch, patience)
            if bad is not None:
                self._record(Kind.LOOK, "windows", blob=raw)
                return bad
            unmet = self._unmet(raw, watch, patience)
            if unmet is None:
                self._record(Kind.LOOK, "windows", blob=raw)
                return PASSED
            missing = unmet
        raw = self._look(Deadline.after(10.0), tcp=False)
        self._record(Kind.LOOK, "windows", blob=raw)
        expectation, detail = missing
        return StepEnd(expectation=expectation, timed_out=True, detail=detail, dialog=_dialog(look.windows(raw)))

    def _dwell(self, action: Dwell, within: Deadline) -> StepEnd:
        watch = _Watch(error_windows=action.error_windows)
        raw = b""
        observed_s = 0.0
        for seen_s in within.sooner(action.seconds).poll(min(DWELL_LOOK_EVERY_S, action.seconds)):
            patience = Deadline.after(10.0)
            raw = self._look(patience, tcp=False)
            bad = self._alarm(raw, watch, patience)
            if bad is not None:
                self._record(Kind.LOOK, "windows", blob=raw)
                return bad
            observed_s = seen_s
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
            if any(text in window.title for text in watch.error_windows):
                detail = f"An error window '{window.title}' is shown."
                return StepEnd(expectation="no_error_window", detail=detail, dialog=window.text)
        if not self.running:
            return None
        answer = self._guest.job(LAUNCH_JOB, deadline=patience)
        job = look.job(answer)
        if job.state in {"ended", "failed"}:
            self._record(Kind.LOOK, "job", data={"job": LAUNCH_JOB}, blob=answer)
            detail = f"The program ended by itself with exit code {job.code}."
            return StepEnd(expectation="alive", code=job.code, detail=detail, dialog=_dialog(shown))
        return None

    def _unmet(self, raw: bytes, watch: _Watch, patience: Deadline) -> tuple[str, str] | None:
        """Give the first expectation that is not met yet, with what is wrong; None when all are."""
        if watch.window is not None and not any(watch.window in w.title for w in look.windows(raw)):
            return "window", f"No window whose title contains '{watch.window}' was shown."
        if watch.log is not None and not self._log_has(watch.log, patience):
            return "log", f"{watch.log.file} has no line that matches '{watch.log.matches}'."
        if watch.tcp_port is not None and watch.tcp_port not in look.established_ports(raw):
            return "tcp", f"No connection to port {watch.tcp_port} is established."
        return None

    def _log_has(self, line: LogLine, patience: Deadline) -> bool:
        path = self._cell.image.guest_path(self._cell.build.installed_path(line.file))
        request = {"tail": [{"path": path, "offset": 0, "max_bytes": LOG_TAIL_BYTES}]}
        pieces = look.chunks(self._guest.observe(request, deadline=patience))
        content = b"".join(piece.content for piece in pieces).decode("utf-8", "replace")
        matched = re.search(line.matches, content, re.MULTILINE) is not None
        if matched:
            self._record(Kind.LOOK, "program log", blob=content.encode())
        return matched

    def _look(self, patience: Deadline, *, tcp: bool) -> bytes:
        return self._guest.observe({"windows": True, **({"tcp": True} if tcp else {})}, deadline=patience)

    def _any_dialog(self, within: Deadline) -> str | None:
        raw = self._look(_patience(within), tcp=False)
        self._record(Kind.LOOK, "windows", blob=raw)
        return _dialog(look.windows(raw))

    def _listing(self, folder: str, within: Deadline) -> Mapping[str, int]:
        """Give the files below a Windows folder, by folded Windows path; nothing is opened."""
        image = self._cell.image
        raw = self._guest.observe({"list": [{"root": image.guest_path(folder)}]}, deadline=within)
        self._record(Kind.LOOK, "files", data={"folder": folder}, blob=raw)
        found, _cut = look.entries(raw)
        paths = ((image.windows_path(entry.path), entry) for entry in found if entry.is_file)
        return {fold(path): entry.size_bytes for path, entry in paths if path is not None}

    def _job(self, answer: bytes, name: str) -> look.Job:
        self._record(Kind.LOOK, "job", data={"job": name}, blob=answer)
        return look.job(answer)


def _patience(within: Deadline) -> Deadline:
    """Give a look that begins near a step's end time to finish: a late answer fails the step, none fails the lab."""
    return Deadline.after(max(within.remaining_s, 10.0))


def _dialog(shown: tuple[look.Window, ...]) -> str | None:
    """Give the text of the first message box (window class #32770, Microsoft's 'About Dialog Boxes')."""
    return next((window.text for window in shown if window.class_name == "#32770"), None)


def tested_folders(cell: Cell, *, installed: bool) -> dict[Folder, str]:
    """Give the Windows path of each class of folder that the build uses; the install folder once it exists."""
    folders: dict[Folder, str] = dict(cell.image.folders)
    if installed:
        folders[Folder.INSTALL] = cell.build.install_dir
    return folders
