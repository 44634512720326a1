"""A real guest that attacks whoever looks at it: names, links, pipes and logs made to act, to lead out or to hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.rig import ROOT
from tests.e2e.inserted_runs import CLAMAV, INSTALLED, Inserted, suite_in

#: Runs as the desktop user in the guest, in the install folder of the build.
ATTACK = r"""
import os, sys
root = sys.argv[1].encode()
os.chdir(root)
names = [b"\x1b[31mred\x1b]0;owned\x07.dll", "\u202egnp.exe\u202c.txt".encode(), b"<script>alert(1)<script>",
         b"=cmd|' _C calc'!A0.csv", b"line\nfeed.dll", b"::error::x%0A.log", b"\xff\xfe\xba\xad.dll", b"n" * 255,
         "한글 이름 \u200b.txt".encode(), b"..%2f..%2fetc%2fpasswd", b"C:\\windows\\system32\\x.dll", b"&a *a.yaml"]
for name in names:
    with open(name, "wb") as file:
        file.write(b"\x1b[31m<script>alert(1)</script>\n" * 3)
os.symlink("/etc/shadow", "shadow.dll")
os.symlink("/dev/zero", "zero.dll")
os.symlink("..", "up")
os.symlink("loop", "loop")
os.mkfifo("pipe.dll")
deep = root
for at in range(40):
    deep += b"/" + b"d" * 60
    os.makedirs(deep, exist_ok=True) if len(deep) < 3500 else None
with open("sparse.bin", "wb") as file:
    file.truncate(3 << 30)
os.makedirs("logs", exist_ok=True)
with open("logs/hts.log", "ab") as file:
    file.write(b"\x1b[2J\x1b]8;;http://x/\x07</pre><script>alert(1)</script>\r\n=1+1\xff\xfe\n")
print("\x1b[31m::error::owned\n</script><script>alert(1)</script>")
"""


@pytest.mark.guest
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("reference_image")
def test_nothing_that_a_guest_leaves_behind_acts_or_leads_out(tmp_path: Path) -> None:
    attack = Inserted(command=["/usr/bin/python3", "-c", ATTACK, INSTALLED], before="launch", timeout_s=30)
    suite, out = suite_in(tmp_path, "hostile", {"attacked": attack}, products=[CLAMAV]), tmp_path / "reports"
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", str(suite), "--out", str(out), "--json"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=380,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    report = Path(json.loads(done.stdout)["report"]).parent
    cell = json.loads((report / "matrix.json").read_bytes())["cells"][0]
    assert cell["outcome"] == "COMPATIBLE", cell["reason"]  # the control was attacked alike: no product's doing

    explained = subprocess.run(
        [sys.executable, "-m", "harness.cli", "explain", cell["id"], "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for said in (done.stdout, done.stderr, explained.stdout, *(p.read_bytes() for p in report.glob("matrix.*"))):
        assert b"\x1b" not in said
        assert "\u202e".encode() not in said
    assert b"<script>alert(1)" not in (report / "matrix.html").read_bytes()

    looks = map(digests_in, (out / "store" / "blobs").rglob("?" * 64))
    digests = [look for look in looks if any(path.endswith("/DemoHTS.exe") for path in look)]
    assert digests  # of the cell and of its control
    for found in digests:
        names = {name.rpartition("/")[2]: sha256 for name, sha256 in found.items()}
        assert {"DemoHTS.exe", "hts_comm.dll", "한글 이름 \u200b.txt", "\\xff\\xfe\\xba\\xad.dll", "n" * 255} <= set(
            names
        )
        assert not {"shadow.dll", "zero.dll", "pipe.dll", "loop"} & set(
            names
        )  # links are not followed, pipes not opened
        assert names["sparse.bin"] is None  # too large to be read, which is no digest
    made = {p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*")}
    assert made == {"attacked.yaml", "hostile.yaml", "reports"}
    assert not any(p.is_symlink() for p in out.rglob("*"))


def digests_in(blob: Path) -> dict[str, str | None]:
    """Give the digests of a last look, by guest path; nothing for any other blob."""
    try:
        answer = json.loads(blob.read_bytes())
        return {f["path"]: f["sha256"] for f in answer["files"]}
    except (ValueError, KeyError, TypeError):
        return {}
