"""What all monitors share."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.deadline import Deadline
from harness.providers.qemu.monitor import Loop


def test_threads_that_need_the_first_loop_at_the_same_moment_get_the_same_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two were made once: a machine that was connected in one and asked in the other was waited for to the deadline."""
    second_has_come = threading.Event()
    new = asyncio.new_event_loop

    def slow() -> asyncio.AbstractEventLoop:
        second_has_come.wait(0.2)  # nobody comes who waits for the first
        return new()

    monkeypatch.setattr(asyncio, "new_event_loop", slow)
    loop = Loop()

    def asked(number: int) -> asyncio.AbstractEventLoop:
        if number:
            second_has_come.set()
        return loop.running()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(asked, range(2))
    try:
        assert first is second
    finally:
        for one in {first, second}:
            one.call_soon_threadsafe(one.stop)
            for _ in Deadline.after(20).poll(0.01):
                if not one.is_running():
                    break
            one.close()
