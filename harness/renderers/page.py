"""Driver. matrix.html: the whole run as one file that works offline, from a CI artifact or a mail.

1. One file, nothing fetched: the content security policy allows our own script and style by their digests, pictures as
   ``data:`` and nothing else.
2. What guests wrote is never markup and never script. The grid is escaped by Jinja; the evidence lies in data blocks
   (JSON with every ``<`` escaped) that the script shows as text; control characters are made visible on the way.
3. Each attempt, text and picture is in the file once, however many cells share it, and is read when it is opened.
4. The same report gives the same bytes.

Source: W3C CSP Level 3 (hash sources); HTML Standard, "Restrictions for contents of script elements".
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from pydantic import JsonValue

from harness.evidence import AttemptEvidence, CellEvidence
from harness.inert_text import visible
from harness.matrix import Matrix, MatrixCell, MatrixRun
from harness.renderers.api import Report
from harness.renderers.grid import GROUPS, Cause, Column, Group, Section, causes, column_of, sections
from harness.verdict import Outcome

#: Keys whose text keeps its lines.
_LINES = frozenset({"dialog", "text", "detail"})

#: Buttons that one cause shows; the rest is a number, and the grid has them all.
MAX_CHIPS = 10

_HERE = files("harness.renderers")


class PageRenderer:
    """Writes the page."""

    suffix = ".html"

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        matrix = report.matrix
        css, js = _asset("page.css"), _asset("page.js")
        index = {cell.id: i for i, cell in enumerate(matrix.cells)}
        found = causes(matrix)
        html = _template().render(
            t=_english,
            csp=_policy(css=css, js=js),
            css=Markup(css),  # noqa: S704  # our own file
            js=Markup(js),  # noqa: S704  # our own file
            run=_run(matrix.run),
            headline=_headline(matrix),
            also=_also(matrix),
            bars=_bars(matrix),
            counts=_counts(matrix),
            cell_count=len(matrix.cells),
            causes=[_cause(cause, index) for cause in found],
            sections=[_section(section, index) for section in sections(matrix)],
            legend=[(outcome.value, group.value) for outcome, group in GROUPS.items()],
            data=_Data(report).blocks(),
        )
        return html.encode("utf-8", "replace")


@cache
def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip() + "\n"


@cache
def words() -> Mapping[str, Mapping[str, str]]:
    """Give every string of the page's own, by key and language."""
    loaded: dict[str, dict[str, str]] = json.loads(_asset("page.words.json"))
    return loaded


@cache
def _template() -> Template:
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2")


def _english(key: str, **values: object) -> str:
    return words()[key]["en"].format(**values)


def _policy(*, css: str, js: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    return (
        f"default-src 'none'; script-src 'sha256-{digest(js)}'; style-src 'sha256-{digest(css)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


# --- the head ---------------------------------------------------------------------------------------------------------


def _run(run: MatrixRun) -> dict[str, object]:
    took = None if run.finished_at is None else run.finished_at - run.started_at
    return run.model_dump(mode="json") | {
        "suite_shown": visible(run.suite),
        "id_shown": visible(run.id),
        "started_shown": f"{run.started_at:%Y-%m-%d %H:%M} UTC",
        "took": None if took is None else _span(took.total_seconds()),
    }


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _tally(matrix: Matrix) -> Counter[Group]:
    return Counter(GROUPS[cell.outcome] for cell in matrix.cells)


def _headline(matrix: Matrix) -> dict[str, object]:
    """Say the worst that is true of the run, in one line."""
    tally, total = _tally(matrix), len(matrix.cells)
    asked = total - tally[Group.NEUTRAL]
    bad, unknown = tally[Group.BAD] + tally[Group.FAULT], tally[Group.UNKNOWN]
    worst = next((c.outcome for c in matrix.cells if GROUPS[c.outcome] is Group.BAD), Outcome.BUILD_FAULT)
    choices: list[tuple[bool, str, int, Group, Outcome]] = [
        (total == 0, "headline.none", 0, Group.UNKNOWN, Outcome.INCONCLUSIVE),
        (asked == 0, "headline.nothing", 0, Group.UNKNOWN, Outcome.INCONCLUSIVE),
        (bad > 0, "headline.bad", bad, Group.BAD, worst),
        (unknown > 0, "headline.unknown", unknown, Group.UNKNOWN, Outcome.INCONCLUSIVE),
        (tally[Group.WARN] > 0, "headline.detected", tally[Group.WARN], Group.WARN, Outcome.DETECTED),
        (True, "headline.good", asked, Group.GOOD, Outcome.COMPATIBLE),
    ]
    _, word, n, group, outcome = next(choice for choice in choices if choice[0])
    return {"word": word, "n": n, "all": asked, "group": group.value, "outcome": outcome.value}


def _also(matrix: Matrix) -> list[tuple[str, int]]:
    tally, head = _tally(matrix), _headline(matrix)["word"]
    every = [
        ("also.unknown", tally[Group.UNKNOWN], "headline.unknown"),
        ("also.detected", tally[Group.WARN], "headline.detected"),
        ("also.good", tally[Group.GOOD], "headline.good"),
        ("also.unsupported", tally[Group.NEUTRAL], "headline.nothing"),
    ]
    return [(word, n) for word, n, said in every if n and head != said]


def _counts(matrix: Matrix) -> list[tuple[str, str, int]]:
    by_outcome = Counter(cell.outcome for cell in matrix.cells)
    return [(o.value, GROUPS[o].value, by_outcome[o]) for o in Outcome if by_outcome[o]]


def _bars(matrix: Matrix) -> list[dict[str, object]]:
    total, at = max(len(matrix.cells), 1), 0.0
    bars: list[dict[str, object]] = []
    for outcome, group, n in _counts(matrix):
        width = 1000 * n / total
        bars.append({"outcome": outcome, "group": group, "x": f"{at:.2f}", "width": f"{max(width - 2, 1):.2f}"})
        at += width
    return bars


def _cause(cause: Cause, index: Mapping[str, int]) -> dict[str, object]:
    chips = [
        {
            "index": index[cell.id],
            "version": visible(cell.build.version),
            "column": visible(column_of(cell).signatures),
            "scenario": visible(cell.scenario),
        }
        for cell in cause.cells[:MAX_CHIPS]
    ]
    return {
        "outcome": cause.outcome.value,
        "group": GROUPS[cause.outcome].value,
        "product": None if cause.product is None else visible(cause.product),
        "target": None if cause.target is None else visible(cause.target),
        "threat": None if cause.threat is None else visible(cause.threat),
        "text": None if cause.text is None else visible(cause.text),
        "word": "cells.one" if len(cause.cells) == 1 else "cells.many",
        "n": len(cause.cells),
        "cells": chips,
        "more": len(cause.cells) - len(chips),
    }


# --- the grid ---------------------------------------------------------------------------------------------------------


def _is_control(column: Column) -> bool:
    return column.product == column.signature


def _section(section: Section, index: Mapping[str, int]) -> dict[str, object]:
    first = _firsts(section.columns)
    none = _english("control.column")
    titles = [none if _is_control(column) else visible(column.title) for column in section.columns]
    return {
        "scenario": visible(section.scenario),
        "several_images": len(section.images) > 1,
        "products": [
            {"name": visible(p), "profile": visible(profile), "span": span, "control": p == "none"}
            for p, profile, span in section.products
        ],
        "columns": [
            {
                "signature": visible(column.signature),
                "signature_from": None if column.signature_from is None else visible(column.signature_from),
                "title": titles[i],
                "first": first[i],
                "control": _is_control(column),
            }
            for i, column in enumerate(section.columns)
        ],
        "rows": [
            {
                "build": visible(row.build),
                "version": visible(row.version),
                "sha256": visible(row.sha256),
                "image": visible(row.image),
                "cells": [
                    None if cell is None else _place(cell, index[cell.id], titles[i], is_first=first[i])
                    for i, cell in enumerate(row.cells)
                ],
            }
            for row in section.rows
        ],
    }


def _firsts(columns: Sequence[Column]) -> list[bool]:
    return [
        i > 0 and (columns[i - 1].product, columns[i - 1].profile) != (column.product, column.profile)
        for i, column in enumerate(columns)
    ]


def _place(cell: MatrixCell, index: int, label: str, *, is_first: bool) -> dict[str, object]:
    stage = None if cell.stage is None else visible(cell.stage)
    return {
        "index": index,
        "label": label,
        "first": is_first,
        "control": _is_control(column_of(cell)),
        "outcome": cell.outcome.value,
        "group": GROUPS[cell.outcome].value,
        "word": _english(f"o.{cell.outcome.value}"),
        "stage": stage,
        "at": None if stage is None else _english("at", stage=stage_word(stage)),
        "flaky": cell.flaky,
    }


def stage_word(stage: str) -> str:
    """Give the English word of a stage; a kind that the page does not know is shown as it is."""
    known = words().get(f"st.{stage}")
    return stage if known is None else known["en"]


# --- the evidence -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Data:
    """Collects what the script shows, each thing once."""

    report: Report
    attempts: dict[str, int] = field(default_factory=dict)
    attempt_lines: list[JsonValue] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    image_lines: list[str] = field(default_factory=list)

    def blocks(self) -> dict[str, Markup]:
        cells = [self._cell(cell) for cell in self.report.matrix.cells]
        meta: JsonValue = {"lab": self.report.matrix.run.lab.value}
        return {
            "words": _block(json.dumps(words(), ensure_ascii=False, separators=(",", ":"))),
            "meta": _block(json.dumps(meta, ensure_ascii=False, separators=(",", ":"))),
            "cells": _lines(cells),
            "attempts": _lines(self.attempt_lines),
            "texts": _lines(list(self.texts)),
            "images": _block("\n".join(self.image_lines)),
        }

    def _cell(self, cell: MatrixCell) -> JsonValue:
        value = _compact(cell.to_value())
        assert isinstance(value, dict)  # noqa: S101  # a cell is an object
        evidence = self.report.evidence.get(cell.id)
        return value if evidence is None else value | {"shown": self._shown(evidence)}

    def _shown(self, evidence: CellEvidence) -> JsonValue:
        changes = evidence.file_changes
        decider, control = evidence.decider, evidence.control
        shown: dict[str, JsonValue] = {
            "attempts": [self._attempt(a) for a in evidence.attempts],
            "controls": [self._attempt(a) for a in evidence.controls],
            "decider": None if decider is None else self._attempt(decider),
            "control": None if control is None else self._attempt(control),
            "files": None if changes is None else [_compact(c.model_dump(mode="json")) for c in changes],
        }
        return {key: value for key, value in shown.items() if value is not None}

    def _attempt(self, attempt: AttemptEvidence) -> int:
        if attempt.id in self.attempts:
            return self.attempts[attempt.id]
        place = self.attempts[attempt.id] = len(self.attempt_lines)
        value = attempt.model_dump(mode="json", exclude={"excerpts": {"__all__": {"text"}}})
        shown = _compact(value)
        assert isinstance(shown, dict)  # noqa: S101  # an attempt is an object
        for key, places in (
            ("pictures", [self._image(p.sha256, p.png) for p in attempt.pictures]),
            ("excerpts", [self._text(x.text) for x in attempt.excerpts]),
        ):
            rows = shown.get(key)
            for row, at in zip(rows if isinstance(rows, list) else [], places, strict=True):
                assert isinstance(row, dict)  # noqa: S101
                row["data"] = at
        self.attempt_lines.append(shown)
        return place

    def _text(self, text: str) -> int | None:
        return self.texts.setdefault(visible(text, lines=True), len(self.texts)) if text else None

    def _image(self, sha256: str, png: bytes | None) -> int | None:
        if png is None:
            return None
        if sha256 not in self.images:
            self.images[sha256] = len(self.image_lines)
            self.image_lines.append(base64.b64encode(png).decode())
        return self.images[sha256]


def _compact(value: JsonValue, *, lines: bool = False) -> JsonValue:
    """Give a value without its unknown and empty parts, its text made visible."""
    if isinstance(value, str):
        return visible(value, lines=lines)
    if isinstance(value, list):
        return [_compact(item, lines=lines) for item in value]
    if isinstance(value, dict):
        return {
            visible(key): _compact(item, lines=key in _LINES) for key, item in value.items() if item not in _NOTHING
        }
    return value


_NOTHING: tuple[JsonValue, ...] = (None, [], {})


def _lines(values: Sequence[JsonValue]) -> Markup:
    return _block("\n".join(json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in values))


def _block(text: str) -> Markup:
    r"""Give text for a data block: with no ``<`` in it nothing can end the element or begin a comment.

    JSON has ``<`` in its strings alone, where ``\u003c`` is the same; base64 has none.
    """
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  # that is what the replacement is for
