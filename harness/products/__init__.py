"""Security products: how each is set up, asked and read."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, cast

from harness.errors import InputError
from harness.plug_ins import Group, PlugIn, broken, names, part, plug_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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

#: Where a plug-in's package has its two halves; apart, as ours are.
ADAPTER_PLACE, PARSER_PLACE = "adapter:ADAPTER", "parse:PARSER"


def product_names() -> tuple[str, ...]:
    """Give every product that a suite may name: ours, and those of other packages."""
    return names(Group.PRODUCTS, ADAPTERS)


def parser_of(product: str) -> ProductParser:
    """Give a product's parser.

    Raises:
        InputError: There is no such product.
        LabError: A plug-in brings it and is broken.
    """
    if product in PARSERS:
        return cast("ProductParser", _named(PARSERS[product]))
    return parser_in(_brought(product))


def adapter_of(product: str, tools: Tools) -> Product:
    """Make a product's adapter for one guest.

    Raises:
        InputError: There is no such product.
        LabError: A plug-in brings it and is broken.
    """
    if product in ADAPTERS:
        return cast("Callable[[Tools], Product]", _named(ADAPTERS[product]))(tools)
    return adapter_in(_brought(product))(tools)


@cache
def code_of(product: str) -> str:
    """Give the sha256 of what sets a product up: all of the package that its adapter is in.

    Raises:
        InputError: There is no such product.
    """
    module = ADAPTERS[product].partition(":")[0] if product in ADAPTERS else f"{_brought(product).target}.adapter"
    total = hashlib.sha256()
    for file in sorted(files(module.rpartition(".")[0]).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            total.update(file.name.encode() + b"\n" + file.read_bytes())
    return total.hexdigest()


def require(products: Iterable[str]) -> None:
    """Load every product of a run before its first guest; raises as ``parser_of`` does."""
    for name in products:
        if name not in ADAPTERS:
            brought = _brought(name)
            parser_in(brought)
            adapter_in(brought)


def parser_in(brought: PlugIn) -> ProductParser:
    """Give a plug-in's parser; ``LabError`` when it is none."""
    parser = part(brought, f"{brought.target}.{PARSER_PLACE}")
    if not callable(parser) or not isinstance(getattr(parser, "version", None), int):
        raise broken(brought, "its PARSER is not callable, or has no whole number as its 'version'")
    return cast("ProductParser", parser)


def adapter_in(brought: PlugIn) -> Callable[[Tools], Product]:
    """Give what makes a plug-in's adapter; ``LabError`` when it is none."""
    adapter = part(brought, f"{brought.target}.{ADAPTER_PLACE}")
    lacks = [name for name in ("arm", "pin", "sample", "canary", "collect") if not hasattr(adapter, name)]
    if not callable(adapter) or lacks:
        raise broken(brought, f"its ADAPTER is no class of a product; it lacks {', '.join(lacks) or 'a constructor'}")
    return cast("Callable[[Tools], Product]", adapter)


def _brought(product: str) -> PlugIn:
    brought = plug_in(Group.PRODUCTS, product)
    if brought is None:
        raise InputError(
            f"There is no product '{product}'.",
            hint=f"Products: {', '.join(product_names())}; other packages can bring more.",
        )
    return brought


def _named(place: str) -> object:
    module, _, name = place.partition(":")
    value: object = getattr(import_module(module), name)
    return value
