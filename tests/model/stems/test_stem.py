"""What all stems share: averaged maps on one grid, and what they see beyond the border."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from raysvq.model.stems import Stem
from raysvq.model.stems.padding import mirrored
from raysvq.model.stems.stem import Tap


class _Shrunk(Stem):
    """Means of 8 x 8 and of 16 x 16 pixels."""

    def __init__(self) -> None:
        super().__init__((Tap(3, 3, 2.0), Tap(3, 1, 0.5)))

    def maps(self, pixels: Tensor) -> list[Tensor]:
        return [functional.avg_pool2d(pixels, 8), functional.avg_pool2d(pixels, 16)]

    def load(self, uri: str | None) -> None:
        raise AssertionError("there is nothing to load")


class _WithHalo(_Shrunk):
    halo = 16


def test_maps_are_averaged_over_positions_and_resampled_to_the_grid() -> None:
    pixels = torch.rand(2, 3, 64, 96)
    fine, coarse = _Shrunk()(pixels).split(3, dim=1)
    assert fine.shape == coarse.shape == (2, 3, 8, 12)
    means = functional.avg_pool2d(pixels, 8)
    torch.testing.assert_close(fine[:, :, 3, 5], means[:, :, 2:5, 4:7].mean(dim=(2, 3)))
    torch.testing.assert_close(fine[:, :, 0, 0], means[:, :, :2, :2].mean(dim=(2, 3)))  # nothing beyond
    torch.testing.assert_close(coarse.mean(), pixels.mean(), rtol=1e-2, atol=0)


def test_each_channel_weighs_what_its_tap_says() -> None:
    assert _Shrunk().channel_weights().tolist() == [2.0] * 3 + [0.5] * 3


def test_a_halo_shows_the_mirrored_image_beyond_the_border() -> None:
    pixels = torch.rand(1, 3, 64, 64)
    padded = mirrored(pixels, 16)
    assert padded.shape == (1, 3, 96, 96)
    assert torch.equal(padded[..., 16:80, 16:80], pixels)
    assert torch.equal(padded[..., 15, 16:80], pixels[..., 1, :])
    around = _Shrunk()(padded)[..., 2:-2, 2:-2]
    assert torch.equal(_WithHalo()(pixels), around)
    assert not torch.allclose(_Shrunk()(pixels)[..., 0], around[..., 0])


def test_a_stem_stays_as_it_scores_while_the_rest_trains() -> None:
    assert not _Shrunk().train().training
