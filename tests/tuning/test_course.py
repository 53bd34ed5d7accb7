"""What a trial tells, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable

from raysvq.settings import Settings
from raysvq.tuning.course import Course

Build = Callable[..., Settings]


def _course(small: Build, tuning: dict[str, object], **training: int) -> Course:
    settings = small(training=training)
    return Course(settings.model_copy(update={"tuning": settings.tuning.model_copy(update=tuning)}))


def test_one_training_tells_each_of_six_looks(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=60)
    assert course.every == 10
    told = [course.look(figure) for figure in (0.5, 0.9, 0.7, 0.6, 0.6, 0.65)]
    assert [row["step"] for row in told if row] == [10, 20, 30, 40, 50, 60]
    assert [row["figure"] for row in told if row] == [0.5, 0.9, 0.7, 0.6, 0.6, 0.65], "only the end counts"
    assert course.end_training() is told[-1]


def test_a_training_that_keeps_its_best_checkpoint_is_worth_that(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=20)
    told = [course.look(figure) for figure in (0.99, 0.8, 0.99, 0.7, 0.99, 0.75)]
    assert [row["figure"] for row in told if row] == [0.99, 0.8, 0.8, 0.8, 0.8, 0.8]


def test_repeats_tell_the_mean_at_the_end_of_each(small: Build) -> None:
    course = _course(small, {"repeats": 2}, steps=60, validate_every=30)
    assert [course.look(figure) for figure in (0.5, 0.4)] == [None, None]
    assert course.end_training()["figure"] == 0.5
    assert [course.look(figure) for figure in (0.6, 1.0)] == [None, None]
    told = course.end_training()
    assert (told["figure"], told["figures"], told["look"]) == (0.75, [0.5, 1.0], 2)
    assert [row["look"] for row in course.reported] == [1, 2]


def test_what_fails_is_worth_nothing(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=60)
    course.look(0.9)
    course.fail("ran away")
    assert (course.reported[-1]["figure"], course.reported[-1]["problem"]) == (0.0, "ran away")
