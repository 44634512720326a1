"""Security products: how each is set up, asked and read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.observation import ProductParser
    from harness.products.api import Product, Tools

#: Product name -> where its adapter and its parser live. Imported on use, so that reading old attempts needs no driver.
ADAPTERS = {
    "none": "harness.products.none.adapter:NoProduct",
    "clamav": "harness.products.clamav.adapter:ClamAv",
    "fapolicyd": "harness.products.fapolicyd.adapter:Fapolicyd",
    "guard": "harness.products.guard.adapter:Guard",
}
PARSERS = {
    "none": "harness.products.none.parse:PARSER",
    "clamav": "harness.products.clamav.parse:PARSER",
    "fapolicyd": "harness.products.fapolicyd.parse:PARSER",
    "guard": "harness.products.guard.parse:PARSER",
}


def parser_of(product: str) -> ProductParser:
    """Give a product's parser; ``KeyError`` for an unknown product."""
    parser: ProductParser = _named(PARSERS[product])
    return parser


def adapter_of(product: str, tools: Tools) -> Product:
    """Make a product's adapter for one guest; ``KeyError`` for an unknown product."""
    adapter: Product = _named(ADAPTERS[product])(tools)
    return adapter


def _named(place: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - one name of one module; callers state its type
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
