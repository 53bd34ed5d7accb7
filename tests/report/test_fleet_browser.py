"""The page of a fleet in a browser: what a person on duty does with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from devtools.browser import CHROMIUM, Page
from raysvq.report.fleet import write_page
from raysvq.report.fleet.addresses import page_name
from tests.report.fleets import draw_heat_maps, fleet, night, run_over
from tests.report.test_fleet_page import HOSTILE

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
SHOWN = "[...document.querySelectorAll('#rows > tr:not([hidden]) th a')].map((cell) => cell.textContent)"
FOCUS = "document.activeElement.textContent || document.activeElement.id"
FITS = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of 50 cameras with the heat maps of its newest night."""
    out = tmp_path_factory.mktemp("fleet")
    runs, nights = fleet()
    draw_heat_maps(out, nights)
    write_page(str(out), runs, nights)
    return out / "page"


@pytest.fixture
def page(browser: Page, site: Path) -> Page:
    browser.look(1280, 900)
    browser.open(site / "index.html")
    return browser


def click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def find(page: Page, text: str) -> None:
    page.run(f"byId('search').value = {text!r}; byId('search').dispatchEvent(new Event('input'))")


def choose(page: Page, field: str, value: str) -> None:
    labels = "[...document.querySelectorAll('#columns label')]"
    select = f"{labels}.find((label) => label.firstChild.data === {field!r}).querySelector('select')"
    index = f"[...{select}.options].findIndex((option) => option.text === {value!r})"
    page.run(f"{select}.selectedIndex = {index}; {select}.dispatchEvent(new Event('change'))")


def shown(page: Page) -> list[str]:
    return list(page.run(SHOWN))


def test_it_opens_without_a_complaint_and_asks_for_nothing(page: Page) -> None:
    assert len(shown(page)) == 50
    assert page.complaints == []
    assert page.requests == [page.run("location.href")]


def test_filters_leave_what_they_name_and_are_there_on_the_way_back(page: Page) -> None:
    click(page, ".chip.warning")
    assert shown(page) == ["harbour.line-2.cam-41", "harbour.line-4.cam-23", "north.line-3.cam-30"]
    click(page, ".chip.failed")
    choose(page, "site", "north")
    assert shown(page) == ["north.line-1.cam-12", "north.line-3.cam-30"]
    assert page.run("byId('matching').textContent") == "2 of 50 cameras"
    page.follow("document.querySelector('#rows a').click()")
    assert page.run("document.querySelector('h1').textContent") == "north.line-1.cam-12"
    page.follow("history.back()")
    assert shown(page) == ["north.line-1.cam-12", "north.line-3.cam-30"]
    assert page.run("byId('filter').textContent") == "Only: state warning, state failed, site north"
    click(page, "#clear")
    find(page, "CREDENTIALS in use")
    assert shown(page) == ["north.line-1.cam-12"]
    find(page, "nowhere")
    assert page.run("!byId('nothing').hidden")
    assert page.complaints == []


def test_columns_sort_both_ways_and_what_is_unknown_comes_last(page: Page) -> None:
    sort = "th[data-key=rate]"
    rates = "[...document.querySelectorAll('#rows td.rate')].map((cell) => parseFloat(cell.textContent))"
    click(page, f"{sort} button")
    down = [rate for rate in page.run(rates) if rate is not None]
    assert down == sorted(down, reverse=True)
    assert page.run(f"document.querySelector('{sort}').getAttribute('aria-sort')") == "descending"
    click(page, f"{sort} button")
    up = page.run(rates)
    assert up[:-2] == sorted(down)
    assert up[-2:] == [None, None]
    click(page, "th[data-key=names] button")
    assert shown(page) == sorted(shown(page))
    click(page, "th[data-key=last] button")
    assert set(shown(page)[:2]) == {"north.line-1.cam-12", "north.line-3.cam-30"}
    page.run("byId('order').value = 'states'; byId('order').dispatchEvent(new Event('change'))")
    assert shown(page)[0] == "north.line-1.cam-12"


def test_keys_find_walk_open_and_clear(page: Page) -> None:
    page.press("/")
    assert page.run(FOCUS) == "search"
    page.call("Input.insertText", text="line-2")
    page.press("ArrowDown")
    names = shown(page)
    assert len(names) == 12
    assert page.run(FOCUS) == names[0]
    page.press("ArrowDown")
    assert page.run(FOCUS) == names[1]
    page.press("End")
    assert page.run(FOCUS) == names[-1]
    page.press("ArrowDown")
    assert page.run(FOCUS) == names[-1]
    page.press("ArrowUp")
    assert page.run(FOCUS) == names[-2]
    assert page.run("document.querySelectorAll('#rows a[tabindex=\"0\"]').length") == 1
    page.press("Escape")
    assert len(shown(page)) == 50
    assert page.run(FOCUS) == "search"
    assert page.complaints == []


@pytest.mark.parametrize("width", [320, 390, 760, 1024])
def test_no_window_is_too_narrow(width: int, page: Page, site: Path) -> None:
    page.look(width, 844)
    assert page.run(FITS)
    page.open(site / "cameras" / page_name("south.line-3.cam-07"))
    assert page.run(FITS)


def test_the_page_of_a_camera_shows_its_heat_maps_and_says_which_are_gone(page: Page, site: Path) -> None:
    page.open(site / "cameras" / page_name("south.line-3.cam-07"))
    page.look(1280, 4000)
    loaded = "[...document.images].filter((image) => image.complete && image.naturalWidth > 0).length"
    page.run("Promise.all([...document.images].map((image) => image.decode()))")
    assert page.run(loaded) == 7
    assert page.complaints == []
    assert all(url.startswith("file://") for url in page.requests)
    next(site.parent.glob("cameras/north.line-1.cam-00/heatmaps/*/0003-*")).unlink()
    page.open(site / "cameras" / page_name("north.line-1.cam-00"))
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run("document.images.length") == 6
    said = "[...document.querySelectorAll('.frame span')].map((place) => place.textContent)"
    assert page.run(said) == ["the heat map is not there any more", "no heat map was kept"]


def test_ages_and_a_fleet_that_is_not_inspected_any_more(browser: Page, site: Path) -> None:
    for days, stale in ((0.2, ""), (3.1, "No run for 3 days: they came every 24 h.")):
        browser.set_clock(datetime(2026, 11, 26, 2, 5, tzinfo=UTC) + timedelta(days))
        browser.open(site / "index.html")
        assert browser.run("byId('stale').hidden ? '' : byId('stale').textContent") == stale
    assert browser.run("document.querySelector('aside .age').textContent") == "3 days ago"


def test_names_that_try_to_be_markup_are_read_as_names(browser: Page, tmp_path: Path) -> None:
    nights = [
        night(name, fields={name: name, "line": str(at % 2)}, state="failed", failure=name)
        for at, name in enumerate(HOSTILE)
    ]
    browser.look(390, 844)
    browser.open(Path(write_page(str(tmp_path), [run_over(nights, fleet=HOSTILE[0])], [nights])))
    assert sorted(shown(browser)) == sorted(HOSTILE)
    assert browser.run(FITS)
    choose(browser, "line", "1")
    assert sorted(shown(browser)) == sorted(HOSTILE[1::2])
    assert browser.complaints == []
    assert browser.requests == [browser.run("location.href.split('#')[0]")]
    for name in HOSTILE:
        browser.open(tmp_path / "page" / "cameras" / page_name(name))
        assert browser.run("document.querySelector('h1').textContent") == name
        assert browser.run(FITS)
        assert browser.complaints == []


def test_links_lead_to_the_pages_of_cameras_whatever_their_names(browser: Page, tmp_path: Path) -> None:
    nights = [night(name) for name in HOSTILE]
    index = Path(write_page(str(tmp_path), [run_over(nights)], [nights]))
    for name in HOSTILE:
        browser.open(index)
        link = (
            f"[...document.querySelectorAll('#rows a')].find((one) => one.textContent === {json.dumps(name)})"
        )
        browser.follow(f"{link}.click()")
        assert browser.run("document.querySelector('h1').textContent") == name


def test_without_scripts_all_cameras_can_be_read(browser: Page, site: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(site / "index.html")
    found = shown(browser)
    filters = browser.run("document.querySelector('.filters').hidden")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert len(found) == 50
    assert filters


def test_1000_cameras_print_with_their_filter(browser: Page, tmp_path: Path) -> None:
    nights = [
        night(f"cam-{place:04}", state="warning" if place % 100 == 7 else "ok") for place in range(1000)
    ]
    browser.open(Path(write_page(str(tmp_path), [run_over(nights)], [nights], {"none"})))
    assert len(shown(browser)) == 1000
    click(browser, ".chip.warning")
    assert len(shown(browser)) == 10
    browser.call("Emulation.setEmulatedMedia", media="print")
    seen = "getComputedStyle(document.getElementById(%r)).display"
    assert browser.run(seen % "filter") == "block"
    assert browser.run("getComputedStyle(document.querySelector('.filters')).display") == "none"
    browser.call("Emulation.setEmulatedMedia", media="")
    assert browser.run("byId('filter').textContent") == "Only: state warning"
