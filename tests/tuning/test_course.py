"""What a trial tells, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raysvq.settings import Settings
from raysvq.tuning.course import Course

Build = Callable[..., Settings]


def _course(small: Build, tuning: dict[str, object], **training: int) -> Course:
    settings = small(training=training)
    return Course(settings.model_copy(update={"tuning": settings.tuning.model_copy(update=tuning)}))


def _told(course: Course, *figures: float) -> list[dict[str, Any]]:
    """What is told of a training whose model is chosen by the same figure."""
    told = [course.validated(figure, figure) for figure in figures]
    return [*(row for row in told if row), course.end_training(1.0)]


def test_one_training_tells_each_of_six_looks(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=60)
    assert course.every == 10
    told = _told(course, 0.5, 0.9, 0.7, 0.6, 0.6, 0.65)
    assert [row["look"] for row in told] == [1, 2, 3, 4, 5, 6]
    assert [row["figure"] for row in told] == [0.5, 0.9, 0.7, 0.6, 0.6, 0.65], "only the end counts"
    assert told[-1]["looks"][0] == (1, pytest.approx(1 / 6), 0.5)


@pytest.mark.parametrize(("steps", "own"), [(3000, 250), (15000, 500), (1000, 400), (10, 3), (7, 1), (3, 3)])
def test_a_training_that_validates_often_or_seldom_is_looked_at_six_times_at_most(
    small: Build, steps: int, own: int
) -> None:
    course = _course(small, {}, steps=steps, validate_every=own)
    told = _told(course, *([0.5] * -(-steps // course.every)))
    looks = [row["look"] for row in told]
    assert looks == sorted(set(looks))
    assert looks[-1] == 6
    assert len(looks) == min(6, steps)
    for look, share, _ in told[-1]["looks"]:
        assert look / 6 <= share < (look + 1) / 6


def test_a_training_that_keeps_its_best_checkpoint_is_worth_that(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=20)
    assert [row["figure"] for row in _told(course, 0.99, 0.8, 0.99, 0.7, 0.99, 0.75)] == [0.99] + [0.8] * 5


def test_the_figure_is_that_of_the_model_kept(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=30)
    for figure, auroc in ((0.9, 0.0), (0.9, 0.0), (0.2, 0.8), (0.9, 0.0), (0.9, 0.0), (0.5, 0.7)):
        course.validated(figure, auroc)
    assert course.end_training(1.0)["figure"] == 0.2
    unlabelled = _course(small, {}, steps=60, validate_every=30)
    for figure in (0.9, 0.9, 0.9, 0.9, 0.9, 0.5):
        unlabelled.validated(figure, None)
    assert unlabelled.end_training(1.0)["figure"] == 0.5, "without outliers the last is kept"


@pytest.mark.parametrize(
    ("steps", "own", "kept"),
    [
        (60, 25, [25, 50, 60]),
        (700, 175, [175, 350, 525, 700]),
        (900, 233, [233, 466, 699, 900]),
        (60, 61, [60]),
    ],
)
def test_a_model_is_kept_where_the_training_would_have_validated_by_itself(
    small: Build, steps: int, own: int, kept: list[int]
) -> None:
    course = _course(small, {}, steps=steps, validate_every=own)
    keeps = []
    for number in range(-(-steps // course.every)):
        course.validated(0.5, 0.5)
        if course.keeps:
            keeps.append(min((number + 1) * course.every, steps))
    assert keeps == kept


def test_a_training_out_of_patience_ends_at_the_last_look(small: Build) -> None:
    told = _told(_course(small, {}, steps=60, validate_every=10), 0.9, 0.5, 0.5)
    assert [row["look"] for row in told] == [1, 2, 3, 6]
    assert told[-1]["figure"] == 0.9


def test_repeats_tell_the_mean_at_the_end_of_each(small: Build) -> None:
    course = _course(small, {"repeats": 2}, steps=60, validate_every=30)
    assert [(row["look"], row["figure"]) for row in _told(course, 0.5, 0.4)] == [(1, 0.5)]
    told = _told(course, 0.6, 1.0)
    assert [(row["look"], row["figure"], row["figures"]) for row in told] == [(2, 0.75, [0.5, 1.0])]
    assert told[0]["seconds"] == pytest.approx(2.0, abs=0.2)


def test_what_fails_is_worth_nothing_and_ends_at_the_last_look(small: Build) -> None:
    course = _course(small, {}, steps=60, validate_every=60)
    course.validated(0.9, 0.9)
    told = course.fail("ran away")
    assert (told["look"], told["figure"], told["problem"]) == (6, 0.0, "ran away")
    assert len(told["looks"]) == 1
