"""A test that waits in a pool of threads ends the run, with the place where it waits."""

from __future__ import annotations

import pytest

from harness.rig import ROOT

WAITS_IN_A_POOL = """
import threading
from concurrent.futures import ThreadPoolExecutor
import pytest

from harness.rig import ROOT

def test_before(): pass

@pytest.mark.timeout(0.3)
def test_waits():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(threading.Event().wait).result()
"""


def test_a_test_that_waits_in_a_pool_of_threads_ends_the_run_and_says_where(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTS_TEST_GRACE_S", "0.3")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(WAITS_IN_A_POOL)
    ended = pytester.runpytest_subprocess("-p", "tests.stuck", "-p", "no:hts_compat", timeout=30)
    assert ended.ret == 1
    assert "in test_waits" in ended.stderr.str()
    assert "passed" not in ended.stdout.str(), "it was ended in the middle"
