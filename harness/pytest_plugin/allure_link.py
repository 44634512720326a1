"""Driver. Cells in allure-pytest's results: when it reports one of ours, the result is filled in before it is written.

allure-pytest stamps a step with the time at which it is told of it, and a cell's steps are over by then. Its own plugin
hook ``report_result`` hands every result round before the writer gets it, so the true times go in there.

Source: allure-python-commons 2.16, ``AllureUserHooks.add_label``, ``AllureDeveloperHooks.report_result``.
"""

from __future__ import annotations

from contextlib import suppress

import allure_commons
import pytest
from allure_commons.model2 import TestResult

from harness.errors import HarnessError
from harness.pytest_plugin.suite_file import CellItem
from harness.renderers.allure_results import Lanes, fill

_NAME = "hts-compat-allure"

#: A label that names an item until its result is written.
_LABEL = "hts-compat-item"


class AllureLink:
    """A plugin of pytest and of allure: it notes our items as they begin, and fills in their results as they end."""

    def __init__(self) -> None:
        self._items: dict[str, CellItem] = {}
        self._lanes = Lanes()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Mark the result that allure-pytest has just opened, before anything skips the item."""
        if not isinstance(item, CellItem):
            return
        self._items[item.nodeid] = item
        allure_commons.plugin_manager.hook.add_label(label_type=_LABEL, labels=[item.nodeid])
        if item.cell.unsupported is not None:
            with suppress(HarnessError):
                item.judge()

    @allure_commons.hookimpl(tryfirst=True)
    def report_result(self, result: TestResult) -> None:
        """Fill a result in, if it is one of ours."""
        named = next((label.value for label in result.labels if label.name == _LABEL), None)
        item = self._items.pop(named, None) if named is not None else None
        result.labels = [label for label in result.labels if label.name != _LABEL]
        if item is None or item.judged is None:
            return
        judged = item.judged
        for name, body in fill(result, judged.test, judged.evidence, judged.run, self._lanes).items():
            allure_commons.plugin_manager.hook.report_attached_data(body=body, file_name=name)


def link(config: pytest.Config) -> None:
    """Have the results of our items filled in from now on; a second call changes nothing."""
    if config.pluginmanager.hasplugin(_NAME):
        return
    both = AllureLink()
    config.pluginmanager.register(both, _NAME)
    allure_commons.plugin_manager.register(both)
    config.add_cleanup(lambda: allure_commons.plugin_manager.unregister(both))
