"""Who ranks where, who is taken, and what a limit does."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from raysvq.evaluation.leaderboard import (
    FAILED,
    FINISHED,
    OVER_LIMIT,
    STOPPED,
    Leaderboard,
    Trial,
    over_limits,
    pareto_front,
    ranked,
    table,
    write_leaderboard,
)
from raysvq.report.sweep import write_report
from raysvq.settings import Settings, TuningSettings


def _trial(number: int, *values: float, status: str = FINISHED, image_ms: float | None = 10.0) -> Trial:
    point = {"objective.eta": number / 10} if number else {}
    mean = sum(values) / len(values) if values else None
    curve = tuple((n / len(values), value) for n, value in enumerate(values, 1))
    error = "ran <away>" if status == FAILED else ""
    return Trial(number, point, status, mean, values, curve, 5.0, 4.0, image_ms, 1.5, error)


def test_rank_is_by_outcome_then_value_then_age() -> None:
    trials = [
        _trial(5, 0.0, status=FAILED),
        _trial(4, 0.99, status=STOPPED),
        _trial(3, 0.99, status=OVER_LIMIT),
        _trial(2, 0.9),
        _trial(1, 0.95),
        _trial(0, 0.95 + 1e-9),
    ]
    assert [one.number for one in ranked(trials)] == [0, 1, 2, 3, 4, 5]


def test_limits_name_what_broke_them() -> None:
    measured = {"train_s": 61.0, "image_ms": 9.0, "model_mib": None}
    assert over_limits(measured, TuningSettings()) == ""
    limits = TuningSettings(max_train_s=60, max_image_ms=10, max_model_mib=1)
    assert over_limits(measured, limits) == "train_s 61 is over tuning.max_train_s=60"


def test_the_pareto_front_holds_what_none_beats_in_both() -> None:
    best, fast = _trial(1, 0.99, image_ms=20.0), _trial(2, 0.90, image_ms=5.0)
    beaten, same, untimed = (
        _trial(3, 0.9, image_ms=6.0),
        _trial(4, 0.99, image_ms=20.0),
        _trial(5, 1.0, image_ms=None),
    )
    assert pareto_front([best, fast, beaten, same, untimed]) == {1, 2, 4}


def test_the_board_as_text_parquet_and_page(tmp_path: Path) -> None:
    trials = ranked([_trial(0, 0.9, 0.8), _trial(7, 0.95, 0.97), _trial(3, status=FAILED)])
    board = Leaderboard("image_auroc", ("objective.eta", "model.codebook_size"), Settings(), tuple(trials))
    lines = table(board).splitlines()
    assert lines[0].split() == ["trial", "image_auroc", "eta", "codebook_size", "seconds", "ms/image", "MiB"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["7", "0.9600", "0.7"],
        ["0", "0.8500", "0.5"],
        ["3", "-", "0.3"],
    ]
    assert lines[2].endswith("defaults")
    write_leaderboard(board, str(tmp_path / "board.parquet"))
    rows = pq.read_table(tmp_path / "board.parquet").to_pylist()
    assert [(row["trial"], row["image_auroc"], row["values"]) for row in rows] == [
        (7, trials[0].value, [0.95, 0.97]),
        (0, trials[1].value, [0.9, 0.8]),
        (3, None, []),
    ]
    write_report(board, trials[0], "", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "Trial 7 is published: image_auroc 0.9600 on validation, 0.8500 with the defaults" in page
    assert "ran &lt;away&gt;" in page
    assert page.count("<svg") == 4
