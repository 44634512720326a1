"""A pytest plugin: a test that its time limit cannot end takes the whole run with it, and says where it was stuck.

pytest-timeout raises in the main thread. One that then waits for a pool of threads (``ThreadPoolExecutor`` joins its
workers on the way out) would wait for ever, and CI with it.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator

import pytest

#: How long a test has to come to its end after its limit, in seconds.
GRACE_S = float(os.environ.get("HTS_TEST_GRACE_S", "60"))

#: Standard error as it was before tests' output was captured.
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep standard error."""
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch over one test, its fixtures included."""
    mark = item.get_closest_marker("timeout")
    limit = (mark.args[0] if mark.args else mark.kwargs.get("timeout")) if mark else item.config.getini("timeout")
    faulthandler.dump_traceback_later(float(limit or 0) + GRACE_S, exit=True, file=item.config.stash[STDERR])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
