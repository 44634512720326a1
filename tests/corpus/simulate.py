"""Records the stories of the simulated product: ``python -m tests.corpus.simulate FILE``. The same bytes every time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.attempt import Attempt
from harness.session import Options, run
from harness.stores.memory import MemoryStore
from tests.corpus.archive import attempts_in, pack
from tests.corpus.labels import SIMULATED
from tests.fake_lab import FakeLab, parsers, plan
from tests.faults.clock import simulated
from tests.faults.fake_runs import STORIES


def attempts_of(name: str) -> list[Attempt]:
    """Run a story, and give its attempts, each named after it."""
    story = STORIES[name]
    store = MemoryStore()
    with simulated(name):
        options = Options(run_id="recorded", jobs=1, provider="fake")
        rig = FakeLab(story.script, faults=dict(story.faults)).rig()
        run(plan(story.of), rig=rig, store=store, parsers=parsers, options=options)
    made = attempts_in(store)
    return [
        replace(a, meta=a.meta.model_copy(update={"id": f"{name}/{n}".replace(" ", "-")})) for n, a in enumerate(made)
    ]


def main(arguments: Sequence[str]) -> int:
    file = Path(arguments[0])
    file.write_bytes(pack(attempt for name in sorted(SIMULATED) for attempt in attempts_of(name)))
    print(f"{file}: {file.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
