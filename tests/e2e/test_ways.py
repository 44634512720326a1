"""A whole cell by each way into a virtual machine: what it sees does not depend on how the guest is entered."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

import pytest

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.image import Image
from harness.images import Images
from harness.judge import judge
from harness.load import load_suite
from harness.plan import Cell, expand
from harness.products import ADAPTERS, parser_of
from harness.providers.qemu import ways
from harness.rig import ROOT, make_rig
from harness.run_cell import Rig, run_cell
from harness.verdict import Outcome


def attempt_of(cell: Cell, rig: Rig) -> Attempt:
    meta = AttemptMeta(
        id=secrets.token_hex(4),
        cell=cell,
        role=Role.CONTROL if cell.is_control else Role.FIRST,
        ordinal=1,
        nonce=secrets.token_hex(6),
        provider="qemu",
        tool_version="test",
        started_at=datetime.now(UTC),
    )
    return run_cell(meta, rig, run_id="ways-test")


@pytest.mark.guest
@pytest.mark.table  # minutes without hardware acceleration; the ways themselves are held to their contract on the host
@pytest.mark.timeout(900)
@pytest.mark.parametrize("transport", [ways.GUEST_AGENT, ways.SSH])
def test_a_green_cell_and_the_incident_are_seen_by_every_way(transport: str, vm_image: Image) -> None:
    del vm_image  # its fixture says why there is none
    loaded = load_suite(
        ROOT / "scenarios" / "suites" / "smoke.yaml",
        images=Images(ROOT / "vm_images", provider="qemu"),
        known_products=tuple(ADAPTERS),
        progress=lambda _text: None,
    )
    rig = make_rig("qemu", loaded)
    seen = {}
    for cell in expand(loaded.suite).cells:
        image = cell.image.model_copy(update={"transport": transport})
        by_this_way = cell.model_copy(update={"image": image})
        attempt = attempt_of(by_this_way, rig)
        troubles = [(e.subject, e.data) for e in attempt.of(Kind.TROUBLE)]
        assert attempt.complete, troubles
        finding = judge([attempt], [attempt_of(by_this_way.control(), rig)], parsers=parser_of).findings[0]
        seen[len(cell.product.schedule)] = finding.outcome
    assert seen == {1: Outcome.COMPATIBLE, 2: Outcome.QUARANTINED}
