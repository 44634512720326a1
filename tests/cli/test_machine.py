"""What ``hts-compat doctor --rig`` says of its promises, and that it tries nothing on a machine that lacks a need."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import machine
from harness.cli.machine import RigAsked, promise_lines
from harness.doctor import Examined
from harness.expectation import Kept
from harness.prove_rig import Proven

GOOD = Kept(promise="known-good", words="A good build is good.", cells=("a/b",), why_not=())
BAD = Kept(
    promise="known-bad", words="A bad one is bad.", cells=("c/d",), why_not=("c/d: COMPATIBLE instead of BLOCKED",)
)


def lines(*promises: Kept, whole: bool = True, out: str = "reports") -> list[str]:
    return promise_lines(Proven(run_id="run-1", whole=whole, promises=promises), duration_s=41.4, out=Path(out))


def test_a_promise_that_is_not_kept_is_named_with_what_was_seen_and_where_to_look() -> None:
    said = lines(GOOD, BAD, out="elsewhere")
    assert said[0].split() == ["kept", "known-good", *GOOD.words.split()]
    assert said[1].startswith("NOT KEPT known-bad")
    assert said[2].strip() == BAD.why_not[0]
    assert said[3].strip() == "look: hts-compat explain c/d run-1 --out elsewhere"
    assert said[-1] == "1 of 2 promises are not kept: known-bad (41 s)"


def test_all_kept_is_one_sentence_and_a_stopped_test_says_so() -> None:
    assert lines(GOOD)[-1] == "the rig keeps all 1 promises (41 s)"
    assert "stopped before its end" in lines(GOOD, BAD, whole=False)[-2]


def test_a_machine_that_lacks_a_need_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Examined(name="docker engine", ok=False, needed=True, detail="none", fix="Run 'make setup'.")
    monkeypatch.setattr(machine, "examine", lambda root: (missing,))
    asked = RigAsked(provider="no-such-provider", jobs=None, out=Path("nowhere"))
    assert machine.doctor(sweep=False, as_json=False, rig=asked) == 5
    assert "not tried" in capsys.readouterr().err
