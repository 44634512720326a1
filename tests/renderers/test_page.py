import base64
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from axe_playwright_python.sync_playwright import Axe
from hypothesis import given
from hypothesis.strategies import text
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

from harness.evidence import AttemptEvidence, Picture, StepLine
from harness.facts import StepStatus
from harness.image import Lab
from harness.inert_text import visible
from harness.matrix import Matrix, MatrixCell
from harness.renderers import page as page_module
from harness.renderers.api import Report
from harness.renderers.grid import GROUPS, causes, sections
from harness.renderers.page import PageRenderer, words
from harness.verdict import Outcome
from tests.builders import cell_with_a_way_out
from tests.renderers.sample_run import HOSTILE, hostile_report, png, run_info, sample_report

HERE = Path(__file__).parent.parent.parent / "harness" / "renderers"
CHROMIUM = Path(os.environ.get("HTS_COMPAT_CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
INCIDENT = "1.0.0/reference/clamav-standard/2026-11-04+2026-11-05/released-then-updated"
GREEN = "1.0.0/reference/clamav-standard/2026-11-04/fresh-install"


def page_of(report: Report) -> str:
    return PageRenderer().render(report).decode()


def block(html: str, name: str) -> str:
    found = re.search(rf'<template id="{name}">(.*?)</template>', html, re.DOTALL)
    assert found is not None
    return found[1]


def lines(html: str, name: str) -> list[str]:
    """Unpack a data block as the page's script does."""
    groups = [group.split(" ") for group in block(html, name).split("\n")]
    unpacked = [zlib.decompress(base64.b64decode(packed)).decode().split("\n") for _, packed in groups]
    assert [len(group) for group in unpacked] == [int(count) for count, _ in groups]
    return [line for group in unpacked for line in group]


# --- without a browser -----------------------------------------------------------------------------------------------


def test_two_renders_give_the_same_bytes() -> None:
    assert page_of(sample_report()) == page_of(sample_report())


def test_nothing_is_fetched_and_the_policy_forbids_it() -> None:
    html = unescape(page_of(sample_report()))
    assert "default-src 'none'; script-src 'sha256-" in html
    assert "unsafe" not in html
    addresses = set(re.findall(r"https?://[^\s'\"<>)]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the SVG namespace is a name, not an address"
    assert not re.search(r"<(?:link|iframe|object|embed|img)\b|\bstyle=|\son\w+=", html)


def test_the_grid_names_every_outcome_in_words() -> None:
    html = page_of(sample_report())
    for outcome in {c.outcome for c in sample_report().matrix.cells}:
        assert f">{words()[f'o.{outcome.value}']['en']}</b>" in html


@pytest.mark.parametrize(("lab", "name"), [(Lab.REFERENCE, "Reference lab"), (Lab.WINDOWS, "Windows")])
def test_the_banner_says_which_lab(lab: Lab, name: str) -> None:
    matrix = sample_report().matrix.model_copy(update={"run": run_info(lab)})
    assert f'<strong data-w="lab.{lab.value}">{name}</strong>' in page_of(Report(matrix=matrix))


def test_a_run_without_cells_is_no_good_news() -> None:
    html = page_of(Report(matrix=sample_report().matrix.model_copy(update={"cells": ()})))
    assert "This run has no cells" in html
    assert 'class="hero unknown"' in html


def test_a_run_in_which_nothing_was_judged_is_no_good_news() -> None:
    cells = tuple(c for c in sample_report().matrix.cells if c.outcome is Outcome.UNSUPPORTED)
    assert "No cell of this run says anything" in page_of(
        Report(matrix=sample_report().matrix.model_copy(update={"cells": cells}))
    )


def test_missing_cells_are_counted_against_those_expected() -> None:
    cells = sample_report().matrix.cells[:5]
    matrix = sample_report().matrix.model_copy(update={"cells": cells})
    assert '5 / 33 <span data-w="expected">expected</span>' in page_of(Report(matrix=matrix))


def test_each_picture_and_each_attempt_is_in_the_file_once() -> None:
    html = page_of(sample_report())
    pictures = block(html, "d-images").split("\n")
    assert len(pictures) == len(set(pictures)) == 2
    attempts = [json.loads(line)["id"] for line in lines(html, "d-attempts")]
    assert len(attempts) == len(set(attempts))


def test_hostile_text_is_never_markup() -> None:
    html = page_of(hostile_report())
    assert "<script>alert" not in html
    assert html.count("<script") == html.count("</script>") == 2, "the page's own words and its own script"
    assert not any(c in html for c in "\x1b\x00\u202e")
    cell = json.loads(lines(html, "d-cells")[0])
    assert cell["build"]["name"].startswith("<script>alert(1)</script>\\x1b[31mred")


def test_data_has_no_character_that_markup_is_made_of() -> None:
    html = page_of(hostile_report())
    for name in ("d-meta", "d-cells", "d-attempts", "d-texts", "d-images"):
        assert re.fullmatch(r"[A-Za-z0-9+/= \n]*", block(html, name)), name


def test_no_text_of_a_guest_is_in_a_script_element() -> None:
    html = page_of(hostile_report())
    scripts = re.findall(r"<script.*?</script>", html, re.DOTALL)
    assert scripts == re.findall(r"<script.*?</script>", page_of(sample_report()), re.DOTALL)


@pytest.mark.parametrize("odd", ["\x1b[31m", "a\nb", "\x7f", "\u202e", "\x85", "tab\there", "\u200b가"])
def test_text_that_is_not_plain_is_made_visible_in_a_cell(odd: str) -> None:
    cell = sample_report().matrix.cells[0].model_copy(update={"reason": f'C:\\new "{odd}"'})
    shown = json.loads(lines(page_of(Report(matrix=matrix_of_cells(cell))), "d-cells")[0])["reason"]
    assert shown == visible(f'C:\\new "{odd}"')
    assert shown != cell.reason


@given(reason=text(), dialog=text())
def test_plain_objects_are_taken_as_they_are_only_when_nothing_would_change(reason: str, dialog: str) -> None:
    raw = {"reason": reason + ".", "dialog": dialog + ".", "n": 1}
    shown = page_module._visible_json(json.dumps(raw, ensure_ascii=False))
    assert json.loads(shown) == {
        "reason": visible(reason + "."), "dialog": visible(dialog + ".", lines=True), "n": 1,
    }  # fmt: skip


def test_cells_are_packed_in_groups_and_come_out_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "GROUP_CHARS", 20_000)
    html = page_of(sample_report())
    assert block(html, "d-cells").count("\n") > 3
    assert [json.loads(line)["id"] for line in lines(html, "d-cells")] == [c.id for c in sample_report().matrix.cells]


def test_evidence_has_a_budget_that_is_spent_on_one_cell_of_each_cause_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "EVIDENCE_BYTES", 30_000)
    report = sample_report()
    cells = [json.loads(line) for line in lines(page_of(report), "d-cells")]
    shown = {cell["id"] for cell in cells if "shown" in cell}
    firsts = [cause.cells[0].id for cause in causes(report.matrix) if cause.cells[0].id in report.evidence]
    assert shown
    assert shown < set(report.evidence)
    assert set(firsts) <= shown
    assert {cell["id"] for cell in cells if cell.get("left_out")} == set(report.evidence) - shown
    assert all(cell["outcome"] for cell in cells), "every verdict stays"


def test_a_good_cell_more_costs_a_few_hundred_bytes() -> None:
    """A run of 12,000 cells has to stay a page that goes by mail."""
    like = next(c for c in sample_report().matrix.cells if c.id == GREEN)

    def alike(n: int) -> MatrixCell:
        tries = tuple(a.model_copy(update={"id": f"a{hash_of(n)[:10]}"}) for a in like.attempts)
        blobs = tuple(e.model_copy(update={"sha256": hash_of(100 * n + k)}) for k, e in enumerate(like.evidence))
        return like.model_copy(
            update={
                "id": f"{n}",
                "key": hash_of(n),
                "attempts": tries,
                "evidence": blobs,
                "signature": f"s{n % 60}",
                "observed_s": n / 7,
            }
        )

    few, many = (len(page_of(Report(matrix=matrix_of_cells(*map(alike, range(n)))))) for n in (200, 1200))
    assert (many - few) / 1000 < 500


def hash_of(n: int) -> str:
    return hashlib.sha256(b"%d" % n).hexdigest()


def test_the_name_that_the_page_makes_up_from_a_cells_place_is_its_id() -> None:
    assert 'data-id="1.0.0/reference"' in page_of(sample_report())
    assert not re.search(r"<button[^>]* data-id", page_of(sample_report()))
    odd = sample_report().matrix.cells[0].model_copy(update={"id": "a/name of <old>"})
    assert 'data-id="a/name of &lt;old&gt;"' in page_of(Report(matrix=matrix_of_cells(odd)))


def matrix_of_cells(*cells: MatrixCell) -> Matrix:
    return sample_report().matrix.model_copy(update={"cells": cells})


def test_every_string_has_both_languages_and_the_same_values() -> None:
    for key, both in words().items():
        assert set(both) == {"en", "ko"}, key
        assert both["en"].strip(), key
        assert both["ko"].strip(), key
        assert set(re.findall(r"{\w+}", both["en"])) == set(re.findall(r"{\w+}", both["ko"])), key


def test_every_key_that_is_used_exists_and_every_key_is_used() -> None:
    sources = "".join((HERE / name).read_text(encoding="utf-8") for name in ("page.html.j2", "page.js", "page.py"))
    named = {k for k in re.findall(r"""["']([a-z][\w.]*)["']""", sources) if k in words()}
    used = set(re.findall(r"""\bw\("([\w.]+)"[,)]""", sources)) | set(
        re.findall(r"""\bt\(["']([\w.]+)["'][,)]""", sources)
    )
    assert used <= set(words()), used - set(words())
    computed = tuple(set(re.findall(r"""["']([a-z]+(?:\.[a-z]+)*\.)["']""", sources)))
    unused = [key for key in words() if key not in named and not key.startswith((*computed, "lab.", "o.", "m.", "s."))]
    assert unused == []


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_every_text_colour_has_the_contrast_that_wcag_aa_asks(theme: int) -> None:
    css = (HERE / "page.css").read_text(encoding="utf-8")
    themes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", themes[theme]))
    for group in sorted(set(GROUPS.values())):
        assert _contrast(colours[group], colours[f"{group}-bg"]) >= 4.5, group
        assert _contrast(colours[group], colours["card"]) >= 4.5, group
    for ground in ("page", "card", "soft"):
        assert _contrast(colours["quiet"], colours[ground]) >= 4.5, ground
        assert _contrast(colours["ink"], colours[ground]) >= 7, ground


def test_cells_with_one_cause_are_grouped_and_the_worst_come_first() -> None:
    found = causes(sample_report().matrix)
    assert (found[0].outcome, found[0].target, len(found[0].cells)) == (Outcome.QUARANTINED, "hts_comm.dll", 7)
    assert found[-1].outcome is Outcome.INCONCLUSIVE
    bad = [c for c in sample_report().matrix.cells if c.outcome not in {Outcome.COMPATIBLE, Outcome.UNSUPPORTED}]
    assert sum(len(c.cells) for c in found) == len(bad)


def test_the_grid_has_every_cell_once_and_keeps_a_products_columns_together() -> None:
    laid = sections(sample_report().matrix)
    assert [s.scenario for s in laid] == ["released-then-updated", "fresh-install"]
    assert sum(c is not None for s in laid for r in s.rows for c in r.cells) == 33
    assert [(p, profile) for p, profile, _ in laid[1].products] == [
        ("none", "standard"), ("clamav", "standard"), ("clamav", "strict"), ("fapolicyd", "standard"),
    ]  # fmt: skip


# --- in Chromium -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


class Visit:
    """One visit of the page; it notes whatever the page says on the console or asks of the network."""

    def __init__(
        self, browser: Browser, path: Path, *, language: str, width: int, fragment: str = "", dark: bool = False
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=language, color_scheme="dark" if dark else "light"
        )
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._refuse)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri() + fragment)

    def _refuse(self, dialog: Dialog) -> None:
        self.said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def close(self) -> None:
        foreign = [url for url in self.asked if not url.startswith(("file:", "data:"))]
        self.context.close()
        assert self.said == []
        assert foreign == []


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("page")
    written = {name: folder / f"{name}.html" for name in ("sample", "hostile", "film")}
    written["film"].write_bytes(PageRenderer().render(filmed_report()))
    written["sample"].write_bytes(PageRenderer().render(sample_report()))
    written["hostile"].write_bytes(PageRenderer().render(hostile_report()))
    return written


def shown_in(page: Page, text: str = "") -> str:
    """Give the panel's text once it shows some text."""
    expect(page.locator("#panel")).to_be_visible()
    expect(page.locator("#panel")).to_contain_text(text)
    return page.locator("#panel").inner_text()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_a_cell_opens_its_evidence_and_closes_with_escape(browser: Browser, files: dict[str, Path], width: int) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=width)
    page = visit.page
    assert visit.fits()
    page.locator(".c", has_text="Quarantined").first.click()
    shown = shown_in(page)
    for fact in ("Quarantined at connect", "HtsDemo.FalsePositive.Comm", "hts_comm.dll", "126 ERROR_MOD_NOT_FOUND",
                 "오류 126", "10 of 10 canaries", "gone", "clamd.log", "product.acted"):  # fmt: skip
        assert fact in shown, fact
    assert page.evaluate("document.querySelector('.shot img').naturalWidth") == 640
    assert page.evaluate("document.querySelector('#panel').scrollWidth <= document.querySelector('#panel').clientWidth")
    page.locator("#panel .shot").first.click()
    assert page.locator("#zoom").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert not page.locator("#panel").is_visible()
    assert page.evaluate("document.activeElement.textContent").startswith("Quarantined")
    visit.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_screens_stand_beside_the_controls_at_the_same_step(
    browser: Browser, files: dict[str, Path], width: int
) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=width, fragment=f"#cell={INCIDENT}")
    page = visit.page
    shown_in(page, "What happened")
    expect(page.get_by_role("dialog", name="clamav standard @ 2026-11-04 → 2026-11-05")).to_be_visible()
    own, control = page.locator(".pair").first.locator("figure").all()
    assert own.locator("figcaption").inner_text().startswith("This attempt connect")
    assert control.locator("figcaption").inner_text().startswith("Control connect")
    left, right = own.bounding_box(), control.bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    pictures = [figure.locator("img").get_attribute("src") for figure in (own, control)]
    assert pictures[0] != pictures[1], "the dialog is on one of them alone"
    own.locator("button").click()
    assert page.locator("#zoom img").get_attribute("src") == pictures[0]
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom img").get_attribute("src") == pictures[1]
    visit.close()


def filmed_report() -> Report:
    """Give the sample with a picture behind every step of the incident: alike while it installs, then others."""
    report = sample_report()
    evidence = report.evidence[INCIDENT]

    def filmed(attempt: AttemptEvidence, *, dialog: bool) -> AttemptEvidence:
        def picture(step: StepLine) -> Picture:
            raw = png(dialog=dialog and step.status is StepStatus.FAILED, shade=0 if step.index < 3 else step.index)
            sha256 = hashlib.sha256(raw).hexdigest()
            at_s = float(step.index)
            return Picture(sha256=sha256, stage=step.kind, step=step.index, at_s=at_s, caption="screen", png=raw)

        reached = [step for step in attempt.steps if step.status is not StepStatus.NOT_RUN]
        return attempt.model_copy(update={"pictures": tuple(picture(step) for step in reached)})

    own = tuple(filmed(a, dialog=True) for a in evidence.attempts)
    control = tuple(filmed(c, dialog=False) for c in evidence.controls)
    shown = evidence.model_copy(update={"attempts": own, "controls": control})
    return replace(report, evidence={**report.evidence, INCIDENT: shown})


@pytest.mark.browser
@pytest.mark.parametrize(("language", "same"), [("en-US", "unchanged"), ("ko-KR", "변화 없음")])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_filmstrip_lays_each_step_above_the_controls_and_names_what_has_not_changed(
    browser: Browser, files: dict[str, Path], width: int, language: str, same: str
) -> None:
    visit = Visit(browser, files["film"], language=language, width=width, fragment=f"#cell={INCIDENT}")
    page = visit.page
    expect(page.locator("#panel .film")).to_be_visible()
    film = page.locator("#panel .film").first
    heads = film.locator("thead th").all_inner_texts()
    own, control = film.locator("tbody tr").all()
    assert [head.partition(".")[0] for head in heads] == [str(i + 1) for i in range(len(heads))]
    assert film.locator("thead th.bad").count() == 1
    assert own.locator("td").count() == control.locator("td").count() == len(heads)
    assert own.locator("td").all_inner_texts()[1:3] == [same, same]
    failed = next(
        i for i, th in enumerate(film.locator("thead th").all()) if "bad" in (th.get_attribute("class") or "")
    )
    mine, theirs = (row.locator("td").nth(failed).locator("img").get_attribute("src") for row in (own, control))
    assert mine != theirs
    seen = "e => { const a = e.getBoundingClientRect(), b = e.closest('.overflow').getBoundingClientRect();"
    seen += " return a.left >= b.left && a.right <= b.right + 1; }"
    assert film.locator("thead th.bad").evaluate(seen), "the step that failed is in sight"
    own.locator("td").nth(failed).locator("button").click()
    assert page.locator("#zoom img").get_attribute("src") == mine
    page.keyboard.press("ArrowRight")
    assert page.locator("#zoom img").get_attribute("src") == theirs
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelector('#panel').scrollWidth <= document.querySelector('#panel').clientWidth")
    visit.close()


@pytest.mark.browser
def test_a_step_without_a_picture_of_the_control_says_so(browser: Browser, files: dict[str, Path]) -> None:
    taken = "1.1.0/reference/clamav-standard/2026-11-06/fresh-install"
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment=f"#cell={taken}")
    shown_in(visit.page, "What happened")
    own, control = visit.page.locator(".pair").first.locator("figure").all()
    assert own.inner_text().startswith("This attempt deliver")
    assert "No picture was made at this step." in control.inner_text()
    visit.close()


@pytest.mark.browser
def test_the_language_follows_the_browser_and_is_kept_in_the_address(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="ko-KR", width=1440)
    page = visit.page
    assert page.locator("h1").inner_text() == "셀 30개 중 16개가 호환되지 않습니다"
    assert page.locator(".lab strong").inner_text() == "참조 랩"
    page.get_by_role("button", name="English").click()
    assert page.locator("h1").inner_text() == "16 of 30 cells are not compatible"
    assert "lang=en" in page.url
    page.reload()
    assert page.locator("html").get_attribute("lang") == "en"
    page.get_by_role("button", name="한국어").click()
    page.locator(".c", has_text="격리됨").first.click()
    shown_in(page, "clamav 제품이 접속 단계에서 hts_comm.dll 파일을 격리했습니다.")
    visit.close()


@pytest.mark.browser
@pytest.mark.parametrize("spelled", [quote, quote_plus, str, lambda cell: cell.replace("+", " ")])
def test_an_address_opens_its_cell_however_it_is_spelled(
    browser: Browser, files: dict[str, Path], spelled: Callable[[str], str]
) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment=f"#lang=ko&cell={spelled(INCIDENT)}")
    shown_in(visit.page, "이 판정을 믿을 수 있는 이유")
    assert visit.page.locator("#panel-title").inner_text() == "clamav standard @ 2026-11-04 → 2026-11-05"
    assert visit.page.url.endswith(f"cell={INCIDENT}"), "the address that the page writes can be read"
    visit.close()


@pytest.mark.browser
def test_an_id_with_every_sign_that_an_address_gives_a_meaning_is_found_again(browser: Browser, tmp_path: Path) -> None:
    name = "1+0/r@f/p-s/a+b@2 50%25&cell=x#y?z,;/가 나"
    odd = sample_report().matrix.cells[0].model_copy(update={"id": name})
    path = tmp_path / "odd.html"
    path.write_bytes(PageRenderer().render(Report(matrix=matrix_of_cells(*sample_report().matrix.cells[1:], odd))))
    visit = Visit(browser, path, language="en-US", width=1440)
    visit.page.locator(f".c[data-id='{name}']").click()
    shown_in(visit.page, name)
    link = "#" + str(visit.page.locator("#panel a").get_attribute("href")).partition("#")[2]
    again = Visit(browser, path, language="en-US", width=1440, fragment=link)
    shown_in(again.page, name)
    assert again.page.url.endswith(link)
    visit.close()
    again.close()


@pytest.mark.browser
def test_the_next_cell_is_one_that_fits_the_filter(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment=f"#cell={GREEN}")
    page = visit.page
    shown_in(page, "2026-11-04")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#panel-title")).to_have_text("clamav standard @ 2026-11-05")
    assert page.url.endswith("clamav-standard/2026-11-05/fresh-install")
    page.keyboard.press("Escape")
    page.locator("[data-filter=BLOCKED]").click()
    page.locator(".c:visible").first.click()
    shown_in(page, "1.0.0")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".p-head")).to_contain_text("DemoHTS 1.1.0")
    expect(page.locator("#panel-title")).to_have_text("fapolicyd standard @ strict-1")
    assert page.get_by_role("button", name="Previous cell").is_enabled()
    visit.close()


@pytest.mark.browser
def test_the_grid_can_be_walked_and_a_cell_opened_without_a_mouse(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    page = visit.page
    page.locator(".c").first.focus()
    assert page.locator(".c[tabindex='0']").count() == page.locator(".grid").count() == 2
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.o") == "QUARANTINED"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert "DemoHTS 1.1.0" in shown_in(page)
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.o") == "BLOCKED", "the walk goes on into the next table"
    page.keyboard.press("Control+Home")
    assert page.evaluate("document.activeElement === document.querySelector('.c')")
    visit.close()


@pytest.mark.browser
def test_the_keyboard_reaches_everything_and_skips_what_the_filter_hides(
    browser: Browser, files: dict[str, Path]
) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment="#lang=en&outcome=BLOCKED")
    page = visit.page
    stops = []
    for _ in range(20):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    order = ["Skip to the matrix", "English", "한국어", "to-causes", "filter", "product", "build", "clear"]
    assert [stop for stop in stops if stop in order] == order
    assert [stop for stop in stops if stop.startswith("Blocked")] == ["Blockedat self-update"], "a table is one stop"
    page.locator(".c[tabindex='0']:visible").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.closest('tr').dataset.id") == "1.1.0/reference"
    page.evaluate("location.hash = 'product=clamav-standard&outcome=COMPATIBLE&text=1.0.0%20fresh'")
    expect(page.locator("#fits")).to_have_text("2 of 33 cells shown")
    first, last = page.locator(".c:visible").all()
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(last).to_be_focused()
    visit.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_the_filter_keeps_what_fits(browser: Browser, files: dict[str, Path], width: int) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=width)
    page = visit.page
    page.locator("#filter").fill("fapolicyd 1.1.0")
    assert page.locator(".c:visible").count() == 2
    assert page.locator("#fits").inner_text() == "2 of 33 cells shown"
    page.locator("[data-filter=BLOCKED]").click()
    assert page.locator(".c:visible").count() == 1
    page.locator("#filter").fill("nothing like this")
    assert page.locator("#fits").inner_text() == "No cell fits the filter."
    page.locator("#clear").click()
    assert page.locator(".c:visible").count() == 33
    page.locator("#product").select_option("clamav-strict")
    assert page.locator(".c:visible").count() == 3
    page.locator("#build").select_option("1.1.0")
    assert page.locator(".c:visible").all_inner_texts() == ["Broken\nat inspect"]
    assert visit.fits()
    visit.close()


@pytest.mark.browser
def test_columns_without_a_cell_that_fits_are_hidden_and_the_heads_stay_above_theirs(
    browser: Browser, files: dict[str, Path]
) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment="#product=fapolicyd-standard")
    page = visit.page
    assert page.locator(".sig:visible").all_inner_texts() == ["baseline", "strict-1"]
    assert page.locator(".product:visible").all_inner_texts() == ["fapolicyd standard"]
    for head, cell in (("baseline", 0), ("strict-1", 1)):
        above = page.locator(".sig:visible", has_text=head).bounding_box()
        below = page.locator("tbody tr:visible").first.locator("td:visible").nth(cell).bounding_box()
        assert above is not None
        assert below is not None
        assert (above["x"], above["width"]) == (below["x"], below["width"])
    page.locator("#clear").click()
    assert page.locator(".product:visible").count() == 6
    page.locator("#filter").fill("clamav-standard/2026-11-05")
    product, left = page.locator(".product:visible").bounding_box(), page.locator(".sig:visible").bounding_box()
    assert product is not None
    assert left is not None
    assert (product["x"], product["width"]) == (left["x"], left["width"]), "one column of four is left"
    visit.close()


@pytest.mark.browser
def test_an_address_restores_every_filter(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    page = visit.page
    page.locator("[data-filter=QUARANTINED]").click()
    page.locator("[data-filter=BUILD_FAULT]").click()
    page.locator("#product").select_option("clamav-standard")
    page.locator("#build").select_option("1.2.0")
    page.locator("#filter").fill("fresh 11-0")
    page.locator("[data-lang=ko]").click()
    page.wait_for_function("location.hash.includes('text=')")
    kept = page.locator(".c:visible").all_inner_texts()
    assert len(kept) == 4
    link = page.evaluate("location.hash")
    again = Visit(browser, files["sample"], language="en-US", width=1440, fragment=link)
    assert again.page.locator(".c:visible").all_inner_texts() == kept
    assert again.page.locator("[data-filter][aria-pressed=true]").count() == 2
    assert again.page.locator("#filter").input_value() == "fresh 11-0"
    assert again.page.locator("html").get_attribute("lang") == "ko"
    again.page.evaluate("location.hash = '#lang=en&build=1.0.0&product=gone'")
    expect(again.page.locator("#fits")).to_have_text("11 of 33 cells shown")
    visit.close()
    again.close()


@pytest.mark.browser
@pytest.mark.parametrize("text", ["04+2026", "04%2B2026"])
def test_a_plus_in_the_words_of_a_link_is_a_plus(browser: Browser, files: dict[str, Path], text: str) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment=f"#text={text}&outcome=QUARANTINED")
    assert visit.page.locator("#filter").input_value() == "04+2026"
    assert visit.page.locator(".c:visible").count() == 2
    visit.close()


@pytest.mark.browser
def test_every_cell_opens_in_both_languages(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    for language in ("en", "ko"):
        visit.page.locator(f"[data-lang={language}]").click()
        texts = visit.page.evaluate(
            """async () => {
                 const panel = document.querySelector('#panel'), texts = [];
                 for (const el of document.querySelectorAll('.c')) {
                   el.click();
                   while (!panel.open) await new Promise((done) => setTimeout(done, 1));
                   texts.push(panel.innerText);
                   panel.close();
                   await new Promise((done) => panel.addEventListener('close', done, { once: true }));
                 }
                 return texts;
               }"""
        )
        assert len(texts) == 33
        assert not any("undefined" in text or "NaN" in text or "null" in text for text in texts)
        left = {word for text in texts for word in re.findall(r"{\w+}|\b(?:st|o|p|r|s|x)\.\w+", text)}
        assert left == set()
    visit.close()


@pytest.mark.browser
def test_a_browser_that_cannot_unpack_says_so(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    visit.page.evaluate("delete globalThis.DecompressionStream")
    visit.page.locator(".c").first.click()
    assert "cannot unpack" in shown_in(visit.page, "hts-compat explain 1.0.0/reference/none-standard")
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("#panel").is_visible()
    visit.close()


@pytest.mark.browser
def test_a_cell_whose_evidence_was_left_out_says_where_it_is(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "EVIDENCE_BYTES", 0)
    path = tmp_path / "bare.html"
    path.write_bytes(PageRenderer().render(sample_report()))
    visit = Visit(browser, path, language="en-US", width=1440, fragment=f"#cell={INCIDENT}")
    assert f"hts-compat explain {INCIDENT} 20261124-0600-full" in shown_in(visit.page, "Identity")
    visit.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_hostile_text_shows_as_inert_text(browser: Browser, files: dict[str, Path], width: int) -> None:
    visit = Visit(browser, files["hostile"], language="en-US", width=width)
    page = visit.page
    assert visit.fits()
    page.locator(".c").first.click()
    shown = shown_in(page)
    assert "<script>alert(1)</script>\\x1b[31mred\\x1b[0m ⟨U+202E⟩gnp.exe⟨U+202C⟩ \\x00" in shown
    assert HOSTILE not in shown
    assert page.locator("#panel script").count() == 0
    assert page.evaluate("document.querySelector('#panel').scrollWidth <= document.querySelector('#panel').clientWidth")
    visit.close()


@pytest.mark.browser
def test_markup_in_the_page_could_not_run_a_script_if_there_were_any(
    browser: Browser, files: dict[str, Path], tmp_path: Path
) -> None:
    spoilt = tmp_path / "spoilt.html"
    text = files["sample"].read_text(encoding="utf-8")
    spoilt.write_text(text.replace("<main", "<script>document.title='taken'</script><main", 1), encoding="utf-8")
    visit = Visit(browser, spoilt, language="en-US", width=1440)
    assert visit.page.title() != "taken"
    assert any("Content Security Policy" in said for said in visit.said)
    visit.context.close()


@pytest.mark.browser
def test_a_hostile_address_does_nothing(browser: Browser, files: dict[str, Path]) -> None:
    evil = "<img src=x onerror=alert(1)>"
    fragments = [f"{name}={evil}" for name in ("cell", "text", "lang", "build", "product", "outcome")]
    fragments += ["lang=__proto__", "outcome=constructor&product=__proto__", "cell=%E0%A4%A", "&&=&x", "alert(1)"]
    for part in fragments:
        visit = Visit(browser, files["hostile"], language="en-US", width=1440, fragment=f"#{part}")
        assert visit.page.locator("html").get_attribute("lang") == "en"
        assert not visit.page.locator("#panel").is_visible(), part
        assert visit.page.locator("img").count() == 0
        visit.close()


@pytest.mark.browser
def test_a_large_table_prints_as_a_table_with_symbols(browser: Browser, tmp_path: Path) -> None:
    like = next(c for c in sample_report().matrix.cells if c.id == GREEN)
    cells = [
        like.model_copy(
            update={
                "id": f"{n}",
                "signature": f"s{n % 20}",
                "build": like.build.model_copy(update={"version": f"v{n // 20}"}),
            }
        )
        for n in range(1200)
    ]
    path = tmp_path / "large.html"
    path.write_bytes(PageRenderer().render(Report(matrix=matrix_of_cells(*cells))))
    visit = Visit(browser, path, language="en-US", width=1440)
    style = "(name) => getComputedStyle(document.querySelector(name))"
    assert visit.page.evaluate(f"({style})('tbody tr').contentVisibility") == "auto"
    visit.page.emulate_media(media="print")
    assert visit.page.evaluate(f"({style})('.grid thead').display") == "table-header-group", "heads on every sheet"
    assert visit.page.evaluate(f"({style})('tbody tr').display") == "table-row"
    assert visit.page.evaluate(f"({style})('tbody tr').contentVisibility") == "visible"
    assert not visit.page.locator(".c b").first.is_visible()
    visit.page.emulate_media(media="screen")
    visit.page.locator("#filter").fill("v7 @ s1")
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".c b:visible").count() == 11, "few columns print in words"
    visit.close()


#: What a reader with a screen reader, a keyboard or weak eyes needs, as far as a program can tell (axe-core's tags).
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def barriers(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]})
    return [
        f"{v['id']}: {v['help']}: {[n['html'][:160] for n in v['nodes'][:3]]}" for v in found.response["violations"]
    ]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "language", "dark"),
    [(1440, "en-US", False), (390, "ko-KR", False), (1440, "ko-KR", True), (390, "en-US", True)],
)
def test_axe_finds_no_barrier(browser: Browser, files: dict[str, Path], width: int, language: str, dark: bool) -> None:
    visit = Visit(browser, files["sample"], language=language, width=width, dark=dark)
    page = visit.page
    page.emulate_media(reduced_motion="reduce")
    page.locator(".legend summary").click()
    assert barriers(page) == []
    page.locator("[data-filter=QUARANTINED]").click()
    page.locator("#filter").fill("1.1.0")
    assert barriers(page) == []
    for cell in (INCIDENT, GREEN):
        page.evaluate("(cell) => { location.hash = 'cell=' + cell; }", cell)
        shown_in(page, cell)
        assert barriers(page) == [], cell
    page.locator(".shot").first.click()
    assert barriers(page) == []
    visit.close()


@pytest.mark.browser
def test_axe_sees_a_barrier_when_there_is_one(browser: Browser, files: dict[str, Path], tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.html"
    text = files["sample"].read_text(encoding="utf-8")
    spoilt.write_text(
        re.sub(r'<select id="build" aria-label="[^"]*" data-w-label="build">', '<select id="build">', text)
    )
    visit = Visit(browser, spoilt, language="en-US", width=1440)
    assert [found.split(":")[0] for found in barriers(visit.page)] == ["select-name"]
    visit.close()


@pytest.mark.browser
def test_it_prints_the_matrix_or_the_open_cell(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".grid").first.is_visible()
    assert not visit.page.locator("#filter").is_visible()
    visit.page.locator(".c").first.click()
    shown_in(visit.page)
    assert not visit.page.locator(".grid").first.is_visible()
    assert visit.page.locator("#panel").is_visible()
    visit.close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "language"), [(1440, "en-US"), (390, "ko-KR")])
def test_the_way_out_is_shown_for_the_run_and_in_each_cell_that_had_one(
    browser: Browser, tmp_path: Path, width: int, language: str
) -> None:
    path = tmp_path / "out.html"
    evil = "<img src=x>.example:80"
    cell = cell_with_a_way_out()
    assert cell.egress is not None
    assert cell.egress.seen is not None
    refused = cell.egress.seen.refused[0].model_copy(update={"target": evil})
    seen = cell.egress.seen.model_copy(update={"refused": (refused,)})
    hostile = cell.model_copy(update={"egress": cell.egress.model_copy(update={"seen": seen})})
    path.write_bytes(PageRenderer().render(Report(matrix=matrix_of_cells(hostile))))
    visit = Visit(browser, path, language=language, width=width)
    head = visit.page.locator("header").inner_text()
    assert "quotes.example.kr:443, test.internal:8443, cloud.example.com:443" in head
    assert "a-cloud (defender)" in head
    visit.page.locator(".c").first.click()
    shown = shown_in(visit.page)
    for fact in ("quotes.example.kr:443", "test.internal:8443", "a-cloud", "Connection refused", evil, "1,200"):
        assert fact in shown, fact
    assert visit.fits()
    panel = "document.querySelector('#panel')"
    assert visit.page.evaluate(f"{panel}.scrollWidth <= {panel}.clientWidth")
    assert visit.page.locator("#panel .p-body img").count() == 0
    visit.close()


def test_a_page_without_a_way_out_says_nothing_of_one() -> None:
    assert 'data-w="out"' not in page_of(sample_report())
    assert 'data-w="out"' in page_of(Report(matrix=matrix_of_cells(cell_with_a_way_out())))
