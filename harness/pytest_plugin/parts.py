"""Driver. What a suite is read and run with: the machine's own lab, unless a conftest brings another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.image import Image
from harness.judge import Parsers
from harness.load import LoadedSuite
from harness.products import parser_of, product_names
from harness.rig import ROOT, Images, make_rig, sweep
from harness.run_cell import Rig


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A lab, as the plugin needs it.

    Attributes:
        images: All images that a suite may name.
        products: All products that a suite may name.
        parsers: Gives a product's parser.
        rig: Makes the rig of a run, from the name of a provider.
        sweep: Ends what is left of a run.
    """

    images: Mapping[str, Image]
    products: Sequence[str]
    parsers: Parsers
    rig: Callable[[str, LoadedSuite], Rig]
    sweep: Callable[[str], object]


def own_parts() -> Parts:
    """Give this machine's lab."""
    return Parts(
        images=Images(ROOT / "vm_images"), products=product_names(), parsers=parser_of, rig=make_rig, sweep=sweep
    )
