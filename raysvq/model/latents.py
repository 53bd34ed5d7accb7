"""Encodings of test images as points of a plane, and the image patches that each code stands for.

Shapes: N encodings, M codes among them, K codebook_size, d size of an embedding, T tiles, h and w grid of a
tile, P = T*h*w positions, C codes shown with patches, S side of a patch in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raysvq.imaging.decode import Pixels
from raysvq.imaging.overlay import to_rgb8
from raysvq.imaging.tiling import without_halo
from raysvq.log import ProgressMeter
from raysvq.model.bundle import Bundle
from raysvq.model.code_uses import NEAREST, CodeUses
from raysvq.model.labelled_tiles import (
    LabelledImage,
    LabelledTiles,
    ReadMask,
    SkippedError,
    choose_images,
    read_tiles,
    seed_of,
)
from raysvq.model.network import Network
from raysvq.model.projection import project
from raysvq.model.scorer import exact_convolutions, to_model_input

__all__ = ["LabelledImage", "Latents", "choose_images", "collect_latents"]

SIDE = 48  # pixels of a patch; a position of the pixel network sees 34 of them, one of the features more
_SAMPLE = 600  # encodings that become points
_CODES = 128  # codes that become points: the most used ones
_MOST_USED, _MOST_MARKED = 24, 12  # codes shown with patches: by normal positions, by marked ones

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Latents:
    """What a model makes of some test images: encodings, codes, distances, patches.

    Normal positions are those of normal images. Marked ones lie under the mask of an anomalous image, by the
    rule of `tiles.anomalous_fraction`. What lies beside the marks of an anomalous image is left out, since a
    position sees more of an image than its own pixels.
    """

    encoder: str  # model.encoder
    projection: str  # t-SNE or PCA
    images: tuple[int, int]  # normal, anomalous
    unmasked: int  # of the anomalous ones, without a mask: all their positions count as marked
    skipped: tuple[tuple[str, str], ...]  # (URI, why) of images that were left out
    points: Floats  # (N, 2)
    marked: npt.NDArray[np.bool_]  # (N,)
    codes: Integers  # (N,) the nearest ones
    distances: Floats  # (N,) to them
    code_points: Floats  # (M, 2)
    code_numbers: Integers  # (M,)
    uses: Integers  # (2, K) by normal and by marked positions
    mean_distances: npt.NDArray[np.float64]  # (2, K) of these to each code; NaN where none uses it
    shown: Integers  # (C,) codes with patches, those that normal positions use most first
    patches: npt.NDArray[np.uint8]  # (C, NEAREST + 1, S, S, 3): nearest normal positions, farthest marked one
    filled: npt.NDArray[np.bool_]  # (C, NEAREST + 1) whether there is such a position


@dataclass(frozen=True)
class _Sample:
    """Some positions of one image."""

    encoded: Floats  # (N, d), each dimension scaled as the distances of scores weigh it
    codes: Integers  # (N,)
    distances: Floats  # (N,)


def collect_latents(bundle: Bundle, images: Sequence[LabelledImage], read_mask: ReadMask) -> Latents:
    """Encode images and gather what a report shows of them.

    Of each image a few tiles are encoded, and a sample of their positions becomes points. So memory does not
    grow with the number of images, and with their size only by file and mask. The same images give the same
    result.

    Args:
        images: what to encode. One that cannot be read or decoded, or whose mask cannot be used, is skipped.
        read_mask: gives None for a mask that cannot be used.
    """
    model, settings = bundle.model, bundle.settings
    uses = CodeUses(settings.model.codebook_size)
    samples: tuple[list[_Sample], list[_Sample]] = ([], [])
    unmasked, skipped = 0, []
    totals = [sum(image.anomalous is kind for image in images) for kind in (False, True)]
    meter = ProgressMeter(len(images), "images", "encoding for the report")
    for image in meter.watched(images):
        try:
            tiles = read_tiles(image, settings, model.cell, read_mask)
        except SkippedError as error:
            skipped.append((image.uri, str(error)))
            continue
        unmasked += image.anomalous and image.mask_uri is None
        most = -(-_SAMPLE // (2 * totals[image.anomalous]))
        samples[image.anomalous].append(_encode(model, tiles, uses, image, most))
    normal, marked = samples
    shown = _shown(uses.counts)
    patches, filled = _patches(uses, shown, min(SIDE, settings.tiles.size))
    points, code_points, numbers, projection = _lay_out(model, [*normal, *marked], uses.counts)
    return Latents(
        encoder=settings.model.encoder,
        projection=projection,
        images=(len(normal), len(marked)),
        unmasked=unmasked,
        skipped=tuple(skipped),
        points=points,
        marked=np.repeat([False, True], [sum(len(part.codes) for part in kind) for kind in samples]),
        codes=np.concatenate([np.empty(0, np.int64), *(part.codes for part in (*normal, *marked))]),
        distances=np.concatenate([np.empty(0, np.float32), *(part.distances for part in (*normal, *marked))]),
        code_points=code_points,
        code_numbers=numbers,
        uses=uses.counts,
        mean_distances=uses.mean_distances(),
        shown=shown,
        patches=patches,
        filled=filled,
    )


def _encode(model: Network, tiles: LabelledTiles, uses: CodeUses, image: LabelledImage, most: int) -> _Sample:
    """Add the wanted positions of an image to `uses`; draw at most `most` of them."""
    device = model.mean.device
    with torch.inference_mode(), exact_convolutions():
        features = model.extract_features(to_model_input(tiles.pixels, device))
        encoded, quantized = model.quantize(features)
        wanted = torch.from_numpy(tiles.wanted)
        codes = quantized.indices.cpu()[wanted].numpy()
        distances = quantized.distances.float().cpu()[wanted].numpy()
        scaled = encoded.float().movedim(1, -1) * model.distance_weights().sqrt()
        positions = np.argwhere(tiles.wanted)
        shown = without_halo(tiles.pixels, (tiles.pixels.shape[1] - tiles.wanted.shape[1] * model.cell) // 2)

        def cut(number: int) -> Pixels:
            tile, row, column = positions[number].tolist()
            return _patch(shown[tile], row, column, model.cell)

        uses.add(codes, distances, image.anomalous, cut)
        drawn = np.random.default_rng(seed_of(image)).permutation(len(codes))[:most]
        return _Sample(scaled.cpu()[wanted][drawn].numpy(), codes[drawn], distances[drawn])


def _patch(tile: Pixels, row: int, column: int, cell: int) -> Pixels:
    """A position with its surroundings, (S, S, C); at an edge of the tile it is not in the middle."""
    size = len(tile)
    side = min(SIDE, size)
    top, left = (min(max(at * cell + cell // 2 - side // 2, 0), size - side) for at in (row, column))
    return tile[top : top + side, left : left + side].copy()


def _shown(counts: Integers) -> Integers:
    """The codes that normal positions use most, and those that marked ones use most."""
    normal, marked = (np.argsort(-uses, kind="stable") for uses in counts)
    chosen = set(normal[:_MOST_USED].tolist()) | set(marked[:_MOST_MARKED].tolist())
    return normal[np.isin(normal, [code for code in chosen if counts[:, code].any()])]


def _patches(
    uses: CodeUses, shown: Integers, side: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """`Latents.patches` and `filled`; all have one contrast, so that they can be compared."""
    rows = [uses.patches(code) for code in shown.tolist()]
    filled = np.array([[patch is not None for patch in row] for row in rows], np.bool_)
    patches = np.zeros((len(rows), NEAREST + 1, side, side, 3), np.uint8)
    if filled.any():
        found = np.concatenate([patch for row in rows for patch in row if patch is not None])
        patches[filled] = to_rgb8(found.squeeze(-1) if found.shape[-1] == 1 else found).reshape(
            -1, side, side, 3
        )
    return patches, filled.reshape(len(rows), NEAREST + 1)


def _lay_out(
    model: Network, samples: list[_Sample], counts: Integers
) -> tuple[Floats, Floats, Integers, str]:
    """Points of the encodings, points of the codes used most, these codes, and how they were projected."""
    order = np.argsort(-counts.sum(0), kind="stable")[:_CODES]
    numbers = order[counts[:, order].any(0)]
    with torch.inference_mode():
        codebook = (model.quantizer.codebook * model.distance_weights().sqrt()).float().cpu().numpy()
    encoded = np.concatenate([codebook[:0], *(part.encoded for part in samples)])
    points, projection = project(np.concatenate([encoded, codebook[numbers]]))
    return points[: len(encoded)], points[len(encoded) :], numbers, projection
