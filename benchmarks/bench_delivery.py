"""A build's way into a virtual machine: through the agent's port against by a disc that is copied inside.

Usage: ``python benchmarks/bench_delivery.py [--json] [--quick] [--rounds N] [--sizes MIB...]``. Needs QEMU and the
template of ``reference-vm``. Each way has a clone of its own; ways and sizes take turns. A build is random bytes.

- ``port_NNN_s``: seconds of ``GuestSystem.deliver``, for NNN MiB;
- ``disc_NNN_s``: a disc that is kept goes in, is copied inside and comes out; ``made_NNN_s``: it is made before (the
  first cell of a build). The baseline of both is the port, so a ratio below 1 is the sooner way;
- ``*_private_NNN_mib``: what the machine's process has of its own more than before, which is host memory.

The provider takes a disc from ``DISC_FROM_BYTES`` on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.deadline import Deadline
from harness.errors import HarnessError
from harness.image import Image
from harness.providers.qemu import disc, layer
from harness.providers.qemu.provider import DISC_FROM_BYTES, QemuProvider
from harness.rig import ROOT, image_at
from harness.systems.wine import WineSystem
from harness.transports.payload import pieces_of
from harness.transports.unix_socket import UnixSocketTransport

Metric = dict[str, object]

MIB = 1 << 20
SIZES_MIB, QUICK_SIZES_MIB = (1, 4, 16, 50, 400), (1, 50)
ROUNDS, QUICK_ROUNDS = 3, 1
LIMIT_S = 900.0
TARGET = r"C:\users\trader\Downloads\설치 setup.exe"


@dataclass(frozen=True, slots=True)
class Noise:
    """Random bytes, the same each time, which are never in memory whole."""

    seed: int
    size_bytes: int

    def pieces(self) -> Iterator[bytes]:
        """See ``Pieces``."""
        chance = random.Random(self.seed)
        for _ in range(self.size_bytes // MIB):
            yield chance.randbytes(MIB)


@dataclass(frozen=True, slots=True)
class Took:
    """One delivery: seconds, and MiB that the machine has of its own more than before."""

    seconds: float
    private_mib: int


def delivered(provider: QemuProvider, image: Image, content: Noise, sha256: str, *, by_disc: bool) -> Took:
    """Deliver into a fresh clone, and see that what lies there is the build."""
    limit = Deadline.after(LIMIT_S)
    with provider.lease(image, run_id=f"bench-{os.getpid()}", name="delivery", deadline=limit) as lease:
        way_in = UnixSocketTransport(lease.endpoint.address)
        try:
            guest = WineSystem(image, way_in)
            guest.await_ready(deadline=limit)
            before, began = lease.machine.private_mib(), time.perf_counter()
            if by_disc:
                with lease.disc(content, sha256=sha256, deadline=limit):
                    size = content.size_bytes
                    result = guest.deliver_from_disc(TARGET, size_bytes=size, sha256=sha256, deadline=limit)
            else:
                result = guest.deliver(content, TARGET, deadline=limit)
            took = Took(time.perf_counter() - began, lease.machine.private_mib() - before)
            there = way_in.run(["/usr/bin/sha256sum", image.guest_path(TARGET)], deadline=limit).stdout.split()[0]
        finally:
            way_in.close()
    if not result.ok or there.decode() != sha256:
        raise SystemExit(f"what was delivered is not the build: {result.stderr!r}, {there!r}")
    return took


def measure(sizes_mib: list[int], rounds: int) -> dict[str, list[Took]]:
    """Give every delivery by ``WAY_SIZE``."""
    image = image_at(ROOT / "vm_images" / "reference-vm")
    if image is None:
        raise SystemExit("The image 'reference-vm' has not been built.")
    provider = QemuProvider(spares=False)
    took: defaultdict[str, list[Took]] = defaultdict(list)
    for turn in range(rounds):
        for mib in sizes_mib:
            content = Noise(os.getpid() * 1000 + turn, mib * MIB)
            digest = hashlib.sha256()
            for piece in pieces_of(content):
                digest.update(piece)
            for way in ("port", "made", "disc"):  # made behind the port; the disc is the one that was made
                one = delivered(provider, image, content, digest.hexdigest(), by_disc=way != "port")
                took[f"{way}_{mib}"].append(one)
                print(f"{way}_{mib}: {one.seconds:.2f} s, {one.private_mib} MiB", file=sys.stderr)
            kept = disc.folder_of(digest.hexdigest())
            layer.delete(kept, kept / disc.ABOUT)  # nobody wants it again
    provider.close()
    return took


def metrics_of(took: dict[str, list[Took]]) -> dict[str, Metric]:
    """Give medians, the discs' against the port's."""
    found: dict[str, Metric] = {}
    for name, all_of in took.items():
        way, _, mib = name.partition("_")
        seconds = statistics.median(one.seconds for one in all_of)
        base = statistics.median(one.seconds for one in took[f"port_{mib}"]) if way != "port" else None
        found[f"{name}_s"] = metric(seconds, "s", base)
        found[f"{way}_private_{mib}_mib"] = metric(statistics.median(one.private_mib for one in all_of), "MiB", None)
    return found


def metric(value: float, unit: str, baseline: float | None) -> Metric:
    ratio = None if baseline is None else round(value / baseline, 3)
    rounded = None if baseline is None else round(baseline, 3)
    return {"value": round(value, 3), "unit": unit, "baseline": rounded, "ratio": ratio, "goal": None, "met": None}


def main() -> None:
    """Measure and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON alone; it is what is printed anyway")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--sizes", type=int, nargs="+", metavar="MIB")
    asked = parser.parse_args()
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    sizes = asked.sizes or list(QUICK_SIZES_MIB if asked.quick else SIZES_MIB)
    load_before = os.getloadavg()[0]
    try:
        took = measure(sizes, rounds)
    except HarnessError as error:
        raise SystemExit(f"{error.summary} {error.detail} {error.hint}") from error
    machine: dict[str, object] = {
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "rounds": rounds,
        "sizes_mib": sizes,
        "disc_from_mib": DISC_FROM_BYTES // MIB,
    }
    if asked.quick:
        machine["cut"] = "one round instead of three, two sizes instead of five"
    print(json.dumps({"name": "bench_delivery", "machine": machine, "metrics": metrics_of(took)}))


if __name__ == "__main__":
    main()
