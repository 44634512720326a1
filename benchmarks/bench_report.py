"""Measure the report page: a matrix of 200 builds x 60 product columns, drawn and opened in Chromium.

    python benchmarks/bench_report.py --json [--quick]

Baselines of the same run: for time and size the same matrix as matrix.json; for the browser the page of one build.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Browser, sync_playwright  # noqa: E402  # after the path is set

from harness.frozen import digest_of  # noqa: E402
from harness.matrix import MatrixBuild, MatrixCell  # noqa: E402
from harness.renderers.api import Report, renderer  # noqa: E402
from tests.renderers.sample_run import run_info, sample_report  # noqa: E402

CHROMIUM = os.environ.get("HTS_COMPAT_CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

#: One cell in so many is not good, as in a morning after a vendor's update.
BAD_EVERY = 20

Metric = dict[str, object]


def report_of(builds: int, columns: int) -> Report:
    """Make a report: real cells of the sample run, copied; the cells that are not good bring their evidence."""
    sample = sample_report()
    fresh = [c for c in sample.matrix.cells if c.scenario == "fresh-install" and c.product != "none"]
    good = next(c for c in fresh if c.outcome.value == "COMPATIBLE")
    bad = next(c for c in fresh if c.outcome.value == "QUARANTINED")
    cells: list[MatrixCell] = []
    evidence = {}
    for row in range(builds):
        version = f"2.{row // 20}.{row % 20}"
        for column in range(columns):
            like = bad if (row * 7 + column * 13) % BAD_EVERY == 0 else good
            made = _like(like, version=version, product=f"product-{column // 6}", label=f"2026-11-{column % 6 + 1:02d}")
            cells.append(made)
            if like is bad:
                evidence[made.id] = sample.evidence[bad.id].model_copy(update={"cell_id": made.id})
    matrix = sample.matrix.model_copy(update={"run": run_info(cells=len(cells)), "cells": tuple(cells)})
    return Report(matrix=matrix, evidence=evidence)


def _like(cell: MatrixCell, *, version: str, product: str, label: str) -> MatrixCell:
    name = f"{version}/{cell.image}/{product}-{cell.profile}/{label}/{cell.scenario}"
    return cell.model_copy(
        update={
            "id": name,
            "key": digest_of(name),
            "build": MatrixBuild(name=cell.build.name, version=version, sha256=digest_of(version)),
            "product": product,
            "signature": label,
        }
    )


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
            """() => {
              const took = (act) => {
                const began = performance.now();
                act();
                document.body.offsetHeight; // lay the page out
                return performance.now() - began;
              };
              const opened = took(() => document.querySelector('.c[data-o=QUARANTINED]').click());
              document.querySelector('#panel').close();
              const korean = took(() => document.querySelector('[data-lang=ko]').click());
              const box = document.querySelector('#filter');
              const sifted = took(() => { box.value = 'product-3 2.1.'; box.dispatchEvent(new Event('input')); });
              return [opened, korean, sifted];
            }"""
        )
        figures = {"paint": paint, "ready": ready, "opened": opened, "korean": korean, "sifted": sifted}
        seen.append({name: float(value) / 1000 for name, value in figures.items()})
        context.close()
    return {name: round(statistics.median(s[name] for s in seen), 4) for name in seen[0]}


def metric(value: float, unit: str, *, baseline: float | None = None, goal: float | None = None) -> Metric:
    """Give one metric in the contract's shape."""
    return {
        "value": round(value, 4),
        "unit": unit,
        "baseline": None if baseline is None else round(baseline, 4),
        "ratio": None if not baseline else round(value / baseline, 3),
        "goal": goal,
        "met": None if goal is None else value <= goal,
    }


def measure(*, quick: bool) -> dict[str, object]:
    """Measure everything and give the object of the contract."""
    builds, columns, times = (200, 60, 1) if quick else (200, 60, 5)
    report = report_of(builds, columns)
    small = report_of(1, columns)
    html, plain = renderer("html"), renderer("json")
    html.render(small)  # the template is read and compiled once
    draw_s, page = timed(lambda: html.render(report), times=times)
    dump_s, dumped = timed(lambda: plain.render(report), times=times)
    metrics = {
        "render": metric(draw_s, "s", baseline=dump_s),
        "size": metric(len(page) / 2**20, "MiB", baseline=len(dumped) / 2**20),
    }
    machine: dict[str, object] = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "matrix": f"{builds} builds x {columns} columns, {len(report.evidence)} cells with evidence",
        "cut": "one repetition instead of five" if quick else None,
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
    names = {"paint": "first_paint", "ready": "usable", "opened": "open_cell", "korean": "switch_language",
             "sifted": "filter"}  # fmt: skip
    metrics |= {name: metric(many[key], "s", baseline=few[key]) for key, name in names.items()}
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
