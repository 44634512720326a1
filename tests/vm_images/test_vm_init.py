"""The first process of a virtual machine: its agent sleeps while nobody is connected, and misses nobody who comes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.rig import ROOT

GUEST = ROOT / "vm_images" / "reference" / "guest"
WAYS = ROOT / "vm_images" / "reference-vm" / "guest"

#: A FIFO hangs up once its writer has gone, and sends SIGIO with the next one's bytes, as the port does.
_WAIT = """
    import os, sys, time
    import vm_init
    rings = vm_init.bell()
    port = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
    os.close(os.open(sys.argv[1], os.O_WRONLY))
    print("nobody", flush=True)
    began, worked = time.monotonic(), time.process_time()
    vm_init.await_somebody(port, rings, again_s=float(sys.argv[2]))
    print(os.read(port, 100).decode(), time.monotonic() - began < 20, time.process_time() - worked < 1, flush=True)
    import fcntl
    print(bool(fcntl.fcntl(port, fcntl.F_GETFL) & os.O_ASYNC), flush=True)
"""


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    environment = os.environ | {"PYTHONPATH": f"{GUEST}:{WAYS}"}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("again_s", ["20", "0.05"], ids=["by the signal", "by looking again"])
def test_the_agent_sleeps_until_somebody_writes_to_its_port(tmp_path: Path, again_s: str) -> None:
    """With the long wait, only the signal can have woken it; the short one holds where no signal came."""
    port = tmp_path / "port"
    os.mkfifo(port)
    with started(_WAIT, str(port), again_s) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "nobody\n"
        with port.open("wb", buffering=0) as writer:
            writer.write(b"hello")
            assert agent.stdout.readline() == "hello True True\n"
        assert agent.stdout.readline() == "False\n"  # the signal is off while it serves
    assert agent.returncode == 0


_FIRST = """
    import os
    import vm_init
    def niceness():
        return os.getpriority(os.PRIO_PROCESS, 0)
    vm_init.come_first()
    told = [niceness()]
    with vm_init.as_all_others():
        told.append(niceness())
    told.append(niceness())
    print(*told, flush=True)
    if os.fork() == 0:
        print(niceness(), flush=True)
        os._exit(0)
    os.wait()
"""


def test_the_agent_comes_first_but_beside_a_program_and_what_it_starts_does_not() -> None:
    with started(_FIRST) as agent:
        assert agent.stdout is not None
        waiting, at_work, again, child = agent.stdout.read().split()
    if waiting != "-20":
        pytest.skip("this user may not have a program come first")
    assert (at_work, again, child) == ("0", "-20", "0")
