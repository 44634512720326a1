"""A run whose guests have a way out: which verdicts may be answered from the store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.egress import Egress, VendorCloud
from harness.plan import Cell
from harness.products.fake_log import NAME
from harness.session import Options, run
from harness.stores.api import Store
from harness.stores.memory import MemoryStore
from harness.verdict import Outcome
from tests.fake_lab import cell, judged, parsers, plan
from tests.way_out.fake_way import FakeWay

HOSTS = Egress(private_hosts=("localhost:1",))
CLOUD = VendorCloud(name="a-cloud", product=NAME, hosts=("cloud.example.com:443",))


@pytest.fixture
def way() -> Iterator[FakeWay]:
    made = FakeWay()
    yield made
    made.end()


def ran(way: FakeWay, asked: Cell, store: Store, run_id: str) -> tuple[int, int]:
    options = Options(run_id=run_id, jobs=1, provider="fake")
    done = run(plan(asked), rig=way.rig(), store=store, parsers=parsers, options=options)
    judgement = judged(done, asked)
    assert judgement.outcome is Outcome.COMPATIBLE
    assert judgement.cloud == asked.asks_a_cloud
    assert (judgement.cell["egress"] is None) == (asked.egress is None)
    return done.attempts_made, done.answered_from_store


def test_a_verdict_that_was_gained_with_a_way_out_never_answers_for_one_without_it(way: FakeWay) -> None:
    store = MemoryStore()
    opened = cell().model_copy(update={"egress": HOSTS})
    assert ran(way, opened, store, "run-1") == (2, 0)
    assert ran(way, opened, store, "run-2") == (0, 1)
    assert ran(way, cell(), store, "run-3") == (2, 0)


def test_a_verdict_beside_an_open_cloud_is_never_answered_from_the_store(way: FakeWay) -> None:
    store = MemoryStore()
    asked = cell().model_copy(update={"egress": Egress(vendor_clouds=(CLOUD,))})
    assert ran(way, asked, store, "run-1")[1] == 0
    made, answered = ran(way, asked, store, "run-2")
    assert made >= 1
    assert answered == 0
