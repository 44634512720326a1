"""What a virtual machine that is ready costs: from wanting a guest to its agent's first reply and a command's output.

Usage: ``python benchmarks/bench_clone.py [--json] [--quick] [--rounds N]``. Needs QEMU and the template of
``reference-vm``; libvirt (``libvirtd``, ``virsh``) where it is to be compared with. Three guests: the template
(``own``), and two that are made of the template's disk and frozen here: one of 512 MiB (``512m``), one of 4 GiB that
has touched 1.5 GiB (``4g``). For each, in turn:

- ``clone``: overlay, process, restored state, memory of a sealed memfd mapped privately (what a lease does);
- ``file``: the same with the memory's file mapped, as without a process that holds the template;
- ``paused``: such a clone made before, left paused; it goes on. ``spare``: as the provider's are, it has run before;
- ``loadvm``: a new process with ``-loadvm`` of an internal snapshot; ``migrate``: with a whole migration's file;
- ``boot``: from the disk; the desktop stands a good while after the agent's reply (``boot_desktop_s``);
- ``libvirt_stopped``, ``libvirt_in_place``: ``virsh snapshot-revert`` of a stopped domain, and of one that runs.

``*_reply_*``: the agent has answered the provider's greeting, with the clock set and the template's nonce (``boot``:
with the clock set). ``*_output_*``: behind it, the output of a first command (``cat``) has come. Private memory is that
of a clone which has done so and idles.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import platform
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.libvirt_guest import LibvirtGuest, libvirt_guest, missing
from harness.deadline import Deadline
from harness.errors import GuestUnreachable, HarnessError
from harness.image import Image
from harness.providers.qemu import clone, provider
from harness.providers.qemu.clone import RunningMachine, fork_disk, make_overlay
from harness.providers.qemu.machine import Hardware, Places
from harness.providers.qemu.template import BASE, DISK, INITRD, KERNEL, MEMORY, NONCE_FILE, STATE, Held, Template, load
from harness.providers.qemu.tools import qemu_version
from harness.rig import ROOT, image_at
from harness.transports.unix_socket import UnixSocketTransport

Metric = dict[str, object]
T = TypeVar("T")

RUN = f"bench-{os.getpid()}"
#: Guests that are frozen here: memory and what they have touched of it, in MiB.
SIZES = {"512m": (512, 0), "4g": (4096, 1536)}
ROUNDS, QUICK_ROUNDS = 20, 3
#: What takes seconds is measured in every so many-th round.
SLOW_EVERY = 4
AT_ONCE = 16
LIMIT_S = 600.0
IDLE_S = 1.0
#: A desktop that is not there by then will not come; how often it is tried.
DESKTOP_S, BOOTS = 150.0, 3

REPLY_GOAL_S, OUTPUT_GOAL_S, SPARE_GOAL_S, PRIVATE_GOAL_MIB, LIBVIRT_GOAL = 0.2, 0.3, 0.03, 120.0, 10.0

READY_FILE = "/run/hts-compat/session.json"
#: Blocks that are neither zero nor alike at a page's scale, as programs leave them.
TOUCH = """import os
with open("/dev/shm/touched", "wb") as file:
    for _ in range(int({mib})):
        file.write(os.urandom(4096) + bytes(range(256)) * 4080)
"""


class NoDesktop(Exception):
    """The desktop of a guest that boots did not come up in time."""


def limit() -> Deadline:
    return Deadline.after(LIMIT_S)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds since a guest was wanted."""

    reply_s: float
    output_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A frozen guest in the forms that the ways need.

    ``folder`` has its disk and device state, ``memory`` is the path of its sealed memory, ``file`` that of the same on
    a disk. ``snapshot`` is a disk with an internal snapshot, ``whole`` a whole migration beside ``whole_disk``.
    """

    name: str
    hardware: Hardware
    folder: Path
    memory: str
    file: Path
    nonce: str
    snapshot: Path
    whole: Path
    whole_disk: Path


# --- ways to a guest --------------------------------------------------------------------------------------------------


def asked(socket: Path, nonce: str | None, began: float, *, paused: RunningMachine | None = None) -> Took:
    """Greet a guest as the provider does, then have a first command's output; give both since ``began``.

    Args:
        socket: Its agent's.
        nonce: None for a guest that was booted just now and has no template.
        began: When it was wanted.
        paused: The machine, when it stands still and is to go on.
    """
    if paused is not None and nonce is not None:
        provider.wake(paused, str(socket), nonce, limit())
    else:
        way_in = first_way_in(socket)
        shown = way_in.greet(clock_s=time.time(), file=NONCE_FILE if nonce else "/proc/uptime", deadline=limit())
        way_in.close()
        if nonce is not None and shown.stdout.decode().strip() != nonce:
            raise SystemExit("another guest answers than was wanted")
    reply = time.perf_counter() - began
    way_in = first_way_in(socket)
    try:
        if way_in.run(["/bin/cat", "/proc/uptime"], deadline=limit()).stdout.count(b".") != 2:
            raise SystemExit("the guest's first command gave nothing")
        return Took(reply, time.perf_counter() - began)
    finally:
        way_in.close()


def first_way_in(socket: Path) -> UnixSocketTransport:
    for _ in limit().poll(0.002):
        with contextlib.suppress(GuestUnreachable):
            return UnixSocketTransport(str(socket))
    msg = f"nobody listens on {socket}"
    raise SystemExit(msg)


@contextmanager
def paused(subject: Subject, *, memory: str | None = None) -> Iterator[tuple[RunningMachine, Places]]:
    """Give a clone that is restored and paused."""
    with clone.spot(RUN) as spot:
        places = spot.places(memory=memory or subject.memory, shared=False)
        fork_disk(subject.folder / DISK, places.disk)
        machine = RunningMachine(subject.hardware, places, incoming=True, deadline=limit())
        try:
            provider.restore(machine, subject.folder / STATE, limit())
            yield machine, places
        finally:
            machine.end()


def by_clone(subject: Subject, *, memory: str | None = None) -> Took:
    began = time.perf_counter()
    with paused(subject, memory=memory) as (machine, places):
        return asked(places.agent_socket, subject.nonce, began, paused=machine)


def by_paused(subject: Subject) -> Took:
    with paused(subject) as (machine, places):
        began = time.perf_counter()
        return asked(places.agent_socket, subject.nonce, began, paused=machine)


def by_spare(subject: Subject) -> Took:
    with paused(subject) as (machine, places):
        asked(places.agent_socket, subject.nonce, time.perf_counter(), paused=machine)
        machine.monitor.command("stop", deadline=limit())
        began = time.perf_counter()
        return asked(places.agent_socket, subject.nonce, began, paused=machine)


class OrdinaryMachine(RunningMachine):
    """A machine with memory of its own, as everybody starts one. ``extra`` words end its command line."""

    def __init__(self, hardware: Hardware, places: Places, *, extra: Sequence[str], incoming: bool = False) -> None:
        self._extra = extra
        super().__init__(hardware, places, incoming=incoming, deadline=limit())

    def line(self, hardware: Hardware, places: Places, *, incoming: bool, more: str) -> list[str]:
        """Give the command line with ordinary memory; see ``RunningMachine.line``."""
        line = super().line(hardware, places, incoming=incoming, more=more)
        at = line.index("-object") + 1
        line[at] = f"memory-backend-ram,id=ram,size={hardware.memory_mib}M"
        return [*line, *self._extra]


def by_loadvm(subject: Subject) -> Took:
    with clone.spot(RUN) as spot:
        places = spot.places(memory="", shared=False, disk=subject.snapshot)
        began = time.perf_counter()
        machine = OrdinaryMachine(subject.hardware, places, extra=["-loadvm", "ready"])
        try:
            return asked(places.agent_socket, subject.nonce, began)
        finally:
            machine.end()


def by_migrate(subject: Subject) -> Took:
    with clone.spot(RUN) as spot:
        places = spot.places(memory="", shared=False)
        began = time.perf_counter()
        make_overlay(subject.whole_disk, places.disk)
        machine = OrdinaryMachine(subject.hardware, places, extra=[], incoming=True)
        try:
            descriptor = os.open(subject.whole, os.O_RDONLY | os.O_CLOEXEC)
            try:
                machine.monitor.hand_over(descriptor, "state", deadline=limit())
            finally:
                os.close(descriptor)
            machine.monitor.command("migrate-incoming", {"uri": "fd:state"}, deadline=limit())
            machine.monitor.await_migration(deadline=limit())
            await_paused(machine)
            return asked(places.agent_socket, subject.nonce, began, paused=machine)
        finally:
            machine.end()


def by_boot(subject: Subject) -> Took:
    with clone.spot(RUN) as spot:
        places = spot.places(memory="", shared=False)
        began = time.perf_counter()
        make_overlay(subject.folder / BASE, places.disk)
        machine = OrdinaryMachine(subject.hardware, places, extra=[])
        try:
            return asked(places.agent_socket, None, began)
        finally:
            machine.end()


def by_libvirt(guest: LibvirtGuest, nonce: str, *, stopped: bool) -> Took:
    if stopped:
        with contextlib.suppress(RuntimeError):
            guest.stop()
    began = time.perf_counter()
    guest.revert()
    return asked(guest.agent_socket, nonce, began)


def await_paused(machine: RunningMachine) -> None:
    for _ in limit().poll(0.002):
        answer = machine.monitor.command("query-status", deadline=limit())
        if isinstance(answer, dict) and answer.get("status") in {"paused", "prelaunch", "postmigrate"}:
            return


def made_ready(socket: Path, nonce: str, *, touched_mib: int) -> float:
    """Wait for the desktop of a guest that boots, touch its memory, and leave the nonce in it.

    Returns:
        Seconds until the desktop stood.

    Raises:
        NoDesktop: On a busy machine a program of the session may give up.
    """
    began = time.perf_counter()
    way_in = first_way_in(socket)
    try:
        for _ in Deadline.after(DESKTOP_S).poll(0.2):
            if way_in.run(["/bin/cat", READY_FILE], deadline=limit()).ok:
                break
        else:
            raise NoDesktop
        took = time.perf_counter() - began
        if touched_mib:
            done = way_in.run(["/usr/bin/python3", "-c", TOUCH.format(mib=touched_mib)], deadline=limit())
            if not done.ok:
                raise SystemExit(done.stderr.decode("utf-8", "replace"))
        way_in.push(nonce.encode(), NONCE_FILE, deadline=limit())
        way_in.run(["/bin/sync"], deadline=limit())
    finally:
        way_in.close()
    return took


def with_a_desktop(boot: Callable[[], T]) -> T:
    """Boot again when the desktop did not come up."""
    for _ in range(BOOTS - 1):
        with contextlib.suppress(NoDesktop):
            return boot()
    return boot()


# --- subjects ---------------------------------------------------------------------------------------------------------


def own(template: Template, held: Held, work: Path) -> Subject:
    """Give the template itself as a subject."""
    return other_forms(
        Subject(
            name="own",
            hardware=template.hardware,
            folder=template.folder,
            memory=held.memory_path,
            file=template.file(MEMORY),
            nonce=template.about.nonce,
            snapshot=work / "snapshot.qcow2",
            whole=work / "whole",
            whole_disk=work / "whole.qcow2",
        )
    )


def of_another_size(name: str, template: Template, work: Path, stack: ExitStack, metrics: dict[str, Metric]) -> Subject:
    """Boot the template's disk with so much memory, touch some, and freeze that."""
    memory_mib, touched_mib = SIZES[name]
    hardware = replace(template.hardware, memory_mib=memory_mib)
    link_or_copy(template.file(BASE), work / BASE)
    nonce = secrets.token_hex(16)

    def frozen() -> int:
        (work / DISK).unlink(missing_ok=True)
        make_overlay(Path(BASE), work / DISK)
        memory = os.memfd_create("bench", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        stack.callback(os.close, memory)
        os.ftruncate(memory, memory_mib << 20)
        with clone.spot(RUN) as spot:
            places = spot.places(memory=path_of(memory), shared=True, disk=work / DISK)
            machine = RunningMachine(hardware, places, incoming=False, deadline=limit())
            try:
                took = made_ready(places.agent_socket, nonce, touched_mib=touched_mib)
                metrics[f"{name}_boot_desktop_s"] = metric(took, "s")
                machine.monitor.command("stop", deadline=limit())
                write_state(machine, work / STATE, whole=False)
                machine.monitor.command("quit", deadline=limit())
                machine.wait(deadline=limit())
            finally:
                machine.end()
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return memory

    memory = with_a_desktop(frozen)
    copy_sparsely(memory, work / MEMORY)
    return other_forms(
        Subject(
            name=name,
            hardware=hardware,
            folder=work,
            memory=path_of(memory),
            file=work / MEMORY,
            nonce=nonce,
            snapshot=work / "snapshot.qcow2",
            whole=work / "whole",
            whole_disk=work / "whole.qcow2",
        )
    )


def path_of(descriptor: int) -> str:
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def other_forms(subject: Subject) -> Subject:
    """Write a clone of the subject down in the forms of other tools: a whole migration, and an internal snapshot."""
    with paused(subject) as (machine, places):
        write_state(machine, subject.whole, whole=True)
        shutil.copy2(places.disk, subject.whole_disk)
    with paused(subject) as (machine, places):
        set_whole(machine, whole=True)
        provider.go_on(machine, limit())
        said = machine.monitor.command("human-monitor-command", {"command-line": "savevm ready"}, deadline=limit())
        if said:
            raise SystemExit(f"savevm: {said}")
        machine.monitor.command("quit", deadline=limit())
        machine.wait(deadline=limit())
        shutil.move(places.disk, subject.snapshot)
    return subject


def write_state(machine: RunningMachine, path: Path, *, whole: bool) -> None:
    set_whole(machine, whole=whole)
    monitor = machine.monitor
    state = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        monitor.hand_over(state, "state", deadline=limit())
    finally:
        os.close(state)
    monitor.command("migrate", {"uri": "fd:state"}, deadline=limit())
    monitor.await_migration(deadline=limit())


def set_whole(machine: RunningMachine, *, whole: bool) -> None:
    """Say whether what is written next has the memory in it."""
    capability = {"capability": "x-ignore-shared", "state": not whole}
    machine.monitor.command("migrate-set-capabilities", {"capabilities": [capability]}, deadline=limit())


def copy_sparsely(memory: int, target: Path) -> None:
    """Copy what is in a memory, with its holes."""
    size = os.fstat(memory).st_size
    with target.open("wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(memory, at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(memory, at, os.SEEK_HOLE)
            while at < end:
                at += os.sendfile(file.fileno(), memory, at, end - at) if file.seek(at) == at else 0


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def libvirt_subject(hardware: Hardware, template: Template, *, touched_mib: int) -> Iterator[tuple[LibvirtGuest, str]]:
    """Give the same guest with a snapshot under libvirt, stopped; its files in a folder that everybody may read."""
    with tempfile.TemporaryDirectory(prefix="hts-lv-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for file in (BASE, KERNEL, INITRD):
            link_or_copy(template.file(file), folder / file)
        home = folder / "home"
        home.mkdir()
        make_overlay(folder / BASE, home / DISK)
        booted = replace(hardware, kernel=folder / KERNEL, initrd=folder / INITRD)
        nonce = secrets.token_hex(16)
        with libvirt_guest(home, booted, home / DISK) as guest:

            def booted_once() -> None:
                with contextlib.suppress(RuntimeError):
                    guest.stop()
                guest.boot()
                made_ready(guest.agent_socket, nonce, touched_mib=touched_mib)

            with_a_desktop(booted_once)
            guest.freeze()
            guest.stop()
            yield guest, nonce


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Series:
    """What was measured of one subject, by way."""

    took: dict[str, list[Took]] = field(default_factory=lambda: defaultdict(list))

    def add(self, way: str, took: Took) -> None:
        """Keep one time."""
        self.took[way].append(took)
        note(f"  {way}: reply {took.reply_s:.3f} s, output {took.output_s:.3f} s (load {os.getloadavg()[0]:.1f})")


def measured(subject: Subject, template: Template, *, rounds: int, absent: dict[str, str]) -> Series:
    """Measure every way to one subject, in turn."""
    series = Series()
    with ExitStack() as stack:
        fast: dict[str, Callable[[], Took]] = {
            "clone": lambda: by_clone(subject),
            "file": lambda: by_clone(subject, memory=str(subject.file)),
            "paused": lambda: by_paused(subject),
            "spare": lambda: by_spare(subject),
        }
        slow: dict[str, Callable[[], Took]] = {
            "loadvm": lambda: by_loadvm(subject),
            "migrate": lambda: by_migrate(subject),
            "boot": lambda: by_boot(subject),
        }
        lacking = missing()
        guest: LibvirtGuest | None = None
        if lacking:
            absent["libvirt"] = f"not installed ({lacking})"
        else:
            touched = SIZES.get(subject.name, (0, 0))[1]
            try:
                guest, nonce = stack.enter_context(libvirt_subject(subject.hardware, template, touched_mib=touched))
            except (RuntimeError, HarnessError, NoDesktop) as error:
                absent[f"{subject.name}_libvirt"] = f"could not be used here ({error})"
            else:
                slow["libvirt_stopped"] = partial(by_libvirt, guest, nonce, stopped=True)
                slow["libvirt_in_place"] = partial(by_libvirt, guest, nonce, stopped=False)
        for turn in range(rounds):
            note(f"{subject.name}: round {turn + 1} of {rounds}")
            for way, work in {**fast, **(slow if turn % SLOW_EVERY == 0 else {})}.items():
                series.add(way, work())
            if guest is not None and turn % SLOW_EVERY == 0:
                guest.stop()  # it would take processor time from the others
    return series


def private_mib(subject: Subject) -> tuple[float, float]:
    """Give the private memory and the proportional share of a clone that has answered and idles, in MiB."""
    with paused(subject) as (machine, places):
        asked(places.agent_socket, subject.nonce, time.perf_counter(), paused=machine)
        time.sleep(IDLE_S)
        return memory_of(machine)


def memory_of(machine: RunningMachine) -> tuple[float, float]:
    """Give what is its own and its proportional share, in MiB. Source: proc(5), ``smaps_rollup``.

    Its own is what is anonymous: pages of the template that no second clone has read count as private, too, but are
    there with or without it.
    """
    lines = Path(f"/proc/{machine.pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.partition(":")[0]: int(line.split()[1]) for line in lines}
    return kib["Anonymous"] / 1024, kib["Pss"] / 1024


def many(subject: Subject) -> tuple[float, float, float]:
    """Start so many clones at once; give seconds until all are restored, all have answered, and their share in MiB."""
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.perf_counter()
        given = list(pool.map(lambda _: stack.enter_context(paused(subject)), range(AT_ONCE)))
        restored = time.perf_counter() - began
        share = sum(memory_of(machine)[1] for machine, _ in given)

        def answer(one: tuple[RunningMachine, Places]) -> None:
            asked(one[1].agent_socket, subject.nonce, began, paused=one[0])

        list(pool.map(answer, given))
        return restored, time.perf_counter() - began, share


def p50(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]


def metric(value: float, unit: str, *, baseline: float | None = None, goal: float | None = None) -> Metric:
    """Give one figure. A goal is an upper limit, and of a factor (unit ``x``) a lower one."""
    return {
        "value": round(value, 3),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 3),
        "ratio": None if baseline is None else round(value / baseline, 3),
        "goal": goal,
        "met": None if goal is None else value >= goal if unit == "x" else value <= goal,
    }


GOALS = {
    "clone": (REPLY_GOAL_S, OUTPUT_GOAL_S),
    "file": (REPLY_GOAL_S, OUTPUT_GOAL_S),
    "paused": (None, None),
    "spare": (SPARE_GOAL_S, None),
}


def metrics_of(name: str, series: Series) -> dict[str, Metric]:
    """Give the figures of one subject; the baseline of each way is libvirt's revert from stopped."""
    found: dict[str, Metric] = {}
    base = series.took.get("libvirt_stopped")
    for way, all_took in series.took.items():
        reply_goal, output_goal = GOALS.get(way, (None, None))
        for what, goal in (("reply", reply_goal), ("output", output_goal)):
            values = [getattr(took, f"{what}_s") for took in all_took]
            against = p50([getattr(took, f"{what}_s") for took in base]) if base else None
            found[f"{name}_{way}_{what}_p50_s"] = metric(
                p50(values), "s", baseline=None if way == "libvirt_stopped" else against, goal=goal
            )
            found[f"{name}_{way}_{what}_p95_s"] = metric(p95(values), "s")
    if base:
        factor = p50([took.reply_s for took in base]) / p50([took.reply_s for took in series.took["clone"]])
        found[f"{name}_faster_than_libvirt"] = metric(factor, "x", goal=LIBVIRT_GOAL if name == "4g" else None)
    return found


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def the_template() -> tuple[Image, Template]:
    image = image_at(ROOT / "vm_images" / "reference-vm")
    template = load(Path(image.reference)) if image is not None else None
    if image is None or template is None:
        msg = "There is no template of 'reference-vm': hts-compat image build reference-vm"
        raise SystemExit(msg)
    return image, template


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument("--rounds", type=int, help="so many rounds")
    parser.add_argument("--only", nargs="+", choices=("own", *SIZES), help="these guests instead of all")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends
    rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    _image, template = the_template()
    load_before = os.getloadavg()[0]
    absent: dict[str, str] = {}
    metrics: dict[str, Metric] = {}
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-clone-", dir="/var/tmp")))
        began = time.perf_counter()
        held = Held(template)
        metrics["load_template_s"] = metric(time.perf_counter() - began, "s")
        stack.callback(held.close)
        for name in given.only or ("own", *SIZES):
            note(f"{name}: making its forms")
            (work / name).mkdir()
            try:
                subject = (
                    own(template, held, work / name)
                    if name == "own"
                    else of_another_size(name, template, work / name, stack, metrics)
                )
            except (NoDesktop, HarnessError) as error:
                absent[name] = f"its desktop did not come up ({type(error).__name__} {error})"
                continue
            metrics |= metrics_of(name, measured(subject, template, rounds=rounds, absent=absent))
            private, share = private_mib(subject)
            metrics[f"{name}_idle_private"] = metric(private, "MiB", goal=PRIVATE_GOAL_MIB)
            metrics[f"{name}_idle_share"] = metric(share, "MiB")
            restored, answered, shares = many(subject)
            metrics[f"{name}_{AT_ONCE}_at_once_restored_s"] = metric(restored, "s")
            metrics[f"{name}_{AT_ONCE}_at_once_output_s"] = metric(answered, "s")
            metrics[f"{name}_{AT_ONCE}_at_once_share_restored"] = metric(shares, "MiB")
    machine = {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "qemu": qemu_version(),
        "accelerator": template.about.accelerator,
        "guests": ", ".join(
            [f"own {template.about.memory_mib} MiB"]
            + [f"{name} {size} MiB with {touched} MiB touched" for name, (size, touched) in SIZES.items()]
        ),
        "processors": template.about.cpus,
        "rounds": rounds,
        "slow_rounds": -(-rounds // SLOW_EVERY),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "absent": "; ".join(f"{name}: {why}" for name, why in absent.items()) or None,
        "cut": f"{rounds} rounds instead of {ROUNDS}" if rounds < ROUNDS else None,
    }
    if given.json:
        print(json.dumps({"name": "bench_clone", "machine": machine, "metrics": metrics}))
        return 0
    print(", ".join(f"{key} {value}" for key, value in machine.items() if value is not None))
    for name, figure in metrics.items():
        print(f"{name:40} {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
