"""ClamAV answers a denial before it moves the file; the last look waits for moves that are still on their way."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness.products.clamav.adapter import AWAIT_MOVES, MOVE_PATIENCE_S

FOUND = "/home/a b/x.dll: Win.Test.UNOFFICIAL FOUND\n"
MOVED = "/home/a b/x.dll: moved to '/quarantine/x.dll'\n"


def waited_s(log: Path) -> float:
    began = time.monotonic()
    subprocess.run(["/bin/sh", "-c", AWAIT_MOVES, "await-moves", str(log)], check=True, timeout=30)
    return time.monotonic() - began


@pytest.mark.parametrize(
    "ended",
    [
        FOUND + MOVED,
        FOUND + "/home/a b/x.dll (deleted): Win.Test.UNOFFICIAL FOUND\n" + MOVED,
        FOUND + "ERROR: Can't move file '/home/a b/x.dll' to '/quarantine/x.dll'\n",
        "",
    ],
    ids=["moved", "found twice", "could not be moved", "nothing found"],
)
def test_nothing_is_waited_for_when_every_move_has_ended(tmp_path: Path, ended: str) -> None:
    log = tmp_path / "clamonacc.log"
    log.write_text(ended)
    assert waited_s(log) < MOVE_PATIENCE_S


def test_a_move_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "clamonacc.log"
    log.write_text(FOUND)

    def later() -> None:
        with log.open("a") as stream:
            stream.write(MOVED)

    timer = threading.Timer(0.4, later)
    timer.start()
    assert 0.3 < waited_s(log) < MOVE_PATIENCE_S
    timer.join()
