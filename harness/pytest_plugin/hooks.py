"""Driver. The hook that this plugin adds to pytest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.pytest_plugin.parts import Parts


@pytest.hookspec(firstresult=True)
def pytest_hts_compat_parts(config: pytest.Config) -> Parts | None:
    """Give the lab that suites are run with: images, products, parsers and rig. The first answer counts.

    A ``conftest.py`` implements it to bring a lab of its own; without one, ``hts-compat``'s own lab is used.
    """
