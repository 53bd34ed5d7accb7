"""Numbers of a night and of a reference."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from raysvq.fleet.watch.measure import BUCKETS, USE, as_reference, measure, rare_use, rate, signals_of
from raysvq.schema import REFERENCE
from tests.fleet.watch.nights import night, rows


def test_rare_codes_of_a_reference_are_as_rare_in_other_normal_images() -> None:
    """Counted on the images that chose them they would seem rarer."""
    shares = 1 / np.arange(1, 513)
    rng = np.random.default_rng(0)

    def drawn(images: int) -> pa.Table:
        codes = rng.choice(512, (images, 16), p=shares / shares.sum())
        return rows(images, codes=list(codes.astype(np.uint16)))

    reference = as_reference(drawn(400))
    assert reference.rare_use is not None
    found = rare_use(measure(drawn(2000)), reference)
    assert found is not None
    assert found.value == pytest.approx(reference.rare_use.value, abs=0.02)


def test_errors_are_those_of_repeated_nights() -> None:
    nights = [measure(rows(60, seed)) for seed in range(300)]
    for name in ("exposure", "score"):
        values = [one.looks[name].value for one in nights]
        assert np.mean([one.looks[name].error for one in nights]) == pytest.approx(np.std(values), rel=0.2), (
            name
        )
    values = [rate(count, 60).value for count in np.random.default_rng(0).binomial(60, 0.3, 1000)]
    assert rate(18, 60).error == pytest.approx(np.std(values), rel=0.15)


def test_signals_have_what_is_known_and_no_more() -> None:
    bare = signals_of(night(scored=0, new=0), None, None)
    assert bare == {}
    found = signals_of(night(scored=90, anomalous=9, rejected=10), measure(rows(90)), None)
    assert found["alarm_rate"] == pytest.approx(0.1)
    assert found["reject_rate"] == pytest.approx(0.1)
    assert {*USE, "code_images", "score_error"} <= found.keys()
    assert "codes" not in found  # without a reference none is known to be rare
    assert all(isinstance(value, float) for value in found.values())


def test_an_image_shows_a_bucket_once() -> None:
    codes = np.full((30, 16), 5, np.uint16)
    codes[:10, 8:] = BUCKETS + 5
    codes[:10, 0] = 6
    assert measure(rows(30, codes=list(codes))).use[[5, 6, 7]].tolist() == [30, 10, 0]


def test_slices_of_a_larger_table_are_measured_alone() -> None:
    both = pa.concat_tables([rows(40, 1), rows(50, 2)])
    part, alone = measure(both.slice(40, 50)), measure(rows(50, 2))
    assert part.images == 50
    assert part.looks["exposure"].value == alone.looks["exposure"].value
    np.testing.assert_array_equal(part.codes, alone.codes)


def test_images_with_fewer_codes_than_most_are_left_out_of_the_use() -> None:
    codes = [*np.ones((30, 16), np.uint16), np.ones(4, np.uint16)]
    assert measure(rows(31, codes=codes)).codes.shape == (30, 16)
    assert measure(REFERENCE.empty_table()).images == 0
