"""How many images may be rejected for reasons outside them."""

from __future__ import annotations

import pytest

from raysvq.errors import ScoringError
from raysvq.scoring.budget import Budget

EXAMPLE = {"uri": "s3://plates/a.png", "reason": "access_denied", "detail": "permission denied"}


@pytest.mark.parametrize(
    ("images", "share", "allowed"),
    [
        (10, 0.0, 0),
        (1, 0.02, 1),
        (50, 0.02, 1),
        (51, 0.02, 2),
        (150, 0.02, 3),
        (10_000, 0.02, 200),
        (7, 1, 7),
    ],
)
def test_a_share_of_the_images_rounded_up(images: int, share: float, allowed: int) -> None:
    budget = Budget(images, share)
    assert budget.allowed == allowed
    budget.require_kept({"not_found": allowed, "corrupt": images}, None)
    with pytest.raises(ScoringError, match="rejected for reasons outside them"):
        budget.require_kept({"not_found": allowed, "crashed": 1}, None)
    with pytest.raises(ScoringError, match="rejected for reasons outside them"):
        budget.require_kept({"not_finite": allowed + 1}, None)  # the model is broken


def test_images_that_are_tried_again_may_all_be_rejected_again() -> None:
    budget = Budget(60, 0.02, known=10)
    budget.require_kept({"not_found": 12}, None)
    with pytest.raises(ScoringError, match="allows 12"):
        budget.require_kept({"not_found": 13}, None)


def test_what_is_wrong_with_images_themselves_never_counts() -> None:
    Budget(100, 0.0).require_kept(dict.fromkeys(["corrupt", "empty", "too_large", "unsupported"], 25), None)


def test_the_error_names_counts_an_example_and_the_setting() -> None:
    with pytest.raises(ScoringError) as failure:
        Budget(100, 0.02).require_kept({"unreadable": 1, "access_denied": 4, "corrupt": 9}, EXAMPLE)
    assert str(failure.value) == (
        "5 of the run's 100 images are rejected for reasons outside them (access_denied 4, unreadable 1),"
        " such as s3://plates/a.png: permission denied; setting `scoring.max_rejected`: 0.02 allows 2."
        " Nothing was committed: mend the cause, and start the run again, it goes on where it was"
    )
    assert failure.value.exit_code == 1
