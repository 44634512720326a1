"""A layer saves setting a product up, and nothing else: what is wrong with it costs a cell and makes no good one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from harness.attempt import Attempt, AttemptMeta, Kind, Role
from harness.deadline import Deadline
from harness.errors import InputError, ProtectionNotProven
from harness.evidence import attempt_evidence
from harness.facts import Facts, Owner
from harness.freeze import freeze
from harness.judge import read
from harness.matrix_cell import Tried
from harness.plan import Cell
from harness.products import code_of
from harness.products.api import Tools
from harness.products.fake import FakeProduct
from harness.protection import Layer, protection_of
from harness.rig import layers_of
from harness.rules import decide
from harness.run_cell import Rig, run_cell
from harness.signature import Signature
from harness.verdict import Finding, Outcome
from tests.builders import NOON, make_image
from tests.fake_lab import CLEAN, INCIDENT, FakeLab, cell, control, parsers, signature
from tests.fake_layers import SET_FILE, FakeFreezer, LayeredProvider, Spoil


class Lab:
    """A lab in which guests can be frozen."""

    def __init__(self, *, adapter: type[FakeProduct] = FakeProduct) -> None:
        self.provider = LayeredProvider()
        self.freezer = FakeFreezer(self.provider)
        self._lab = FakeLab(provider=self.provider, adapter=adapter)

    def rig(self, layer: Layer | None = None) -> Rig:
        return replace(self._lab.rig(), layer=lambda _cell: layer)

    def freeze(self, asked: Cell) -> Layer:
        up = protection_of(asked, code="c0de")
        frozen = freeze(asked, up, rig=self.rig(), freezer=self.freezer, parsers=parsers, report=lambda _line: None)
        return frozen.layer

    def attempt(self, asked: Cell, layer: Layer | None) -> Attempt:
        nonce = f"abcdef{len(self.provider.leased):06}"
        meta = AttemptMeta(
            id=nonce,
            cell=asked,
            role=Role.FIRST,
            ordinal=1,
            nonce=nonce,
            provider="fake",
            tool_version="0",
            started_at=NOON,
        )
        return run_cell(meta, self.rig(layer), run_id="run-1")


@pytest.fixture
def lab() -> Lab:
    return Lab()


def judged(lab: Lab, attempt: Attempt) -> tuple[Facts, Finding]:
    facts = read(attempt, parsers=parsers)
    beside = lab.attempt(attempt.cell.control(), None)
    return facts, decide(facts, [read(beside, parsers=parsers)])


def tried(lab: Lab, attempt: Attempt) -> Tried:
    facts, finding = judged(lab, attempt)
    return Tried(attempt, facts, finding)


def test_a_product_is_set_up_once_and_proven_in_a_guest_of_the_layer(lab: Lab) -> None:
    layer = lab.freeze(cell())
    assert lab.provider.leased == ["", "", "layer-1"]
    assert layer.protection.signature.label == CLEAN
    assert all("/hts-" in place["path"] for place in layer.planted)
    assert layer.planted
    assert lab.freeze(cell()) == layer
    assert len(lab.provider.leased) == 3, "it is there already"


def test_a_cell_that_begins_with_its_protection_proves_what_any_other_does(lab: Lab) -> None:
    layer = lab.freeze(cell())
    with_layer, without = lab.attempt(cell(), layer), lab.attempt(cell(), None)
    facts, finding = judged(lab, with_layer)
    plain, _ = judged(lab, without)
    assert finding.outcome is Outcome.COMPATIBLE
    assert [c.reacted for c in facts.canaries] == [c.reacted for c in plain.canaries]
    assert [(s.border, s.active, s.label) for s in facts.samples] == [
        (s.border, s.active, s.label) for s in plain.samples
    ]
    assert {d.owner for d in facts.detections} == {Owner.PLANTED}
    assert facts.unread == plain.unread == ()


def test_the_evidence_names_the_layer(lab: Lab) -> None:
    layer = lab.freeze(cell())
    (event,) = lab.attempt(cell(), layer).of(Kind.GUEST, subject="layer")
    assert event.data == {
        "content": "content-of-layer-1",
        "product": "fake",
        "profile": "standard",
        "signature": CLEAN,
        "code": "c0de",
    }
    plain = lab.attempt(cell(), None)
    assert plain.of(Kind.GUEST, subject="layer") == []
    assert attempt_evidence(tried(lab, lab.attempt(cell(), layer))).layer == "content-of-layer-1"
    assert attempt_evidence(tried(lab, plain)).layer is None


def test_the_product_is_not_started_again(lab: Lab) -> None:
    layer = lab.freeze(cell())
    lab.attempt(cell(), layer)
    last = list(lab.provider.machines.values())[-1]
    assert last.moments.count("arm") == 1, "by the layer"
    assert "pin" not in last.moments


def test_what_was_planted_while_freezing_is_ours_and_forgotten_it_is_a_stranger_s(lab: Lab) -> None:
    layer = lab.freeze(cell())
    facts, _ = judged(lab, lab.attempt(cell(), layer.model_copy(update={"planted": ()})))
    assert {d.owner for d in facts.detections} == {Owner.PLANTED, Owner.UNATTRIBUTED}


def test_an_incident_is_found_from_a_layer_as_without_one(lab: Lab) -> None:
    asked = cell(CLEAN, INCIDENT)
    _, finding = judged(lab, lab.attempt(asked, lab.freeze(asked)))
    _, without = judged(lab, lab.attempt(asked, None))
    assert (finding.outcome, finding.stage, finding.rule) == (without.outcome, without.stage, without.rule)
    assert finding.outcome is Outcome.QUARANTINED


# --- wrong layers -----------------------------------------------------------------------------------------------------


def dead(files: dict[str, bytes]) -> bool:
    del files
    return False


def other_set(files: dict[str, bytes]) -> bool:
    known = json.loads(files[SET_FILE])
    files[SET_FILE] = json.dumps({**known, "0" * 64: "Fake.More"}).encode()
    return True


@pytest.mark.parametrize("spoil", [dead, other_set], ids=["dead", "another set on the disk"])
def test_a_layer_that_is_not_what_it_should_be_makes_no_good_cell(lab: Lab, spoil: Spoil) -> None:
    layer = lab.freeze(cell())
    lab.provider.spoil = spoil
    _, finding = judged(lab, lab.attempt(cell(), layer))
    assert finding.outcome is Outcome.INCONCLUSIVE
    assert "was not proven" in finding.reason or "did not arrive whole" in finding.reason


def test_the_layer_of_another_signature_makes_no_good_cell(lab: Lab) -> None:
    layer = lab.freeze(cell(INCIDENT))
    _, finding = judged(lab, lab.attempt(cell(CLEAN), layer))
    assert finding.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("spoil", [dead, other_set], ids=["dead", "another set on the disk"])
def test_a_layer_whose_guest_does_not_prove_it_is_not_kept(lab: Lab, spoil: Spoil) -> None:
    lab.provider.spoil = spoil
    with pytest.raises(ProtectionNotProven, match="was not seen in a guest that began with it"):
        lab.freeze(cell())
    assert lab.freezer.layer(cell().image, protection_of(cell(), code="c0de")) is None


def test_a_set_without_a_canary_is_not_frozen(lab: Lab) -> None:
    asked = cell()
    blind = asked.product.schedule[0].model_copy(update={"knows_canary": False})
    chosen = asked.product.model_copy(update={"schedule": (blind,)})
    with pytest.raises(ProtectionNotProven):
        lab.freeze(asked.model_copy(update={"product": chosen}))


class ArmedOnly:
    """A product whose adapter cannot take over what runs."""

    def __init__(self, tools: Tools) -> None:
        self._whole = FakeProduct(tools)

    def arm(self, signature: Signature, *, deadline: Deadline) -> None:
        self._whole.arm(signature, deadline=deadline)


def test_a_product_that_cannot_be_taken_over_is_not_frozen() -> None:
    lab = Lab(adapter=ArmedOnly)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be frozen"):
        lab.freeze(cell())


# --- which layer is whose ---------------------------------------------------------------------------------------------


def test_another_set_profile_or_adapter_is_another_protection() -> None:
    asked = cell()
    up = protection_of(asked, code="c0de")
    profile = asked.model_copy(update={"product": asked.product.model_copy(update={"profile": "strict"})})
    others = [protection_of(cell(INCIDENT), code="c0de"), protection_of(profile, code="c0de")]
    others += [protection_of(asked, code="other")]
    assert len({up.digest(), *(other.digest() for other in others)}) == 4
    assert protection_of(cell(CLEAN, INCIDENT), code="c0de") == up, "what it moves to is no part of it"


def test_each_product_of_ours_has_a_code_of_its_own() -> None:
    assert len({code_of(name) for name in ("none", "clamav", "fapolicyd", "guard")}) == 4
    with pytest.raises(InputError, match="no product"):
        code_of("nobody")


def test_controls_and_providers_without_layers_have_none(lab: Lab) -> None:
    class Kit:
        provider = lab.provider

    assert layers_of(Kit())(cell()) is None  # type: ignore[arg-type]
    asked: list[Mapping[str, object]] = []

    class Asked(FakeFreezer):
        def layer(self, image: object, up: object) -> Layer | None:
            asked.append({"image": image, "up": up})
            return None

    assert layers_of(Asked(lab.provider))(control()) is None  # type: ignore[arg-type]
    assert asked == []


def test_a_layer_is_found_for_its_image_content_alone(lab: Lab) -> None:
    lab.freeze(cell())
    up = protection_of(cell(), code="c0de")
    assert lab.freezer.layer(cell().image, up) is not None
    assert lab.freezer.layer(make_image(content="sha256:another-content"), up) is None
    assert signature(CLEAN) == up.signature
