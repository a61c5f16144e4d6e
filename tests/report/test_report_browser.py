"""The page in a real browser: no error, no request, every picture, switching, telephone width, dark."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_runs import made_features, make_run_folder, report

Page = Any
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; where there is none the tests are skipped, except in CI, which has to have it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not os.environ.get("CI"):
        pytest.importorskip("playwright")
        if chromium is None:
            pytest.skip("no Chromium on PATH")
    from playwright.sync_api import sync_playwright

    assert chromium, "CI has to have Chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs with names that HTML would misread, the first of two targets; one image is missing."""
    folder = tmp_path_factory.mktemp("browser")
    first = {"market1501": made_features(0, folder / "a"), "msmt17": made_features(1, folder / "b")}
    second = {"market1501": made_features(2, folder / "a")}
    second["market1501"]["gallery_paths"][:60] = str(folder / "missing.jpg")
    config = {"loss": {"name": "</script><img src=x onerror=alert(1)>"}}
    runs = [make_run_folder(folder / "<b>x", targets=first), make_run_folder(folder / ("y" * 40), 1, config, second)]
    result = report(*runs, "-o", folder / "page.html")
    assert result.exit_code == 0, result.output
    return folder / "page.html"


@pytest.fixture
def page(browser: Any, made: Path) -> Iterator[Page]:
    """The page, which asks for nothing and reports no error."""
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    opened = context.new_page()
    troubles: list[str] = []
    opened.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    requests: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(made.as_uri())
    yield opened
    context.close()
    assert troubles == []
    assert [url for url in requests if not url.startswith("data:")] == [made.as_uri()]


def visible(page: Page) -> list[str]:
    return [
        panel.query_selector("h3").inner_text().strip()
        for panel in page.query_selector_all(".panel")
        if panel.is_visible()
    ]


def test_every_picture_is_decoded(page: Page) -> None:
    page.wait_for_function("[...document.images].every(image => image.complete)")
    sizes = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.alt.length])")
    assert len(sizes) > 100
    assert all(width > 0 and alt > 0 for width, alt in sizes)
    assert len(set(page.evaluate("[...document.images].map(image => image.src)"))) > 50


def test_switching_runs_and_targets(page: Page) -> None:
    assert visible(page) == ["<b>x on market1501"]
    page.get_by_role("radio", name="y" * 40).check()
    assert visible(page) == [f"{'y' * 40} on market1501"]
    assert page.inner_text("#shown") == f"Shown: {'y' * 40} on market1501"
    page.get_by_role("radio", name="msmt17").check()
    assert visible(page) == []
    assert page.is_visible("#none")
    page.get_by_role("radio", name="<b>x").check()
    assert visible(page) == ["<b>x on msmt17"]
    assert not page.is_visible("#none")


def test_the_keyboard_switches_runs_with_its_place_in_sight(page: Page) -> None:
    page.get_by_role("radio", name="<b>x").focus()
    page.keyboard.press("ArrowRight")
    assert visible(page) == [f"{'y' * 40} on market1501"]
    outline = "getComputedStyle(document.querySelector('.switch input:focus-visible + span')).outlineStyle"
    assert page.evaluate(outline) == "solid"


@pytest.mark.parametrize("run", ["<b>x", "y" * 40])
def test_a_telephone_does_not_scroll_sideways(page: Page, run: str) -> None:
    page.set_viewport_size(NARROW)
    page.get_by_role("radio", name=run).check()
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    beyond = (
        "[...document.querySelectorAll('h1, h2, h3, h4, figure, p, .hits')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(page.evaluate(beyond)) <= NARROW["width"]


def test_dark_is_dark_and_so_are_the_plots(page: Page) -> None:
    colours = """() => {
        const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
        return [of("body", "backgroundColor"), of("body", "color"), of(".plot text", "fill"),
                of(".plot path[style*=run-0]", "stroke")];
    }"""
    light = page.evaluate(colours)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(colours)
    assert all(before != after for before, after in zip(light, dark, strict=True))
    assert light[1:3] == [light[1]] * 2
    assert dark[1:3] == [dark[1]] * 2
    brightness = [sum(int(part) for part in colour[4:-1].split(",")) for colour in (light[0], dark[0], dark[1])]
    assert brightness[0] > 600 > 150 > brightness[1]
    assert brightness[2] > 600


def test_headings_come_in_their_order_and_names_are_unique(page: Page) -> None:
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(each => Number(each.tagName[1]))")
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(names) == len(set(names))
    used = page.evaluate('document.documentElement.outerHTML.match(/url\\(#[^)]+\\)|href="#[^"]+/g)')
    assert {each.split("#")[1].rstrip(")") for each in used} <= set(names)
