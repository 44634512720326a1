"""What every guest system promises (``harness/systems/api.py``), held against the simulated and the real one."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from harness import look
from harness.deadline import Deadline
from harness.fake_guest import FakeMachine, Mischief
from harness.image import Folder, Image
from harness.machine import Machine
from harness.providers.docker import DockerProvider
from harness.scenario import ReadyPort, Service
from harness.systems.api import GuestSystem
from harness.systems.fake import FakeSystem
from harness.systems.wine import WineSystem
from harness.transports.docker_exec import DockerExecTransport
from harness.transports.fake import FakeTransport
from tests.builders import make_image
from tests.fake_project import tiny_program
from tests.zip_files import write_zip

ENDS = r"C:\windows\system32\cmd.exe"
STAYS = r"C:\windows\system32\notepad.exe"
SERVER = b"import socket,time; s=socket.create_server(('127.0.0.1', 7009)); time.sleep(600)"


def soon() -> Deadline:
    return Deadline.after(30)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A guest system, a program that stays, and names for jobs that nobody used before."""

    guest: GuestSystem
    serial: count[int] = field(default_factory=count)

    def job(self) -> str:
        return f"stays-{time.monotonic_ns()}-{next(self.serial)}"

    def path(self, folder: Folder, name: str) -> str:
        return f"{self.guest.image.folders[folder]}\\{name}"


class _Staying(FakeSystem):
    """A simulated desktop on which notepad stays, as on the real one."""

    def start(self, job: str, argv: Sequence[str], *, deadline: Deadline) -> bytes:
        self._machine.mischief = Mischief(hangs_at=job if argv[0] == STAYS else None)
        return super().start(job, argv, deadline=deadline)


@pytest.fixture(scope="module")
def wine(docker_provider: DockerProvider, reference_image: Image) -> Iterator[WineSystem]:
    """Give one wine guest for all tests of this module."""
    with docker_provider.lease(reference_image, run_id="contract-s", name="system", deadline=soon()) as lease:
        transport = DockerExecTransport(docker_provider.client, lease.endpoint.address)
        guest = WineSystem(reference_image, transport)
        guest.await_ready(deadline=Deadline.after(60))
        yield guest
        transport.close()


@pytest.fixture(params=["fake", pytest.param("wine", marks=pytest.mark.guest)])
def given(request: pytest.FixtureRequest) -> Given:
    if request.param == "wine":
        return Given(guest=request.getfixturevalue("wine"))
    image = make_image()
    machine = FakeMachine("guest", files={image.guest_path(path): b"MZ" for path in (ENDS, STAYS)})
    return Given(guest=_Staying(image, FakeTransport(machine)))


def test_a_ready_guest_says_something_of_itself(given: Given) -> None:
    assert given.guest.await_ready(deadline=soon())


@pytest.mark.parametrize("folder", [Folder.DOWNLOADS, Folder.TEMP, Folder.APPDATA])
def test_a_delivered_file_lies_where_it_was_asked_for_with_its_size(folder: Folder, given: Given) -> None:
    path = given.path(folder, "데모 설치.exe")
    assert given.guest.deliver(b"MZ" * 1000, path, deadline=soon()).ok
    root = given.guest.image.guest_path(given.guest.image.folders[folder])
    found, cut = look.entries(given.guest.observe({"list": [{"root": root}]}, deadline=soon()))
    assert not cut
    assert (given.guest.image.guest_path(path), 2000) in {(e.path, e.size_bytes) for e in found if e.is_file}


def test_a_zip_is_unpacked_with_its_folders_and_korean_names(given: Given, tmp_path: Path) -> None:
    archive, folder = given.path(Folder.DOWNLOADS, "데모 휴대용.zip"), given.path(Folder.APPDATA, "데모 HTS")
    content = write_zip(tmp_path / "a.zip", {"App.exe": b"main", "한글 자료/a b.txt": b"text!"}).read_bytes()
    given.guest.deliver(content, archive, deadline=soon())
    assert given.guest.unpack(archive, folder, deadline=soon()).ok
    root = given.guest.image.guest_path(folder)
    found, _ = look.entries(given.guest.observe({"list": [{"root": root}]}, deadline=soon()))
    assert {(e.path[len(root) + 1 :], e.size_bytes) for e in found if e.is_file} == {
        ("App.exe", 4),
        ("한글 자료/a b.txt", 5),
    }


def test_what_cannot_be_unpacked_is_a_result_and_no_trouble(given: Given) -> None:
    archive = given.path(Folder.DOWNLOADS, "no.zip")
    given.guest.deliver(b"no zip", archive, deadline=soon())
    assert given.guest.unpack(archive, r"C:\unpacked", deadline=soon()).exit_code == 200
    missing = given.path(Folder.DOWNLOADS, "missing.zip")
    assert given.guest.unpack(missing, r"C:\unpacked", deadline=soon()).exit_code == errno.ENOENT


def test_a_folder_that_is_missing_lists_as_empty(given: Given) -> None:
    assert look.entries(given.guest.observe({"list": [{"root": "/tmp/nowhere"}]}, deadline=soon())) == ((), False)


def test_a_program_ends_with_its_exit_code(given: Given) -> None:
    job = given.job()
    started = look.job(given.guest.start(job, [ENDS, "/c", "exit 0"], deadline=soon()))
    assert started.state in {"running", "ended"}
    ended = look.job(given.guest.job(job, wait_s=20, deadline=soon()))
    assert (ended.state, ended.exit_code) == ("ended", 0)


def test_a_program_that_is_missing_did_not_start_and_says_why(given: Given) -> None:
    started = look.job(given.guest.start(given.job(), [r"C:\nowhere\app.exe"], deadline=soon()))
    assert started.state == "failed"
    assert started.code is not None


def test_a_program_that_still_runs_is_running_when_the_wait_is_over_and_no_trouble(given: Given) -> None:
    """Waiting until the very deadline: the guest's own script answers a little later, and that is no lab trouble."""
    job = given.job()
    given.guest.start(job, [STAYS], deadline=soon())
    begun = time.monotonic()
    deadline = Deadline.after(1.0)
    waited = look.job(given.guest.job(job, wait_s=deadline.remaining_s, deadline=deadline))
    assert waited.state == "running"
    assert 0.9 < time.monotonic() - begun < 4
    assert look.job(given.guest.job(job, deadline=soon())).state == "running"


def test_a_job_that_was_never_started_is_no_answer(given: Given) -> None:
    with pytest.raises(look.LookError):
        look.job(given.guest.job("never-started", deadline=soon()))


def test_a_button_in_a_window_that_is_not_there_is_not_pressed(given: Given) -> None:
    assert given.guest.click(window="없는 창", button="확인", deadline=soon()) is False


@pytest.mark.parametrize("field", ["계정", 1])
def test_a_field_in_a_window_that_is_not_there_is_not_filled(field: str | int, given: Given) -> None:
    assert given.guest.fill(window="없는 창", field=field, value="x", deadline=soon()) is None


def test_the_observer_answers_everything_that_it_is_asked(given: Given) -> None:
    job = given.job()
    given.guest.start(job, [STAYS], deadline=soon())
    request = {"windows": True, "tcp": True, "processes": True}
    raw = given.guest.observe(request, deadline=soon())
    assert isinstance(look.windows(raw), tuple)
    assert look.established_ports(raw) == frozenset()
    pids = look.run_pids(raw, job)
    assert pids
    look.mapped_files(given.guest.observe({"images": list(pids)}, deadline=soon()))


def test_a_log_is_read_from_an_offset_and_a_missing_one_is_an_error(given: Given) -> None:
    given.guest.admin.push(b"one\ntwo\n", "/tmp/hts-app.log", deadline=soon())
    request = {"tail": [{"path": "/tmp/hts-app.log", "offset": 4}, {"path": "/tmp/hts-none.log", "offset": 0}]}
    piece, missing = look.chunks(given.guest.observe(request, deadline=soon()))
    assert (piece.content, piece.next_offset, piece.truncated, piece.reset) == (b"two\n", 8, False, False)
    assert (missing.content, missing.error) == (b"", "ENOENT")


def test_an_object_that_nobody_minds_is_planted_read_and_removed(given: Given) -> None:
    folder = given.guest.image.guest_path(given.guest.image.folders[Folder.TEMP])
    items = [{"kind": "text", "text": "harmless\n", "folder": folder, "name": f"hts-plant-{n}.txt"} for n in range(3)]
    reactions = look.planted(given.guest.plant("abc", items, deadline=soon()), 3)
    assert {(r.open_errno, r.exec_errno, r.control_open_errno) for r in reactions} == {(0, None, 0)}
    assert all(r.written and r.finished and r.bytes_read == 9 for r in reactions)
    left, _ = look.entries(given.guest.observe({"list": [{"root": folder}]}, deadline=soon()))
    assert not any("hts-plant" in entry.path for entry in left)


def test_an_inspection_gives_the_digest_of_every_file_below_a_folder(given: Given) -> None:
    root = given.path(Folder.APPDATA, "검사")
    for name, content in (("a.dll", b"aa"), ("하위\\b.txt", b"bb")):
        given.guest.admin.push(content, given.guest.image.guest_path(f"{root}\\{name}"), deadline=soon())
    found, cut = look.digests(given.guest.inspect(root, deadline=soon()))
    assert not cut
    digests = {f.path.rpartition("/")[2]: f.sha256 for f in found}
    assert digests == {"a.dll": hashlib.sha256(b"aa").hexdigest(), "b.txt": hashlib.sha256(b"bb").hexdigest()}


def test_an_inspection_says_what_a_program_is_made_for(given: Given) -> None:
    root = given.path(Folder.APPDATA, "programs")
    for name, content in (("a.exe", tiny_program()), ("b.exe", b"no program"), ("c.dll", tiny_program())):
        given.guest.admin.push(content, given.guest.image.guest_path(f"{root}\\{name}"), deadline=soon())
    found, _ = look.digests(given.guest.inspect(root, deadline=soon()))
    machines = {f.path.rpartition("/")[2]: f.machine for f in found}
    assert machines == {"a.exe": Machine.X64, "b.exe": None, "c.dll": None}


def test_a_picture_is_a_png(given: Given) -> None:
    assert (given.guest.screenshot(deadline=soon()) or b"").startswith(b"\x89PNG\r\n\x1a\n")


def test_a_started_service_listens(given: Given) -> None:
    service = Service(
        name=f"echo-{time.monotonic_ns() % 10**9}", command=("python3", "s.py"), ready=ReadyPort(tcp=7009)
    )
    given.guest.start_service(service, {"s.py": SERVER}, deadline=soon())
    assert 7009 in look.listening_ports(given.guest.observe({"tcp": True}, deadline=soon()))


@pytest.mark.guest
@pytest.mark.parametrize("code", [7, 255, 3221225477])
def test_a_windows_program_s_whole_exit_code_is_told(code: int, wine: WineSystem) -> None:
    job = f"code-{code}"
    signed = code - 2**32 if code >= 2**31 else code
    wine.start(job, [ENDS, "/c", f"exit {signed}"], deadline=soon())
    assert look.job(wine.job(job, wait_s=20, deadline=soon())).exit_code == code


@pytest.mark.guest
def test_a_delivered_file_is_the_desktop_user_s(wine: WineSystem) -> None:
    path = f"{wine.image.folders[Folder.DOWNLOADS]}\\mine.bin"
    wine.deliver(b"x", path, deadline=soon())
    owner = wine.admin.run(["/usr/bin/stat", "-c", "%U", wine.image.guest_path(path)], deadline=soon())
    assert owner.stdout == b"trader\n"


@pytest.mark.guest
def test_a_file_that_cannot_be_written_is_a_result_and_no_trouble(wine: WineSystem) -> None:
    assert not wine.deliver(b"x", r"C:\nowhere\at\all.bin", deadline=soon()).ok


@pytest.mark.guest
@pytest.mark.parametrize(
    "command",
    [r"echo x> C:\windows\system32\hts-probe.txt", r"reg add HKLM\Software\HtsProbe /f", r"mkdir C:\hts-probe"],
)
def test_wine_has_no_uac_so_what_a_standard_user_may_not_do_is_not_tested_there(command: str, wine: WineSystem) -> None:
    """What ``scenarios/my-hts.yaml`` says of this lab."""
    job = f"uac-{time.monotonic_ns()}"
    wine.start(job, [ENDS, "/c", command], deadline=soon())
    assert look.job(wine.job(job, wait_s=20, deadline=soon())).exit_code == 0


def _helper(wine: WineSystem, signal: str = "") -> bytes:
    """Give the ids of the resident window helper's processes; send them a signal."""
    then = f"kill -{signal} $p" if signal else ":"
    script = f'for p in $(pgrep -u trader -f "winview.exe serve"); do echo $p; {then}; done'
    return wine.admin.run(["/bin/sh", "-c", script], deadline=soon()).stdout


def _windows_part(wine: WineSystem) -> dict[str, object]:
    answer = look.answer(wine.observe({"windows": True}, deadline=soon()))["windows"]
    assert isinstance(answer, dict)
    assert answer["exit_code"] == 0
    assert isinstance(answer["json"], list)
    return answer


@pytest.mark.guest
def test_looks_are_answered_by_a_program_that_runs_already_and_shows_no_window(wine: WineSystem) -> None:
    answer = _windows_part(wine)
    assert answer["no_resident"] is None
    assert not any("winview" in window["image"] for window in answer["json"])  # type: ignore[attr-defined]
    assert _helper(wine)


@pytest.mark.guest
@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_helper_that_is_killed_or_stopped_costs_a_fresh_program_and_comes_back(signal: str, wine: WineSystem) -> None:
    before = _helper(wine, signal)
    assert before
    job = f"helper-{signal.lower()}-{time.monotonic_ns()}"
    wine.start(job, [STAYS], deadline=soon())
    first = _windows_part(wine)
    if signal == "STOP":
        assert first["no_resident"] == "it does not answer"
    again = first
    for _ in soon().poll(0.2):
        again = _windows_part(wine)
        if again["no_resident"] is None and again["json"]:
            break
    assert again["no_resident"] is None
    assert [w["title"] for w in again["json"]]  # type: ignore[attr-defined]
    assert not set(before.split()) & set(_helper(wine).split())


@pytest.mark.guest
def test_a_fresh_look_and_the_resident_s_see_the_same(wine: WineSystem) -> None:
    argv = ["/usr/lib/wine/wine64", "/opt/hts-compat/winview.exe", "list"]
    wine.start(f"same-{time.monotonic_ns()}", [STAYS], deadline=soon())
    resident: object = None
    fresh: object = []
    for _ in soon().poll(0.2):  # until the window has been drawn
        resident = _windows_part(wine)["json"]
        fresh = json.loads(wine.admin.run(argv, user="trader", deadline=soon()).stdout)
        if fresh and fresh == resident:
            break
    assert fresh == resident != []


@pytest.mark.guest
def test_a_picture_shows_what_another_program_sees_on_the_screen(wine: WineSystem) -> None:
    """ImageMagick's import is the other program; they differ in no pixel."""
    script = """cd /tmp && import -silent -window root other.png && cat > ours.png &&
        compare -metric AE ours.png other.png null: 2>&1"""
    wine.start(f"picture-{time.monotonic_ns()}", [STAYS], deadline=soon())
    differ = b""
    for _ in soon().poll(0.3):  # until the window has been drawn
        picture = wine.screenshot(deadline=soon()) or b""
        result = wine.admin.run(["/bin/sh", "-c", script], user="trader", stdin=picture, deadline=soon())
        differ = result.stdout.strip()
        if differ == b"0":
            break
    assert differ == b"0"
