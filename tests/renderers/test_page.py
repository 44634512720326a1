import json
import os
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from harness.image import Lab
from harness.renderers.api import Report
from harness.renderers.grid import GROUPS, causes, sections
from harness.renderers.page import PageRenderer, words
from harness.verdict import Outcome
from tests.renderers.sample_run import HOSTILE, hostile_report, run_info, sample_report

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
    found = re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return found[1]


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
    attempts = [json.loads(line)["id"] for line in block(html, "d-attempts").split("\n")]
    assert len(attempts) == len(set(attempts))


def test_hostile_text_is_never_markup() -> None:
    html = page_of(hostile_report())
    assert "<script>alert" not in html
    assert html.count("<script") == 7
    assert html.count("</script>") == 7
    assert not any(c in html for c in "\x1b\x00\u202e")
    cell = json.loads(block(html, "d-cells"))
    assert cell["build"]["name"].startswith("<script>alert(1)</script>\\x1b[31mred")


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

    def __init__(self, browser: Browser, path: Path, *, language: str, width: int, fragment: str = "") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, locale=language)
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
    written = {name: folder / f"{name}.html" for name in ("sample", "hostile")}
    written["sample"].write_bytes(PageRenderer().render(sample_report()))
    written["hostile"].write_bytes(PageRenderer().render(hostile_report()))
    return written


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_a_cell_opens_its_evidence_and_closes_with_escape(browser: Browser, files: dict[str, Path], width: int) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=width)
    page = visit.page
    assert visit.fits()
    page.locator(".c", has_text="Quarantined").first.click()
    panel = page.locator("#panel")
    shown = panel.inner_text()
    for fact in ("Quarantined at connect", "HtsDemo.FalsePositive.Comm", "hts_comm.dll", "126 ERROR_MOD_NOT_FOUND",
                 "오류 126", "10 of 10 canaries", "gone", "clamd.log", "product.acted"):  # fmt: skip
        assert fact in shown, fact
    assert page.evaluate("document.querySelector('.shot img').naturalWidth") == 640
    assert page.evaluate("document.querySelector('#panel').scrollWidth <= document.querySelector('#panel').clientWidth")
    panel.locator(".shot").first.click()
    assert page.locator("#zoom").is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert page.evaluate("document.activeElement.textContent").startswith("Quarantined")
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
    assert "clamav 제품이 접속 단계에서 hts_comm.dll 파일을 격리했습니다." in page.locator("#panel").inner_text()
    visit.close()


@pytest.mark.browser
def test_an_address_opens_its_cell(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440, fragment=f"#lang=ko&cell={quote(GREEN)}")
    assert "이 판정을 믿을 수 있는 이유" in visit.page.locator("#panel").inner_text()
    visit.page.keyboard.press("ArrowRight")
    assert "cell=" in visit.page.url
    assert "2026-11-05" in visit.page.locator("#panel-title").inner_text()
    visit.close()


@pytest.mark.browser
def test_the_grid_can_be_walked_and_a_cell_opened_without_a_mouse(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    page = visit.page
    page.locator(".c").first.focus()
    assert page.locator(".c[tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.o") == "QUARANTINED"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert "DemoHTS 1.1.0" in page.locator("#panel").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.o") == "BLOCKED", "the walk goes on into the next table"
    visit.close()


@pytest.mark.browser
def test_the_filter_keeps_what_fits(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    page = visit.page
    page.locator("#filter").fill("fapolicyd 1.1.0")
    assert page.locator("td:not(.off) > .c:visible").count() == 2
    page.locator("[data-filter=BLOCKED]").click()
    assert page.locator("td:not(.off) > .c:visible").count() == 1
    page.locator("#filter").fill("nothing like this")
    assert page.locator("#nothing").is_visible()
    page.locator("#clear").click()
    assert page.locator("td:not(.off) > .c").count() == 33
    visit.close()


@pytest.mark.browser
def test_every_cell_opens_in_both_languages(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    for language in ("en", "ko"):
        visit.page.locator(f"[data-lang={language}]").click()
        texts = visit.page.evaluate(
            """[...document.querySelectorAll('.c')].map((el) => {
                 el.click(); const text = document.querySelector('#panel').innerText;
                 document.querySelector('#panel').close(); return text; })"""
        )
        assert len(texts) == 33
        assert not any("undefined" in text or "NaN" in text or "null" in text for text in texts)
        left = {word for text in texts for word in re.findall(r"{\w+}|\b(?:st|o|p|r|s|x)\.\w+", text)}
        assert left == set()
    visit.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_hostile_text_shows_as_inert_text(browser: Browser, files: dict[str, Path], width: int) -> None:
    visit = Visit(browser, files["hostile"], language="en-US", width=width)
    page = visit.page
    assert visit.fits()
    page.locator(".c").first.click()
    shown = page.locator("#panel").inner_text()
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
def test_it_prints_the_matrix_or_the_open_cell(browser: Browser, files: dict[str, Path]) -> None:
    visit = Visit(browser, files["sample"], language="en-US", width=1440)
    visit.page.emulate_media(media="print")
    assert visit.page.locator(".grid").first.is_visible()
    assert not visit.page.locator("#filter").is_visible()
    visit.page.locator(".c").first.click()
    assert not visit.page.locator(".grid").first.is_visible()
    assert visit.page.locator("#panel").is_visible()
    visit.close()
