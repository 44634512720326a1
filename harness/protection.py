"""Pure. Protection that is up in a guest from its first moment, because its machine was frozen with it.

It saves the time of setting up and proves nothing: the cell reads back what the product was given, sees its markers and
canaries refused and records its version, as behind any other start. A wrong layer costs a cell; it makes no good one.
"""

from __future__ import annotations

from pydantic import Field

from harness.frozen import Frozen
from harness.image import Image
from harness.plan import Cell
from harness.signature import Signature


class Protection(Frozen):
    """What is up: a product with its settings, and one signature set. ``code`` is the digest of what sets it up."""

    product: str
    profile: str
    signature: Signature
    code: str


class Layer(Frozen):
    """An image whose guests begin with a protection up.

    ``planted`` holds every place at which something was planted while it was set up: the product's logs name them.
    """

    image: Image
    protection: Protection
    planted: tuple[dict[str, str], ...] = Field(default=())


def protection_of(cell: Cell, *, code: str) -> Protection:
    """Give what must be up when a cell's first step begins."""
    chosen = cell.product
    return Protection(product=chosen.name, profile=chosen.profile, signature=chosen.schedule[0], code=code)
