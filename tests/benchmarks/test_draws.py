"""Who is learnt from and who is tested: one test per draw, and no group on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.methods.draws import NO_LABELS, Draw, Level, draw
from raysvq.data.manifest import Row, row_of
from raysvq.errors import DataError
from raysvq.storage import ObjectInfo

ROOT = "/data/set/"
LEVELS = [NO_LABELS, Level("outliers", 1), Level("outliers", 20), Level("outliers", 10, 0.05)]


def _row(name: str, label: str, split: str, group: str | None = None, defect_type: str = "pit") -> Row:
    info = ObjectInfo(ROOT + name, 1, None, None)
    mask = f"{name}.mask"
    return row_of(info, label=label, split=split, group=group, mask_uri=mask, defect_type=defect_type)


def _ungrouped(normals: int = 80, anomalous: int = 60) -> list[Row]:
    rows = [_row(f"train/{n}", "normal", "train") for n in range(normals)]
    rows += [_row(f"good/{n}", "normal", "test") for n in range(20)]
    return rows + [_row(f"bad/{n}", "anomalous", "test") for n in range(anomalous)]


def _places() -> list[Row]:
    """Nine places train; six have normal and anomalous frames to test, the anomalous ones 9 to 17."""
    rows = [_row(f"train/{p}-{n}", "normal", "train", f"t{p}") for p in range(9) for n in range(18)]
    rows += [_row(f"good/{p}-{n}", "normal", "test", f"p{p}") for p in range(6) for n in range(7)]
    counts = enumerate((17, 13, 9, 14, 16, 13))
    return rows + [
        _row(f"bad/{p}-{n}", "anomalous", "test", f"p{p}") for p, most in counts for n in range(most)
    ]


def _ids(rows: Sequence[Row]) -> set[str]:
    return {row["image_id"] for row in rows}


def _groups(rows: Sequence[Row]) -> set[str]:
    return {row["group"] for row in rows if row["group"]}


def _labelled(drawn: Draw) -> set[str]:
    return _ids([row for row in drawn.learn if row["label"] == "anomalous"])


@pytest.mark.parametrize("rows", [_ungrouped(), _places()], ids=["images", "places"])
@pytest.mark.parametrize("seed", range(5))
def test_all_levels_of_a_draw_share_a_test_that_nothing_was_learnt_of(rows: list[Row], seed: int) -> None:
    drawn = [draw(rows, ROOT, level, seed) for level in LEVELS]
    for one, level in zip(drawn, LEVELS, strict=True):
        assert one.test == drawn[0].test
        assert not _ids(one.learn) & _ids(one.test)
        assert not _groups(one.learn) & _groups(one.test)
        assert len(_labelled(one)) == level.value
        assert {row["split"] for row in one.learn} <= {"train", "validation"}
    assert _labelled(drawn[1]) < _labelled(drawn[2])


def test_draws_differ_and_test_equally_many_places() -> None:
    tested = [frozenset(_groups(draw(_places(), ROOT, NO_LABELS, seed).test)) for seed in range(8)]
    assert {len(places) for places in tested} == {4}
    assert len(set(tested)) > 3


def test_the_order_of_the_test_tells_nothing_of_the_label() -> None:
    test = draw(_ungrouped(), ROOT, NO_LABELS, 0).test
    assert [row["image_id"] for row in test] == sorted(row["image_id"] for row in test)


def test_hidden_defects_are_normal_to_who_learns_and_are_not_tested() -> None:
    rows, level = _ungrouped(), Level("outliers", 10, 0.1)
    drawn, clean = draw(rows, ROOT, level, 0), draw(rows, ROOT, Level("outliers", 10), 0)
    hidden = [row for row in drawn.learn if row["image_id"] not in _ids(clean.learn)]
    assert len(hidden) == level.unlabelled(80) == 9
    assert {(row["label"], row["mask_uri"]) for row in hidden} == {("normal", None)}
    assert all("/bad/" in row["uri"] for row in hidden)
    assert _labelled(drawn) == _labelled(clean)
    assert drawn.test == clean.test


def test_an_anomalous_image_of_a_part_that_trains_is_labelled_and_never_tested() -> None:
    rows = [_row(f"train/{p}-{n}", "normal", "train", f"part {p}") for p in range(40) for n in range(2)]
    rows += [_row(f"good/{p}", "normal", "test", f"part {p}") for p in range(40, 60)]
    rows += [_row(f"bad/{p}", "anomalous", "test", f"part {p}") for p in range(60)]
    drawn = draw(rows, ROOT, Level("outliers", 20), 3)
    assert _groups(drawn.test) == {f"part {p}" for p in range(40, 60)}
    assert _groups([row for row in drawn.learn if row["label"] == "anomalous"]) <= _groups(rows[:80])


def test_no_defect_of_a_labelled_type_is_tested_where_types_are_to_be_unseen() -> None:
    rows = _ungrouped(anomalous=0)
    kinds = ("crack", "dent", "pit")
    rows += [_row(f"bad/{k}-{n}", "anomalous", "test", None, k) for k in kinds for n in range(15)]
    for seed, known in enumerate(kinds):
        levels = [Level("outliers", value, 0.0, True) for value in (0, 5, 10)]
        drawn = [draw(rows, ROOT, level, seed) for level in levels]
        for one, level in zip(drawn, levels, strict=True):
            assert one.test == drawn[0].test
            labelled = [row for row in one.learn if row["label"] == "anomalous"]
            assert [row["defect_type"] for row in labelled] == [known] * int(level.value)
        tested = [row["defect_type"] for row in drawn[0].test if row["label"] == "anomalous"]
        assert sorted(tested) == sorted(15 * [kind for kind in kinds if kind != known])
        assert sum(row["label"] == "normal" for row in drawn[0].test) == 20
    with pytest.raises(DataError, match="found 1 defect type, expected at least 2"):
        draw(_ungrouped(), ROOT, Level("outliers", 5, 0.0, True), 0)


def test_a_set_without_splits_is_split_as_raysvq_splits_it() -> None:
    rows = [row | {"split": None} for row in _ungrouped(normals=100)]
    drawn = draw(rows, ROOT, NO_LABELS, 0)
    normals = sum(row["label"] == "normal" for row in drawn.test)
    assert 20 <= normals <= 55  # 30 % of 120
    assert len(drawn.learn) == 120 - normals


@pytest.mark.parametrize(
    ("anomalous", "level", "words"),
    [
        (18, Level("outliers", 20), "20 labelled and 0 hidden outliers, but 12 are set aside"),
        (12, Level("outliers", 2), "fewer than 5 anomalous images are left to test"),
    ],
)
def test_too_few_anomalous_images_are_an_error(anomalous: int, level: Level, words: str) -> None:
    with pytest.raises(DataError, match=words):
        draw(_ungrouped(anomalous=anomalous), ROOT, level, 0)


def test_a_large_gamma_sets_more_aside_for_all_levels() -> None:
    rows, gamma = _ungrouped(anomalous=60), Level("gamma", 0.35)
    drawn = draw(rows, ROOT, gamma, 0, largest=gamma)
    assert len(_labelled(drawn)) == 43
    assert draw(rows, ROOT, NO_LABELS, 0, largest=gamma).test == drawn.test


def test_the_digest_is_of_what_is_drawn_wherever_it_lies() -> None:
    rows = _ungrouped()
    elsewhere = [row | {"uri": row["uri"].replace(ROOT, "/mnt/")} for row in rows]
    here = draw(rows, ROOT, NO_LABELS, 0).digest(ROOT)
    moved = draw(elsewhere, "/mnt/", NO_LABELS, 0)
    assert sorted(row["uri"].removeprefix("/mnt/") for row in moved.test) == sorted(
        row["uri"].removeprefix(ROOT) for row in draw(rows, ROOT, NO_LABELS, 0).test
    )
    assert moved.digest("/mnt/") == here
    assert draw(rows, ROOT, NO_LABELS, 1).digest(ROOT) != here
    assert draw(rows, ROOT, Level("outliers", 0, 0.05), 0).digest(ROOT) != here
