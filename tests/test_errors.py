"""Every error of ours says whose trouble it is, and a blame has one exit code of the contract."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import harness
from harness.errors import EXIT_BY_BLAME, Blame, HarnessError, InputError, LabError


def subclasses(of: type[HarnessError]) -> Iterator[type[HarnessError]]:
    for child in of.__subclasses__():
        yield child
        yield from subclasses(child)


def all_errors() -> list[type[HarnessError]]:
    for module in pkgutil.walk_packages(harness.__path__, "harness."):
        if not module.name.startswith(("harness.stores.migrations", "harness.pytest_plugin")):
            importlib.import_module(module.name)
    ours = {error for error in subclasses(HarnessError) if error.__module__.startswith("harness.")}
    return sorted(ours, key=lambda error: error.__qualname__)


@pytest.mark.parametrize("error", all_errors())
def test_every_error_has_a_blame_that_ends_a_command_with_2_or_5(error: type[HarnessError]) -> None:
    assert issubclass(error, InputError | LabError)
    made = error("It does not work.", detail="why", hint="Do this.")
    assert (str(made), made.summary, made.detail, made.hint) == (
        "It does not work.",
        "It does not work.",
        "why",
        "Do this.",
    )
    assert made.exit_code == {Blame.INPUT: 2, Blame.LAB: 5}[error.blame]
    assert error.__doc__


def test_what_the_user_wrote_is_never_tried_again() -> None:
    assert not [error for error in all_errors() if error.blame is Blame.INPUT and error.retryable]


def test_every_blame_has_an_exit_code() -> None:
    assert set(EXIT_BY_BLAME) == set(Blame)


def test_detail_and_hint_may_be_left_out() -> None:
    made = HarnessError("It does not work.")
    assert (made.detail, made.hint, made.exit_code) == ("", "", 5)
