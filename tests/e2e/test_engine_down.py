"""The engine goes away in the middle of a run on real guests, and comes back: nothing is lost, nothing is left.

The engine itself is left alone: a socket of ours that leads to it is closed, which looks the same from here.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.deadline import Deadline
from harness.providers.docker import DEFAULT_HOST, DockerProvider
from harness.rig import ROOT
from harness.stores.api import RunState
from harness.stores.sqlite import SqliteStore
from harness.verdict import Outcome

ENGINE = (os.environ.get("DOCKER_HOST") or DEFAULT_HOST).removeprefix("unix://")


class Way:
    """A socket that leads to the engine until it is closed, with all that goes through it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take it away."""
        self._path.unlink()
        for end in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(ENGINE)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@pytest.mark.guest
@pytest.mark.table
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("reference_image")
def test_an_engine_that_goes_away_ends_the_run_with_5_and_resuming_it_finishes(
    tmp_path: Path, docker_provider: DockerProvider
) -> None:
    way, path = Way(tmp_path / "engine.sock"), tmp_path / "engine.sock"
    suite = ROOT / "scenarios" / "suites" / "smoke.yaml"
    command = [sys.executable, "-m", "harness.cli", "run", str(suite), "--fresh", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "DOCKER_HOST": f"unix://{path}"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        guests: list[object] = []
        for _ in Deadline.after(300).poll(0.2):
            guests = _guests(docker_provider, _run_id(tmp_path / "out" / "store"))
            if guests:
                break
        assert guests
        way.close()
        _, said = process.communicate(timeout=600)
    assert process.returncode == 5, said[-2000:]
    assert "waiting: 16 s: The Docker engine does not answer." in said
    run_id = _run_id(tmp_path / "out" / "store")
    assert f"--resume {run_id}" in said
    assert _guests(docker_provider, run_id)  # nobody could end them
    way = Way(path)
    done = subprocess.run([*command, "--resume", run_id], cwd=ROOT, env=environment, check=False, capture_output=True)
    way.close()
    assert done.returncode == 1, done.stderr[-2000:]
    store = SqliteStore(tmp_path / "out" / "store")
    outcomes = [store.judgements(run_id)[cell.id].outcome for cell in store.plan_of(run_id).cells]
    assert (store.find_run(run_id).state, outcomes) == (
        RunState.COMPLETE,
        [Outcome.COMPATIBLE, Outcome.QUARANTINED],
    )
    store.close()
    assert _guests(docker_provider, run_id) == []


def _run_id(root: Path) -> str:
    if not (root / "store.sqlite").exists():
        return ""
    store = SqliteStore(root)
    runs = store.runs()
    store.close()
    return runs[0].id if runs else ""


def _guests(provider: DockerProvider, run_id: str) -> list[object]:
    label = f"org.hts-compat.run={run_id}"
    return list(provider.client.containers.list(filters={"label": label})) if run_id else []
