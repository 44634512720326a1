"""The agent of a reference guest, run here: what goes through it does not stay in its memory."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.rig import ROOT
from harness.transports.frames import encode_greeting

AGENT = ROOT / "vm_images" / "reference" / "guest" / "agent.py"
MIB = 1 << 20


class Agent:
    """The agent behind two pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, AGENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._number = 0

    def ask(self, *argv: str, stdin_mib: float = 0, timeout_s: float = 20, cap: int = 16 * MIB) -> tuple[dict, bytes]:  # type: ignore[type-arg]
        """Run a program in the agent, with so many zeros as its input; give the reply's head and its bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._number += 1
        size = int(stdin_mib * MIB)
        head = {"id": self._number, "argv": argv, "user": None, "timeout_s": timeout_s, "cap": cap, "stdin": size}
        self.process.stdin.write(json.dumps(head).encode() + b"\n")
        for at in range(0, size, MIB):
            self.process.stdin.write(bytes(min(MIB, size - at)))
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        assert reply["id"] == self._number
        return reply, self.process.stdout.read(reply["out"] + reply["err"])

    def greet(self, file: str, *, cap: int = MIB) -> tuple[dict, bytes]:  # type: ignore[type-arg]
        """Greet the agent without setting the clock, which is this machine's; give the reply's head and its bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._number += 1
        self.process.stdin.write(encode_greeting(self._number, clock_s=None, file=file, cap=cap))
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        assert reply["id"] == self._number
        return reply, self.process.stdout.read(reply["out"] + reply["err"])

    @property
    def most_mib(self) -> float:
        """Give the most memory that the agent ever had."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024


@pytest.fixture
def agent() -> Iterator[Agent]:
    made = Agent()
    yield made
    made.process.communicate(timeout=10)
    assert made.process.returncode == 0


def test_input_goes_through_and_does_not_stay(agent: Agent) -> None:
    reply, out = agent.ask("/usr/bin/wc", "-c", stdin_mib=100)
    assert (reply["exit"], out) == (0, b"%d\n" % (100 * MIB))
    assert agent.most_mib < 60


def test_input_comes_out_as_it_went_in(agent: Agent) -> None:
    reply, out = agent.ask("/bin/cat", stdin_mib=3.5)
    assert (reply["exit"], reply["out_cut"], out) == (0, False, bytes(int(3.5 * MIB)))


@pytest.mark.parametrize(
    ("argv", "exit_code"), [(("/bin/true",), 0), (("/usr/bin/head", "-c", "3"), 0), (("/opt/nonsense",), None)]
)
def test_what_a_program_does_not_take_is_dropped_and_the_next_one_runs(
    agent: Agent, argv: tuple[str, ...], exit_code: int | None
) -> None:
    reply, _ = agent.ask(*argv, stdin_mib=40)
    assert reply["exit"] == exit_code
    assert agent.ask("/bin/echo", "next")[1] == b"next\n"
    assert agent.most_mib < 60


def test_a_program_that_takes_nothing_is_ended_in_time(agent: Agent) -> None:
    reply, _ = agent.ask("/bin/sleep", "30", stdin_mib=40, timeout_s=0.2)
    assert reply["timed_out"]
    assert agent.ask("/bin/echo", "next")[1] == b"next\n"


def test_a_flood_of_output_is_dropped_and_said_to_be_cut(agent: Agent) -> None:
    reply, out = agent.ask("/usr/bin/head", "-c", str(1 << 27), "/dev/zero", cap=MIB)
    assert (reply["exit"], reply["out_cut"], len(out)) == (0, True, MIB)
    assert agent.most_mib < 60


def test_a_greeting_is_answered_with_a_file_without_a_program(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "nonce").write_bytes(b"0123")
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    assert agent.ask("/bin/echo", "first")[1] == b"first\n"
    reply, out = agent.greet(str(tmp_path / "nonce"))
    assert (reply["exit"], out) == (0, b"0123")
    assert children.read_text() == ""
    assert agent.greet(str(tmp_path / "nonce"), cap=2)[1] == b"01"
    assert agent.ask("/bin/echo", "next")[1] == b"next\n"


def test_a_greeting_that_cannot_be_answered_says_so_and_the_next_one_is(agent: Agent, tmp_path: Path) -> None:
    reply, said = agent.greet(str(tmp_path / "nothing"))
    assert (reply["exit"], reply["errno"]) == (None, 2)
    assert b"nothing" in said
    assert agent.ask("/bin/echo", "next")[1] == b"next\n"


def test_a_harness_that_goes_away_in_the_middle_ends_the_agent(agent: Agent) -> None:
    assert agent.process.stdin is not None
    head = {"id": 1, "argv": ["/bin/cat"], "user": None, "timeout_s": 20, "cap": MIB, "stdin": 4 * MIB}
    agent.process.stdin.write(json.dumps(head).encode() + b"\n" + bytes(MIB))
    agent.process.communicate(timeout=10)


# --- scripts of ours, in a copy of the agent

SCRIPT = """
import os, subprocess, sys, time
import desktop_user

def main():
    words = sys.stdin.buffer.read()
    if words == b"who":
        print(os.getppid(), os.getsid(0) == os.getpid(), os.getcwd(), sorted(os.listdir("/proc/self/fd"))[:3])
    elif words == b"left over":
        print(getattr(desktop_user, "left_over", "none"))
        desktop_user.left_over = "something"
    elif words == b"descriptors":
        print(len(os.listdir("/proc/self/fd")) - 1)
    elif words == b"exit":
        print("said")
        sys.exit(7)
    elif words == b"fail":
        raise ValueError("wrong")
    elif words == b"flood":
        sys.stdout.write("x" * 40_000_000)
    elif words == b"sleep":
        print("before", flush=True)
        subprocess.run(["/bin/sleep", "33.25"])
"""


class ScriptedAgent(Agent):
    """An agent in a folder of its own, with one script of ours beside it."""

    def __init__(self, folder: Path) -> None:
        for name in ("agent.py", "desktop_user.py"):
            shutil.copy(AGENT.parent / name, folder)
        (folder / "observe.py").write_text(SCRIPT)
        self.script = str(folder / "observe.py")
        self.process = subprocess.Popen(
            [sys.executable, folder / "agent.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._number = 0

    def script_says(self, words: bytes, *, timeout_s: float = 20, cap: int = MIB) -> tuple[dict, bytes]:  # type: ignore[type-arg]
        """Ask the script."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._number += 1
        head = {"id": self._number, "argv": ["/usr/bin/python3", self.script], "user": None}
        head |= {"timeout_s": timeout_s, "cap": cap, "stdin": len(words)}
        self.process.stdin.write(json.dumps(head).encode() + b"\n" + words)
        self.process.stdin.flush()
        reply = json.loads(self.process.stdout.readline())
        return reply, self.process.stdout.read(reply["out"] + reply["err"])


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[ScriptedAgent]:
    made = ScriptedAgent(tmp_path)
    yield made
    made.process.communicate(timeout=10)
    assert made.process.returncode == 0


def test_a_script_of_ours_runs_in_a_copy_of_the_agent_as_a_program_would(scripted: ScriptedAgent) -> None:
    reply, said = scripted.script_says(b"who")
    assert (reply["exit"], said.split()[:3]) == (0, [b"%d" % scripted.process.pid, b"True", b"/"])
    assert scripted.script_says(b"descriptors")[1] == b"3\n"


def test_nothing_of_one_request_is_there_in_the_next(scripted: ScriptedAgent) -> None:
    assert [scripted.script_says(b"left over")[1] for _ in range(2)] == [b"none\n"] * 2


def test_a_script_s_exit_code_and_its_failure_are_told(scripted: ScriptedAgent) -> None:
    reply, said = scripted.script_says(b"exit")
    assert (reply["exit"], said) == (7, b"said\n")
    reply, said = scripted.script_says(b"fail")
    assert reply["exit"] == 1
    assert b"ValueError: wrong" in said
    assert scripted.script_says(b"")[0]["exit"] == 0


def test_a_script_that_floods_is_cut_and_one_that_stays_is_ended_with_its_children(scripted: ScriptedAgent) -> None:
    reply, said = scripted.script_says(b"flood")
    assert (reply["exit"], reply["out_cut"], len(said)) == (0, True, MIB)
    reply, said = scripted.script_says(b"sleep", timeout_s=0.5)
    assert (reply["timed_out"], reply["exit"], said) == (True, None, b"before\n")
    assert subprocess.run(["/usr/bin/pgrep", "-f", "^/bin/sleep 33.25"], check=False).returncode == 1
    assert scripted.script_says(b"")[0]["exit"] == 0


def test_only_scripts_beside_the_agent_run_in_it(scripted: ScriptedAgent, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "observe.py").write_text("import os; print(os.getppid(), __name__)")
    _, said = scripted.ask("/usr/bin/python3", str(elsewhere / "observe.py"))
    assert said == b"%d __main__\n" % scripted.process.pid
    (tmp_path / "observe.py").write_text("raise ValueError")
    assert scripted.ask("/usr/bin/python3", scripted.script)[0]["exit"] is None
