"""Real guests that flood, shrink and grow under whoever looks: cut, said so, never green, and the run goes on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.rig import ROOT
from tests.e2e.inserted_runs import INSTALLED, Inserted, suite_in

LOG = f"{INSTALLED}/logs/hts.log"

#: A gigabyte of a program's output, part of it no UTF-8.
FLOOD = ["/bin/sh", "-c", r"printf '\377\376\n'; head -c 1073741824 /dev/zero"]
#: A gigabyte in the program's own log; sparse, so that the disk of whoever runs this is not filled.
LONG_LOG = ["/bin/sh", "-c", 'mkdir -p "${0%/*}" && truncate -s 1G "$0"', LOG]
#: A million names in one folder below the install folder; links, because a file of each would take a minute.
CROWD = [
    "/usr/bin/python3",
    "-c",
    """
import os, sys
os.mkdir(sys.argv[1])
os.chdir(sys.argv[1])
for n in range(1000000):
    if n % 50000 == 0:  # ext4 allows 65000 links of one file
        first = str(n)
        open(first, "w").close()
    else:
        os.link(first, str(n))
""",
    f"{INSTALLED}/crowd",
]
#: A file that comes and goes, and one that grows, for as long as the guest lives.
RESTLESS = [
    "/bin/sh",
    "-c",
    'cd "$0" && (setsid sh -c "while :; do echo x > comes; rm comes; head -c 65536 /dev/zero >> grows; sleep .01; done"'
    " > /dev/null 2>&1 < /dev/null &)",
    INSTALLED,
]
#: Scenario to its command, the step that it stands before, and what the cell must say.
CELLS = {
    "flood": (FLOOD, "launch", "(command) is cut"),
    "long-log": (LONG_LOG, "launch", "has more than 16 MiB and was not read to its end"),
    "crowd": (CROWD, "verify_files", "was cut"),
    "restless": (RESTLESS, "launch", ""),
}


def most_memory_mib(pid: int) -> float:
    """Give the most memory that a process has had since it became its program; 0 when it has ended.

    What wait4(2) tells is no measure: it counts the memory of whoever started it. Source: proc(5), ``VmHWM``.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


@pytest.mark.guest
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("reference_image")
def test_what_floods_is_cut_and_never_green_and_the_harness_stays_small(tmp_path: Path) -> None:
    scenarios = {
        name: Inserted(command=command, before=before, timeout_s=240) for name, (command, before, _) in CELLS.items()
    }
    suite = suite_in(tmp_path, "floods", scenarios, products=[{"product": "none"}], retries=0)
    out = tmp_path / "reports"
    argv = [sys.executable, "-m", "harness.cli", "run", str(suite), "--out", str(out), "--json"]
    said, complaints = tmp_path / "stdout", tmp_path / "stderr"
    with (
        said.open("wb") as stdout,
        complaints.open("wb") as stderr,
        subprocess.Popen(argv, cwd=ROOT, stdout=stdout, stderr=stderr) as harness,
    ):
        most_mib = 0.0
        try:
            while harness.poll() is None:
                most_mib = max(most_mib, most_memory_mib(harness.pid))
                time.sleep(0.1)
        except BaseException:  # the test's limit of time
            harness.kill()
            raise
    assert harness.returncode == 3, complaints.read_bytes()[-3000:].decode()
    report = Path(json.loads(said.read_bytes())["report"]).parent
    cells: dict[str, Any] = {
        cell["scenario"]: cell for cell in json.loads((report / "matrix.json").read_bytes())["cells"]
    }
    print({name: (cell["outcome"], cell["reason"]) for name, cell in cells.items()})
    assert set(cells) == set(CELLS)
    for name, (_, _, why) in CELLS.items():
        if name != "restless":
            assert cells[name]["outcome"] == "INCONCLUSIVE", cells[name]
            assert why in cells[name]["reason"]
    # What comes and goes is no file of the build; nothing went wrong, and the look ended.
    assert cells["restless"]["outcome"] == "COMPATIBLE", cells["restless"]
    print(f"most memory of the harness: {most_mib:.0f} MiB")
    assert 0 < most_mib < 400
