"""Each kind of step on a simulated desktop: how it ends, in the words by which a control is compared."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from harness import look
from harness.attempt import AttemptMeta, Event, Kind, Role
from harness.build import Build, BuildFile, BuildKind
from harness.deadline import Deadline
from harness.errors import GuestCommandTimeout, GuestUnreachable, InputError, LabError
from harness.fake_guest import FakeMachine, FakeProgram, Mischief
from harness.frame import Frame
from harness.image import Folder
from harness.plan import NO_PRODUCT
from harness.products.api import Tools
from harness.products.none.adapter import NoProduct
from harness.providers.api import LendsDiscs, ShowsScreen, TakesInput
from harness.recorder import Recorder
from harness.scenario import (
    Click,
    Close,
    Connect,
    Deliver,
    Dwell,
    Fill,
    Install,
    Launch,
    Place,
    Press,
    Reboot,
    Run,
    Scan,
    Step,
    Title,
    Uninstall,
    Update,
)
from harness.secret import Mask, Secret
from harness.step_run import MAX_LOG_BYTES, StepEnd, StepRunner
from harness.systems import fake as desktop
from harness.systems.fake import FakeSystem
from harness.transports.api import CommandResult
from harness.transports.fake import FakeTransport
from harness.transports.payload import Payload, whole
from tests.builders import NOON, make_build, make_cell, make_file
from tests.fake_lab import HANG_S, scenario

STEPS = {step.kind: step for step in scenario(step_s=HANG_S).steps}


@dataclass(kw_only=True)
class Desk:
    """A simulated desktop, and a runner of steps on it."""

    mischief: Mischief = field(default_factory=Mischief)
    fault_at: str | None = None
    build: Build = field(default_factory=make_build)
    older: Build | None = None
    secrets: dict[str, Secret] = field(default_factory=dict)
    system: type[FakeSystem] = FakeSystem
    product: type[NoProduct] = NoProduct
    screen: ShowsScreen | None = None
    discs: LendsDiscs | None = None
    hands: TakesInput | None = None

    def __post_init__(self) -> None:
        cell = make_cell(build=self.build, older=self.older, product=NO_PRODUCT, scenario=scenario())
        self.machine = FakeMachine("guest", mischief=self.mischief)
        files = {"DemoHTS.exe": b"main 1.0.0", "hts_update.exe": b"updater 1.0.0", "hts_comm.dll": b"comm 1.0.0"}
        files["uninstall.exe"] = b"uninstaller 1.0.0"
        program = FakeProgram(
            install_dir=cell.build.install_dir,
            files=files,
            patch={"hts_core.dll": b"patched"},
            fault_at=self.fault_at,
            fields={"사용자 ID": False, "비밀번호": True},
        )
        self.guest = guest = self.system(cell.image, FakeTransport(self.machine), program)
        meta = AttemptMeta(
            id="a",
            cell=cell,
            role=Role.FIRST,
            ordinal=1,
            nonce="0" * 12,
            provider="fake",
            tool_version="0",
            started_at=NOON,
        )
        self.recorder = Recorder(meta, mask=Mask(self.secrets.values()))
        tools = Tools(guest=guest, record=self.recorder.record, profile="standard", nonce="0" * 12, known=())
        self.runner = StepRunner(
            cell,
            guest,
            self.product(tools),
            self.recorder.record,
            installer=lambda build: f"DemoHTS {build.version} setup".encode(),
            secrets=self.secrets,
            screen=self.screen,
            discs=self.discs,
            hands=self.hands,
        )
        self.image = cell.image

    def path(self, name: str) -> str:
        return self.image.guest_path(self.build.installed_path(name))

    def run(self, *kinds: str | Step) -> StepEnd:
        """Run steps one after the other; give how the last one ended."""
        end = StepEnd()
        for index, kind in enumerate(kinds):
            step = kind if isinstance(kind, Step) else STEPS[kind]
            end = self.runner.run(index, step, deadline=Deadline.after(30))
        return end

    def looks(self, subject: str) -> list[Event]:
        return [e for e in self.recorder.attempt().of(Kind.LOOK) if e.subject == subject]


INSTALLED = ("deliver", "install")
RUNNING = (*INSTALLED, "verify_files", "launch")
WHOLE = (*RUNNING, "self_update", "connect", "dwell")


@pytest.mark.parametrize("count", range(1, len(WHOLE) + 1))
def test_every_step_of_a_good_build_passes(count: int) -> None:
    end = Desk().run(*WHOLE[:count])
    assert (end.expectation, end.code, end.timed_out, end.dialog) == (None, None, False, None)


def test_the_program_s_own_update_puts_its_patch_in_place() -> None:
    desk = Desk()
    desk.run(*RUNNING, "self_update")
    assert desk.machine.files[desk.path("hts_core.dll")] == b"patched"


@pytest.mark.parametrize(
    ("fault", "last", "expectation", "code"),
    [
        ("install", "install", "exit_code", desktop.INSTALL_FAULT),
        ("launch", "launch", "alive", desktop.LAUNCH_FAULT),
        ("self_update", "self_update", "no_error_window", None),
        ("connect", "connect", "no_error_window", None),
    ],
)
def test_a_fault_is_named_by_expectation_and_code(fault: str, last: str, expectation: str, code: int | None) -> None:
    end = Desk(fault_at=fault).run(*WHOLE[: WHOLE.index(last) + 1])
    assert (end.expectation, end.code, end.timed_out) == (expectation, code, False)
    assert end.detail.endswith(".")


@pytest.mark.parametrize(
    ("hangs", "last", "expectation"),
    [
        ("deliver", "deliver", "delivered"),
        ("install", "install", "exit_code"),
        ("launch", "launch", "window"),
        ("self_update", "self_update", "log"),
        ("connect", "connect", "window"),
    ],
)
def test_what_never_comes_is_a_timeout_of_the_step_and_no_trouble(hangs: str, last: str, expectation: str) -> None:
    begun = time.monotonic()
    end = Desk(mischief=Mischief(hangs_at=hangs)).run(*WHOLE[: WHOLE.index(last) + 1])
    assert (end.expectation, end.timed_out, end.code) == (expectation, True, None)
    assert time.monotonic() - begun < 3


HELD = b'{"windows": {"exit_code": null, "json": null, "output_b64": "", "truncated": false}, "tcp": {"items": []}}'


class Held(FakeSystem):
    """A desktop that does not answer for so many looks of a connect."""

    looks = 10**6
    since = "connect"

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        if "windows" in request and self._machine.since(self.since) and self.looks > 0:
            self.looks -= 1
            return HELD
        return super().observe(request, deadline=deadline)


def test_a_desktop_that_never_answers_is_a_timeout_of_the_step_and_no_trouble() -> None:
    end = Desk(system=Held).run(*RUNNING, "self_update", "connect")
    assert (end.expectation, end.timed_out, end.dialog) == ("desktop", True, None)


def test_an_installer_that_hangs_with_its_desktop_is_a_timeout_too() -> None:
    class HeldAtOnce(Held):
        since = "install"

    end = Desk(system=HeldAtOnce, mischief=Mischief(hangs_at="install")).run(*INSTALLED)
    assert (end.expectation, end.timed_out, end.dialog) == ("exit_code", True, None)


def test_a_button_of_a_desktop_that_does_not_answer_is_not_there_yet() -> None:
    class Stuck(FakeSystem):
        tries = 0

        def click(self, *, window: str, button: str, deadline: Deadline) -> bool:
            self.tries += 1
            if self.tries == 1:
                msg = "The program still ran at the deadline."
                raise GuestCommandTimeout(msg)
            return super().click(window=window, button=button, deadline=deadline)

    assert Desk(system=Stuck).run(*RUNNING, "self_update").expectation is None


def test_a_desktop_that_answers_late_passes_the_step() -> None:
    desk = Desk(system=Held)
    assert isinstance(desk.guest, Held)
    desk.guest.looks = 1
    assert desk.run(*RUNNING, "self_update", "connect").expectation is None


def test_a_list_of_windows_that_came_and_cannot_be_read_stays_trouble_of_ours() -> None:
    assert look.desktop_answers(b'{"windows": {"exit_code": 3, "json": null}}')
    assert look.desktop_answers(b'{"windows": {"error": "ENOENT"}}')
    with pytest.raises(look.LookError):
        look.desktop_answers(b"{}")


@pytest.mark.parametrize("moment", ["launch", "self_update", "connect"])
def test_a_program_that_dies_is_not_waited_for(moment: str) -> None:
    step = STEPS[moment].model_copy(update={moment: STEPS[moment].action.model_copy(update={"timeout_s": 30.0})})
    begun = time.monotonic()
    end = Desk(mischief=Mischief(dies_at=moment)).run(*WHOLE[: WHOLE.index(moment)], step)
    assert (end.expectation, end.code) == ("alive", desktop.DEATH)
    assert time.monotonic() - begun < 5


def test_an_error_dialog_s_text_is_told() -> None:
    end = Desk(fault_at="connect").run(*RUNNING, "self_update", "connect")
    assert end.dialog is not None
    assert end.dialog.startswith(desktop.CONNECT_ERROR)
    assert "접속할 수 없습니다" in end.dialog


def test_what_the_program_wrote_is_kept_when_its_step_fails() -> None:
    desk = Desk(fault_at="connect")
    desk.run(*RUNNING, "self_update", "connect")
    log = desk.looks("program log")[-1]
    assert desk.recorder.attempt().blobs.get(log.blob or "") == b"update done exit=0\n"


def log_of(desk: Desk, content: bytes) -> None:
    desk.machine.files[desk.path("logs\\hts.log")] = content


@pytest.mark.parametrize("mib", [3, 4, 15])
def test_a_line_behind_many_mebibytes_of_log_is_found(mib: int) -> None:
    desk = Desk()
    desk.run(*RUNNING)
    log_of(desk, b"x" * (mib * 1024**2) + b"\nupdate done exit=0\n")
    assert desk.run("self_update").expectation is None
    assert not desk.looks("program log")[-1].truncated


def test_a_log_that_cannot_be_read_to_its_end_neither_passes_nor_fails_a_step() -> None:
    desk = Desk()
    desk.run(*RUNNING)
    log_of(desk, b"x" * MAX_LOG_BYTES + b"\nupdate done exit=0\n")
    with pytest.raises(look.LookError, match="more than 16 MiB and was not read to its end"):
        desk.run("self_update")


def test_a_line_in_the_part_of_a_log_that_was_read_is_kept_and_said_to_be_cut() -> None:
    desk = Desk()
    desk.run(*RUNNING)
    log_of(desk, b"update done exit=0\n" + b"x" * MAX_LOG_BYTES)
    assert desk.run("self_update").expectation is None
    assert desk.looks("program log")[-1].truncated


@pytest.mark.parametrize(
    ("content", "says"), [(None, "hts_comm.dll is missing"), (b"longer than before", "has 18 bytes instead of 10")]
)
def test_a_file_that_is_missing_or_of_another_size_fails_the_listing(content: bytes | None, says: str) -> None:
    desk = Desk()
    desk.run(*INSTALLED)
    desk.machine.files.pop(desk.path("hts_comm.dll"))
    if content is not None:
        desk.machine.files[desk.path("hts_comm.dll")] = content
    end = desk.run("verify_files")
    assert end.expectation == "files"
    assert says in end.detail


def test_an_install_folder_without_files_fails_the_listing() -> None:
    end = Desk().run("verify_files")
    assert (end.expectation, end.detail) == ("files", r"C:\DemoHTS is missing or empty.")


def test_a_listing_that_was_cut_is_trouble_of_ours_and_no_missing_file() -> None:
    class Full(FakeSystem):
        def _list(self, request: object) -> dict[str, object]:
            return {"entries": [], "errors": [], "truncated": True}

    with pytest.raises(look.LookError, match="was cut"):
        Desk(system=Full).run("verify_files")


def test_a_delivered_installer_that_is_gone_at_once_was_not_delivered() -> None:
    class Taking(FakeSystem):
        def deliver(self, content: Payload, path: str, *, deadline: Deadline) -> CommandResult:
            del content, path, deadline
            return CommandResult(exit_code=0)

    end = Desk(system=Taking).run("deliver")
    assert end.expectation == "delivered"
    assert end.detail.endswith("is gone.")


def test_an_installer_that_is_gone_does_not_start() -> None:
    desk = Desk()
    desk.run("deliver")
    desk.machine.files.clear()
    end = desk.run("install")
    assert (end.expectation, end.code) == ("started", 2)


def test_a_button_that_is_not_there_is_looked_for_until_the_time_is_over() -> None:
    connect = Step(connect=Connect(click=Click(window=desktop.MAIN_WINDOW, button="없음"), timeout_s=0.3))
    end = Desk().run(*RUNNING, connect)
    assert (end.expectation, end.timed_out) == ("click", True)
    assert "없음" in end.detail


@pytest.mark.parametrize(
    ("connect", "expectation"),
    [
        (Connect(window="다른 제목", timeout_s=0.2), "window"),
        (Connect(tcp_port=9999, timeout_s=0.2), "tcp"),
    ],
)
def test_the_first_expectation_that_is_not_met_is_named(connect: Connect, expectation: str) -> None:
    end = Desk().run(*RUNNING, Step(connect=connect))
    assert (end.expectation, end.timed_out) == (expectation, True)


def test_a_dwell_says_how_long_it_looked() -> None:
    end = Desk().run(*RUNNING, Step(dwell=Dwell(seconds=0.2)))
    assert end.expectation is None
    assert 0.15 <= end.observed_s <= 2.0


def test_a_dwell_fails_when_the_connection_is_not_there() -> None:
    port = STEPS["connect"].connect.tcp_port or 7001  # type: ignore[union-attr]
    connected = Desk()
    assert connected.run(*RUNNING, STEPS["connect"]).expectation is None
    assert connected.run(Step(dwell=Dwell(seconds=0.1, tcp_port=port))).expectation is None
    silent = Desk().run(*RUNNING, Step(dwell=Dwell(seconds=30, tcp_port=port)))
    assert (silent.expectation, silent.timed_out) == ("tcp", False)
    assert "No connection to port" in silent.detail
    untitled = Desk().run(*RUNNING, Step.model_validate({"dwell": {"seconds": 30, "window": "접속됨"}}))
    assert (untitled.expectation, untitled.timed_out) == ("window", False)


def test_a_dwell_ends_with_the_program() -> None:
    desk = Desk()
    desk.run(*RUNNING)
    desk.machine.mischief = Mischief(dies_at="connect")
    desk.run(STEPS["connect"])
    begun = time.monotonic()
    end = desk.run(Step(dwell=Dwell(seconds=30)))
    assert end.expectation == "alive"
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    ("command", "expectation", "code", "timed_out"),
    [
        (("/bin/true",), None, None, False),
        (("/bin/false",), "exit_code", 1, False),
        (("/bin/nonsense",), "started", 2, False),
        (("/bin/sleep", "30"), "exit_code", None, True),
    ],
)
def test_a_command_ends_as_it_should_or_says_how_it_did_not(
    command: tuple[str, ...], expectation: str | None, code: int | None, timed_out: bool
) -> None:
    end = Desk().run(Step(run=Run(command=command, timeout_s=0.2)))
    assert (end.expectation, end.code, end.timed_out) == (expectation, code, timed_out)


def test_a_command_runs_as_the_desktop_user_unless_the_administrator_is_named() -> None:
    desk = Desk()
    desk.run(Step(run=Run(command=("/usr/bin/id",))), Step(run=Run(command=("/usr/bin/id",), user="administrator")))
    blobs = desk.recorder.attempt().blobs
    assert [blobs.get(e.blob or "") for e in desk.looks("command")] == [b"trader\n", b"root\n"]


def test_an_exit_code_that_the_scenario_allows_passes() -> None:
    install = Step(install=Install(exit_codes=(0, desktop.INSTALL_FAULT)))
    assert Desk(fault_at="install").run("deliver", install).expectation is None


def test_a_lost_guest_is_trouble_and_no_end_of_a_step() -> None:
    with pytest.raises(GuestUnreachable):
        Desk(mischief=Mischief(lost_at="connect")).run(*WHOLE)


def test_nonsense_from_the_guest_is_trouble_and_no_end_of_a_step() -> None:
    with pytest.raises(look.LookError):
        Desk(mischief=Mischief(garbled_from="launch")).run(*RUNNING)


# --- the end of a build's life ----------------------------------------------------------------------------------------

CLOSE = Step(close=Close(window=desktop.MAIN_WINDOW, timeout_s=0.3))
REMOVE = Step(uninstall=Uninstall(program="uninstall.exe", leaves=("logs\\*",), timeout_s=0.3))


def test_a_closed_program_has_ended_and_may_be_launched_again() -> None:
    desk = Desk()
    assert desk.run(*WHOLE, CLOSE).expectation is None
    assert not desk.runner.running
    assert desk.run("launch", "self_update", "connect").expectation is None


def test_a_window_that_is_not_there_cannot_be_closed() -> None:
    assert Desk().run(*INSTALLED, CLOSE).expectation == "window"


def test_a_program_that_goes_on_after_its_window_was_closed_failed_to_close() -> None:
    end = Desk(mischief=Mischief(hangs_at="close")).run(*RUNNING, CLOSE)
    assert (end.expectation, end.timed_out) == ("closed", True)


def test_after_a_reboot_the_program_is_launched_anew() -> None:
    desk = Desk()
    assert desk.run(*WHOLE, Step(reboot=Reboot())).expectation is None
    assert not desk.runner.running
    assert desk.run("launch", "connect").expectation is None


def test_an_uninstall_leaves_only_what_may_stay() -> None:
    desk = Desk()
    assert desk.run(*WHOLE, CLOSE, REMOVE).expectation is None
    left = [path for path in desk.machine.files if path.startswith(desk.path(""))]
    assert left == [desk.path("logs\\hts.log")]


def test_an_uninstall_that_leaves_a_module_behind_failed() -> None:
    end = Desk(fault_at="uninstall").run(*WHOLE, CLOSE, REMOVE)
    assert (end.expectation, end.timed_out) == ("files_gone", True)
    assert "hts_comm.dll" in end.detail


def test_a_product_that_cannot_scan_on_demand_is_recorded_as_not_scanning() -> None:
    class Deaf(NoProduct):
        scan = None  # type: ignore[assignment]  # what has no such method is no product that scans

    desk = Desk(product=Deaf)
    assert desk.run(*INSTALLED, Step(scan=Scan())).expectation is None
    assert [e.data for e in desk.looks("scan")] == [{"finished": False}]


# --- builds that are no setup programs, and programs without windows --------------------------------------------------


def portable() -> Build:
    return make_build().model_copy(update={"kind": BuildKind.PORTABLE})


def test_a_portable_build_is_unpacked_and_goes_on_like_any_other() -> None:
    desk = Desk(build=portable())
    assert desk.run(*WHOLE).expectation is None
    assert desk.machine.files[desk.path("DemoHTS.exe")] == b"main 1.0.0"
    assert desk.looks("unpack")


def test_a_portable_build_that_cannot_be_unpacked_is_told_by_its_errno() -> None:
    end = Desk(build=portable(), fault_at="install").run("deliver", "install")
    assert (end.expectation, end.code, end.timed_out) == ("unpacked", desktop.INSTALL_FAULT, False)


def test_a_portable_build_that_the_product_denies_is_told_by_its_errno() -> None:
    desk = Desk(build=portable())
    desk.machine.watches = lambda path, _content: not path.endswith("setup.exe")
    end = desk.run("deliver", "install")
    assert (end.expectation, end.code) == ("unpacked", 1)


def test_unpacking_that_does_not_end_is_a_timeout_of_the_step() -> None:
    end = Desk(build=portable(), mischief=Mischief(hangs_at="install")).run("deliver", "install")
    assert (end.expectation, end.timed_out) == ("unpacked", True)


class Listening(FakeSystem):
    """Remembers how the installer was started."""

    started: list[list[str]]

    def start(self, job: str, argv: Sequence[str], *, deadline: Deadline) -> bytes:
        self.started = [*getattr(self, "started", []), list(argv)]
        answer = super().start(job, argv, deadline=deadline)
        return b'{"state": "ended", "exit_code": 0}' if "msiexec" in argv[0] else answer


@pytest.mark.parametrize(
    ("kind", "args", "argv"),
    [
        (BuildKind.PROGRAM, None, ["SETUP", "/S"]),
        (BuildKind.PROGRAM, ("/VERYSILENT",), ["SETUP", "/VERYSILENT"]),
        (BuildKind.MSI, None, [r"C:\windows\system32\msiexec.exe", "/i", "SETUP", "/qn", "/norestart"]),
        (BuildKind.MSI, ("/quiet",), [r"C:\windows\system32\msiexec.exe", "/i", "SETUP", "/quiet"]),
    ],
)
def test_an_installer_is_started_as_its_kind_wants(
    kind: BuildKind, args: tuple[str, ...] | None, argv: list[str]
) -> None:
    desk = Desk(build=make_build().model_copy(update={"kind": kind}), system=Listening)
    desk.machine.files[desk.image.guest_path(r"C:\windows\system32\msiexec.exe")] = b"msiexec"
    desk.run("deliver", Step(install=Install(args=args, timeout_s=1)))
    guest = desk.guest
    assert isinstance(guest, Listening)
    delivered = "C:\\users\\trader\\Downloads\\DemoHTS-1.0.0-setup.exe"
    assert guest.started == [[delivered if word == "SETUP" else word for word in argv]]


def tool(*exit_codes: int) -> Step:
    return Step(launch=Launch(program="hts_update.exe", exit_codes=exit_codes, timeout_s=0.3))


def test_a_program_without_a_window_passes_when_it_ends_as_it_should() -> None:
    desk = Desk()
    assert desk.run(*INSTALLED, tool(0)).expectation is None
    assert not desk.runner.running


def test_a_program_that_ends_otherwise_is_told_by_its_exit_code() -> None:
    end = Desk().run(*INSTALLED, tool(7, 8))
    assert (end.expectation, end.code, end.timed_out) == ("exit_code", 0, False)


def test_a_program_that_does_not_end_is_a_timeout() -> None:
    end = Desk(mischief=Mischief(hangs_at="launch")).run(*INSTALLED, tool(0))
    assert (end.expectation, end.timed_out) == ("exit_code", True)


@pytest.mark.parametrize(
    ("window", "passes"),
    [({"matches": "^데모증권 HTS$"}, True), ({"matches": "hts"}, False), ("증권", True), ({"contains": "다른"}, False)],
)
def test_a_window_is_found_by_a_text_or_an_expression(window: object, passes: bool) -> None:
    end = Desk().run(*INSTALLED, Step(launch=Launch(program="DemoHTS.exe", window=window, timeout_s=0.2)))
    assert end.expectation == (None if passes else "window")
    assert passes or "No window whose title" in end.detail


def test_an_error_window_is_found_by_an_expression() -> None:
    connect = STEPS["connect"].connect
    assert connect is not None
    watched = Connect(
        click=connect.click, error_windows=[{"matches": "(?i)error|오류"}], window="접속됨", timeout_s=0.3
    )
    end = Desk(fault_at="connect").run(*RUNNING, Step(connect=watched))
    assert (end.expectation, end.timed_out) == ("no_error_window", False)


# --- over an older build ----------------------------------------------------------------------------------------------

OLDER_STEPS = (Step(deliver=Deliver(build="older")), Step(install=Install(timeout_s=HANG_S)))
UPDATE = Step(update=Update(timeout_s=HANG_S))


def over(*more_of_older: str) -> Desk:
    """A desk of build 1.0.0 over 0.9.0; the simulated installers put the same files in place."""
    return Desk(older=with_files(make_build("0.9.0"), *map(make_file, more_of_older)))


def with_files(build: Build, *files: BuildFile) -> Build:
    return build.model_copy(update={"files": (*build.files, *files)})


def test_each_build_is_delivered_as_itself_and_the_last_one_is_installed() -> None:
    desk = over()
    end = desk.run(*OLDER_STEPS, "deliver", UPDATE, "verify_files", "launch")
    assert end.expectation is None
    downloads = desk.image.guest_path(desk.image.folders[Folder.DOWNLOADS])
    assert desk.machine.files[f"{downloads}/DemoHTS-0.9.0-setup.exe"] == b"DemoHTS 0.9.0 setup"
    assert desk.machine.files[f"{downloads}/DemoHTS-1.0.0-setup.exe"] == b"DemoHTS 1.0.0 setup"
    assert [e.data["job"] for e in desk.looks("job")] == ["install", "install", "update", "update", "launch"]


def test_an_installed_older_build_is_verified_as_itself() -> None:
    end = over("only_old.dll").run(*OLDER_STEPS, "verify_files")
    assert (end.expectation, end.detail) == ("files", "only_old.dll is missing.")


def test_an_update_that_leaves_the_new_builds_file_out_fails() -> None:
    desk = Desk(build=with_files(make_build(), make_file("chart.dll")), older=make_build("0.9.0"))
    end = desk.run(*OLDER_STEPS, "deliver", UPDATE)
    assert (end.expectation, end.detail) == ("files", "chart.dll is missing.")


@pytest.mark.parametrize(("leaves", "passes"), [((), False), (("old_*.dll",), True), (("OLD_chart.dll",), True)])
def test_a_file_of_the_older_build_alone_that_stays_fails_the_update(leaves: tuple[str, ...], passes: bool) -> None:
    desk = over("old_chart.dll")
    desk.run(*OLDER_STEPS)
    desk.machine.files[desk.path("old_chart.dll")] = b"old"
    end = desk.run("deliver", Step(update=Update(timeout_s=HANG_S, leaves=leaves)))
    if passes:
        assert end.expectation is None
    else:
        assert end.expectation == "older_files_gone"
        assert end.detail == "old_chart.dll of the older build 0.9.0 is still there (1 such files)."


def test_an_update_whose_installer_fails_is_named_by_its_exit_code() -> None:
    desk = over()
    desk.run(*OLDER_STEPS)
    desk.guest._program = replace(desk.guest._program, fault_at="install")  # type: ignore[type-var]
    end = desk.run("deliver", UPDATE)
    assert (end.expectation, end.code) == ("exit_code", desktop.INSTALL_FAULT)


# --- fields, secrets, and what runs -----------------------------------------------------------------------------------

ACCOUNT = "hong-1234"


def login(*fills: dict[str, object], modules: tuple[str, ...] | None = None) -> Step:
    connect = STEPS["connect"].action
    assert isinstance(connect, Connect)
    filled = tuple(Fill.model_validate({"window": desktop.MAIN_WINDOW, **fill}) for fill in fills)
    return Step(connect=connect.model_copy(update={"fill": filled or None, "modules": modules}))


@pytest.mark.parametrize("which", [{"field": "사용자 ID"}, {"field_number": 1}])
def test_a_field_is_filled_before_the_button_is_pressed(which: dict[str, object]) -> None:
    desk = Desk()
    assert desk.run(*RUNNING, "self_update", login({**which, "text": "qa01"})).expectation is None
    assert b"=qa01" in desk.machine.files[desk.path("logs\\hts.log")]


@pytest.mark.parametrize("which", [{"field": "없는 칸"}, {"field_number": 9}])
def test_a_field_that_is_not_there_fails_the_step_by_time(which: dict[str, object]) -> None:
    end = Desk().run(*RUNNING, "self_update", login({**which, "text": "qa01"}))
    assert (end.expectation, end.timed_out) == ("field", True)
    assert end.detail.startswith("There is no field ")


@pytest.mark.parametrize(("field", "pictures"), [("사용자 ID", False), ("비밀번호", True)])
def test_a_secret_is_entered_recorded_nowhere_and_pictured_only_where_it_is_hidden(field: str, pictures: bool) -> None:
    desk = Desk(secrets={"ACCOUNT": Secret("ACCOUNT", ACCOUNT)})
    assert desk.run(*RUNNING, "self_update", login({"field": field, "secret": "ACCOUNT"})).expectation is None
    desk.runner.screenshot(deadline=Deadline.after(5))
    attempt = desk.recorder.attempt()
    assert ACCOUNT.encode() in desk.machine.files[desk.path("logs\\hts.log")]
    logs = [attempt.blobs.get(e.blob or "") for e in desk.looks("program log")]
    assert any(b"=*********" in log for log in logs)
    for event in attempt.events:
        held = event.model_dump_json().encode() + (attempt.blobs.get(event.blob) if event.blob else b"")
        assert ACCOUNT.encode() not in held
    assert bool(attempt.of(Kind.SCREENSHOT)) is pictures
    assert bool(desk.looks("screen withheld")) is not pictures


def test_a_secret_that_shows_withholds_the_screen_from_outside_too() -> None:
    class Screen:
        def screen(self, *, deadline: Deadline) -> Frame | None:
            del deadline
            return Frame(width=1, height=1, pixels=b"rgb")

    desk = Desk(secrets={"ACCOUNT": Secret("ACCOUNT", ACCOUNT)}, screen=Screen())
    desk.runner.screenshot(deadline=Deadline.after(5))
    desk.run(*RUNNING, "self_update", login({"field": "사용자 ID", "secret": "ACCOUNT"}))
    desk.runner.screenshot(deadline=Deadline.after(5))
    assert len(desk.recorder.attempt().of(Kind.SCREENSHOT)) == 1
    assert [e.data["why"] for e in desk.looks("screen withheld")] == ["a field shows a secret"]


def test_pictures_go_on_when_a_field_was_filled_with_plain_text() -> None:
    desk = Desk()
    desk.run(*RUNNING, "self_update", login({"field": "사용자 ID", "text": "qa01"}))
    desk.runner.screenshot(deadline=Deadline.after(5))
    assert desk.recorder.attempt().of(Kind.SCREENSHOT)


# --- keys and clicks from outside -------------------------------------------------------------------------------------


@dataclass
class Hands:
    """What takes keys and clicks, and notes them down."""

    done: list[object] = field(default_factory=list)

    def press(self, chord: str, *, deadline: Deadline) -> None:
        del deadline
        self.done.append(chord)

    def click_at(self, x: int, y: int, *, deadline: Deadline) -> None:
        del deadline
        self.done.append((x, y))


class Placed(FakeSystem):
    """A desktop whose windows begin at a place."""

    def observe(self, request: Mapping[str, object], *, deadline: Deadline) -> bytes:
        value = json.loads(super().observe(request, deadline=deadline))
        for window in value.get("windows", {}).get("json", ()):
            window["rect"] = [100, 50, 500, 350]
        return json.dumps(value).encode()


def test_keys_are_pressed_one_after_the_other_and_what_they_bring_is_waited_for() -> None:
    desk = Desk(hands=(hands := Hands()))
    end = desk.run(*RUNNING, Step(press=Press(keys=("tab", "alt+f4"), window=Title(contains=desktop.MAIN_WINDOW))))
    assert end.expectation is None
    assert hands.done == ["tab", "alt+f4"]
    assert [e.data for e in desk.looks("pressed")] == [{"keys": ["tab", "alt+f4"]}]
    missing = Step(press=Press(keys=("esc",), window=Title(contains="nowhere"), timeout_s=0.05))
    assert desk.run(missing).expectation == "window"


def test_a_click_falls_into_its_window_wherever_that_stands() -> None:
    desk = Desk(hands=(hands := Hands()), system=Placed)
    at = Place(window=desktop.MAIN_WINDOW, x=7, y=9)
    assert desk.run(*RUNNING, Step(press=Press(at=at))).expectation is None
    assert hands.done == [(107, 59)]


@pytest.mark.parametrize("system", [FakeSystem, Placed], ids=["no-place", "no-window"])
def test_a_click_in_no_window_fails_the_step_by_time(system: type[FakeSystem]) -> None:
    desk = Desk(hands=(hands := Hands()), system=system)
    window = desktop.MAIN_WINDOW if system is FakeSystem else "nowhere"
    end = desk.run(*RUNNING, Step(press=Press(at=Place(window=window, x=7, y=9), timeout_s=0.05)))
    assert (end.expectation, end.timed_out) == ("click", True)
    assert hands.done == []


def test_a_guest_that_takes_no_input_is_the_labs_trouble_and_no_failure_of_the_build() -> None:
    with pytest.raises(LabError, match="takes no keys and clicks") as caught:
        Desk().run(*RUNNING, Step(press=Press(keys=("enter",))))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("modules", "missing"),
    [
        (("hts_comm.dll",), None),
        (("DEMOHTS.EXE", "HTS_comm.dll"), None),
        (("DemoHTS.exe", "keyguard.exe"), "keyguard.exe"),
        (("comm.dll",), "comm.dll"),
    ],
)
def test_modules_must_run_or_be_loaded(modules: tuple[str, ...], missing: str | None) -> None:
    desk = Desk()
    end = desk.run(*RUNNING, "self_update", login(modules=modules))
    assert end.expectation == (None if missing is None else "modules")
    assert missing is None or end.detail == f"'{missing}' does not run, and no program of the user has loaded it."
    assert [e.data for e in desk.looks("running modules")] == [{"names": list(modules)}][: missing is None]


def test_a_launch_waits_for_its_modules_too() -> None:
    launch = STEPS["launch"].action
    assert isinstance(launch, Launch)
    end = Desk().run(*INSTALLED, "verify_files", Step(launch=launch.model_copy(update={"modules": ("tray.exe",)})))
    assert (end.expectation, end.timed_out) == ("modules", True)


# --- delayed looks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [(), (0.01,), (0.01, 0.02), (0.02,)])
def test_a_dwell_looks_again_at_every_second_that_it_was_asked_for_also_its_last(again: tuple[float, ...]) -> None:
    class Sampled(NoProduct):
        def sample(self, *, border: int, deadline: Deadline) -> None:
            del deadline
            borders.append(border)

    borders: list[int] = []
    desk = Desk(product=Sampled)
    desk.run(*RUNNING, "self_update", "connect", Step(dwell=Dwell(seconds=0.02, look_again_at_s=again)))
    assert 0 < len(borders) <= len(again) if again else borders == []
    assert set(borders) <= {6}
    assert len(desk.recorder.attempt().of(Kind.SCREENSHOT)) == len(borders)


def test_a_secret_that_is_there_no_more_when_a_run_is_resumed_is_the_users_trouble() -> None:
    with pytest.raises(InputError, match="'ACCOUNT' of the run is not among"):
        Desk().run(*RUNNING, "self_update", login({"field": "비밀번호", "secret": "ACCOUNT"}))


# --- a delivery by disc -----------------------------------------------------------------------------------------------


@dataclass
class Drive:
    """A drive of a machine: what lies in it, and what was ever put in."""

    worth: bool = True
    refuses: bool = False
    inside: bytes | None = None
    seen: list[str] = field(default_factory=list)

    def worth_a_disc(self, size_bytes: int) -> bool:
        assert size_bytes > 0
        return self.worth

    @contextmanager
    def disc(self, content: Payload, *, sha256: str, deadline: Deadline) -> Iterator[None]:
        del deadline
        if self.refuses:
            msg = "The disk is full."
            raise LabError(msg)
        self.inside = whole(content)
        self.seen.append(sha256)
        yield
        self.inside = None


class WithDrive(FakeSystem):
    """A guest that reads discs."""

    drive: Drive
    code = 0

    def deliver_from_disc(self, path: str, *, size_bytes: int, sha256: str, deadline: Deadline) -> CommandResult:
        del sha256, deadline
        assert self.drive.inside is not None
        assert len(self.drive.inside) == size_bytes
        if self.code == 0:
            self._machine.files[self.image.guest_path(path)] = self.drive.inside
        return CommandResult(exit_code=self.code)

    def deliver(self, content: Payload, path: str, *, deadline: Deadline) -> CommandResult:
        assert not self.drive.worth, "it goes in by disc"
        return super().deliver(content, path, deadline=deadline)


def desk_with(drive: Drive, code: int = 0) -> Desk:
    system = type("System", (WithDrive,), {"drive": drive, "code": code})
    return Desk(discs=drive, system=system)


@pytest.mark.parametrize("worth", [True, False])
def test_a_build_lies_there_the_same_by_whichever_way_it_came(worth: bool) -> None:
    drive = Drive(worth=worth)
    desk = desk_with(drive)
    assert desk.run("deliver").expectation is None
    name = f"{desk.image.folders[Folder.DOWNLOADS]}\\{desk.build.installer.file_name}"
    assert desk.machine.files[desk.image.guest_path(name)] == b"DemoHTS 1.0.0 setup"
    assert drive.seen == ([desk.build.installer.sha256] if worth else [])
    assert drive.inside is None, "it is taken out"
    said = [(e.subject, e.data) for e in desk.recorder.attempt().of(Kind.GUEST)]
    size = len(b"DemoHTS 1.0.0 setup")
    assert said == ([("disc", {"sha256": desk.build.installer.sha256, "size_bytes": size})] if worth else [])


def test_a_guest_that_reads_no_discs_gets_a_build_by_its_way_in() -> None:
    drive = Drive()
    assert Desk(discs=drive).run("deliver").expectation is None
    assert drive.seen == []


def test_a_copy_from_disc_that_is_refused_ends_as_any_refused_delivery() -> None:
    by_disc = desk_with(Drive(), code=2).run("deliver")
    assert (by_disc.expectation, by_disc.code, by_disc.timed_out) == ("delivered", 2, False)


def test_a_disc_that_cannot_be_made_or_read_is_trouble_and_no_failed_step() -> None:
    with pytest.raises(LabError, match="disk is full"):
        desk_with(Drive(refuses=True)).run("deliver")

    class Unreadable(WithDrive):
        drive = Drive()

        def deliver_from_disc(self, path: str, *, size_bytes: int, sha256: str, deadline: Deadline) -> CommandResult:
            del path, size_bytes, sha256, deadline
            return CommandResult(exit_code=look.written(b'{"trouble": "its file is cut"}').exit_code)

    with pytest.raises(look.LookError, match="cut"):
        Desk(discs=Unreadable.drive, system=Unreadable).run("deliver")
    assert Unreadable.drive.seen
