"""Driver. matrix.html: the whole run as one file that works offline, from a CI artifact or a mail.

1. One file, nothing fetched: the content security policy allows our own script and style by their digests, pictures as
   ``data:`` and nothing else.
2. What guests wrote is never markup and never in a script element. The grid is escaped by Jinja; the rest lies in
   ``template`` elements as base64, which has no ``<`` and no ``&``, and the script shows it as text. Control characters
   are made visible on the way.
3. Each attempt, text and picture is in the file once, however many cells share it. Cells, attempts and texts are packed
   in groups (deflate); opening a cell unpacks the groups that it needs.
4. A page stays openable: evidence has a budget (``EVIDENCE_BYTES``) that is spent on what went wrong first, one cell
   of each cause before the next of any. Cells without evidence keep their verdict and say where the rest is.
5. The same report gives the same bytes.

Source: W3C CSP Level 3 (hash sources); HTML Standard, "The template element"; Compression Streams (WHATWG), which
browsers have had since 2023.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from pydantic import JsonValue

from harness.behaviour import shown_product
from harness.evidence import AttemptEvidence, CellEvidence
from harness.inert_text import visible
from harness.matrix import Matrix, MatrixCell, MatrixRun
from harness.renderers.api import Report
from harness.renderers.grid import GROUPS, Cause, Column, Group, Row, Section, causes, column_of, sections, way_out_of
from harness.verdict import Outcome

#: Keys whose text keeps its lines.
_LINES = frozenset({"dialog", "text", "detail"})

#: Buttons that one cause shows; the rest is a number, and the grid has them all.
MAX_CHIPS = 10

#: Bytes of the file that evidence may take: some hundred cells of real guests with their attempts and pictures. With
#: the verdicts of 12,000 cells the page still goes by mail (many servers take 25 MB).
EVIDENCE_BYTES = 12 * 2**20

#: Characters of JSON in one group. Larger ones pack little better and take longer to open.
GROUP_CHARS = 256 * 1024

#: What is left of a text in the file, packed and in base64 (measured: 0.13 for logs, 0.27 for timelines).
_PACKED_SHARE = 0.2

#: What ``visible`` changes, as it stands in JSON: escapes other than those of a quote and a backslash, and anything
#: that is not plain.
_NOT_PLAIN = re.compile(r"[^\x20-\x7e\uac00-\ud7a3]")

#: A value that keeps its lines (``_LINES``), in JSON without escaped quotes.
_LINED = re.compile(r'"(?:dialog|text|detail)":"[^"]*"')

_HERE = files("harness.renderers")


class PageRenderer:
    """Writes the page."""

    suffix = ".html"

    def render(self, report: Report) -> bytes:
        """Give the file's bytes."""
        matrix = report.matrix
        laid, found = sections(matrix), causes(matrix)
        css, js = _asset("page.css") + _widths(laid), _asset("page.js")
        index = {cell.id: i for i, cell in enumerate(matrix.cells)}
        names = _Names.of(laid)
        html = _template().render(
            t=_english,
            csp=_policy(css=css, js=js),
            css=Markup(css),  # noqa: S704  # our own file
            js=Markup(js),  # noqa: S704  # our own file
            run=_run(matrix.run),
            test_products=", ".join(sorted({visible(c.product) for c in matrix.cells if c.test_product})),
            way_out={name: visible(text) for name, text in way_out_of(matrix).items()},
            headline=_headline(matrix),
            also=_also(matrix),
            bars=_bars(matrix),
            counts=_counts(matrix),
            cell_count=len(matrix.cells),
            large=len(matrix.cells) > LARGE,
            broad=BROAD,
            wide=WIDE,
            causes=[_cause(cause, index) for cause in found],
            products=[(name, visible(shown)) for name, shown in _shown_products(laid).items()],
            builds=list(names.builds.values()),
            sections=[_section(section, index, names) for section in laid],
            legend=[(outcome.value, group.value) for outcome, group in GROUPS.items()],
            data=_Data(report).blocks(_first_to_show(found, matrix.cells)),
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


#: A table with more columns than this prints across the sheet, and one with many more prints symbols instead of words.
BROAD, WIDE = 5, 12

#: With more cells than this, rows that are out of sight are not laid out.
LARGE = 1000


def _widths(laid: Sequence[Section]) -> str:
    """Give the rules for the numbers of columns of this run: the policy forbids style attributes."""
    spans = {span for section in laid for _, _, span in section.products}
    return "".join(
        [
            *(f".n{n} {{ --n: {n}; }}\n" for n in sorted({len(section.columns) for section in laid})),
            *(f'.grid [colspan="{n}"] {{ grid-column: span {n}; }}\n' for n in sorted(spans) if n > 1),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """The names by which the page filters. They stand in links, so that they are short and speak for themselves.

    Attributes:
        products: ``product-profile`` -> its place in the list.
        builds: (name, version, sha256) -> the version, and as much more as tells it from the others.
    """

    products: Mapping[str, int]
    builds: Mapping[tuple[str, str, str], str]

    @classmethod
    def of(cls, laid: Sequence[Section]) -> _Names:
        keys = dict.fromkeys((row.build, row.version, row.sha256) for section in laid for row in section.rows)
        versions = Counter(version for _, version, _ in keys)
        named = Counter((name, version) for name, version, _ in keys)
        products = dict.fromkeys(_product_name(column) for section in laid for column in section.columns)
        return cls(
            products={name: place for place, name in enumerate(products)},
            builds={
                (name, version, sha256): visible(
                    version
                    if versions[version] == 1
                    else " ".join([name, version, *([sha256[:10]] if named[name, version] > 1 else [])])
                )
                for name, version, sha256 in keys
            },
        )


def _product_name(column: Column) -> str:
    return visible(f"{column.product}-{column.profile}")


def _shown_products(laid: Sequence[Section]) -> dict[str, str]:
    """Give each product's name as people read it, by the name that stands in links."""
    return {
        _product_name(column): f"{shown_product(column.product)}-{column.profile}"
        for section in laid
        for column in section.columns
    }


def _is_control(column: Column) -> bool:
    return column.product == column.signature


def _column_id(column: Column) -> str:
    labels = [column.signature] if column.signature_from is None else [column.signature_from, column.signature]
    return f"{_product_name(column)}/{visible('+'.join(labels))}"


def _section(section: Section, index: Mapping[str, int], names: _Names) -> dict[str, object]:
    first = _firsts(section.columns)
    none = _english("control.column")
    titles = [none if _is_control(column) else visible(column.title) for column in section.columns]
    ids = [_column_id(column) for column in section.columns]
    builds = {key: place for place, key in enumerate(names.builds)}
    return {
        "scenario": visible(section.scenario),
        "several_images": len(section.images) > 1,
        "width": len(section.columns),
        "products": [
            {"name": visible(p), "profile": visible(profile), "span": span, "control": p == "none"}
            for p, profile, span in section.products
        ],
        "columns": [
            {
                "id": ids[i],
                "product": names.products[_product_name(column)],
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
                "id": visible(f"{row.version}/{row.image}"),
                "place": builds[row.build, row.version, row.sha256],
                "build": visible(row.build),
                "version": visible(row.version),
                "sha256": visible(row.sha256),
                "image": visible(row.image),
                "cells": _cells(row, visible(section.scenario), index, titles=titles, ids=ids, first=first),
            }
            for row in section.rows
        ],
    }


def _cells(
    row: Row, scenario: str, index: Mapping[str, int], *, titles: list[str], ids: list[str], first: list[bool]
) -> Markup:
    """Give the cells of a row: many are alike but for their number, so that what they share is written once."""
    whose = visible(f"{row.version}/{row.image}")
    parts: list[str] = []
    for i, cell in enumerate(row.cells):
        if cell is None:
            parts.append(_NO_CELL)
            continue
        before, after = _around(
            titles[i],
            cell.stage,
            control=cell.product == cell.signature,
            first=first[i],
            outcome=cell.outcome,
            flaky=cell.flaky,
        )
        shown = visible(cell.id)
        # The page makes the id up from the cell's place, which is almost always right.
        named = "" if shown == f"{whose}/{ids[i]}/{scenario}" else Markup(' data-id="{}"').format(shown)
        parts += [before, str(index[cell.id]), '"', named, after]
    return Markup("".join(parts))  # noqa: S704  # each part has been escaped


_NO_CELL = '<td role="gridcell" class="none"><span aria-hidden="true">·</span></td>'
_BEFORE = Markup('<td role="gridcell" data-l="{}"{}{}><button class="c {}" data-o="{}" data-open="')
_AFTER = Markup("><b>{}</b>{}{}</button></td>")
_STAGE = Markup('<i data-s="{}">{}</i>')
_FLAKY = Markup('<em data-w="flaky">{}</em>')


@lru_cache(maxsize=4096)
def _around(
    label: str, stage: str | None, *, control: bool, first: bool, outcome: Outcome, flaky: bool
) -> tuple[str, str]:
    """Give the markup of a cell before its number and after it."""
    shown = None if stage is None else visible(stage)
    before = _BEFORE.format(
        label,
        Markup(" data-none" if control else ""),  # noqa: S704  # ours
        Markup(' class="first"' if first else ""),  # noqa: S704  # ours
        GROUPS[outcome].value,
        outcome.value,
    )
    after = _AFTER.format(
        _english(f"o.{outcome.value}"),
        "" if shown is None else _STAGE.format(shown, _english("at", stage=stage_word(shown))),
        _FLAKY.format(_english("flaky")) if flaky else "",
    )
    return str(before), str(after)


def _firsts(columns: Sequence[Column]) -> list[bool]:
    return [
        i > 0 and (columns[i - 1].product, columns[i - 1].profile) != (column.product, column.profile)
        for i, column in enumerate(columns)
    ]


def stage_word(stage: str) -> str:
    """Give the English word of a stage; a kind that the page does not know is shown as it is."""
    known = words().get(f"st.{stage}")
    return stage if known is None else known["en"]


# --- the evidence -----------------------------------------------------------------------------------------------------


def _first_to_show(found: Sequence[Cause], cells: Sequence[MatrixCell]) -> list[str]:
    """Give all cells' ids: the first of each cause, the second of each, ..., then those that are good."""
    by_turn = [(turn, cell.id) for cause in found for turn, cell in enumerate(cause.cells)]
    return list(dict.fromkeys([*(name for _, name in sorted(by_turn, key=lambda x: x[0])), *(c.id for c in cells)]))


#: What a cell has and the page does not show of it: its attempts have the same in full, and matrix.json has all.
_CELL: dict[str, Any] = {
    **dict.fromkeys(("lab", "provider", "cached", "started_at", "duration_s"), True),
    "protection": {
        **dict.fromkeys(("active_before", "active_after", "signature_before", "signature_after"), True),
        "canaries": {"__all__": {"layer", "folder", "when", "after_s", "why_not"}},
        "samples": {"__all__": {"border", "stage", "why_not"}},
    },
}
#: Digests stand where the evidence does: they would be two thirds of a large page.
_BARE_CELL: dict[str, Any] = _CELL | {"evidence": True}


@dataclass(slots=True)
class _Data:
    """Collects what the script shows, each thing once."""

    report: Report
    spent: float = 0.0
    attempts: dict[str, int] = field(default_factory=dict)
    attempt_lines: list[str] = field(default_factory=list)
    texts: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    image_lines: list[str] = field(default_factory=list)

    def blocks(self, order: Sequence[str]) -> dict[str, Markup]:
        """Give the data blocks. ``order`` says whose evidence comes first while the budget lasts."""
        shown = {name: self._shown(self.report.evidence[name]) for name in order if self._may_show(name)}
        cells = [self._cell(cell, shown.get(cell.id)) for cell in self.report.matrix.cells]
        run = self.report.matrix.run
        meta: JsonValue = {"lab": run.lab.value, "run": visible(run.id)}
        return {
            # Our own words are the one thing that lies in a script element.
            "words": Markup(_json(words()).replace("<", "\\u003c")),  # noqa: S704  # the page's own, and no '<' in it
            "meta": _packed([_json(meta)]),
            "cells": _packed(cells),
            "attempts": _packed(self.attempt_lines),
            "texts": _packed([_json(text) for text in self.texts]),
            "images": Markup("\n".join(self.image_lines)),  # noqa: S704  # base64
        }

    def _may_show(self, name: str) -> bool:
        return name in self.report.evidence and self.spent < EVIDENCE_BYTES

    def _cell(self, cell: MatrixCell, shown: JsonValue) -> str:
        named = cell.model_copy(update={"product": shown_product(cell.product)}) if cell.test_product else cell
        text = _visible_json(
            named.model_dump_json(exclude_none=True, exclude=_CELL if shown is not None else _BARE_CELL)
        )
        if shown is None:
            return f'{text[:-1]},"left_out":true}}' if cell.id in self.report.evidence else text
        return f'{text[:-1]},"shown":{_json(shown)}}}'

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
        value = attempt.model_dump_json(exclude_none=True, exclude={"excerpts": {"__all__": {"text", "sha256"}}})
        places = {
            "images": [self._image(p.sha256, p.png) for p in attempt.pictures],
            "texts": [self._text(x.text) for x in attempt.excerpts],
        }
        line = f"{_visible_json(value)[:-1]},{_json(places)[1:]}"
        self.spent += _PACKED_SHARE * len(line)
        self.attempt_lines.append(line)
        return place

    def _text(self, text: str) -> int | None:
        if not text:
            return None
        shown = visible(text, lines=True)
        if shown not in self.texts:
            self.texts[shown] = len(self.texts)
            self.spent += _PACKED_SHARE * len(shown)
        return self.texts[shown]

    def _image(self, sha256: str, png: bytes | None) -> int | None:
        if png is None:
            return None
        if sha256 not in self.images:
            line = base64.b64encode(png).decode()
            self.images[sha256] = len(self.image_lines)
            self.image_lines.append(line)
            self.spent += len(line)
        return self.images[sha256]


def _visible_json(text: str) -> str:
    """Give an object in JSON with its text made visible.

    Reading and writing it again is the slow part of a large run, and most objects are plain: they hold nothing that
    ``visible`` would change.
    """
    bare = text.replace("\\\\", "").replace('\\"', "")
    if "\\" in bare:
        bare = _LINED.sub(lambda found: found[0].replace("\\n", "").replace("\\t", ""), bare)
    if "\\" not in bare and ((bare.isascii() and "\x7f" not in bare) or _NOT_PLAIN.search(bare) is None):
        return text
    return _json(_compact(json.loads(text)))


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


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _packed(lines: Sequence[str]) -> Markup:
    """Give lines of JSON as groups: each a line with the number of lines in it and their packed bytes in base64."""
    groups: list[list[str]] = []
    size = GROUP_CHARS
    for line in lines:
        if size >= GROUP_CHARS:
            groups.append([])
            size = 0
        groups[-1].append(line)
        size += len(line)
    return Markup("\n".join(f"{len(group)} {_deflated(group)}" for group in groups))  # noqa: S704  # digits and base64


def _deflated(lines: Sequence[str]) -> str:
    return base64.b64encode(zlib.compress("\n".join(lines).encode("utf-8", "replace"), 6)).decode()
