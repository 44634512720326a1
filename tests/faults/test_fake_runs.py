"""Verdicts of cells on simulated guests are right or INCONCLUSIVE, whatever strikes: a cut of ``make chaos``."""

from __future__ import annotations

import logging

import pytest

from harness.verdict import Outcome
from tests.faults.chaos_fakes import by_seam, summary, verdict_of
from tests.faults.fake_runs import STORIES, Ran, draw, run_seed, run_story
from tests.faults.report import unmet
from tests.faults.wrap import Fault, Injection, Seam

#: Seeds of the fast tests; ``make chaos`` runs hundreds more.
CUT = range(60)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="harness")


def well_judged(ran: Ran) -> bool:
    return verdict_of(ran) in {"right", "inconclusive"} and not ran.leaks


@pytest.mark.parametrize("name", sorted(STORIES))
def test_a_story_without_faults_has_its_verdict(name: str) -> None:
    ran = run_story(name, ())
    assert well_judged(ran), ran.line
    told_once = name in {"it dies once"}
    assert ran.outcome in (STORIES[name].true if STORIES[name].true and not told_once else {Outcome.INCONCLUSIVE})


@pytest.mark.parametrize("seed", CUT)
def test_a_faulted_cell_is_judged_right_or_not_at_all_and_leaves_nothing_behind(seed: int) -> None:
    ran = run_seed(seed)
    assert well_judged(ran), ran.line


@pytest.mark.parametrize(
    ("seed", "was"),
    [
        (258, "two accidents at two stages convicted the product"),
        (487, "an alert and one dropped connection convicted the product"),
        (1060, "a store that gave another cell's attempts made a cell green"),
        (1157, "a signature set that arrived with one bit wrong made a known module pass"),
    ],
)
def test_what_was_once_judged_wrong_is_judged_right(seed: int, was: str) -> None:
    ran = run_seed(seed)
    assert well_judged(ran), f"{was}: {ran.line}"


#: The same in words, for the day on which seeds draw something else.
ATTACKS = {
    "two accidents at two stages": (
        "it dies once",
        [Injection(seam=Seam.NETWORK, fault=Fault.FAIL, at=at) for at in (3, 4)],
    ),
    "a set arrives altered": (
        "a known module",
        [Injection(seam=Seam.TRANSPORT, fault=Fault.CORRUPT, at=at, where=0.97) for at in (1, 2, 3, 4)],
    ),
    "the installer is changed on the host": (
        "all is well",
        [Injection(seam=Seam.INSTALLER, fault=Fault.CORRUPT, at=at) for at in (1, 2)],
    ),
    "the clock is set back behind the control": (
        "it dies beside the product",
        [Injection(seam=Seam.CLOCK, fault=Fault.FAIL, at=at) for at in (70, 140)],
    ),
    "the host is suspended": (
        "the incident",
        [Injection(seam=Seam.CLOCK, fault=Fault.DELAY, at=at, seconds=60.0) for at in (50, 90, 130)],
    ),
    "the disk is full three times": (
        "a known module",
        [Injection(seam=Seam.DISK, fault=Fault.FAIL, at=at) for at in (4, 8, 12)],
    ),
    "attempts are saved twice": (
        "the incident",
        [Injection(seam=Seam.STORE, fault=Fault.DUPLICATE, at=at) for at in range(2, 12)],
    ),
    "stale answers of the guest": (
        "it dies beside the product",
        [Injection(seam=Seam.SYSTEM, fault=Fault.REORDER, at=at) for at in range(30, 70, 3)],
    ),
}


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_an_attack_in_words_gives_no_wrong_verdict(name: str) -> None:
    story, injections = ATTACKS[name]
    ran = run_story(story, injections)
    assert ran.struck, "the attack struck nothing"
    assert well_judged(ran), ran.line


def test_an_installer_that_was_changed_on_the_host_is_never_delivered() -> None:
    """Its attempt would stand in the matrix under the digest of the build that the run began with."""
    ran = run_story("all is well", [Injection(seam=Seam.INSTALLER, fault=Fault.CORRUPT, at=1)])
    assert (ran.outcome, ran.leased) == (Outcome.COMPATIBLE, 3), "the run ended, and was taken up with the right file"


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = run_seed(7), run_seed(7)
    assert first == second
    assert first.line.startswith("seed 7: ")
    assert draw(7) == draw(7)


def test_the_report_counts_and_a_wrong_verdict_or_a_leak_misses_its_goal() -> None:
    from dataclasses import replace

    right = run_story("all is well", ())
    assert unmet(summary([right], seed=0, took_s=1.0)) == []
    false_green = replace(right, right=False)
    false_red = replace(right, right=False, outcome=Outcome.BROKEN)
    lost = replace(right, right=False, outcome=None)
    leaky = replace(right, leaks=("guest x",))
    bad = summary([false_green, false_red, lost, leaky], seed=0, took_s=1.0)
    assert unmet(bad) == ["wrong_greens", "wrong_reds", "verdicts_lost", "leaks"]
    assert "seam" in by_seam([right])
