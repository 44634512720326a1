"""Measure the report page: a matrix of 200 builds x 60 product columns, drawn and opened in Chromium.

    python benchmarks/bench_report.py --json [--quick]

Every cell has ids, times and digests of its own and brings its evidence, as in a real run; pictures are as large as a
real guest's. Baselines of the same run: for time and size the same matrix as matrix.json; for the browser the page of
one build; for ``same_results_s`` what the Allure tool takes for the same 10,000 results, of which both show the
evidence of the 500 that are not good (``allure`` on PATH, else ``allure-commandline`` from the npm registry; it needs
Java). Where that cannot be had, ``machine`` says why. ``same_results_cpu_s`` is both programs' processor time, which
says more than seconds of the wall on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, sync_playwright  # noqa: E402  # after the path is set

from harness.evidence import AttemptEvidence, CellEvidence  # noqa: E402
from harness.frozen import digest_of  # noqa: E402
from harness.matrix import MatrixBuild, MatrixCell  # noqa: E402
from harness.renderers.allure_results import write_allure  # noqa: E402
from harness.renderers.api import Report, renderer  # noqa: E402
from tests.renderers.sample_run import run_info, sample_report  # noqa: E402

CHROMIUM = os.environ.get("HTS_COMPAT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

#: One cell in so many is not good, as in a morning after a vendor's update.
BAD_EVERY = 20

#: Bytes of a picture of a real guest's screen, and characters of text that one attempt brings (a run of suite 'smoke').
PICTURE_BYTES, TEXT_CHARS = 38 * 1024, 50_000

#: The Allure tool that is measured against when there is none on PATH.
ALLURE = "allure-commandline@2.46.1"

Metric = dict[str, object]


class Maker:
    """Makes reports: real cells of the sample run under other names, each with numbers of its own."""

    def __init__(self, *, real_size: bool) -> None:
        self.random = random.Random(11)
        self.real_size = real_size
        self.attempts: dict[str, AttemptEvidence] = {}

    def report(self, builds: int, columns: int, *, evidence_of_all: bool) -> Report:
        """Make a report; without ``evidence_of_all`` the cells that are not good bring theirs."""
        sample = sample_report()
        fresh = [c for c in sample.matrix.cells if c.scenario == "fresh-install" and c.product != "none"]
        good = next(c for c in fresh if c.outcome.value == "COMPATIBLE")
        bad = next(c for c in fresh if c.outcome.value == "QUARANTINED")
        cells: list[MatrixCell] = []
        evidence = {}
        for row in range(builds):
            version = f"2.{row // 20}.{row % 20}"
            self.attempts.clear()  # the cells of one build share their controls
            for column in range(columns):
                like = bad if (row * 7 + column * 13) % BAD_EVERY == 0 else good
                product, label = f"product-{column // 6}", f"2026-11-{column % 6 + 1:02d}"
                made = self.cell(like, version=version, product=product, label=label)
                cells.append(made)
                if like is bad or evidence_of_all:
                    evidence[made.id] = self.evidence(sample.evidence[like.id], made.id)
        matrix = sample.matrix.model_copy(update={"run": run_info(cells=len(cells)), "cells": tuple(cells)})
        return Report(matrix=matrix, evidence=evidence)

    def minute(self) -> str:
        """Give minutes and seconds, as they stand in a time."""
        return f"{self.random.randrange(60):02d}:{self.random.randrange(60):02d}.{self.random.randrange(1000):03d}"

    def hex(self, digits: int) -> str:
        """Give so many hexadecimal digits."""
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"

    def cell(self, like: MatrixCell, *, version: str, product: str, label: str) -> MatrixCell:
        """Give a cell like another, under its own name and with its own numbers."""
        name = f"{version}/{like.image}/{product}-{like.profile}/{label}/{like.scenario}"
        text = like.model_dump_json()
        for pattern, number in (
            (r'(?<="after_s":)[\d.]+', lambda _: f"{self.random.uniform(0.01, 0.09):.3f}"),
            (r'(?<="duration_s":)[\d.]+', lambda _: f"{self.random.uniform(8, 30):.3f}"),
            (r'(?<=T06:)\d\d:\d\d\.\d+(?=Z)', lambda _: self.minute()),
            (r'(?<="id":"a)\d{4}-\w+', lambda _: self.hex(10)),
            (r'(?<="sha256":")\w{64}', lambda _: self.hex(64)),
        ):  # fmt: skip
            text = re.sub(pattern, number, text)
        return MatrixCell.model_validate_json(text).model_copy(
            update={
                "id": name,
                "key": digest_of(name),
                "build": MatrixBuild(name=like.build.name, version=version, sha256=digest_of(version)),
                "product": product,
                "signature": label,
            }
        )

    def evidence(self, like: CellEvidence, cell_id: str) -> CellEvidence:
        """Give evidence like another's, of attempts of its own."""
        names = {a.id: "a" + self.hex(10) for a in like.attempts}
        return like.model_copy(
            update={
                "cell_id": cell_id,
                "decided_by": names.get(like.decided_by or ""),
                "attempts": tuple(self.attempt(a, names[a.id]) for a in like.attempts),
                "controls": tuple(self.shared(a) for a in like.controls),
            }
        )

    def shared(self, like: AttemptEvidence) -> AttemptEvidence:
        """Give a control, the same for all cells of a build."""
        if like.id not in self.attempts:
            self.attempts[like.id] = self.attempt(like, "a" + self.hex(10))
        return self.attempts[like.id]

    def attempt(self, like: AttemptEvidence, name: str) -> AttemptEvidence:
        """Give an attempt like another; one that did not pass brings as much as a real guest's does."""
        pictures, excerpts = like.pictures, like.excerpts
        if self.real_size and like.outcome.value != "COMPATIBLE":
            pad = TEXT_CHARS // max(len(excerpts), 1)
            pictures = tuple(
                p.model_copy(update={"sha256": self.hex(64), "png": self.picture(p.png or b"")}) for p in pictures
            )
            excerpts = tuple(x.model_copy(update={"text": x.text + self.log(name, pad)}) for x in excerpts)
        return like.model_copy(update={"id": name, "pictures": pictures, "excerpts": excerpts})

    def picture(self, png: bytes) -> bytes:
        """Give a picture that is as large as a real one."""
        return png + self.random.randbytes(max(PICTURE_BYTES - len(png), 0))  # what follows a PNG's end is not drawn

    def log(self, name: str, characters: int) -> str:
        """Give lines of a log."""
        lines = [f"Tue Nov 24 15:00:{n:02d} 2026 -> {name} {n}: SelfCheck: Database status OK.\n" for n in range(60)]
        return ("".join(lines) * (1 + characters // 3600))[:characters]


def timed(act: Callable[[], bytes], *, times: int) -> tuple[float, bytes]:
    """Give the median of the seconds that an act takes, and what it gave."""
    took, result = [], b""
    for _ in range(times):
        began = time.perf_counter()
        result = act()
        took.append(time.perf_counter() - began)
    return statistics.median(took), result


def visit(browser: Browser, path: Path, *, times: int) -> dict[str, float]:
    """Open a page several times; give the medians in seconds (memory in MiB)."""
    seen: list[dict[str, float]] = []
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US")
        page = context.new_page()
        page.goto(path.as_uri())
        paint = page.evaluate(
            """() => new Promise((found) => new PerformanceObserver((list) => {
                 const first = list.getEntries().find((e) => e.name === 'first-contentful-paint');
                 if (first) found(first.startTime);
               }).observe({ type: 'paint', buffered: true }))"""
        )
        ready = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        opened, korean, sifted = page.evaluate(
            """async () => {
              const took = (act) => {
                const began = performance.now();
                act();
                document.body.offsetHeight; // lay the page out
                return performance.now() - began;
              };
              const began = performance.now();
              document.querySelector('.c[data-o=QUARANTINED]').click();
              const panel = document.querySelector('#panel');
              while (!panel.open) await new Promise((done) => setTimeout(done));
              document.body.offsetHeight;
              const opened = performance.now() - began;
              panel.close();
              const korean = took(() => document.querySelector('[data-lang=ko]').click());
              const box = document.querySelector('#filter');
              const sifted = took(() => { box.value = 'product-3 2.1.'; box.dispatchEvent(new Event('input')); });
              const bad = took(() => document.querySelector('[data-filter=QUARANTINED]').click());
              return [opened, korean, Math.max(sifted, bad)];
            }"""
        )
        figures = {"paint": paint, "ready": ready, "opened": opened, "korean": korean, "sifted": sifted}
        seen.append({name: float(value) / 1000 for name, value in figures.items()})
        context.close()
    return {name: round(statistics.median(s[name] for s in seen), 4) for name in seen[0]}


def metric(value: float, unit: str, *, baseline: float | None = None, goal: float | None = None) -> Metric:
    """Give one metric in the contract's shape; of a factor (unit ``x``) more is better."""
    return {
        "value": round(value, 4),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 4),
        "ratio": None if not baseline else round(value / baseline, 3),
        "goal": goal,
        "met": None if goal is None else value >= goal if unit == "x" else value <= goal,
    }


def allure_tool(folder: Path) -> list[str] | str:
    """Give the command of the Allure tool, installed into a folder when there is none, or why there is none."""
    if shutil.which("java") is None:
        return "not measured: the Allure tool needs Java, and there is none"
    if found := shutil.which("allure"):
        return [found]
    npm = shutil.which("npm")
    if npm is None:
        return "not measured: there is no 'allure' on PATH, and no npm to get it with"
    got = subprocess.run(
        [npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder), ALLURE],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    tool = folder / "node_modules" / ".bin" / "allure"
    return [str(tool)] if tool.exists() else f"not measured: npm could not get {ALLURE} ({got.stderr.strip()[:120]})"


def _cpu_of_children() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def against_allure(*, times: int) -> tuple[dict[str, Metric], str]:
    """Draw the same 10,000 results by the page and by the Allure tool; give the metrics and what was measured."""
    html = renderer("html")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tool = allure_tool(folder / "tool")
        if isinstance(tool, str):
            return {}, tool
        report = Maker(real_size=False).report(200, 50, evidence_of_all=False)
        write_allure(report, folder / "results")
        ours: list[float] = []
        theirs: list[float] = []
        ours_cpu: list[float] = []
        theirs_cpu: list[float] = []
        page = b""
        for turn in range(times):
            cpu = time.process_time()
            took, page = timed(lambda: html.render(report), times=1)
            ours.append(took)
            ours_cpu.append(time.process_time() - cpu)
            began, cpu = time.perf_counter(), _cpu_of_children()
            out = folder / f"report-{turn}"
            subprocess.run(
                [*tool, "generate", str(folder / "results"), "-o", str(out)], check=True, capture_output=True
            )
            theirs.append(time.perf_counter() - began)
            theirs_cpu.append(_cpu_of_children() - cpu)
        said = subprocess.run([*tool, "--version"], capture_output=True, text=True, check=False).stdout.strip()
        written = [f.stat().st_size for f in (folder / "report-0").rglob("*") if f.is_file()]
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "same_results_s": metric(mine, "s", baseline=other),
        "same_results_cpu_s": metric(statistics.median(ours_cpu), "s", baseline=statistics.median(theirs_cpu)),
        "same_results_size": metric(len(page) / 2**20, "MiB", baseline=sum(written) / 2**20),
        "faster_than_allure": metric(other / mine, "x", goal=10.0),
    }, f"{said} generate, {len(report.matrix.cells)} results, {len(written)} files"


def measure(*, quick: bool) -> dict[str, object]:
    """Measure everything and give the object of the contract."""
    builds, columns, times = 200, 60, 1 if quick else 5
    load_before = os.getloadavg()[0]
    html, plain = renderer("html"), renderer("json")
    compared, allure = against_allure(times=1 if quick else 3)
    report = Maker(real_size=True).report(builds, columns, evidence_of_all=True)
    small = Maker(real_size=True).report(1, columns, evidence_of_all=True)
    html.render(small)  # the template is read and compiled once
    draw_s, page = timed(lambda: html.render(report), times=times)
    dump_s, dumped = timed(lambda: plain.render(report), times=times)
    metrics = {
        "render": metric(draw_s, "s", baseline=dump_s),
        "size": metric(len(page) / 2**20, "MiB", baseline=len(dumped) / 2**20, goal=20.0),
        **compared,
    }
    machine: dict[str, object] = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load_before": round(load_before, 2),
        "matrix": f"{builds} builds x {columns} columns, one cell in {BAD_EVERY} not good",
        "allure": allure,
        "cut": "one repetition instead of five (three for Allure)" if quick else None,
    }
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        large_file, small_file = Path(folder, "large.html"), Path(folder, "small.html")
        large_file.write_bytes(page)
        small_file.write_bytes(html.render(small))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        machine["chromium"] = browser.version
        visit(browser, small_file, times=1)
        few, many = visit(browser, small_file, times=times), visit(browser, large_file, times=times)
        browser.close()
    machine["load_after"] = round(os.getloadavg()[0], 2)
    for key, name, goal in (
        ("paint", "first_paint", 1.0), ("ready", "usable", 2.0), ("opened", "open_cell", 0.5),
        ("korean", "switch_language", 0.5), ("sifted", "filter", 0.2),
    ):  # fmt: skip
        metrics[name] = metric(many[key], "s", baseline=few[key], goal=goal)
    return {"name": "bench_report", "machine": machine, "metrics": metrics}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="one repetition")
    asked = parser.parse_args()
    result = measure(quick=asked.quick)
    if asked.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    metrics = result["metrics"]
    assert isinstance(metrics, dict)
    for name, each in metrics.items():
        print(f"{name:<16} {each['value']:>10} {each['unit']:<4} baseline {each['baseline']} ratio {each['ratio']}")


if __name__ == "__main__":
    main()
