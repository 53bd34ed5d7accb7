"""Which images belong together, by the names of the shared sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.methods.sets import GROUPS, read_set
from raysvq.sample import write_sample
from tests.stripes import write_stripes


@pytest.mark.parametrize(
    ("name", "stem", "group"),
    [
        ("bsd_pitting", "01_200905041126_277500_315_crop_2", "277500_315"),
        ("kolektor_sdd", "247", "part 30"),
        ("kolektor_sdd", "250", "part 31"),
        ("crack_forest", "072", "072"),
        ("crack_forest", "072_0", "072"),
        ("mvtec_leather_256", "test001_y256_x512", "test001"),
        ("mvtec_leather_256", "017", None),
    ],
)
def test_names_of_shared_sets_say_what_belongs_together(name: str, stem: str, group: str | None) -> None:
    assert GROUPS[name](stem) == group


def test_a_copy_elsewhere_has_the_same_ids(tmp_path: Path) -> None:
    places = [tmp_path / name / "stripes" for name in ("here", "there")]
    ids = [
        [row["image_id"] for row in read_set(Path(write_stripes(one)).parent, "stripes")] for one in places
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == len(ids[0]) == 21


def test_a_listing_keeps_its_groups_and_a_tree_gets_those_of_its_names(tmp_path: Path) -> None:
    write_sample(tmp_path / "listed", normal=6, anomalous=6)
    write_stripes(tmp_path / "crack_forest")
    assert len({row["group"] for row in read_set(tmp_path, "listed") if row["group"]}) > 1
    assert {row["group"] for row in read_set(tmp_path, "crack_forest")} == {str(n) for n in range(12)}
