"""Driver. A suite file as pytest collects it, and each of its cells as a test.

1. A suite is read and checked completely when it is collected: a bad one is a collection error with all its problems.
2. A cell waits for its own judgement in its set-up, where lab trouble belongs; its test is the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from harness.as_test import AsTest, Status, as_test, evidence_lines, observed_lines, waivers_for
from harness.errors import HarnessError
from harness.evidence import CellEvidence
from harness.gate import Policy
from harness.images import Images
from harness.inert_text import visible
from harness.load import LoadedSuite, load_policy, load_suite
from harness.matrix import MatrixRun
from harness.plan import Cell, expand
from harness.pytest_plugin.background import BackgroundRun, Wishes
from harness.pytest_plugin.parts import Parts, own_parts
from harness.pytest_plugin.plugin import RUNS
from harness.renderers.explain import explain
from harness.yaml_places import SuitePlaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A cell as a test, its evidence, and the run that judged it."""

    test: AsTest
    evidence: CellEvidence | None
    run: MatrixRun


class SuiteFile(pytest.File):
    """One suite. Its run begins when the first of its cells is set up."""

    def collect(self) -> Iterator[CellItem]:
        """Read the suite, check everything in it and what it refers to, and give its cells."""
        if hasattr(self.config, "workerinput"):
            msg = "A suite cannot be run under pytest-xdist: hts-compat runs cells side by side itself; leave -n out."
            raise self.CollectError(msg)
        parts: Parts | None = self.config.hook.pytest_hts_compat_parts(config=self.config)
        self.parts = parts or own_parts(self.path, provider=self.config.getoption("--hts-provider"))
        policy = self.config.getoption("--hts-policy")
        self.policy: Policy | None = load_policy(Path(policy)) if policy is not None else None
        self.loaded: LoadedSuite = load_suite(self.path, images=self.parts.images, known_products=self.parts.products)
        self.places = SuitePlaces(self.loaded.sources)
        self._run: BackgroundRun | None = None
        if self.config.getoption("--alluredir", None):
            from harness.pytest_plugin.allure_link import link  # noqa: PLC0415 - allure-pytest may be absent

            link(self.config)
        for cell in expand(self.loaded.suite).cells:
            yield CellItem.from_parent(self, name=cell.id, cell=cell)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> object:  # type: ignore[override]  # any report
        """Show what is wrong with a suite as sentences, each with its place."""
        if isinstance(excinfo.value, HarnessError):
            return told(excinfo.value)
        return super().repr_failure(excinfo)

    def run(self) -> BackgroundRun:
        """Give the run of all selected cells of this suite; the first call begins it."""
        if self._run is None:
            option = self.config.getoption
            self._run = BackgroundRun(
                self.loaded,
                [item.cell for item in self.session.items if isinstance(item, CellItem) and item.parent is self],
                parts=self.parts,
                lab=self.parts.images.choice if isinstance(self.parts.images, Images) else None,
                wishes=Wishes(
                    out=Path(option("--hts-out")),
                    provider=option("--hts-provider"),
                    jobs=option("--hts-jobs"),
                    fresh=option("--hts-fresh"),
                ),
            )
            self.config.stash[RUNS].append(self._run)
        return self._run


class CellItem(pytest.Item):
    """One cell. Its name is the cell's id."""

    def __init__(self, *, parent: SuiteFile, cell: Cell, **more: object) -> None:
        super().__init__(parent=parent, **more)  # type: ignore[arg-type]  # pytest's own
        self.suite = parent
        self.cell = cell
        self.judged: Judged | None = None
        product = cell.product
        self.add_marker(
            pytest.mark.hts_cell(
                build=cell.build.version,
                image=cell.image.name,
                product=product.name,
                profile=product.profile,
                signatures="+".join(signature.label for signature in product.schedule),
                scenario=cell.scenario.name,
            )
        )
        if cell.unsupported is not None:
            self.add_marker(pytest.mark.skip(reason=f"UNSUPPORTED: {visible(cell.unsupported)}"))
        if self.config.pluginmanager.hasplugin("timeout"):
            self.add_marker(pytest.mark.timeout(0))  # every wait of a cell has its own deadline

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Give the place of the cell's schedule in the suite."""
        written = self.suite.places.of_cell(self.cell)
        return self.path, written.place.line - 1 if written is not None else None, self.name

    def judge(self) -> Judged:
        """Wait for the cell's judgement.

        Raises:
            HarnessError: There will be none.
        """
        if self.judged is None:
            run = self.suite.run()
            run.judgement(self.cell)
            info, cell, evidence = run.shown(self.cell)
            waivers = waivers_for(self.suite.policy, [cell], now=datetime.now(UTC))
            strict = self.config.getoption("--hts-strict")
            test = as_test(cell, waiver=waivers.get(cell.id), strict=strict)
            self.judged = Judged(test=test, evidence=evidence, run=info)
        return self.judged

    def setup(self) -> None:
        """Wait for the cell; what could not be told is an error of the set-up."""
        try:
            judged = self.judge()
        except HarnessError as error:
            _fail(told(error))
        if judged.test.status is Status.ERROR:
            _fail("\n".join([judged.test.message, "", *self._story(judged)]))

    def runtest(self) -> None:
        """Give the verdict."""
        judged = self.judge()
        if judged.test.status is Status.WAIVED:
            pytest.xfail(judged.test.message)  # does nothing under --runxfail
        if judged.test.status in {Status.FAILED, Status.WAIVED}:
            _fail("\n".join([judged.test.message, "", *self._story(judged)]))
        self.add_report_section("call", "hts-compat", explain(judged.test.cell, judged.evidence))  # shown by -rP

    def _story(self, judged: Judged) -> Iterator[str]:
        """Tell what was asked, in the words of the suite; then what was seen, and where it can be looked at."""
        cell, run = judged.test.cell, self.suite.run()
        places, failed = self.suite.places, cell.failed_step
        asked = [places.of_cell(self.cell), places.of_step(self.cell, failed.index) if failed is not None else None]
        for written in asked:
            if written is not None:
                yield from written.shown()
        yield ""
        if judged.test.status is not Status.ERROR:
            yield "expected: every step passes, and the product does nothing to the build"
        yield from (f"observed: {line}" for line in observed_lines(cell))
        yield f"reason: {visible(cell.reason)} [{cell.rule or 'no rule'}]"
        yield from (f"evidence: {line}" for line in evidence_lines(judged.evidence, lambda d: str(run.blob_path(d))))
        yield f"more: hts-compat explain {self.cell.id} {judged.run.id} --out {self.config.getoption('--hts-out')}"


def told(error: HarnessError) -> str:
    """Give an error as lines: one sentence, its details, what to do next."""
    hint = f"hint: {error.hint}" if error.hint else ""
    return visible("\n".join(part for part in (error.summary, error.detail.rstrip(), hint) if part), lines=True)


def _fail(text: str) -> NoReturn:
    pytest.fail(text, pytrace=False)
