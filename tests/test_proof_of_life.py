"""Rule 2: without proof of life nothing is concluded, and the lab is blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import Blame
from harness.facts import Claim, ExclusionSeen, Facts, When
from harness.image import Folder
from harness.proof_of_life import required_canaries
from harness.rules import decide
from harness.scenario import Install, Step, Uninstall
from harness.verdict import Need, Outcome
from tests.builders import make_cell, make_scenario
from tests.facts_builders import (
    canary,
    control,
    failed_step,
    failing,
    fresh_control,
    good,
    lost,
    sample,
)
from tests.rule_rows import (
    CELL,
    CONNECT,
    INSTALL,
    LAUNCH,
    NONE,
    UPDATE,
    UPDATE_STEP,
    Row,
    check,
    inconclusive,
    with_label,
    without_sample,
)

# --- rule 2: the lab --------------------------------------------------------------------------------------------------


def silent(facts: Facts, folder: Folder, when: When) -> Facts:
    tries = tuple(
        replace(c, reacted=False, why_not="it was not refused") if (c.folder, c.when) == (folder, when) else c
        for c in facts.canaries
    )
    return replace(facts, canaries=tries)


def untried(facts: Facts, folder: Folder, when: When) -> Facts:
    return replace(facts, canaries=tuple(c for c in facts.canaries if (c.folder, c.when) != (folder, when)))


def inactive(facts: Facts, border: int) -> Facts:
    samples = tuple(
        replace(s, active=False, label=None, why_not="no marker fired") if s.border == border else s
        for s in facts.samples
    )
    return replace(facts, samples=samples)


def excluding(path: str, *, declared: bool, covers: bool) -> Facts:
    return replace(good(), exclusions=(ExclusionSeen(path=path, declared=declared, covers_tested=covers),))


BORDERS = range(-1, len(CELL.scenario.steps))
TRIED = [(c.folder, c.when) for c in good().canaries]

LAB_ROWS = {
    "our trouble": inconclusive("lab.trouble", lost(good()), "The lab had trouble at 'launch'", "The guest is gone."),
    "an attempt without its end": inconclusive("lab.trouble", replace(good(), complete=False), "not finished"),
    "a step that failed in a lost attempt": inconclusive(
        "lab.trouble", replace(failing(good(), failed_step(CELL, CONNECT)), complete=False), "not finished"
    ),
    **{
        f"no sample at border {b}": inconclusive("lab.protection", without_sample(good(), b), "not sampled")
        for b in BORDERS
    },
    **{
        f"protection dead at border {b}": inconclusive(
            "lab.protection", inactive(good(), b), "Protection was not proven", "no marker fired"
        )
        for b in BORDERS
    },
    **{
        f"another set at border {b}": inconclusive(
            "lab.protection", with_label(good(), b, "2026-11-03"), "Signature 2026-11-03", "2026-11-04 was scheduled"
        )
        for b in BORDERS
    },
    **{
        f"several sets at border {b}": inconclusive("lab.protection", with_label(good(), b, None), "of unknown name")
        for b in BORDERS
    },
    "one dead sample beside a good one at the same border": inconclusive(
        "lab.protection",
        replace(good(), samples=(replace(sample(CELL, 2), seq=1, active=False), *good().samples)),
        "not proven after 'verify_files'",
    ),
    "an update that did not arrive": inconclusive(
        "lab.protection", with_label(good(UPDATE), UPDATE_STEP, "2026-11-04"), "after 'vendor_update'"
    ),
    "a product that says it has another set than its reactions prove": inconclusive(
        "lab.protection",
        replace(good(), claims=(Claim(seq=1, border=-1, label="2026-11-01"),)),
        "says that signature 2026-11-01 is loaded before the first step",
        "prove 2026-11-04",
    ),
    "a product that says after its update what it said before": inconclusive(
        "lab.protection",
        replace(good(UPDATE), claims=(Claim(seq=1, border=UPDATE_STEP, label="2026-11-04"),)),
        "2026-11-04 is loaded after 'vendor_update'",
    ),
    "an object that the product could not check": inconclusive(
        "lab.protection", replace(good(), scan_failures=("/a/b (failed to scan)",)), "failed to check", "/a/b"
    ),
    **{
        f"canary silent in {folder}, {when}": inconclusive(
            "lab.canary", silent(good(), folder, when), f"'{folder}' ({when} the steps) was silent", "not refused"
        )
        for folder, when in TRIED
    },
    **{
        f"no canary in {folder}, {when}": inconclusive(
            "lab.canary", untried(good(), folder, when), f"No canary was tried in the folder '{folder}'"
        )
        for folder, when in TRIED
    },
    "one silent try beside one that reacted": inconclusive(
        "lab.canary",
        replace(good(), canaries=(*good().canaries, canary(Folder.TEMP, When.AFTER, reacted=False))),
        "'temp' (after the steps) was silent",
    ),
    "every canary excluded": inconclusive(
        "lab.canary",
        replace(good(), canaries=tuple(replace(c, reacted=False, excluded=True) for c in good().canaries)),
        "all were excluded",
    ),
    "an exclusion that nobody declared": inconclusive(
        "lab.exclusion", excluding(r"C:\DemoHTS", declared=False, covers=True), r"C:\DemoHTS", need=None
    ),
    "no control, for a cell that passed": replace(
        inconclusive("lab.control", good(), "no usable control", need=Need.CONTROL), controls=()
    ),
    "only a lost control": replace(
        inconclusive("lab.control", good(), "no usable control", need=Need.CONTROL), controls=(lost(control()),)
    ),
    "only a control that cannot be read": replace(
        inconclusive("lab.control", good(), "no usable control", need=Need.CONTROL),
        controls=(replace(control(), unread=("the list of installed files was cut",)),),
    ),
}


@pytest.mark.parametrize("row", LAB_ROWS.values(), ids=LAB_ROWS.keys())
def test_rule_2_without_proof_of_life_nothing_is_concluded_and_the_lab_is_blamed(row: Row) -> None:
    assert check(row).blame is Blame.LAB


@pytest.mark.parametrize("row", [r for r in LAB_ROWS.values() if r.rule in {"lab.protection", "lab.canary"}])
def test_rule_2_a_failed_step_convicts_nobody_without_proof_of_life(row: Row) -> None:
    facts = replace(row.facts, steps=(*row.facts.steps[:-1], failed_step(row.facts.cell, len(row.facts.steps) - 1)))
    finding = decide(facts, [control(facts.cell), fresh_control(facts.cell)])
    assert (finding.rule, finding.outcome) == (row.rule, Outcome.INCONCLUSIVE)


def test_rule_2_declared_or_distant_exclusions_are_no_trouble() -> None:
    for facts in (
        excluding(r"C:\DemoHTS", declared=True, covers=True),
        excluding(r"C:\windows", declared=False, covers=False),
    ):
        assert decide(facts, [control()]).outcome is Outcome.COMPATIBLE


def test_rule_2_a_canary_may_be_silent_inside_a_declared_exclusion() -> None:
    tries = tuple(
        replace(c, reacted=False, excluded=True) if c.folder is Folder.INSTALL else c for c in good().canaries
    )
    assert decide(replace(good(), canaries=tries), [control()]).outcome is Outcome.COMPATIBLE


def test_rule_2_the_install_folder_needs_no_canary_before_it_exists() -> None:
    facts = failing(good(), failed_step(CELL, INSTALL))
    outside = replace(facts, canaries=tuple(c for c in facts.canaries if c.folder is not Folder.INSTALL))
    assert decide(outside, [control(), fresh_control()]).outcome is Outcome.BROKEN


# --- rule 2: a guest that dies ----------------------------------------------------------------------------------------


def test_a_guest_that_dies_once_is_inconclusive_and_wants_a_second_guest() -> None:
    finding = decide(lost(good(), step=LAUNCH, crashed=True, summary="kernel panic"), [control()])
    assert (finding.rule, finding.outcome, finding.stage) == ("lab.crash", Outcome.INCONCLUSIVE, "launch")
    assert finding.reason == "The guest died at 'launch': kernel panic"
    assert finding.needs == {Need.CONFIRM}
    assert finding.suspicion


def test_a_guest_that_dies_before_the_first_step_says_nothing_about_the_build() -> None:
    finding = decide(lost(good(), step=None, crashed=True), [control()])
    assert (finding.rule, finding.suspicion) == ("lab.trouble", ())
    assert finding.needs == {Need.RETRY}


def test_a_crash_raises_no_suspicion_without_a_control_that_got_past_the_step() -> None:
    crashed = lost(good(), step=LAUNCH, crashed=True)
    stopped_earlier = control(failed=failed_step(NONE, INSTALL))
    for controls in ([], [lost(control(), step=LAUNCH, crashed=True)], [stopped_earlier]):
        finding = decide(crashed, controls)
        assert (finding.rule, finding.suspicion) == ("lab.crash", ())
        assert finding.needs == {Need.CONTROL}


def test_a_crash_is_suspect_when_the_control_fails_only_later() -> None:
    finding = decide(lost(good(), step=INSTALL, crashed=True), [control(failed=failed_step(NONE, CONNECT))])
    assert finding.suspicion


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ((), True),
        ((Step(uninstall=Uninstall(program="unins.exe")),), False),
        ((Step(uninstall=Uninstall(program="unins.exe")), Step(install=Install())), True),
    ],
    ids=["installed", "uninstalled", "installed again"],
)
def test_the_install_folder_needs_a_last_canary_as_long_as_the_build_is_in_it(
    more: tuple[Step, ...], needed: bool
) -> None:
    cell = make_cell(scenario=make_scenario(steps=(*make_scenario().steps, *more)))
    required = dict(required_canaries(good(cell)))
    assert (Folder.INSTALL in required[When.AFTER]) is needed
    assert required[When.STEP] == {Folder.INSTALL}
