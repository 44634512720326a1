"""Parts of a long run over the targets, each of which a process of its own can try."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.mutation import Thrown, drawn
from tests.fuzz.target import Target
from tests.fuzz.targets import targets

#: So many of a target's inputs are drawn by hypothesis, which is slow and shrinks.
DRAWN = 500

#: A broken target is left after so many inputs that broke it.
ENOUGH = 3

#: Inputs of a target that one process tries at a stretch, as a part of all.
PIECES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Some of a target's inputs; ``first`` None: drawn by hypothesis."""

    target: str
    seed: int
    first: int | None
    many: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of a task."""

    task: Task
    inputs: int
    took_s: float
    problems: tuple[str, ...]


def shares(chosen: tuple[Target, ...], inputs: int) -> dict[str, int]:
    """Part the inputs so that every target runs about equally long; none gets fewer than ten."""
    weight = sum(1 / target.cost for target in chosen)
    return {target.name: max(10, round(inputs / target.cost / weight)) for target in chosen}


def tasks_for(share: int, target: str, number: int) -> Iterator[Task]:
    """Part a target's share."""
    by_hypothesis = min(share, DRAWN)
    yield Task(target=target, seed=number, first=None, many=by_hypothesis)
    step = max((share - by_hypothesis) // PIECES, 1000)
    for first in range(by_hypothesis, share, step):
        yield Task(target=target, seed=number, first=first, many=min(step, share - first))


def attempt(task: Task) -> Tried:
    """Try a task's inputs."""
    begun = time.monotonic()
    target = known()[task.target]
    inputs, problems = draw_all(target, task) if task.first is None else throw_all(target, task)
    return Tried(task=task, inputs=inputs, took_s=time.monotonic() - begun, problems=tuple(problems))


def throw_all(target: Target, task: Task) -> tuple[int, list[str]]:
    """Try inputs of Python's own dice; give how many were tried, and what broke a promise."""
    assert task.first is not None
    problems: list[str] = []
    for number in range(task.first, task.first + task.many):
        given_input = target.inputs(Thrown(f"{task.seed}/{target.name}/{number}"))
        try:
            target.check(given_input)
        except Exception as error:  # noqa: BLE001 - whatever a reader raises is the finding
            problems.append(f"--number {number}: {type(error).__name__}: {error}\n{given_input!r:.2000}")
            if len(problems) == ENOUGH:
                return number + 1 - task.first, problems
    return task.many, problems


def draw_all(target: Target, task: Task) -> tuple[int, list[str]]:
    """Try inputs that hypothesis draws; give how many were tried, and the smallest that broke a promise."""
    tried = 0

    def counted(given_input: object) -> None:
        nonlocal tried
        tried += 1
        target.check(given_input)

    quick = settings(
        max_examples=task.many,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    try:
        seed(task.seed)(quick(given(drawn(target.inputs))(counted)))()
    except Exception as error:  # noqa: BLE001 - whatever a reader raises is the finding
        notes = "\n".join(getattr(error, "__notes__", ()))
        return tried, [f"{type(error).__name__}: {error}\n{notes:.2000}"]
    return tried, []


@cache
def known() -> dict[str, Target]:
    found = {target.name: target for target in targets()}
    # pefile collects the garbage of the whole process behind each program; what is loaded by now is none.
    gc.collect()
    gc.freeze()
    return found
