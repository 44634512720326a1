"""Real guests that begin with a product up: what they prove is what all others prove, and sooner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.cli.run import Asked, load
from harness.deadline import Deadline
from harness.errors import LabError
from harness.facts import Owner
from harness.freeze import freeze
from harness.image import Image
from harness.judge import read
from harness.plan import Cell, expand
from harness.products import code_of, parser_of
from harness.protection import protection_of
from harness.providers import kit_of
from harness.providers.api import Freezes, KeepsGuestsReady
from harness.providers.qemu import template
from harness.providers.qemu.provider import QemuProvider
from harness.rig import ROOT, make_rig
from harness.rules import decide
from harness.run_cell import Rig, run_cell
from harness.verdict import Outcome
from tests.builders import NOON

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]

SUITE = ROOT / "scenarios" / "suites" / "demo.yaml"


def attempt_of(cell: Cell, rig: Rig, nonce: str) -> Attempt:
    meta = AttemptMeta(
        id=nonce,
        cell=cell,
        role=Role.FIRST,
        ordinal=1,
        alone=True,
        nonce=nonce,
        provider=rig.provider.name,
        tool_version="0",
        started_at=NOON,
    )
    return run_cell(meta, rig, run_id="test-frozen")


@pytest.mark.parametrize("product", ["clamav", pytest.param("fapolicyd", marks=pytest.mark.table)])
def test_a_cell_that_begins_with_its_protection_is_judged_as_any_other(vm_image: Image, product: str) -> None:
    loaded = load(Asked(suite=SUITE, provider="qemu"))
    rig, kit = make_rig("qemu", loaded), kit_of("qemu")
    assert isinstance(kit, Freezes)
    cell = next(
        c
        for c in expand(loaded.suite).cells
        if c.product.name == product and len(c.product.schedule) == 1 and not c.product.schedule[0].known
    )
    assert cell.image.content == vm_image.content
    up = protection_of(cell, code=code_of(product))
    frozen = freeze(cell, up, rig=rig, freezer=kit, parsers=parser_of, report=print)
    assert rig.layer(cell) == frozen.layer
    control = read(attempt_of(cell.control(), rig, "c0n7201abcde"), parsers=parser_of)
    seen = {
        name: attempt_of(cell, replace(rig, layer=lambda _cell, layer=layer: layer), nonce)  # type: ignore[misc]
        for name, layer, nonce in (("with", frozen.layer, "1ayeredabcde"), ("without", None, "p1a1nabcdef0"))
    }
    facts = {name: read(attempt, parsers=parser_of) for name, attempt in seen.items()}
    assert {name: decide(of, [control]).outcome for name, of in facts.items()} == {
        "with": Outcome.COMPATIBLE,
        "without": Outcome.COMPATIBLE,
    }
    assert {d.owner for of in facts.values() for d in of.detections} == {Owner.PLANTED}
    canaries = [[c.reacted for c in of.canaries] for of in facts.values()]
    assert canaries[0] == canaries[1]
    (named,) = seen["with"].of(Kind.GUEST, subject="layer")
    assert named.data["content"] == frozen.layer.image.content
    assert seen["without"].of(Kind.GUEST, subject="layer") == []
    for provider in (rig.provider, kit.provider):
        assert isinstance(provider, KeepsGuestsReady)
        provider.close()


def test_a_template_of_another_command_line_makes_no_guest(
    vm_image: Image, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The real one under another fingerprint, in a folder of its own that shares its files."""
    real = template.load(Path(vm_image.reference))
    assert real is not None
    drifted = real.folder.with_name(f"{real.folder.name}-drifted-by-a-test")
    drifted.mkdir()
    try:
        for name in real.about.files:
            (drifted / name).hardlink_to(real.file(name))
        about = real.about.model_copy(update={"fingerprint": "0" * 64})
        template.write_about(drifted, about)
        image = vm_image.model_copy(update={"reference": str(drifted), "content": about.content})
        lease = QemuProvider().lease(image, run_id="test-drift", name="t", deadline=Deadline.after(30))
        with pytest.raises(LabError, match="another QEMU, or as another machine"), lease:
            pass
    finally:
        for path in drifted.iterdir():
            path.unlink()
        drifted.rmdir()
