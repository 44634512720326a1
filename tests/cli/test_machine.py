"""What ``hts-compat doctor --rig`` says of its promises, and that it tries nothing on a machine that lacks a need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import machine
from harness.cli.machine import RigAsked, lacking, promise_lines
from harness.doctor import Examined
from harness.errors import InputError
from harness.expectation import Kept
from harness.lab_choice import Lab
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
    monkeypatch.setattr(machine, "labs", lambda root: ())
    asked = RigAsked(provider="no-such-provider", jobs=None, out=Path("nowhere"))
    assert machine.doctor(sweep=False, as_json=False, rig=asked) == 5
    assert "not tried" in capsys.readouterr().err


# --- which lab --------------------------------------------------------------------------------------------------------

PYTHON = Examined(name="python", ok=True, needed=True, detail="3.11")
ENGINE = Examined(name="docker engine", ok=False, needed=True, detail="none", lab="docker")
QEMU = Examined(name="qemu-img", ok=False, needed=True, detail="none", lab="qemu")
MKE2FS = Examined(name="mke2fs", ok=False, needed=False, detail="only building", lab="qemu")
NO_DOCKER, VIRTUAL = Lab(provider="docker", why_not="none"), Lab(provider="qemu")
NO_QEMU = Lab(provider="qemu", why_not="qemu-img: none")


@pytest.mark.parametrize(
    ("found", "provider", "bad"),
    [
        ((NO_DOCKER, VIRTUAL), "auto", []),
        ((NO_DOCKER, VIRTUAL), "qemu", []),
        ((NO_DOCKER, VIRTUAL), "docker", ["docker engine"]),
        ((NO_DOCKER, NO_QEMU), "auto", ["docker engine", "qemu-img"]),
        ((NO_DOCKER, NO_QEMU), "qemu", ["qemu-img"]),
    ],
)
def test_one_usable_lab_is_enough_unless_another_one_is_named(
    found: tuple[Lab, ...], provider: str, bad: list[str]
) -> None:
    seen = (PYTHON, ENGINE, MKE2FS, *((QEMU,) if NO_QEMU in found else ()))
    assert [f.name for f in lacking(seen, found, provider)] == bad


def test_doctor_says_of_each_lab_whether_it_is_usable_and_which_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "examine", lambda root: (PYTHON, ENGINE))
    monkeypatch.setattr(machine, "labs", lambda root: (NO_DOCKER, VIRTUAL))
    assert machine.doctor(sweep=False, as_json=False) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert said[-4:] == [
        "not usable docker none",
        "usable qemu",
        "'--provider auto' takes qemu, because docker is not usable (none)",
        "this machine can run the reference lab",
    ]
    assert machine.doctor(sweep=False, as_json=False, provider="docker") == 5
    capsys.readouterr()
    assert machine.doctor(sweep=False, as_json=True, provider="docker") == 5
    told = json.loads(capsys.readouterr().out)
    assert told["labs"][0] == {"provider": "docker", "usable": False, "why_not": "none"}
    with pytest.raises(InputError, match="no provider"):
        machine.doctor(sweep=False, as_json=False, provider="dokcer")
