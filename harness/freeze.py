"""Effects. Freezes a guest with a cell's protection up, so that later guests of such cells begin with it.

1. The product is set up as in any cell, in a guest that is frozen behind it. Nothing else is planted or looked at.
2. Before the layer may be used, a guest of it goes through a whole cell with a harmless build, and a control beside it:
   canaries refused, the markers of exactly that set, nothing unread. What a cell of a suite proves has then been seen
   to work from this layer.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

from harness import __version__
from harness.attempt import AttemptMeta, Kind, Role
from harness.deadline import Deadline
from harness.errors import InputError, ProtectionNotProven
from harness.judge import Parsers, places, read
from harness.plan import Cell
from harness.probes import harmless
from harness.products.api import Resumes, Tools
from harness.protection import Layer, Protection
from harness.providers.api import Endpoint, Freezes, FrozenLayer
from harness.recorder import Recorder
from harness.rules import decide
from harness.run_cell import Rig, run_cell
from harness.verdict import Outcome

RUN_ID = "freeze"


def freeze(
    cell: Cell, up: Protection, *, rig: Rig, freezer: Freezes, parsers: Parsers, report: Callable[[str], None]
) -> FrozenLayer:
    """Give the layer of a cell's image and protection, freezing it only when there is none.

    Args:
        cell: Any cell with that image and protection; its build and scenario play no part.
        up: What ``protection_of`` gives for it.
        rig: How guests are made and reached.
        freezer: The provider's kit.
        parsers: Read what the product wrote.
        report: Takes one line of progress at a time.

    Raises:
        InputError: The product cannot be taken over in a guest that was frozen with it.
        ProtectionNotProven: It did not get ready, or its protection was not seen in a guest of the layer.
    """
    harmless_cell = harmless(cell)

    def arm(endpoint: Endpoint, deadline: Deadline) -> tuple[dict[str, str], ...]:
        report(f"layer: setting up {up.product} with {up.signature.label}")
        return _arm(harmless_cell, rig, endpoint, deadline)

    def prove(layer: Layer) -> None:
        report("layer: a guest of it proves its protection")
        _prove(harmless_cell, layer, rig, parsers)

    return freezer.freeze(cell.image, up, arm=arm, prove=prove, report=report)


def _arm(cell: Cell, rig: Rig, endpoint: Endpoint, deadline: Deadline) -> tuple[dict[str, str], ...]:
    recorder = Recorder(_meta(cell, rig))
    with closing(rig.connect(endpoint)) as transport:
        guest = rig.system(cell, transport)
        guest.await_ready(deadline=deadline.sooner(90.0))
        tools = Tools(
            guest=guest,
            record=recorder.record,
            profile=cell.product.profile,
            nonce=recorder.attempt().meta.nonce,
            known=cell.product.known or cell.product.schedule,
        )
        product = rig.product(cell.product.name, tools)
        if not isinstance(product, Resumes):
            msg = f"'{cell.product.name}' cannot be frozen: its adapter has no 'resume'."
            raise InputError(msg, hint="Its cells set it up each time.")
        product.arm(cell.product.schedule[0], deadline=deadline)
    planted = recorder.attempt().of(Kind.PLANTED)
    return tuple({name: str(path) for name, path in place.items()} for event in planted for place in places(event))


def _prove(cell: Cell, layer: Layer, rig: Rig, parsers: Parsers) -> None:
    control = run_cell(_meta(cell.control(), rig), rig, run_id=RUN_ID)
    attempt = run_cell(_meta(cell, rig), replace(rig, layer=lambda _cell: layer), run_id=RUN_ID)
    facts = read(attempt, parsers=parsers)
    finding = decide(facts, [read(control, parsers=parsers)])
    reacted = [canary.reacted for canary in facts.canaries]
    if finding.outcome is Outcome.COMPATIBLE and all(reacted) and reacted:
        return
    troubles: Sequence[str] = [trouble.summary for trouble in facts.troubles]
    msg = f"The protection of {layer.protection.product} was not seen in a guest that began with it."
    raise ProtectionNotProven(msg, detail="\n".join([finding.reason, *troubles]))


def _meta(cell: Cell, rig: Rig) -> AttemptMeta:
    nonce = secrets.token_hex(6)
    return AttemptMeta(
        id=f"{RUN_ID}-{nonce}",
        cell=cell,
        role=Role.FIRST,
        ordinal=1,
        alone=True,
        nonce=nonce,
        provider=rig.provider.name,
        tool_version=__version__,
        started_at=datetime.now(UTC),
    )
