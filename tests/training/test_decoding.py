"""Images that crash or hang the decoder end no training: they are found and left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from raysvq.errors import TrainingError
from raysvq.imaging.decode import DecodeError
from raysvq.settings import Settings
from raysvq.training.decoding import MAX_TRIES, _Begun, guarded

Build = Callable[..., Settings]
PNG = cv2.imencode(".png", np.zeros((20, 20, 3), np.uint8))[1].tobytes()


class Begun:
    """What the first attempts of a task left behind."""

    def __init__(self, tries: int, known: dict[str, str] | None = None) -> None:
        self.tries, self.known = tries, known or {}
        self.ended: list[str] = []

    def begin(self, task: str) -> tuple[int, dict[str, str]]:
        return self.tries, self.known

    def end(self, task: str, crashing: dict[str, str]) -> None:
        self.ended.append(task)


def test_a_first_attempt_decodes_in_its_own_process(small: Build) -> None:
    begun: Any = Begun(1)
    with guarded("a.png", small(), begun) as guard:
        assert guard.sandbox is None
        guard.require_decodable("a.png", b"no image: decoding would say so")
        assert begun.ended == []
    assert begun.ended == ["a.png"]


def test_a_second_attempt_tries_each_image_in_a_sandbox(small: Build) -> None:
    begun: Any = Begun(2)
    with guarded("a.png", small(), begun) as guard:
        guard.require_decodable("a.png", PNG)
        with pytest.raises(DecodeError, match="not_an_image"):
            guard.require_decodable("b.png", b"no image")


def test_a_task_that_ended_needs_no_sandbox_next_time_and_what_it_found_is_known() -> None:
    begun = _Begun.__ray_actor_class__()  # type: ignore[attr-defined]
    assert begun.begin("a.png") == (1, {})
    assert begun.begin("a.png") == (2, {})
    begun.end("a.png", {"b.png": "it died"})
    assert begun.begin("a.png") == (1, {"b.png": "it died"})


def test_what_is_known_to_crash_is_not_decoded_again(small: Build) -> None:
    begun: Any = Begun(1, {"b.png": "decoding took more than 2 s"})
    with (
        guarded("a.png", small(), begun) as guard,
        pytest.raises(DecodeError, match="crashed: decoding took more than 2 s"),
    ):
        guard.require_decodable("b.png", PNG)


def test_a_task_that_fails_has_not_ended(small: Build) -> None:
    begun: Any = Begun(1)
    with pytest.raises(ValueError, match="as it goes"), guarded("a.png", small(), begun):
        raise ValueError("as it goes")
    assert begun.ended == []


def test_a_task_whose_process_dies_again_and_again_ends_the_training(small: Build) -> None:
    begun: Any = Begun(MAX_TRIES + 1)
    with (
        pytest.raises(TrainingError, match=r"that decoded a\.png .* died 10 times"),
        guarded("a.png", small(), begun),
    ):
        pytest.fail("begun once more")
