"""Templates: what they find in a name, and what is none."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.fleet.settings.template import branches, parse_template, start_of

BERLIN = ZoneInfo("Europe/Berlin")
ROOT = "s3://raw"


@pytest.mark.parametrize(
    ("template", "uri", "fields", "day"),
    [
        (
            "{site}/{camera}/{date:%Y-%m-%d}/{name}.png",
            "n/c 1/2026-05-04/a.b.png",
            {"site": "n", "camera": "c 1"},
            4,
        ),
        ("{camera}/{date:%Y}/{date:%m}/{date:%d}/{name}.png", "c/2026/05/04/x.png", {"camera": "c"}, 4),
        ("{camera}/{date:%Y/%m/%d}/{name}.png", "c/2026/05/04/x.png", {"camera": "c"}, 4),
        ("{camera}_{date:%Y%m%d}_{name}.png", "cam_7_20260504_1_2.png", {"camera": "cam_7"}, 4),
        ("{date:%Y%m%d}/{camera}/{camera}_{name}.png", "20260504/a_b/a_b_c_d.png", {"camera": "a_b"}, 4),
        ("{camera}/{date:%Y}/{date:%j}/{*}/{*}-{name}", "c/2026/124/lot 7/x-y.png", {"camera": "c"}, 4),
        ("{camera}/{date:%d %b %y}.png", "c/04 May 26.png", {"camera": "c"}, 4),
        ("{camera}/{date:%G-W%V-%u}.png", "c/2026-W19-1.png", {"camera": "c"}, 4),
        (
            "<b>{camera}</b>/{date:%Y-%m-%d}/{name}",
            "<b>'q' & \n</b>/2026-05-04/<i>.png",
            {"camera": "'q' & \n"},
            4,
        ),
        ("c+(1)/{date:100%% %Y-%m-%d}/{name}.png", "c+(1)/100% 2026-05-04/x.png", {}, 4),
    ],
)
def test_a_name_says_camera_and_day(template: str, uri: str, fields: dict[str, str], day: int) -> None:
    place = parse_template(f"{ROOT}/{template}").place(f"{ROOT}/{uri}", BERLIN)
    assert place is not None
    assert (place.fields, place.date, place.captured_at) == (fields, date(2026, 5, day), None)


@pytest.mark.parametrize(
    "uri",
    [
        "n/2026-05-04/x.jpg",  # another ending
        "n/2026-05-04/sub/x.png",  # too deep
        "n/x.png",  # not deep enough
        "n/2026-5-4/x.png",  # not as strftime writes it
        "n/2026-02-30/x.png",  # no such day
        "/2026-05-04/x.png",  # no camera
        "n/2026-05-04/.png",  # no name
    ],
)
def test_other_names_do_not_fit(uri: str) -> None:
    assert (
        parse_template(f"{ROOT}/{{camera}}/{{date:%Y-%m-%d}}/{{name}}.png").place(f"{ROOT}/{uri}", BERLIN)
        is None
    )


def test_the_time_of_the_day_is_that_of_the_fleet() -> None:
    template = parse_template("/raw/{camera}/{date:%Y-%m-%d}/{date:%Y%m%d_%H%M%S}_{name}.png")
    place = template.place("/raw/c/2026-07-01/20260701_003000_x.png", BERLIN)
    assert place is not None
    assert place.date == date(2026, 7, 1)
    assert place.captured_at is not None
    assert place.captured_at.astimezone(UTC) == datetime(2026, 6, 30, 22, 30, tzinfo=UTC)
    assert template.place("/raw/c/2026-07-02/20260701_003000_x.png", BERLIN) is None  # it contradicts itself


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{line}{camera}/{date:%Y-%m-%d}/{name}.png", "{line}{camera} is ambiguous; expected text between"),
        ("{camera}{date:%Y%m%d}/{name}.png", "{camera}%Y is ambiguous"),
        ("{camera}/{date}/{name}.png", "found {date}; expected how the date is written"),
        ("{camera}/{date:%Y-%m}/{name}.png", "found a date of %Y %m; expected a whole one"),
        ("{camera}/{date:%Y-%m-%d %Z}/{name}.png", "found `%Z` in {date:%Y-%m-%d %Z}; expected codes of %Y"),
        ("{camera}/{date:%Y-%m-%d}/", "it ends in `/`"),
        ("{camera}/{date:%Y-%m-%d}/image.png", "found no field in the name of the file, `image.png`"),
        ("plain/image.png", "found no field in the name of the file"),
        ("{camera/{name}.png", "found `{` alone"),
        ("{camera}}/{name}.png", "found `}` alone"),
        ("{}/{name}.png", "found {}; expected a field of letters"),
        ("{my camera}/{name}.png", "found {my camera}; expected a field of letters"),
        ("{camera:3}/{name}.png", "found {camera:3}; expected a field of letters"),
        ("{camera}/../{name}.png", "behind a field"),
        ("{camera}//{name}.png", "behind a field"),
    ],
)
def test_what_is_no_template_is_refused_with_what_was_found(template: str, why: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        parse_template(f"{ROOT}/{template}")
    assert why in str(refused.value)


def test_a_bucket_is_no_field() -> None:
    with pytest.raises(ValueError, match="an entry for each bucket"):
        parse_template("s3://{site}/{date:%Y-%m-%d}/{name}.png")


def test_days_are_asked_for_by_name_where_nothing_unknown_comes_before() -> None:
    days = tuple(date(2026, 4, 29) + timedelta(n) for n in range(4))
    template = parse_template(f"{ROOT}/{{camera}}/{{date:%Y-%m}}/{{date:%d}}_{{name}}.png")
    months = list(branches(template.segments[1], {"camera": "c"}, days))
    assert [(start_of(template.segments[1], known), len(some or ())) for known, some in months] == [
        ("2026-04", 2),
        ("2026-05", 2),
    ]
    known, some = months[1]
    names = [
        start_of(template.segments[2], inner) for inner, _ in branches(template.segments[2], known, some)
    ]
    assert names == ["01_", "02_"]
    late = parse_template(f"{ROOT}/{{camera}}_{{date:%Y%m%d}}.png").segments[0]
    assert [start_of(late, known) for known, _ in branches(late, {}, days)] == [""]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/_", exclude_categories=("Cs",)), min_size=1),
        min_size=3,
        max_size=3,
    ),
    st.dates(date(1000, 1, 1)),
)
def test_what_is_put_in_is_found_again(values: list[str], day: date) -> None:
    site, camera, name = values
    template = parse_template("/raw/{site}/{camera}_{date:%Y%m%d}_{name}.png")
    place = template.place(f"/raw/{site}/{camera}_{day:%Y%m%d}_{name}.png", BERLIN)
    assert place is not None
    assert (place.fields, place.date) == ({"site": site, "camera": camera}, day)
