"""The page of a fleet: what it says, what it writes, and that names stay text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from raysvq.ledger.records import CameraNight, Finding, FleetRun, Worst
from raysvq.report.fleet import write_page
from raysvq.report.fleet.addresses import page_name
from raysvq.report.fleet.camera_page import changes
from raysvq.report.fleet.history import histories
from raysvq.storage import list_objects, read_bytes
from tests.report.fleets import LAST, MODELS, fleet, night, run_over
from tests.report.parsed import ParsedPage

HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"'&amp;<img src=x onerror=alert(2)>",
    "javascript:alert(3)",
    "../../up.%2e#?",
    "שלום\u202egnp.exe\u2028",
    "x" * 5000,
]


def test_the_verdict_comes_first_and_names_what_needs_a_look_in_order_of_severity(tmp_path: Path) -> None:
    text = _index(tmp_path, *fleet())
    assert "<h1>5 of 50 cameras need a look, 45 are well.</h1>" in text
    verdict = text.partition("<main")[0]
    named = ("cam-12", "cam-07", "cam-41", "cam-23", "cam-30", "route ops did not answer")
    assert sorted(named, key=verdict.index) == list(named)
    assert "is 0.8 stops darker than in its reference since 21 Nov" in verdict
    assert "AccessDenied" in verdict
    rows = text.partition('id="rows"')[2]
    assert rows.count("<svg") == 50
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in ParsedPage(text).of("svg"))


@pytest.mark.parametrize(
    ("states", "headline"),
    [
        (["ok", "quiet", "ok"], "All 3 cameras are well."),
        (["ok"], "The one camera is well."),
        (["failed", "error"], "All 2 cameras need a look."),
        (["warning", "ok"], "1 of 2 cameras needs a look, 1 is well."),
    ],
)
def test_the_headline_counts_those_that_are_well(states: list[str], headline: str, tmp_path: Path) -> None:
    nights = [night(f"cam-{place}", state=state) for place, state in enumerate(states)]
    assert f"<h1>{headline}</h1>" in _index(tmp_path, [run_over(nights)], [nights])


def test_of_many_that_need_a_look_the_first_are_named_and_the_others_a_click_away(tmp_path: Path) -> None:
    nights = [night(f"cam-{place:03}", state="failed", failure="bucket gone") for place in range(400)]
    text = _index(tmp_path, [run_over(nights)], [nights])
    assert text.partition("<main")[0].count("bucket gone") == 6
    assert '<a href="#state=failed,error,warning" id="more">394 more</a>' in text


def test_a_fleet_without_a_run_says_so(tmp_path: Path) -> None:
    text = _index(tmp_path, [], [])
    assert "No camera has been inspected yet." in text
    assert "raysvq inspect" in text
    run = run_over([])
    assert "No camera has been inspected yet." in _index(tmp_path, [run], [[]])


def test_times_are_in_the_zone_of_the_fleet_and_in_utc_for_the_browser(tmp_path: Path) -> None:
    seen = night("cam", last_image=datetime(2026, 11, 25, 23, 50, tzinfo=UTC))
    uri = write_page(str(tmp_path), [run_over([seen])], [[seen]], timezone=ZoneInfo("Asia/Tokyo"))
    text = Path(uri).read_text()
    assert '<time datetime="2026-11-25T23:50:00Z">26 Nov, 08:50</time>' in text
    assert "Times are in Asia/Tokyo" in text


def test_a_camera_that_the_last_run_left_out_is_shown_as_of_its_last_night(tmp_path: Path) -> None:
    before, after = LAST - timedelta(1), LAST
    first = [night("cam-1", before), night("cam-2", before, state="warning")]
    second = [night("cam-1", after)]
    runs = [run_over(first, 1, before), run_over(second, 2, after, arguments={"only": ["cam-1"]})]
    text = _index(tmp_path, runs, [first, second])
    assert "1 of 2 cameras needs a look" in text
    assert "as of 25 Nov" in text
    assert "It left cameras out" in text


def test_a_camera_that_the_last_whole_run_does_not_have_has_left_the_fleet() -> None:
    before = LAST - timedelta(1)
    first, second = [night("cam-1", before), night("gone", before)], [night("cam-1")]
    assert list(histories([run_over(first, 1, before), run_over(second, 2)], [first, second])) == ["cam-1"]


def test_runs_of_one_night_are_one_point_of_the_trends() -> None:
    failed = night(
        "cam", state="failed", failure="bucket gone", scored=50, anomalous=1, rejects={"corrupt": 2}
    )
    repaired = night("cam", scored=150, anomalous=3, rejects={"corrupt": 1})
    runs = [run_over([failed], 1), run_over([repaired], 2, arguments={"repair": 1})]
    [merged] = histories(runs, [[failed], [repaired]])["cam"].dates
    assert (merged.scored, merged.anomalous, merged.state) == (200, 4, "ok")
    assert merged.rejects == {"corrupt": 3}


def test_a_camera_page_has_trends_changes_pictures_rejects_models_and_runs(tmp_path: Path) -> None:
    _index(tmp_path, *fleet())
    text = _camera(tmp_path, "south.line-3.cam-07")
    for title in ("Alarm rate", "Image score", "Codebook usage", "Exposure", "Sharpness", "Warmth"):
        assert f"<h3>{title}</h3>" in text
    assert "Image size" not in text  # it never changed
    assert "promised for good images, at most" in text
    assert "is 0.8 stops darker than in its reference since 21 Nov" in text
    assert f"{MODELS[1]} from 17 Nov on" in text
    assert text.count("<img ") == 7
    assert "no heat map was kept" in text
    assert 'src="../../cameras/south.line-3.cam-07/heatmaps/' in text
    assert text.count('href="../../ledger/runs/') == 29
    assert "the format is known, but the data is cut off or damaged" in _camera(
        tmp_path, "harbour.line-2.cam-41"
    )


def test_a_line_is_broken_where_a_night_is_missing_and_where_another_model_scores(tmp_path: Path) -> None:
    _index(tmp_path, *fleet())
    text = _camera(tmp_path, "north.line-1.cam-00")
    lines = {
        title: _figure(text, title).count('<polyline class="line s0"')
        for title in ("Exposure", "Image score")
    }
    assert lines == {"Exposure": 2, "Image score": 3}


def test_a_camera_that_was_never_scored_has_a_page(tmp_path: Path) -> None:
    bare = CameraNight("cam", "run", LAST.isoformat(), "failed", failure="AccessDenied: s3://raw/cam/")
    _index(tmp_path, [run_over([bare])], [[bare]])
    text = _camera(tmp_path, "cam")
    assert "AccessDenied: s3://raw/cam/" in text
    assert "No night has numbers yet." in text
    assert "No model has scored an image of it yet." in text


def test_what_stood_out_in_images_stands_until_new_ones_say_otherwise() -> None:
    days = [LAST - timedelta(back) for back in (2, 1, 0)]
    dark = Finding("cam", "exposure", "error", "is dark", since=days[0].isoformat())
    few = Finding("cam", "volume", "warning", "sent few")
    nothing = {"scored": 0, "anomalous": 0, "state": "quiet"}
    nights = [
        [night("cam", days[0], state="error", findings=(dark, few))],
        [night("cam", days[1], **nothing)],
    ]
    runs = [
        run_over(each, number, day) for number, (each, day) in enumerate(zip(nights, days, strict=False), 1)
    ]
    history = histories(runs, nights)["cam"]
    assert (history.latest.state, history.latest.findings) == ("error", (dark,))
    assert [(one.finding, one.now) for one in changes(history.nights)] == [(dark, True), (few, False)]
    history = histories([*runs, run_over([], 3)], [*nights, [night("cam")]])["cam"]
    assert (history.latest.state, history.latest.findings) == ("ok", ())
    assert [one.now for one in changes(history.nights)] == [False, False]


def test_of_many_problems_of_the_run_the_first_are_named(tmp_path: Path) -> None:
    run = run_over([night("cam")], problems=tuple(f"prefix {place} is gone" for place in range(40)))
    text = _index(tmp_path, [run], [[night("cam")]])
    assert text.count("is gone") == 6
    assert ">34 more</a>" in text


def test_findings_that_last_are_one_change_with_its_first_night() -> None:
    def says(signal: str, when: date, since: date | None = None) -> CameraNight:
        found = Finding("cam", signal, "warning", f"{signal} on {when}", since=since and since.isoformat())
        return night("cam", when, findings=(found,))

    days = [LAST - timedelta(back) for back in (4, 3, 2, 1, 0)]
    nights = [says("size", days[0]), says("exposure", days[1]), says("exposure", days[2])]
    nights += [night("cam", days[3]), says("score", days[4], days[2])]
    found = [(one.finding.sentence, one.first, one.last, one.now) for one in changes(nights)]
    assert found == [
        (f"score on {days[4]}", f"{days[2]}", f"{days[4]}", True),
        (f"exposure on {days[2]}", f"{days[1]}", f"{days[2]}", False),
        (f"size on {days[0]}", f"{days[0]}", f"{days[0]}", False),
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_not_markup(name: str, tmp_path: Path) -> None:
    worst = Worst("id", f"s3://raw/{name}", 4.0, 0.01, True, f"cameras/{name}/heat.jpg")
    seen = night(
        name,
        state="warning",
        fields={name: name, "site": name},
        failure=name,
        model=name,
        model_version=name,
        policy=name,
        rejects={name: 2},
        rejected=2,
        findings=(Finding(name, name, "warning", name, since=LAST.isoformat()),),
        worst=(worst,),
    )
    healthy = night("cam")
    runs = [run_over([seen, healthy], fleet=name, run_id=name, problems=(name,), code_version=name)]
    index = ParsedPage(_index(tmp_path, runs, [[seen, healthy]]))
    assert name in index.data["names"]
    assert not {"<", ">", "&", "\u2028"} & set(index.scripts[0])
    page = ParsedPage(_camera(tmp_path, name))
    assert len(index.of("script")) == 2
    assert len(page.of("script")) == 1
    assert len(index.of("img")) + len(page.of("img")) == 1
    for tag, attributes in (*index.elements, *page.elements):
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        for key in ("src", "href"):
            link = attributes.get(key) or "#"
            assert link.startswith(("data:,", "#", "../", "cameras/")), link
    links = {a["href"] for a in index.of("a") if str(a["href"]).startswith("cameras/")}
    assert {link.removeprefix("cameras/") for link in links if link} == {_quoted(name), "cam.html"}
    assert (tmp_path / "page" / "cameras" / page_name(name)).is_file()


def test_pages_of_different_cameras_have_different_names() -> None:
    names = [*HOSTILE, "x" * 5001, "a/b", "a%2Fb", "a.b", ".a.b", "%2Ea.b"]
    made = [page_name(name) for name in names]
    assert len({*made}) == len(names)
    assert all(len(os.fsencode(name)) < 255 and "/" not in name and name[0] != "." for name in made)


def test_only_pages_of_cameras_that_changed_or_that_are_missing_are_written(tmp_path: Path) -> None:
    runs, nights = fleet(6, 3)
    write_page(str(tmp_path), runs, nights)
    pages = sorted((tmp_path / "page" / "cameras").iterdir())
    assert len(pages) == 6
    for path in (*pages, tmp_path / "page" / "index.html"):
        path.write_text("old")
    pages[3].unlink()
    changed, turned = nights[-1][0].camera, nights[-1][1].camera
    nights[-1][1] = replace(nights[-1][1], state="quiet")
    write_page(str(tmp_path), runs, nights, {changed, "a camera that is gone"})
    new = {path.name for path in pages if path.read_text() != "old"}
    assert new == {page_name(changed), page_name(turned), pages[3].name}
    assert (tmp_path / "page" / "index.html").read_text() != "old"


def test_the_pages_of_an_object_store_are_the_same(tmp_path: Path) -> None:
    runs, nights = fleet(3, 3)
    uri = write_page("memory://fleet-page-test/out", runs, nights)
    assert uri == "memory://fleet-page-test/out/page/index.html"
    assert len(list(list_objects("memory://fleet-page-test/out/page"))) == 4
    assert read_bytes(uri).decode() == _index(tmp_path, runs, nights)


def _index(folder: Path, runs: Sequence[FleetRun], nights: Sequence[Sequence[CameraNight]]) -> str:
    return Path(write_page(str(folder), runs, nights)).read_text()


def _camera(folder: Path, name: str) -> str:
    return (folder / "page" / "cameras" / page_name(name)).read_text()


def _figure(text: str, title: str) -> str:
    return text.partition(f"<h3>{title}</h3>")[2].partition("</figure>")[0]


def _quoted(name: str) -> str:
    return page_name(name).replace("%", "%25")
