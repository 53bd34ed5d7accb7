"""One camera, watched: what is found, in which words, and what is passed over in silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from raysvq.fleet.settings.cameras import Expect, WatchSettings
from raysvq.fleet.watch import SIGNALS, watch_fleet
from raysvq.schema import REFERENCE
from tests.fleet.watch.nights import NAME, TODAY, add, healthy, night, only, rows, watch

KNOWN = rows(400, seed=99)


def test_a_night_like_all_others_says_nothing_and_leaves_its_numbers() -> None:
    found = watch(rows(), healthy(10, KNOWN), KNOWN)
    assert found.findings == ()
    assert {"exposure", "score", "codes", "alarm_rate", "volume", "width"} <= found.signals.keys()
    assert found.signals["exposure"] == pytest.approx(-2.0, abs=0.05)
    assert found.signals["images"] == found.signals["volume"] == 100
    assert set(SIGNALS) <= found.signals.keys()


def test_on_its_first_night_a_camera_is_compared_with_the_reference_alone() -> None:
    finding = only(watch(rows(exposure=-0.8), (), KNOWN), "exposure")
    assert finding.sentence == f"camera {NAME} is 0.8 stops darker than in its reference"
    assert finding.level == "warning"
    assert finding.since == TODAY.isoformat()
    assert finding.value == pytest.approx(-2.8, abs=0.05)
    assert finding.reference == pytest.approx(-2.0, abs=0.05)
    assert finding.p_value is not None
    assert finding.p_value < 0.01


def test_without_reference_its_own_past_weeks_speak() -> None:
    assert watch(rows(exposure=-0.8), healthy(4)).findings == ()  # too few of them
    finding = only(watch(rows(exposure=-0.8), healthy(5)), "exposure")
    assert finding.sentence == f"camera {NAME} is 0.8 stops darker than in its past weeks"


def test_without_reference_and_past_it_is_silent() -> None:
    assert watch(rows(exposure=-3, sharpness=-3, score=2)).findings == ()


def test_a_difference_that_is_sure_but_small_is_no_warning() -> None:
    assert watch(rows(exposure=-0.25), healthy(10, KNOWN), KNOWN).findings == ()
    settings = WatchSettings.model_validate({"effects": {"exposure": 0.1}})
    assert only(watch(rows(exposure=-0.25), healthy(10), settings=settings), "exposure")


def test_a_large_one_is_an_error() -> None:
    assert only(watch(rows(exposure=-1.2), healthy(10), KNOWN), "exposure").level == "error"


def test_few_images_say_nothing() -> None:
    found = watch(rows(19, exposure=-3), healthy(10, KNOWN), KNOWN)
    assert {each.signal for each in found.findings} <= {"volume"}
    assert found.signals["exposure"] == pytest.approx(-5, abs=0.1)


@pytest.mark.parametrize(
    ("change", "signal", "words"),
    [
        ({"exposure": 0.6}, "exposure", "is 0.6 stops brighter than in its past weeks"),
        ({"contrast": -1.0}, "contrast", "has 0.5 times the contrast that it has in its past weeks"),
        ({"sharpness": -1.0}, "sharpness", "is less sharp than in its past weeks: 0.5 times the fine detail"),
        ({"warmth": 0.5}, "warmth", "is 0.5 stops redder than in its past weeks"),
        ({"warmth": -0.5}, "warmth", "is 0.5 stops bluer than in its past weeks"),
        ({"score": 1.0}, "score", "has image scores 2.1 times those in its past weeks"),
    ],
)
def test_each_look_is_named_with_how_far(change: dict[str, float], signal: str, words: str) -> None:
    found = watch(rows(seed=99, **change), healthy(8))
    assert [each.signal for each in found.findings] == [signal]
    assert found.findings[0].sentence == f"camera {NAME} {words}"


def test_codes_that_normal_images_hardly_use() -> None:
    codes = np.random.default_rng(3).integers(0, 100, (100, 16))
    codes[:, :8] += 100  # the reference never uses these
    finding = only(watch(rows(codes=list(codes.astype(np.uint16))), (), KNOWN), "codes")
    start = f"camera {NAME} has 5"
    assert finding.sentence.startswith(start)
    assert "of its code use on codes that normal images hardly use, " in finding.sentence
    assert finding.value == pytest.approx(0.5, abs=0.03)
    assert finding.reference < 0.03


def test_another_product_that_the_reference_knows_is_not_what_the_camera_showed_before() -> None:
    """All codes are common ones; only the camera's own past tells."""
    fewer = list(np.random.default_rng(3).integers(0, 12, (100, 16)).astype(np.uint16))
    finding = only(watch(rows(codes=fewer), healthy(8, KNOWN), KNOWN), "codes")
    assert finding.sentence.startswith(f"camera {NAME} shows something else than in its past weeks: ")
    assert watch(rows(codes=fewer), (), KNOWN).findings == ()


def test_more_alarms_than_the_threshold_promises() -> None:
    found = watch(rows(200), (), KNOWN, scored=200, anomalous=30, promised=0.01)
    finding = only(found, "alarm_rate")
    assert finding.sentence == f"camera {NAME} flags 15 % of its images (30 of 200), expected 1 %"
    assert only(watch(None, (), None, scored=200, anomalous=30, promised=0.01), "alarm_rate").value == 0.15
    assert watch(rows(200), (), KNOWN, scored=200, anomalous=4, promised=0.01).findings == ()
    assert watch(None, (), None, scored=200, anomalous=30).findings == ()  # nothing was promised


def test_more_alarms_than_before() -> None:
    usual = healthy(9, anomalous=5)
    finding = only(watch(rows(), usual, anomalous=30), "alarm_rate")
    assert finding.sentence == f"camera {NAME} flags 30 % of its images (30 of 100), before 5 %"
    assert watch(rows(), usual, anomalous=7).findings == ()
    assert watch(rows(), usual, anomalous=0).findings == ()


def test_alarms_of_another_threshold_are_another_matter() -> None:
    usual = healthy(9, anomalous=5)
    assert watch(rows(), usual, anomalous=30, decisions_digest="new").findings == ()


def test_scores_of_another_model_are_on_another_scale_and_its_light_is_the_same() -> None:
    usual = healthy(9)
    found = watch(rows(score=3, exposure=-0.8), usual, model_digest="another")
    assert [each.signal for each in found.findings] == ["exposure"]


def test_rejected_images_are_named_by_the_most_frequent_reason() -> None:
    reasons = {"truncated": 25, "not_found": 5}
    finding = only(watch(rows(70), healthy(9), rejected=30, rejects=reasons, new=100), "rejects")
    assert finding.sentence == (
        f"camera {NAME} has 30 % of its images rejected, most of them as truncated; 0 % in its past weeks"
    )


def test_fewer_images_than_usual_on_such_days() -> None:
    finding = only(watch(rows(30), healthy(14)), "volume")
    assert finding.sentence == f"camera {NAME} sent 30 images, 30% of what it usually sends on working days"
    assert only(watch(None, healthy(14)), "volume").level == "error"


def test_a_month_of_thursdays_speaks_for_a_thursday() -> None:
    history = [
        [replace(one, new=400 if TODAY.weekday() == day.weekday() else 100, signals={})]
        for one in (run[0] for run in healthy(28))
        for day in [TODAY - timedelta(days=(TODAY - TODAY.fromisoformat(one.night)).days)]
    ]
    finding = only(watch(None, history, new=100), "volume")
    assert finding.sentence == f"camera {NAME} sent 100 images, 25% of what it usually sends on Thursdays"


def test_more_images_are_said_and_no_warning() -> None:
    assert only(watch(rows(300), healthy(14)), "volume").level == "info"


def test_two_runs_in_a_night_count_together() -> None:
    history = healthy(14)
    history.append([night(TODAY, 70)])
    assert watch(rows(30), history).findings == ()


def test_the_night_after_a_missed_one_is_not_compared_by_volume() -> None:
    history = healthy(14)[:-1]
    assert watch(rows(250), history).findings == ()


def test_what_is_expected_counts_from_the_first_night_on() -> None:
    expect = Expect.model_validate({"at_least": 50, "every": "1d"})
    finding = only(watch(rows(30), expect=expect), "volume")
    assert finding.sentence == f"camera {NAME} sent 30 images in 24 h, expect.at_least is 50"
    assert finding.level == "warning"
    assert watch(rows(50), expect=expect).findings == ()
    weekly = Expect.model_validate({"at_least": 50, "every": "7d"})
    assert watch(None, healthy(3), expect=weekly).findings == ()
    assert only(watch(None, expect=weekly), "volume").value == 0


def test_the_newest_image_is_too_old() -> None:
    expect = Expect.model_validate({"warn_after": "36h", "error_after": "4d"})
    now = datetime(2026, 3, 19, 6, tzinfo=UTC)

    def levels(age: timedelta | None) -> list[str]:
        last = None if age is None else now - age
        return [each.level for each in watch(None, expect=expect, now=now, last_image=last).findings]

    assert levels(timedelta(hours=36)) == []
    assert levels(timedelta(hours=37)) == ["warning"]
    assert levels(timedelta(days=5)) == ["error"]
    assert levels(None) == ["warning"]
    finding = only(watch(None, expect=expect, now=now, last_image=now - timedelta(days=5)), "freshness")
    assert finding.sentence == f"camera {NAME} sent its newest image 5 days ago, expect.error_after is 4 days"
    assert finding.since == "2026-03-14"


def test_images_of_another_size() -> None:
    resized = rows(width=np.full(100, 1280), height=np.full(100, 960))
    finding = only(watch(resized, (), KNOWN), "size")
    assert finding.sentence == (
        f"camera {NAME} has 100% of its images in a size that is new, such as 1280 x 960 where 640 x 480"
        " is usual"
    )
    assert only(watch(resized, healthy(1)), "size").p_value is None
    assert watch(resized).findings == ()
    history = healthy(5)
    history[-1] = [add(history[:-1], TODAY - timedelta(days=1), resized)]
    assert only(watch(resized, history), "size").sentence.endswith("since 18 Mar")


def test_images_that_all_differ_in_size_have_no_new_one() -> None:
    cut, others = (
        rows(width=np.repeat(np.arange(first, first + 50), 2), height=np.full(100, 480))
        for first in (200, 400)
    )
    assert watch(cut, (), others).findings == ()
    assert watch(cut, healthy(5)).findings == ()
    assert only(watch(cut, (), KNOWN), "size")


def test_a_failed_camera_is_not_judged() -> None:
    expect = Expect.model_validate({"at_least": 50, "warn_after": "1h"})
    assert watch(None, healthy(14), failure="access denied", expect=expect).findings == ()


def test_grey_images_have_no_warmth() -> None:
    grey = rows(warmth=pa.nulls(100, pa.float32()))
    found = watch(grey, healthy(8, KNOWN), KNOWN)
    assert "warmth" not in found.signals
    assert found.findings == ()


def test_rows_and_references_of_earlier_versions_have_scores_and_sizes_alone() -> None:
    earlier = rows()
    for name in REFERENCE.names[3:]:
        at = earlier.schema.get_field_index(name)
        earlier = earlier.set_column(at, name, pa.nulls(100, earlier.schema.field(at).type))
    found = watch(earlier, (), earlier)
    assert found.findings == ()
    assert "exposure" not in found.signals
    assert only(watch(rows(score=2, exposure=-2), (), earlier), "score")
    assert watch(rows(), (), KNOWN.slice(0, 0)).findings == ()
    assert watch(KNOWN.slice(0, 0), healthy(3), KNOWN).findings == ()


def test_since_when_is_the_first_night_of_the_run_that_lasts() -> None:
    history = healthy(9, KNOWN)
    for days in (3, 2, 1):
        history[-days] = [
            add(history[:-days], TODAY - timedelta(days=days), rows(seed=days, exposure=-0.6), KNOWN)
        ]
    finding = only(watch(rows(exposure=-0.6), history, KNOWN), "exposure")
    assert finding.since == "2026-03-16"
    assert finding.sentence == f"camera {NAME} is 0.6 stops darker than in its past weeks since 16 Mar"


def test_a_slow_drift_does_not_become_usual() -> None:
    history = healthy(9)
    for step in range(1, 8):
        day = TODAY - timedelta(days=8 - step)
        history = [run for run in history if run[0].night < day.isoformat()]
        history.append([add(history, day, rows(seed=step, exposure=-0.1 * step))])
    found = watch(rows(exposure=-0.8), history)
    assert only(found, "exposure").value == pytest.approx(-2.8, abs=0.05)
    raised = [any(each.signal == "exposure" for each in run[0].findings) for run in history[-7:]]
    assert raised == sorted(raised)  # once raised it stays


def test_what_has_lasted_for_the_whole_window_is_usual_without_a_reference() -> None:
    history = healthy(6)
    darker = [
        [add((), TODAY - timedelta(days=days), rows(seed=days, exposure=-0.8))] for days in range(8, 0, -1)
    ]
    settings = WatchSettings(weeks=1)
    assert watch(rows(exposure=-0.8), [*history[:1], *darker], settings=settings).findings == ()


def test_watching_can_be_switched_off() -> None:
    expect = Expect(at_least=500)
    found = watch(rows(exposure=-3), (), KNOWN, settings=WatchSettings(enabled=False), expect=expect)
    assert found.findings == ()
    assert found.signals["exposure"] < -4


def test_no_cameras() -> None:
    assert watch_fleet({}, (), WatchSettings(), TODAY) == {}
