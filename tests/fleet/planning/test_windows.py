"""Windows: a pure function of the camera's nights and the day."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysvq.errors import DataError
from raysvq.fleet.planning.windows import Window, by_camera, require_clock, window_of
from raysvq.ledger.records import CameraNight

TODAY = date(2026, 5, 20)
LATENESS, CATCH_UP = 3, 31


def day(ago: int) -> date:
    """So many days ago."""
    return TODAY - timedelta(days=ago)


def night(ago: int, since: int | None = None, until: int | None = None, **more: object) -> CameraNight:
    """A night so many days ago that listed these days, counted back from today."""
    since = ago + LATENESS + 1 if since is None else since
    listed = {"listed_since": f"{day(since)}", "listed_until": f"{day(ago if until is None else until)}"}
    return replace(CameraNight("c", f"run-{ago}", f"{day(ago)}", "ok", **listed), **more)


def since(nights: list[CameraNight], today: date = TODAY) -> int:
    """Where the window begins, in days before TODAY."""
    window = window_of(nights, today, LATENESS, CATCH_UP)
    assert window.until == today
    return (TODAY - window.since).days


def test_a_new_camera_is_listed_as_far_back_as_allowed() -> None:
    assert since([]) == CATCH_UP


def test_usually_the_lateness_before_the_last_night() -> None:
    assert since([night(2), night(1)]) == 1 + LATENESS
    assert since([night(1), night(0)]) == LATENESS  # a second run on one day


def test_missed_nights_are_caught_up_to_a_limit() -> None:
    assert since([night(6)]) == 6 + LATENESS
    assert since([night(60)]) == CATCH_UP


@pytest.mark.parametrize(
    "trouble",
    [
        {"state": "failed"},
        {"skipped": 3},
        {"listed_since": None, "listed_until": None, "state": "failed"},
    ],
)
def test_nights_in_which_the_camera_was_not_whole_do_not_count(trouble: dict[str, object]) -> None:
    assert since([night(4), night(3, **trouble), night(2, 8, **trouble)]) == 4 + LATENESS
    assert since([night(1, **trouble)]) == CATCH_UP
    assert since([night(4), night(3, **trouble), night(2, 8)]) == 2 + LATENESS


def test_a_run_over_some_days_does_not_hide_a_gap_before_them() -> None:
    assert since([night(9), night(1, since=1)]) == 9 + LATENESS
    assert since([night(9), night(1, since=20, until=10)]) == 9 + LATENESS  # --until long ago
    assert since([night(9), night(1, since=1), night(0, since=9 + LATENESS)]) == LATENESS


def test_after_more_than_the_limit_the_camera_is_up_to_date_again() -> None:
    assert since([night(60), night(1, since=1 + CATCH_UP)]) == 1 + LATENESS


def test_a_clock_an_hour_off_does_no_harm() -> None:
    assert since([night(0)], day(1)) == 1 + LATENESS  # yesterday, on this machine
    require_clock([[night(0)]], day(1))


def test_a_clock_that_jumped_back_is_an_error_in_words() -> None:
    with pytest.raises(
        DataError, match=r"clock says 2026-05-17, but run run-0 of this fleet was on 2026-05-20"
    ):
        require_clock([[night(4)], [night(0)]], day(3))
    require_clock([], TODAY)


def test_a_clock_that_jumped_forward_lists_no_more_than_the_limit() -> None:
    assert since([night(1)], day(-400)) == CATCH_UP - 400


def test_a_window_has_all_its_days() -> None:
    assert Window(day(2), TODAY).dates() == [day(2), day(1), TODAY]


def test_nights_are_told_apart_by_camera() -> None:
    other = replace(night(1), camera="d")
    assert by_camera([[night(2), other], [night(1)]]) == {"c": [night(2), night(1)], "d": [other]}


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_day_is_listed_after_its_lateness_if_runs_come_in_time(ran: list[bool]) -> None:
    """Whatever nights are missed: an image in time is listed, unless none ran for longer than the limit."""
    nights: list[CameraNight] = []
    listed: dict[date, date] = {}  # day -> last night that listed it
    start = TODAY
    for number, runs in enumerate([True, *ran, True]):
        today = start + timedelta(days=number)
        if not runs:
            continue
        window = window_of(nights, today, LATENESS, CATCH_UP)
        nights.append(night((TODAY - today).days, (TODAY - window.since).days))
        listed |= dict.fromkeys(window.dates(), today)
    last = start + timedelta(days=len(ran) + 1)
    for number in range((last - start).days - CATCH_UP, (last - start).days - LATENESS):
        each = start + timedelta(days=max(number, 0))
        assert listed[each] >= min(each + timedelta(days=LATENESS), last)
