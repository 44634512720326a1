"""A step ``reboot`` in a whole cell: a virtual machine's kernel goes too, a container's desktop session does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.image import Image
from harness.images import Images
from harness.judge import judge
from harness.load import load_suite
from harness.plan import Cell, expand
from harness.products import ADAPTERS, adapter_of, parser_of
from harness.products.api import Product, Tools
from harness.products.clamav.adapter import ClamAv
from harness.providers.api import KeepsGuestsReady
from harness.rig import ROOT, make_rig
from harness.run_cell import Rig, run_cell
from harness.scenario import Reboot, Run, Step
from harness.verdict import Finding, Outcome

IN_MEMORY = "/dev/shm/hts-in-memory"
DELIVERED = "/home/trader/.wine/drive_c/users/trader/Downloads"


def _run(script: str) -> Step:
    return Step(run=Run(command=("/bin/sh", "-c", script), user="administrator", timeout_s=60))


class Lab:
    """A cell in which what was delivered must outlive a reboot, and what lay in memory must not, on one provider."""

    def __init__(self, provider: str) -> None:
        loaded = load_suite(
            ROOT / "scenarios" / "suites" / "smoke.yaml",
            images=Images(ROOT / "vm_images", provider=provider),
            known_products=tuple(ADAPTERS),
            progress=lambda _text: None,
        )
        self.provider = provider
        self.rig = make_rig(provider, loaded)
        good = next(c for c in expand(loaded.suite).cells if c.build.version == "1.0.0" and c.product.name == "clamav")
        deliver, install = (next(s for s in good.scenario.steps if s.kind == kind) for kind in ("deliver", "install"))
        steps = (
            deliver,
            install,
            _run(f"touch {IN_MEMORY}"),
            Step(reboot=Reboot(timeout_s=600)),
            _run(f"ls {DELIVERED}/*.exe && ! ls {IN_MEMORY}"),
        )
        self.cell = good.model_copy(update={"scenario": good.scenario.model_copy(update={"steps": steps})})
        self.at = 3

    def attempt(self, cell: Cell, rig: Rig | None = None) -> Attempt:
        meta = AttemptMeta(
            id=secrets.token_hex(4),
            cell=cell,
            role=Role.CONTROL if cell.is_control else Role.FIRST,
            ordinal=1,
            nonce=secrets.token_hex(6),
            provider=self.provider,
            tool_version="test",
            started_at=datetime.now(UTC),
        )
        return run_cell(meta, rig or self.rig, run_id="reboot-test")

    def finding(self, attempt: Attempt, *controls: Attempt) -> Finding:
        return judge([attempt], controls, parsers=parser_of).findings[0]


def rebooted(attempt: Attempt, at: int) -> Mapping[str, object]:
    """Give all that the step told of the guest."""
    told: dict[str, object] = {}
    for event in attempt.of(Kind.GUEST):
        if event.step == at:
            told |= event.data
    return told


def explained(attempt: Attempt) -> str:
    ends = [(e.subject, e.data["expectation"], e.data["detail"]) for e in attempt.of(Kind.STEP_END)]
    return f"{ends} {[e.subject for e in attempt.of(Kind.TROUBLE)]}"


@pytest.mark.guest
@pytest.mark.timeout(900)
def test_in_a_virtual_machine_the_machine_reboots_and_protection_is_proven_again(vm_image: Image) -> None:
    del vm_image  # its fixture says why there is none
    lab = Lab("qemu")
    control = lab.attempt(lab.cell.control())
    attempt = lab.attempt(lab.cell)
    told = rebooted(attempt, lab.at)
    assert told.get("anew") == "machine", explained(attempt)
    assert told["boot_before"] != told["boot_after"]
    assert attempt.complete, explained(attempt)
    finding = lab.finding(attempt, control)
    assert finding.outcome is Outcome.COMPATIBLE, (finding.reason, explained(attempt), explained(control))

    class NoService(ClamAv):
        """One that does not come back by itself."""

        come_up = None  # type: ignore[assignment]  # what has no such method does not come up

    def adapter(name: str, tools: Tools) -> Product:
        return NoService(tools) if name == "clamav" else adapter_of(name, tools)

    unprotected = lab.attempt(lab.cell, replace(lab.rig, product=adapter))
    finding = lab.finding(unprotected, control)
    assert (finding.outcome, finding.rule) == (Outcome.INCONCLUSIVE, "lab.protection"), explained(unprotected)
    assert isinstance(lab.rig.provider, KeepsGuestsReady)
    lab.rig.provider.close()


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_in_a_container_the_session_starts_anew_and_says_so(reference_image: Image) -> None:
    del reference_image
    lab = Lab("docker")
    attempt = lab.attempt(lab.cell)
    assert rebooted(attempt, lab.at) == {"anew": "session"}
    assert attempt.complete, explained(attempt)
    ends = {e.step: e.data["expectation"] for e in attempt.of(Kind.STEP_END)}
    assert ends == {0: None, 1: None, 2: None, 3: None, 4: "exit_code"}, "a container's memory is its engine's"
