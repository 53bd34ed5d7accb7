"""What all stems share: maps averaged over positions, on one grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from raysvq.model.stems import Stem
from raysvq.model.stems.stem import Tap


class _Shrunk(Stem):
    """Means of 8 x 8 and of 16 x 16 pixels."""

    def __init__(self) -> None:
        super().__init__((Tap(3, 3), Tap(3, 1)))

    def maps(self, pixels: Tensor) -> list[Tensor]:
        return [functional.avg_pool2d(pixels, 8), functional.avg_pool2d(pixels, 16)]

    def load(self, uri: str | None) -> None:
        raise AssertionError("there is nothing to load")


def test_maps_are_averaged_over_positions_and_resampled_to_the_grid() -> None:
    pixels = torch.rand(2, 3, 64, 96)
    fine, coarse = _Shrunk()(pixels).split(3, dim=1)
    assert fine.shape == coarse.shape == (2, 3, 8, 12)
    means = functional.avg_pool2d(pixels, 8)
    torch.testing.assert_close(fine[:, :, 3, 5], means[:, :, 2:5, 4:7].mean(dim=(2, 3)))
    torch.testing.assert_close(coarse.mean(), pixels.mean(), rtol=1e-2, atol=0)


def test_zeros_beyond_the_border_count_in_the_average() -> None:
    pixels = torch.rand(2, 3, 64, 96)
    fine, coarse = _Shrunk()(pixels).split(3, dim=1)
    means = functional.avg_pool2d(pixels, 8)
    torch.testing.assert_close(fine[:, :, 0, 0], means[:, :, :2, :2].sum(dim=(2, 3)) / 9)
    torch.testing.assert_close(fine[:, :, 4, 11], means[:, :, 3:6, 10:].sum(dim=(2, 3)) / 9)
    # The other map is not averaged, so nothing beyond its border counts.
    torch.testing.assert_close(coarse[:, :, 0, 0], functional.avg_pool2d(pixels, 16)[:, :, 0, 0])


def test_a_stem_stays_as_it_scores_while_the_rest_trains() -> None:
    assert not _Shrunk().train().training
