"""From the bytes of an image to its scores, for validation, evaluation and the batch job."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from raysvq.imaging.decode import DecodeError, Pixels
from raysvq.imaging.pixels import FULL_SCALE, CutImage, load_tiles, open_tiles
from raysvq.imaging.region import Marks, ReadRegion
from raysvq.imaging.signals import Signals, SignalSums
from raysvq.imaging.tiling import Mosaic, Tiling, map_shape, map_span, tiles_of_map, without_halo
from raysvq.model.anomaly import image_score, tile_scores
from raysvq.model.device import Precision, send
from raysvq.model.engines import Engine, EngineName, Nearest
from raysvq.model.network import Network, cell_size
from raysvq.settings import AnomalySettings, ScoringSettings, Settings

S = TypeVar("S")
T = TypeVar("T")

_CPU_PIXELS = 2**18  # pixels encoded at once; activations of more outgrow the caches


@dataclass(frozen=True)
class ImageResult:
    """Scores and anomaly map of one image."""

    tiling: Tiling
    tile_scores: npt.NDArray[np.float32]  # (T,)
    terms: npt.NDArray[np.float32]  # (R, h, w) of the distances; 0 outside the region of interest
    span: tuple[int, int]  # (height, width) in image pixels that the map spans
    image_score: float
    codes: npt.NDArray[np.uint16]  # (P,) nearest ones of grid positions in the region, tile by tile
    signals: Signals  # of the whole image
    inside: Marks | None = None  # (h, w) cells in the region of interest; None: all

    @cached_property
    def anomaly_map(self) -> npt.NDArray[np.float32]:
        """(h, w) distances; 0 outside the region of interest."""
        # The map of a large image need not be held twice.
        return np.asarray(self.terms[0] if len(self.terms) == 1 else self.terms.sum(axis=0))

    @property
    def map_values(self) -> npt.NDArray[np.float32]:
        """(N,) values of the map in the region of interest."""
        return self._in_region(self.anomaly_map)

    def pooled(self, settings: AnomalySettings) -> float:
        """The image score of these terms and tile scores."""
        return image_score(self._in_region(self.terms), self.tile_scores, settings)

    def pooled_without_labels(self, settings: AnomalySettings) -> float | None:
        """The image score without what labelled outliers taught; None where that cannot be taken out."""
        if len(self.terms) == 1 or settings.pooling == "tile_max":
            return None
        return replace(self, terms=self.terms[:1]).pooled(settings)

    def _in_region(self, maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(..., h, w) -> (..., N) values in the region of interest."""
        return maps.reshape(*maps.shape[:-2], -1) if self.inside is None else maps[..., self.inside]


class ImageScorer:
    """Scores whole images with one model on one device."""

    def __init__(
        self,
        model: Network,
        settings: Settings,
        scoring: ScoringSettings,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        decoders: int = 0,
        deadline: AbstractContextManager[Any] | None = None,
        engine: EngineName = "torch",
    ) -> None:
        """Make a scorer.

        In float32 with PyTorch it follows the model as it learns; else it keeps the weights of now.

        Args:
            settings: the model's own.
            scoring: of the run that uses it.
            decoders: threads that decode for `score_many` while the device computes; 0 decodes in turn.
            deadline: entered for every piece of decoding, by each of them.
            engine: computes the network; openvino needs a CPU.

        Raises:
            SettingsError: the engine is not installed.
        """
        self.model = model.to(device).eval()
        self.settings = settings
        self.scoring = scoring
        self.device = torch.device(device)
        self._decoders = ThreadPoolExecutor(decoders) if decoders else None
        self._deadline = deadline or nullcontext()
        self._engine = self._in_openvino(precision) if engine == "openvino" else self._in_torch(precision)
        self._cells_inside: Callable[..., Marks] | None = None

    def within(self, region: ReadRegion) -> ImageScorer:
        """The same scorer, for a region of interest: nothing outside it counts.

        The map is cut, not the image: cells inside score as they do without a region. So what is outside can
        only count as far as an encoding sees beyond its cell.
        """
        scorer = copy.copy(self)
        scorer._cells_inside = lru_cache(maxsize=4)(region.cells)
        return scorer

    def __call__(self, content: bytes) -> ImageResult:
        """Score an image file.

        Raises:
            DecodeError: the file is not a whole, readable image.
        """
        return self._score(self._open(content))

    def score_many(self, contents: Sequence[bytes]) -> list[ImageResult | DecodeError]:
        """Score image files, each as if alone; what cannot be scored has its error in its place.

        In whole-image mode their tiles are encoded together, which is faster where tiles are small.
        """
        in_order = self._decoders.map if self._decoders else map
        if self.settings.tiles.mode == "tiles":
            opened = in_order(partial(_or_error, self._open), contents)
            return [_or_error(self._score, image) for image in opened]
        loaded = list(in_order(partial(_or_error, self._load), contents))
        tiles = [image[1] for image in loaded if not isinstance(image, DecodeError)]
        nearest = zip(*self.nearest(np.concatenate(tiles)), strict=True) if tiles else iter(())
        results: list[ImageResult | DecodeError] = []
        for image in loaded:
            if isinstance(image, DecodeError):
                results.append(image)
                continue
            tiling, tile = image
            sums = SignalSums()
            sums.add(tile)
            terms, codes = next(nearest)
            results.append(_or_error(partial(self.result, tiling, sums=sums), [(terms[None], codes[None])]))
        return results

    def _open(self, content: bytes) -> CutImage:
        return open_tiles(content, self.settings.tiles, self.scoring, self._deadline)

    def _load(self, content: bytes) -> tuple[Tiling, npt.NDArray[np.uint16]]:
        return load_tiles(content, self.settings.tiles, self.scoring, self._deadline)

    def _score(self, image: CutImage | DecodeError) -> ImageResult:
        if isinstance(image, DecodeError):
            raise image
        sums = SignalSums()
        return self.result(image.tiling, self._measured(image.parts, sums), sums)

    def _measured(self, parts: Iterable[Pixels], sums: SignalSums) -> Iterator[Nearest]:
        for part in parts:
            sums.add(without_halo(part, self.settings.tiles.halo))
            yield self.nearest(part)

    def result(self, tiling: Tiling, nearest: Iterable[Nearest], sums: SignalSums) -> ImageResult:
        """The result for an image.

        Args:
            nearest: (t, R, h, w) terms of distances, and codes, of consecutive tiles.
            sums: over the same tiles, complete once `nearest` is at its end.

        Raises:
            DecodeError: none of its map's cells is inside the region of interest.
        """
        cell = cell_size(self.settings.model)
        span = map_span(tiling, cell)
        inside = self._inside(tiling, map_shape(tiling, cell), span)
        in_tiles = None if inside is None else tiles_of_map(inside, tiling, cell)
        parts = iter(nearest)
        first = next(parts)
        mosaic, scores, codes = Mosaic(tiling, cell, first[0].shape[1]), [], []
        for terms, indices in chain([first], parts):
            mosaic.add(terms)
            distances = terms.sum(axis=1)
            if in_tiles is None:
                scores.append(tile_scores(distances))
                codes.append(indices.ravel())
            else:
                marks = np.stack(list(islice(in_tiles, len(distances))))
                scores.append(tile_scores(np.where(marks, distances, np.float32(0))))
                codes.append(_codes_inside(indices, marks))
        if inside is not None:
            mosaic.values[:, ~inside] = 0
        joined, used = np.concatenate(scores), np.concatenate(codes)
        result = ImageResult(tiling, joined, mosaic.values, span, 0.0, used, sums.signals(), inside)
        return replace(result, image_score=result.pooled(self.settings.anomaly))

    def _inside(self, tiling: Tiling, shape: tuple[int, ...], span: tuple[int, int]) -> Marks | None:
        if self._cells_inside is None:
            return None
        inside = self._cells_inside(shape, span, (tiling.height, tiling.width))
        if not inside.any():
            raise DecodeError("unsupported", "none of it is inside the region of interest")
        return inside

    def in_bfloat16(self, engine: EngineName = "torch") -> ImageScorer:
        """A scorer of the same model, as it is now, in bfloat16."""
        model, device = self.model, self.device
        if engine == "openvino" and device.type != "cpu":
            model, device = copy.deepcopy(model), torch.device("cpu")
        return ImageScorer(model, self.settings, self.scoring, device, "bfloat16", engine=engine)

    def distances(self, tiles: Pixels) -> npt.NDArray[np.float32]:
        """(T, S, S, C) tiles, with their halo -> (T, h, w) distances to the codebook."""
        return np.asarray(self.nearest(tiles)[0].sum(axis=1))

    def nearest(self, tiles: Pixels) -> Nearest:
        """(T, S, S, C) tiles, with their halo -> (T, R, h, w) terms of distances, and nearest codes.

        The codes are (T, h, w), or (T, p) of some positions of each tile.
        """
        return self._engine(tiles)

    def _in_torch(self, precision: Precision) -> Engine:
        nearest_map = self.model.bfloat16_nearest_map() if precision == "bfloat16" else self.model.nearest_map
        batch = self.scoring.tile_batch
        if self.device.type == "cpu":
            batch = min(batch, max(1, _CPU_PIXELS // self.settings.tiles.seen**2))

        def nearest(tiles: Pixels) -> Nearest:
            terms, codes = [], []
            with torch.inference_mode(), exact_convolutions():
                for start in range(0, len(tiles), batch):
                    pixels = to_model_input(tiles[start : start + batch], self.device)
                    near, indices = nearest_map(pixels)
                    terms.append(near.float().cpu().numpy())
                    codes.append(indices.cpu().numpy().astype(np.uint16))
            return np.concatenate(terms), np.concatenate(codes)

        return nearest

    def _in_openvino(self, precision: Precision) -> Engine:
        # Imported here, as the package may not be installed.
        from raysvq.model.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(self.model, precision, self.scoring.tile_batch)


def exact_convolutions() -> AbstractContextManager[None]:
    """Within it GPUs score as CPUs do; else they would round the factors of convolutions to ten bits."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _or_error(call: Callable[[S], T], argument: S) -> T | DecodeError:
    try:
        return call(argument)
    except DecodeError as error:
        return error


def _codes_inside(indices: npt.NDArray[np.uint16], marks: Marks) -> npt.NDArray[np.uint16]:
    """The (t, h, w) or (t, p) codes of positions that are marked, (t, h, w)."""
    of_tile = marks.reshape(len(marks), -1)
    codes = indices.reshape(len(indices), -1)
    return codes[of_tile[:, :: of_tile.shape[1] // codes.shape[1]]]


def to_model_input(tiles: Pixels, device: torch.device) -> torch.Tensor:
    """(B, H, W, C) uint8 or uint16 -> (B, C, H, W) float32 in [0, 1], channels last."""
    if tiles.dtype == np.uint8:
        shallow = send(torch.from_numpy(np.require(tiles, requirements="W")), device)
        pixels = shallow.float().mul_(257)  # exactly what `at_full_scale` makes of it
    else:
        pixels = send(torch.from_numpy(tiles.astype(np.float32)), device)
    return pixels.mul_(1 / FULL_SCALE).permute(0, 3, 1, 2)
