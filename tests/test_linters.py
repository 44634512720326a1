"""Style and types are part of the tests: what ``make test`` passes, a reviewer need not look for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.rig import ROOT


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "arguments", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=["ruff", "format", "mypy"]
)
def test_the_checkout_is_clean(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=290
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
