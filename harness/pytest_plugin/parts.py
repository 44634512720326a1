"""Driver. What a suite is read and run with: the machine's own lab, unless a conftest brings another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.image import Image
from harness.images import Images
from harness.judge import Parsers
from harness.load import LoadedSuite
from harness.products import parser_of, product_names
from harness.rig import ROOT, make_rig, sweep
from harness.run_cell import Rig
from harness.yaml_files import images_named_in


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


def own_parts(suite: Path, *, provider: str) -> Parts:
    """Give this machine's lab.

    Args:
        suite: Whose images are wanted.
        provider: Where guests come from; with ``auto`` as ``lab_choice`` says.
    """
    return Parts(
        images=Images(ROOT / "vm_images", provider=provider, wanted=images_named_in(suite)),
        products=product_names(),
        parsers=parser_of,
        rig=make_rig,
        sweep=sweep,
    )
