from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.behaviour import TEST_PRODUCTS, Act, Behaviour, shown_product
from harness.products import ADAPTERS, PARSERS


def test_a_test_product_says_so_in_its_name_and_a_real_one_does_not() -> None:
    assert [shown_product(name) for name in ("guard", "clamav", "none")] == ["TEST guard", "clamav", "none"]


def test_every_test_product_is_a_pack() -> None:
    assert set(ADAPTERS) & set(PARSERS) >= TEST_PRODUCTS


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"does": "deny", "after_s": 1}, "done at the open itself"),
        ({"does": "lock", "for_s": 4, "after_s": 1}, "done at the open itself"),
        ({"does": "quarantine", "for_s": 4}, "does not last"),
        ({"does": "kill", "for_s": 4}, "does not last"),
        ({"does": "lock"}, "needs 'for_s'"),
        ({"does": "put_back"}, "needs 'for_s'"),
        ({"does": "alert", "silent": True}, "nobody hears"),
        ({"does": "explode"}, "does"),
    ],
)
def test_a_behaviour_that_makes_no_sense_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Behaviour.model_validate(settings)


def test_a_hang_may_be_for_good_and_what_is_known_is_taken_unless_said_otherwise() -> None:
    assert Behaviour(does=Act.HANG).for_s is None
    assert Behaviour() == Behaviour(does=Act.QUARANTINE, after_s=0.0)
