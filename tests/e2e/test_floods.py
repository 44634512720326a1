"""Real guests that flood, shrink and grow under whoever looks: cut, said so, never green, and the run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    with said.open("wb") as stdout, complaints.open("wb") as stderr:
        harness = subprocess.Popen(argv, cwd=ROOT, stdout=stdout, stderr=stderr)
    # This child's own memory: getrusage(2) would give the most that any child of this test run ever had.
    try:
        _, status, used = os.wait4(harness.pid, 0)
    except BaseException:  # the test's limit of time
        harness.kill()
        raise
    harness.returncode = os.waitstatus_to_exitcode(status)
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
    most_mib = used.ru_maxrss / 1024
    print(f"most memory of the harness: {most_mib:.0f} MiB")
    assert most_mib < 400
