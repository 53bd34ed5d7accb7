"""What Deep SAD and the autoencoder share: the paper's encoder and decoder, and the loop that trains them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.methods.samples import tiles
from raysvq.errors import TrainingError
from raysvq.evaluation.metrics import image_auroc
from raysvq.model.network import channel_statistics
from raysvq.model.pixel_network import pixel_decoder, pixel_encoder
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.settings import Settings
from raysvq.storage import read_bytes
from raysvq.training.data_loading import Batches, Place
from raysvq.training.in_process import local_device
from raysvq.training.initialize import INITIAL_PIXELS
from raysvq.training.tile_stream import Samples
from raysvq.training.trainer import best_step, learning_rate, next_stop, out_of_patience, training_precision
from raysvq.training.validation import validation_images

Loss = Callable[[Tensor, int], Tensor]  # standardised tiles, the last so many of them outliers -> scalar


class PixelNetwork(nn.Module):
    """Encoder and decoder of raysvq's pixel network without a codebook, with its standardised input."""

    def __init__(self, samples: Samples, settings: Settings) -> None:
        """Draw the weights from `training.seed`, fit the input on normal tiles."""
        super().__init__()
        torch.manual_seed(settings.training.seed)
        self.encoder = pixel_encoder(settings.tiles.channels, settings.model)
        self.decoder = pixel_decoder(settings.tiles.channels, settings.model)
        pixels = first_normals(samples, settings)
        self.mean: Tensor
        self.std: Tensor
        mean, std = channel_statistics(pixels)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.to(mean.device)

    def standardise(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> zero mean and unit deviation on normal tiles."""
        return (pixels - self.mean) / self.std

    def reconstruction_error(self, tiles: Tensor) -> Tensor:
        """Squares of what the decoder does not give back of standardised tiles. (B, C, H, W)"""
        return (self.decoder(self.encoder(tiles)) - tiles).square()

    def distance_map(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels in [0, 1] -> (B, H / 4, W / 4) anomaly map."""
        raise NotImplementedError

    def nearest_map(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """As raysvq's networks; without a codebook every position has the one code 0."""
        distances = self.distance_map(pixels)
        return distances[:, None], torch.zeros_like(distances, dtype=torch.int64)


def first_normals(samples: Samples, settings: Settings) -> Tensor:
    """As many normal tiles as raysvq fixes its input on, drawn at random. (B, C, H, W) in [0, 1]"""
    count = -(-INITIAL_PIXELS["pixels"] // settings.tiles.size**2)
    tiles = samples.normal["tile"]
    chosen = np.random.default_rng(settings.training.seed).permutation(len(tiles))[:count]
    return to_model_input(tiles[chosen], local_device(settings))


def fit(
    network: PixelNetwork, loss: Loss, samples: Samples, settings: Settings, weight_decay: float = 0.0
) -> Iterator[int]:
    """Adam with raysvq's batches, flips, pace and precision; yields the step wherever raysvq would validate.

    Raises:
        TrainingError: the loss is not finite.
    """
    training, device = settings.training, network.mean.device
    half = training_precision(training, device) == "bfloat16"
    optimiser = torch.optim.Adam(network.parameters(), weight_decay=weight_decay)
    batches = Batches(training, tiles(samples, training), Place(device))
    for step in range(training.steps):
        network.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, training)
        batch = next(batches)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            value = loss(network.standardise(batch.pixels), batch.outliers)
        if not torch.isfinite(value):
            raise TrainingError(f"the loss is {float(value)} at step {step + 1}")
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        if (done := step + 1) == next_stop(step, training):
            network.eval()
            yield done


def keep_best(network: PixelNetwork, steps: Iterator[int], manifest: str, settings: Settings) -> ImageScorer:
    """Run a training to its end, or out of patience; score with what validated best, as raysvq chooses it."""
    scorer = ImageScorer(network, settings, settings.scoring, network.mean.device)
    images = validation_images(manifest, settings.training.validation_images)
    contents = [read_bytes(image.uri) for image in images]
    anomalous = np.array([image.anomalous for image in images])
    history: list[dict[str, Any]] = []
    weights = network.state_dict()
    for step in steps:
        scores = np.array([scorer(content).image_score for content in contents])
        history.append({"step": step, "validation_auroc": image_auroc(anomalous, scores)})
        if best_step(history) == step:
            weights = copy.deepcopy(network.state_dict())
        if out_of_patience(history, settings.training.patience):
            break
    network.load_state_dict(weights)
    return scorer
