"""The page of an evaluation in a browser: what a person does with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devtools.browser import CHROMIUM, Page
from raysvq.evaluation.evaluate import evaluate
from raysvq.evaluation.result import Evaluation
from raysvq.report.evaluation import render
from raysvq.settings import EvaluationSettings, TileSettings
from tests.report.evaluations import evaluation, record, records

if TYPE_CHECKING:
    from tests.evaluation.conftest import ScoredSet

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
CARDS = "document.querySelectorAll('#cards button').length"
FOCUS = "document.activeElement.getAttribute('aria-label') || document.activeElement.id"


@pytest.fixture
def page(browser: Page, plates: Callable[..., ScoredSet]) -> Page:
    """The page of 6 good plates and 6 bad ones, with pictures of all."""
    scored_set = plates()
    scored_set.commit()
    found = evaluate(scored_set.manifest, scored_set.scores, EvaluationSettings(bootstrap=0), TileSettings())
    out = scored_set.root / "report.html"
    render(found, None, {}, str(out))
    browser.open(out)
    return browser


def out_of(page: Page, name: str) -> str:
    return str(page.run(f"document.querySelector('[data-out={name}]').textContent"))


def click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector({selector!r}).click()")


def open_page_of(found: Evaluation, browser: Page, scored_set: ScoredSet, folder: Path) -> None:
    scored_set.commit()
    found = replace(found, provenance=replace(found.provenance, scores=scored_set.scores))
    render(found, None, {}, str(folder / "report.html"))
    browser.open(folder / "report.html")


def test_it_opens_without_a_complaint_and_asks_for_nothing(page: Page) -> None:
    assert page.run(CARDS) == 12
    assert page.complaints == []
    assert page.requests == [page.run("location.href")]
    assert page.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_the_slider_moves_what_the_threshold_gives_and_back(page: Page) -> None:
    names = ("missed", "found", "alarm", "passed", "threshold")
    shipped = [out_of(page, name) for name in names]
    cards = page.run("document.querySelector('#cards').textContent")
    dot = page.run("document.querySelector('#roc .moves').getAttribute('cx')")
    page.run("document.getElementById('threshold').focus()")
    page.press("Home")
    assert [out_of(page, name) for name in names[:4]] == ["0", "6", "6", "0"]
    assert out_of(page, "alarms") == "990.0"
    assert page.run("document.querySelector('#roc .moves').getAttribute('cx')") != dot
    page.press("End")
    assert [out_of(page, name) for name in names[:4]] == ["6", "0", "0", "6"]
    assert out_of(page, "escapes") == "10.0"
    assert page.run("document.querySelector('#cards').textContent") != cards
    page.run("for (const id of ['miss-cost', 'alarm-cost']) byId(id).value = 5; showThreshold()")
    assert out_of(page, "money") == "50.00"
    click(page, "#reset")
    assert [out_of(page, name) for name in names] == shipped
    assert page.run("document.querySelector('#cards').textContent") == cards
    assert page.complaints == []


def test_filters_leave_what_they_name(page: Page) -> None:
    wrong = int(out_of(page, "missed")) + int(out_of(page, "alarm"))
    click(page, ".chip.missed")
    click(page, ".chip.alarm")
    assert page.run(CARDS) == wrong
    click(page, "#clear")
    kinds = (
        "[...new Set([...document.querySelectorAll('#cards .name:nth-child(3)')].map((n) => n.textContent))]"
    )
    assert sorted(page.run(kinds)) == ["defective: pit", "defective: scratch", "good"]
    choose = "(select) => { select.selectedIndex = 1; select.dispatchEvent(new Event('change')); }"
    page.run(f"({choose})(document.querySelector('#columns label:nth-child(3) select'))")
    assert page.run(kinds) == ["defective: pit"]
    click(page, "#clear")
    page.run("byId('search').value = 'PLATE-003'; byId('search').dispatchEvent(new Event('input'))")
    assert page.run(CARDS) == 1
    page.run("byId('search').value = 'nowhere'; byId('search').dispatchEvent(new Event('input'))")
    assert page.run("!byId('nothing').hidden && byId('rest').hidden")
    assert page.complaints == []


def test_keys_walk_the_gallery_and_the_dialog_and_give_the_focus_back(page: Page) -> None:
    page.run("document.querySelector('#cards button').focus()")
    first = page.run(FOCUS)
    page.press("ArrowRight")
    second = page.run(FOCUS)
    assert second != first
    page.press("Enter")
    assert page.run("byId('zoom').open")
    assert second.startswith(page.run("byId('zoom-name').textContent"))
    page.press("+")
    assert out_of(page, "zoom-scale") == "150 %"
    assert "scale(1.5)" in page.run("byId('stage').firstElementChild.style.transform")
    page.press("0")
    assert out_of(page, "zoom-scale") == "100 %"
    page.press("h")
    hidden = "getComputedStyle(byId('stage').querySelector('.heat')).display"
    assert page.run(hidden) == "none"
    page.press("h")
    assert page.run(hidden) != "none"
    page.press("ArrowLeft")
    assert first.startswith(page.run("byId('zoom-name').textContent"))
    page.press("Escape")
    assert not page.run("byId('zoom').open")
    assert page.run(FOCUS) == first
    assert page.complaints == []


def test_the_wheel_zooms_at_the_pointer(page: Page) -> None:
    click(page, "#cards button")
    box = page.run("stage.getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-400)
    page.run("new Promise((done) => setTimeout(done, 100))")
    assert page.run("view.scale") > 2
    assert abs(page.run("view.x")) < 1
    page.press("Escape")


def test_10_000_images_are_paged_and_printed_with_their_filter(
    browser: Page, scored_set: ScoredSet, tmp_path: Path
) -> None:
    open_page_of(evaluation(records(9900, 100), gallery=60), browser, scored_set, tmp_path)
    assert browser.run(CARDS) == 48
    assert browser.run("byId('rows').children.length") == 100
    assert out_of(browser, "without-picture") == "9,940"
    click(browser, "#pictures-pager [data-step='1']")
    assert browser.run(CARDS) == 12
    click(browser, ".chip.alarm")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert out_of(browser, "filter") == "Only: false alarm"
    marks = "[...new Set([...document.querySelectorAll('#cards .badge')].map((mark) => mark.textContent))]"
    assert browser.run(marks) == ["false alarm"]
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.complaints == []


def test_names_that_try_to_be_markup_are_read_as_names(
    browser: Page, scored_set: ScoredSet, tmp_path: Path
) -> None:
    names = [
        "</script><script>alert(1)</script>",
        "\"'&amp;<img src=x onerror=alert(2)>",
        "שלום\u202egnp.exe",
    ]
    images = [
        record(name, 2.0 + place, anomalous=place > 1, defect_type=name, meta={name: name, "line": name})
        for place, name in enumerate(names)
    ]
    open_page_of(evaluation(images), browser, scored_set, tmp_path)
    shown = browser.run(
        "[...document.querySelectorAll('#cards .name:last-child')].map((name) => name.textContent)"
    )
    assert sorted(shown) == sorted(name.rsplit("/", 1)[-1] for name in names)
    for name in names:
        assert name in browser.run("document.getElementById('columns').textContent")
    click(browser, "#cards button")
    assert browser.complaints == []
    assert browser.requests == [browser.run("location.href")]


def test_names_of_10_kb_do_not_widen_the_page(browser: Page, scored_set: ScoredSet, tmp_path: Path) -> None:
    name = "x" * 10_000
    images = [
        record(f"{name}{place}", 1.0, True, defect_type=name, meta={name: f"{name}{place}"})
        for place in range(3)
    ]
    open_page_of(evaluation(images, notes=(name,)), browser, scored_set, tmp_path)
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert browser.run(fits)
    click(browser, "#cards button")
    assert browser.run("dialog.scrollWidth <= dialog.clientWidth")
    browser.press("Escape")


@pytest.mark.parametrize(("normal", "anomalous"), [(0, 0), (1, 0), (0, 5), (30, 0)])
def test_any_mix_of_images_opens_and_slides(
    normal: int, anomalous: int, browser: Page, scored_set: ScoredSet, tmp_path: Path
) -> None:
    open_page_of(evaluation(records(normal, anomalous)), browser, scored_set, tmp_path)
    if normal + anomalous:
        assert browser.run(CARDS) == normal + anomalous
        browser.run("document.getElementById('threshold').focus()")
        browser.press("Home")
        assert out_of(browser, "alarm") == str(normal)
        assert out_of(browser, "escapes") == ("0.0" if anomalous else "n/a")
    assert browser.complaints == []


def test_two_fingers_zoom(page: Page) -> None:
    click(page, "#cards button")
    box = page.run("stage.getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, gap in (("touchStart", 20), ("touchMove", 30), ("touchMove", 40), ("touchEnd", None)):
        fingers = [] if gap is None else [{"x": x - gap, "y": y, "id": 1}, {"x": x + gap, "y": y, "id": 2}]
        page.call("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)
    page.drawn()
    assert page.run("view.scale") == pytest.approx(2, rel=0.2)
    page.press("Escape")
    assert page.complaints == []
