"""What a virtual machine should be made of: processors, their model, TCG's cache and memory, compared in one run.

Usage: ``python benchmarks/bench_vm_machine.py [--json] [--rounds N] [--cells N] [--of NAME ...]``. Needs QEMU and the
template of ``reference-vm``. For each machine a template is frozen of that template's disk (a boot, up to a minute).
Then in turn, for every machine:

- ``reply_s``, ``output_s``: a clone, from wanting it to the agent's first reply and to a first command's output;
  ``cpu_s``: its processor time meanwhile, which other work on the host disturbs least; ``own``: what it keeps for
  itself a second later;
- ``wine_s``, ``wine_cpu_s``: behind that, a first Windows program, which lists the windows;
- ``cell_s``, ``cell_cpu_s``: a whole cell (fresh-install with clamav, as in ``bench_vm_cells``), which must come out
  COMPATIBLE; ``cell_own``: what its machine kept for itself at its end; ``two_s``: two at once, until both have ended.

Figures are medians; the baseline is the first machine. ``desktop_s`` is the boot's, until the desktop stood.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_clone import RUN, Metric, asked, limit, metric, note, the_template
from benchmarks.bench_vm_cells import Lab
from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.image import Image
from harness.providers.qemu import build, clone, machine, provider
from harness.providers.qemu.clone import RunningMachine, fork_disk
from harness.providers.qemu.machine import Hardware, fingerprint
from harness.providers.qemu.provider import QemuProvider
from harness.providers.qemu.template import (
    BASE,
    DISK,
    INITRD,
    KERNEL,
    MEMORY,
    STATE,
    Held,
    Template,
    digest_of,
    load,
    write_about,
)
from harness.transports.unix_socket import UnixSocketTransport

ROUNDS, CELLS = 5, 2
IDLE_S = 1.0
FIRST_PROGRAM = ("/usr/lib/wine/wine64", "/opt/hts-compat/winview.exe", "list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What one machine is made of; None where it is as the template's."""

    cpus: int | None = None
    model: str | None = None
    cache_mib: int | None = None
    memory_mib: int | None = None


MACHINES = {
    "present": Made(),
    "one-cpu": Made(cpus=1),
    "two-cpus": Made(cpus=2),
    "cache-32": Made(cache_mib=32),
    "cache-64": Made(cache_mib=64),
    "cache-512": Made(cache_mib=512),
    "qemu64": Made(model="qemu64"),
    "max": Made(model="max"),
    "512-mib": Made(memory_mib=512),
}


class Leases(QemuProvider):
    """Clones without spares; remembers what the last of them kept for itself, and its processor time."""

    own_mib = 0
    cpu_s = 0.0

    @contextmanager
    def lease(self, image: Image, *, run_id: str, name: str, deadline: Deadline) -> Iterator[provider._QemuLease]:
        """See ``Provider.lease``."""
        with super().lease(image, run_id=run_id, name=name, deadline=deadline) as lease:
            try:
                yield lease
            finally:
                self.own_mib, self.cpu_s = lease.machine.private_mib(), cpu_s_of(lease.machine.pid)


@dataclass(slots=True)
class Subject:
    """One machine: its template, its lab, and what was measured of it."""

    name: str
    made: Made
    template: Template
    held: Held
    provider: Leases
    lab: Lab | None = None
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@contextmanager
def as_made(made: Made) -> Iterator[None]:
    """Let every command line of a machine be this one's meanwhile."""
    kept = machine.CPU_MODEL, machine.TCG_CACHE_MIB
    machine.CPU_MODEL = made.model or kept[0]
    machine.TCG_CACHE_MIB = made.cache_mib or kept[1]
    try:
        yield
    finally:
        machine.CPU_MODEL, machine.TCG_CACHE_MIB = kept


def cpu_s_of(pid: int) -> float:
    """Give the processor time of a process's threads, in seconds; 0 when it is gone. Source: proc(5), schedstat."""
    try:
        files = list(Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(file.read_text(encoding="ascii").split()[0]) for file in files) / 1e9
    except OSError:
        return 0.0


def frozen(name: str, made: Made, parent: Template, folder: Path, stack: ExitStack) -> Subject:
    """Boot the parent's disk in another machine, and freeze that."""
    folder.mkdir()
    for file in (KERNEL, BASE, INITRD):
        try:
            (folder / file).hardlink_to(parent.file(file))
        except OSError:
            (folder / file).write_bytes(parent.file(file).read_bytes())
    own = parent.hardware
    hardware = Hardware(
        accelerator=own.accelerator,
        memory_mib=made.memory_mib or own.memory_mib,
        cpus=made.cpus or own.cpus,
        kernel=folder / KERNEL,
        initrd=folder / INITRD,
    )
    nonce = secrets.token_hex(16)
    began = time.perf_counter()
    build._freeze(hardware, folder, nonce, lambda text: note(f"{name}: {text}"))
    desktop_s = time.perf_counter() - began
    about = parent.about.model_copy(
        update={
            "recipe": f"bench-{secrets.token_hex(16)}",
            "fingerprint": fingerprint(hardware, qemu_version=parent.about.qemu_version),
            "memory_mib": hardware.memory_mib,
            "cpus": hardware.cpus,
            "nonce": nonce,
            "files": parent.about.files | {file: digest_of(folder / file) for file in (DISK, MEMORY, STATE)},
        }
    )
    write_about(folder, about)
    template = load(folder)
    assert template is not None
    held = Held(template)
    stack.callback(held.close)
    leases = Leases(spares=False)
    stack.callback(leases.close)
    subject = Subject(name=name, made=made, template=template, held=held, provider=leases)
    subject.took["desktop_s"].append(desktop_s)
    return subject


def leased_once(subject: Subject) -> None:
    """Measure one clone."""
    template, took = subject.template, subject.took
    with clone.spot(RUN) as spot:
        began = time.perf_counter()
        places = spot.places(memory=subject.held.memory_path, shared=False)
        fork_disk(template.file(DISK), places.disk)
        running = RunningMachine(template.hardware, places, incoming=True, deadline=limit())
        try:
            provider.restore(running, template.file(STATE), limit())
            first = asked(places.agent_socket, template.about.nonce, began, paused=running)
            took["reply_s"].append(first.reply_s)
            took["output_s"].append(first.output_s)
            took["cpu_s"].append(cpu_s_of(running.pid))
            time.sleep(IDLE_S)
            took["own"].append(running.private_mib())
            way_in = UnixSocketTransport(str(places.agent_socket))
            before, began = cpu_s_of(running.pid), time.perf_counter()
            if not way_in.run(FIRST_PROGRAM, user="trader", deadline=limit()).ok:
                raise SystemExit(f"{subject.name}: a Windows program failed")
            took["wine_s"].append(time.perf_counter() - began)
            took["wine_cpu_s"].append(cpu_s_of(running.pid) - before)
            way_in.close()
        finally:
            running.end()


def lab_of(subject: Subject, image: Image) -> Lab:
    """Give a lab whose guests are clones of this machine."""
    lab = Lab("qemu")
    other = {"content": subject.template.about.content, "reference": str(subject.template.folder)}
    lab.cell = lab.cell.model_copy(update={"image": image.model_copy(update=other)})
    lab.rig = replace(lab.rig, provider=subject.provider, layer=lambda _cell: None)
    lab.warm_up()
    return lab


def cell_once(subject: Subject, *, two: bool) -> None:
    """Measure one cell, and two at once."""
    assert subject.lab is not None
    trace = subject.lab.one()
    subject.took["cell_s"].append(trace.ended_s)
    subject.took["cell_cpu_s"].append(subject.provider.cpu_s)
    subject.took["cell_own"].append(subject.provider.own_mib)
    stages = ", ".join(f"{stage} {took:.1f}" for stage, took in trace.stage_seconds().items())
    note(f"{subject.name}: cell {trace.ended_s:.1f} s ({stages}), load {os.getloadavg()[0]:.1f}")
    if two:
        subject.took["two_s"].append(subject.lab.two())


def all_frozen(
    names: Sequence[str], parent: Template, work: Path, absent: dict[str, str], stack: ExitStack
) -> list[Subject]:
    """Freeze every machine; one that does not come up is named in ``absent``."""
    subjects = []
    for name in names:
        try:
            with as_made(MACHINES[name]):
                subjects.append(frozen(name, MACHINES[name], parent, work / name, stack))
        except HarnessError as error:
            absent[name] = f"did not come up ({error.summary} {error.detail[-200:]})"
            note(f"{name}: {absent[name]}")
    return subjects


def in_turn(subjects: Sequence[Subject], rounds: int) -> Iterator[Subject]:
    """Give every subject so many times, each round the other way round."""
    for turn in range(rounds):
        yield from subjects if turn % 2 == 0 else reversed(subjects)


def measure_cells(
    subjects: Sequence[Subject], image: Image, absent: dict[str, str], stack: ExitStack, *, cells: int, two: bool
) -> None:
    """Measure whole cells; a machine on which one does not come out COMPATIBLE is named in ``absent``."""

    def tried(subject: Subject, what: str, work: Callable[[], None]) -> None:
        try:
            with as_made(subject.made):
                work()
        except HarnessError as error:
            absent[f"{subject.name}: {what}"] = f"{error.summary} {error.detail[-200:]}"
            note(f"{subject.name}: {what}: {error.summary}")

    for subject in subjects:
        tried(subject, "control", partial(set_up, subject, image, stack))
    for subject in in_turn(subjects, cells):
        if subject.lab is not None:
            tried(subject, "cell", partial(cell_once, subject, two=two))


def set_up(subject: Subject, image: Image, stack: ExitStack) -> None:
    """Give a subject its lab."""
    subject.lab = lab_of(subject, image)
    stack.callback(subject.lab.close)


def metrics_of(subjects: Sequence[Subject]) -> dict[str, Metric]:
    """Give the medians; the baseline of each is the first subject's."""
    metrics: dict[str, Metric] = {}
    for what in dict.fromkeys(what for subject in subjects for what in subject.took):
        first = subjects[0].took.get(what)
        for subject in subjects:
            if what in subject.took:
                base = statistics.median(first) if first and subject is not subjects[0] else None
                unit = "s" if what.endswith("_s") else "MiB"
                value = statistics.median(subject.took[what])
                metrics[f"{subject.name}_{what}"] = metric(value, unit, baseline=base or None)
    return metrics


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="so many clones of each machine")
    parser.add_argument("--cells", type=int, default=CELLS, help="so many cells of each machine, after a control")
    parser.add_argument("--two", action="store_true", help="and so many times two at once")
    parser.add_argument(
        "--of", nargs="+", choices=MACHINES, default=list(MACHINES), help="which machines; first: baseline"
    )
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends
    image, parent = the_template()
    load_before, absent = os.getloadavg()[0], dict[str, str]()
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-machine-", dir="/var/tmp")))
        subjects = all_frozen(given.of, parent, work, absent, stack)
        for subject in in_turn(subjects, given.rounds):
            with as_made(subject.made):
                leased_once(subject)
        if given.cells:
            measure_cells(subjects, image, absent, stack, cells=given.cells, two=given.two)
    metrics = metrics_of(subjects)
    about = {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "qemu": parent.about.qemu_version,
        "accelerator": parent.about.accelerator,
        "present": f"{parent.about.cpus} cpus, {parent.about.memory_mib} MiB, {machine.CPU_MODEL}, "
        f"cache {machine.TCG_CACHE_MIB} MiB",
        "rounds": given.rounds,
        "cells": given.cells,
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "absent": "; ".join(f"{name}: {why}" for name, why in absent.items()) or None,
    }
    if given.json:
        print(json.dumps({"name": "bench_vm_machine", "machine": about, "metrics": metrics}))
        return 0
    print(", ".join(f"{key} {value}" for key, value in about.items() if value is not None))
    for name, figure in metrics.items():
        print(f"{name:40} {figure['value']:>9} {figure['unit']:4} {figure['ratio'] or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
