"""The agent of a reference guest, run here: what goes through it does not stay in its memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.rig import ROOT

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


def test_a_harness_that_goes_away_in_the_middle_ends_the_agent(agent: Agent) -> None:
    assert agent.process.stdin is not None
    head = {"id": 1, "argv": ["/bin/cat"], "user": None, "timeout_s": 20, "cap": MIB, "stdin": 4 * MIB}
    agent.process.stdin.write(json.dumps(head).encode() + b"\n" + bytes(MIB))
    agent.process.communicate(timeout=10)
