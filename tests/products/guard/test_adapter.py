from __future__ import annotations

import json

import pytest

from harness.behaviour import Act, Behaviour
from harness.errors import InputError
from harness.products.api import Tools
from harness.products.guard.adapter import Guard, said
from harness.products.guard.sets import CANARY_NAME, MARKER_PREFIX, set_of
from harness.systems.fake import FakeSystem
from harness.transports.fake import FakeTransport
from tests.builders import make_build, make_image, make_signature
from tests.fake_lab import guarded_machine


def known(**changes: object) -> dict[str, dict[str, object]]:
    module = next(f for f in make_build().files if f.path == "hts_comm.dll")
    signature = make_signature("new", known=[module]).model_copy(update=changes)
    return {item["threat"]: item for item in json.loads(set_of(signature))["known"]}


def test_a_set_knows_its_marker_and_the_canary_and_refuses_both_for_good() -> None:
    assert set(known()) == {CANARY_NAME, MARKER_PREFIX + "new", "Test.hts_comm.dll"}
    assert {known()[name]["does"] for name in (CANARY_NAME, MARKER_PREFIX + "new")} == {"deny"}
    assert CANARY_NAME not in known(knows_canary=False)
    assert MARKER_PREFIX + "old" in known(marker="old")


def test_what_is_known_is_taken_unless_its_rule_says_otherwise() -> None:
    assert known()["Test.hts_comm.dll"]["does"] == "quarantine"
    module = next(f for f in make_build().files if f.path == "hts_comm.dll")
    [file] = make_signature("new", known=[module]).known
    locked = file.model_copy(update={"behaviour": Behaviour(does=Act.LOCK, for_s=4)})
    scripted = known(known=(locked,))["Test.hts_comm.dll"]
    assert (scripted["does"], scripted["for_s"]) == ("lock", 4)


def test_a_status_is_taken_over_as_the_guard_says_it() -> None:
    assert said(b'{"version": "1.0", "definitions": "old"}') == {
        "version": "1.0",
        "components": {"engine": "1.0", "definitions": "old"},
    }


@pytest.mark.parametrize("raw", [b"", b"[]", b"nonsense", b"{}", b'{"version": "1.0"}'])
def test_a_status_that_cannot_be_read_says_nothing(raw: bytes) -> None:
    assert said(raw) == {}


def test_a_profile_that_it_has_not_is_bad_input() -> None:
    guest = FakeSystem(make_image(), FakeTransport(guarded_machine("guest")))
    tools = Tools(guest=guest, record=lambda *a, **k: None, profile="strict", nonce="0" * 12, known=())
    with pytest.raises(InputError, match="no profile 'strict'"):
        Guard(tools)
