from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysvq.data.manifest import Row
from raysvq.data.split import assign, draw_outliers, survey
from raysvq.errors import DataError
from raysvq.settings import SplitSettings


def _row(number: int, label: str, split: str | None = None, group: str | None = None) -> Row:
    name = f"{number:032x}"
    return {"image_id": name, "uri": name, "label": label, "split": split, "group": group}


def _rows(normal: int, anomalous: int, split: str | None = None, test: str | None = None) -> list[Row]:
    """Normal images, then anomalous ones; where `test` is given, the anomalous stand there."""
    rows = [_row(number, "normal", split) for number in range(normal)]
    return rows + [_row(10_000 + number, "anomalous", test) for number in range(anomalous)]


def _split(rows: list[Row], **options: Any) -> dict[str, str]:
    """image_id -> split"""
    choice = SplitSettings.model_validate(options)
    found = survey(rows, choice)
    draw = draw_outliers(found, choice)
    return {row["image_id"]: assign(row, found, draw, choice) for row in rows}


def _count(rows: list[Row], splits: dict[str, str]) -> Counter[tuple[str, str]]:
    return Counter((splits[row["image_id"]], row["label"]) for row in rows)


def _labelled(counts: Counter[tuple[str, str]]) -> int:
    return counts["train", "anomalous"] + counts["validation", "anomalous"]


def _pool(counts: Counter[tuple[str, str]]) -> int:
    return counts["train", "normal"] + counts["validation", "normal"]


def _available(rows: list[Row]) -> int:
    """Anomalous images that may be drawn: untold ones, but not of a group that has another place."""
    elsewhere = {row["group"] for row in rows if row["split"] in ("train", "validation")} - {None}
    return sum(
        row["label"] == "anomalous" and row["split"] in (None, "test") and row["group"] not in elsewhere
        for row in rows
    )


@st.composite
def sets(
    draw: st.DrawFn, labels: tuple[str, ...] = ("normal", "normal", "anomalous", "unknown")
) -> list[Row]:
    """Image sets with and without groups, with or without splits of their own."""
    own = draw(st.booleans())
    split_of = {
        group: draw(st.sampled_from(["train", "test", "validation", "none"])) for group in "abcdefgh" if own
    }
    rows = []
    for number in range(draw(st.integers(1, 40))):
        group = draw(st.none() | st.sampled_from("abcdefgh"))
        split = split_of[group or draw(st.sampled_from("abcdefgh"))] if own else None
        blank = own and draw(st.integers(0, 9)) == 0
        rows.append(_row(number, draw(st.sampled_from(labels)), None if blank else split, group))
    return rows


def test_same_seed_same_split_whatever_the_order() -> None:
    rows = _rows(300, 40)
    first = _split(rows, gamma=0.1, seed=4)
    assert _split(rows, gamma=0.1, seed=4) == first
    assert _split(rows[::-1], gamma=0.1, seed=4) == first
    assert _split(rows, gamma=0.1, seed=5) != first


def test_fractions_are_roughly_kept() -> None:
    rows = _rows(4000, 0)
    counts = _count(rows, _split(rows, test_fraction=0.3, validation_fraction=0.2))
    assert counts["test", "normal"] == pytest.approx(1200, abs=100)
    assert counts["validation", "normal"] == pytest.approx(0.2 * 2800, abs=80)


def test_validation_comes_from_train_only() -> None:
    rows = _rows(200, 30, "train", "test") + [_row(500 + number, "normal", "test") for number in range(50)]
    splits = _split(rows, gamma=0.05)
    for row in rows:
        if row["label"] == "normal":
            allowed = {"train": {"train", "validation"}, "test": {"test"}}[row["split"]]
            assert splits[row["image_id"]] in allowed
    assert "validation" in splits.values()


def test_a_given_validation_split_is_left_alone() -> None:
    rows = [*_rows(50, 0, "train"), _row(900, "normal", "validation")]
    assert _count(rows, _split(rows)) == {("train", "normal"): 50, ("validation", "normal"): 1}


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_pool_still_has_an_image_to_validate_on(seed: int) -> None:
    rows = _rows(3, 0, "train")
    assert "validation" in _split(rows, seed=seed, validation_fraction=0.01).values()


@pytest.mark.parametrize("own", [True, False], ids=["own splits", "no splits"])
def test_an_image_keeps_its_split_as_the_set_grows(own: bool) -> None:
    rows = _rows(600, 0, "train" if own else None)
    before, after = _split(rows[:400]), _split(rows)
    assert all(after[image_id] == split for image_id, split in before.items())


@pytest.mark.parametrize("own", [True, False], ids=["own splits", "no splits"])
@pytest.mark.parametrize(
    "options", [{"outliers": 17}, {"gamma": 0.1}, {"gamma": 0.02}, {"outliers": 0}, {"gamma": 0.0}, {}]
)
def test_exactly_as_many_outliers_as_asked_for_are_labelled_and_leave_the_test(
    own: bool, options: dict[str, Any]
) -> None:
    rows = _rows(300, 60, "train", "test") if own else _rows(300, 60)
    counts = _count(rows, _split(rows, **options))
    gamma = options.get("gamma", 0)
    wanted = options.get("outliers", round(gamma * _pool(counts) / (1 - gamma)))
    assert _labelled(counts) == wanted
    assert counts["test", "anomalous"] == 60 - wanted
    if wanted:
        assert counts["validation", "anomalous"] == round(wanted * 0.2)
        assert gamma == 0 or wanted / (wanted + _pool(counts)) == pytest.approx(gamma, abs=1 / _pool(counts))


def test_more_outliers_extend_the_smaller_draw() -> None:
    rows = _rows(100, 50)
    few, many = (
        {key for key, split in _split(rows, outliers=m).items() if split != "test"} for m in (10, 30)
    )
    assert few < many


@pytest.mark.parametrize("options", [{"gamma": 0.5}, {"outliers": 9}])
def test_asking_for_too_many_outliers_says_what_is_possible(options: dict[str, Any]) -> None:
    [(name, value)] = options.items()
    with pytest.raises(DataError) as failure:
        _split(_rows(100, 8, "train", "test"), **options)
    wanted = 100 if name == "gamma" else 9
    assert str(failure.value) == (
        f"split.{name}={value} asks for {wanted} labelled outliers beside 100 normal images,"
        " but the set has 8 anomalous ones; at most gamma=0.074 or outliers=8"
    )
    assert _labelled(_count(_rows(100, 8), _split(_rows(100, 8, "train", "test"), gamma=0.074))) == 8


def test_all_outliers_can_be_labelled() -> None:
    rows = _rows(100, 8, "train", "test")
    counts = _count(rows, _split(rows, outliers=8))
    assert _labelled(counts) == 8
    assert counts["test", "anomalous"] == 0


def test_unknown_images_of_a_set_without_splits_are_in_none() -> None:
    rows = [_row(number, "unknown") for number in range(50)]
    assert set(_split(rows).values()) == {"none"}


def test_images_without_a_split_in_a_set_with_splits_are_in_none() -> None:
    rows = [*_rows(10, 0, "train"), _row(99, "normal")]
    assert _split(rows)[f"{99:032x}"] == "none"


def test_a_group_in_two_splits_is_named() -> None:
    rows = [_row(1, "normal", "train", "lot-7"), _row(2, "normal", "test", "lot-7")]
    with pytest.raises(DataError, match="group 'lot-7' stands in the splits train and test; give it one"):
        _split(rows)


def test_outliers_of_a_group_leave_the_test_together_and_the_number_stays_exact() -> None:
    rows = _rows(100, 0, "train")
    rows += [_row(1000 + number, "anomalous", "test", f"part-{number // 4}") for number in range(40)]
    splits = _split(rows, outliers=6)
    by_group: dict[str, list[str]] = defaultdict(list)
    for row in rows[100:]:
        by_group[row["group"]].append(splits[row["image_id"]])
    assert _labelled(_count(rows, splits)) == 6
    assert all(
        ("test" in found) != bool({"train", "validation", "none"} & set(found)) for found in by_group.values()
    )


@settings(max_examples=300, deadline=None)
@given(sets(), st.integers(0, 5), st.integers(0, 50))
def test_groups_never_straddle(rows: list[Row], outliers: int, seed: int) -> None:
    splits = _split(rows, outliers=min(outliers, _available(rows)), seed=seed)
    used: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["group"] and splits[row["image_id"]] != "none":
            used[row["group"]].add(splits[row["image_id"]])
    assert all(len(found) == 1 for found in used.values())


@settings(max_examples=200, deadline=None)
@given(sets(), st.integers(0, 5), st.integers(0, 50))
def test_labelled_outliers_are_as_many_as_drawn_or_the_set_says_why(
    rows: list[Row], outliers: int, seed: int
) -> None:
    available = _available(rows)
    if outliers > available:
        with pytest.raises(
            DataError, match=f"outliers={outliers} asks for {outliers}.* has {available} anomalous"
        ):
            _split(rows, outliers=outliers, seed=seed)
    wanted = min(outliers, available)
    labelled = sum(row["label"] == "anomalous" and row["split"] in ("train", "validation") for row in rows)
    assert _labelled(_count(rows, _split(rows, outliers=wanted, seed=seed))) == wanted + labelled


def test_normal_images_of_a_group_with_defects_stay_beside_them() -> None:
    rows = _rows(40, 0)
    rows += [_row(500, "normal", None, "part"), _row(501, "anomalous", None, "part")]
    assert {_split(rows)[row["image_id"]] for row in rows[40:]} == {"test"}
    assert len({_split(rows, outliers=1)[row["image_id"]] for row in rows[40:]} - {"test", "none"}) == 1


@pytest.mark.parametrize("seed", range(10))
def test_normal_images_beside_defects_do_not_stand_in_for_the_training_pool(seed: int) -> None:
    """Half of the parts have a defect: their normal images neither count for gamma nor validate."""
    rows = [
        _row(part * 10 + place, "anomalous" if part % 2 and place == 0 else "normal", None, f"part-{part}")
        for part in range(40)
        for place in range(5)
    ]
    options = {"seed": seed, "validation_fraction": 0.01, "test_fraction": 0.0}
    counts = _count(rows, _split(rows, **options))
    assert _pool(counts) == 100
    assert counts["validation", "normal"] > 0
    assert _labelled(_count(rows, _split(rows, gamma=0.1, **options))) == round(0.1 * 100 / 0.9)


@pytest.mark.parametrize("seed", range(10))
def test_an_image_without_a_split_is_not_the_one_to_validate_on(seed: int) -> None:
    rows = _rows(2, 0, "train") + [_row(50 + number, "normal") for number in range(20)]
    assert "validation" in _split(rows, seed=seed, validation_fraction=0.001).values()
