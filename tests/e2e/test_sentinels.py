"""Sentinels on real guests: protection goes wrong in the middle of a run where no canary and no marker can see it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.happening import Happening
from harness.image import Image
from harness.images import Images
from harness.load import load_suite
from harness.matrix import Matrix
from harness.plan import Cell, Plan, Sentinels, expand
from harness.probes import THREAT, probes_of
from harness.products import parser_of, product_names
from harness.products.clamav.adapter import CONF, DATABASE
from harness.providers.api import Endpoint
from harness.providers.docker import DockerProvider
from harness.renderers.api import renderer
from harness.report import report_for
from harness.rig import ROOT, make_rig
from harness.run_cell import Rig
from harness.session import Options, run
from harness.stores.api import RunState
from harness.stores.sqlite import SqliteStore
from harness.systems.api import GuestSystem
from harness.transports.api import Transport
from harness.verdict import Outcome
from tests.fake_lab import Heard
from tests.faults.blows import Arm, Blow
from tests.faults.chaos_guests import StruckTransport

#: As a vendor's list of exceptions does: one name is not minded any more, and everything else as before.
#: Source: ClamAV, "Allow list signatures (ign2)".
FORGIVEN = Blow(
    name="the known bad is forgiven",
    script=f"echo {THREAT} > {DATABASE.parent}/local.ign2 && clamdscan -c {CONF} --reload",
)

#: The guests of the known bad cell: by the first the product is admitted, the second is behind the first cell.
RIGHT_GUESTS = 2


def forgiving(rig: Rig, bad: Cell, said: list[str]) -> Rig:
    """Give a rig in whose guests the known bad is forgiven from the third of its cell on, once protection is up."""
    assert isinstance(rig.provider, DockerProvider)
    arm = Arm(rig.provider.client)
    guests = 0

    def connect(endpoint: Endpoint) -> Transport:
        def fall() -> None:
            said.append(arm.strike(endpoint.address, FORGIVEN)[1])

        return StruckTransport(rig.connect(endpoint), fall, behind=FORGIVEN.behind)

    def system(cell: Cell, transport: Transport) -> GuestSystem:
        nonlocal guests
        if cell.execution_key() == bad.execution_key():
            guests += 1
            if guests > RIGHT_GUESTS and isinstance(transport, StruckTransport):
                transport.falls_at = 1
        return rig.system(cell, transport)

    return replace(rig, connect=connect, system=system)


@pytest.mark.guest
@pytest.mark.timeout(600)
def test_a_product_that_begins_to_forgive_in_the_middle_of_a_run_takes_back_what_was_judged_since(
    reference_image: Image, tmp_path: Path
) -> None:
    del reference_image  # its fixture says why there are no guests
    suite = ROOT / "scenarios" / "suites" / "smoke.yaml"
    loaded = load_suite(
        suite, images=Images(ROOT / "vm_images"), known_products=product_names(), progress=lambda _: None
    )
    every = loaded.suite.model_copy(update={"sentinels": Sentinels(every=1)})
    plan = Plan(suite=every, cells=expand(every).cells)
    green, red = (cell for cell in plan.cells if not cell.is_control)
    (probe,) = probes_of(plan)
    said: list[str] = []
    store, heard = SqliteStore(tmp_path / "store"), Heard()
    done = run(
        plan,
        rig=forgiving(make_rig("docker", loaded), probe.bad.cell, said),
        store=store,
        parsers=parser_of,
        options=Options(run_id="run-1", jobs=1, provider="docker", fresh=True),
        listeners=[heard],
    )
    assert said, "it was never forgiven"
    assert set(said) == {"done"}
    assert done.state is RunState.COMPLETE
    stays, taken = done.judgements[green.id], done.judgements[red.id]
    assert (stays.outcome, stays.rule) == (Outcome.COMPATIBLE, "all.passed")
    assert (taken.outcome, taken.rule) == (Outcome.INCONCLUSIVE, "sentinel.wrong")
    assert "the known bad sentinel" in taken.reason
    assert "It was QUARANTINED at 'connect'" in taken.reason
    assert any("known bad" in e.text for e in heard.events if e.what is Happening.WARNED)

    report = report_for(store, store.find_run("run-1"), parsers=parser_of)
    for name in ("html", "md", "junit", "csv"):
        drawn = renderer(name).render(report).decode()
        assert "Withdrawn" in drawn or "sentinel.wrong" in drawn, name
    cell = next(c for c in Matrix.from_json(renderer("json").render(report)).cells if c.id == red.id)
    assert (cell.outcome, cell.rule) == (Outcome.INCONCLUSIVE, "sentinel.wrong")
    store.close()
