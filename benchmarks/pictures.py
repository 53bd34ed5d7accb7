"""The pictures of docs/paper.md: anomaly maps of test images, and encodings of leather in a plane.

Run: python -m benchmarks.pictures [--data FOLDER] [--out FOLDER] [--only maps | latents] [--sets NAME ...]
     [--set SECTION.NAME=VALUE ...]

--data holds a folder for each set, an image tree; by default RAYSVQ_DATA, or ../shared/data.

`maps-SET.png`: the `features` model with 10 labelled outliers; of each kind of defect the test image of the
median score, of a single kind those at its quartiles, so that none is picked by hand. `latents.png`: `pixels`
without outliers and at gamma = 0.2, trained as `benchmarks.paper` trains them; grid positions of leather's
test patches by t-SNE.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import paper
from benchmarks.methods import patches
from benchmarks.methods.draws import Level
from benchmarks.methods.protocol import Manifests, Results, Scorer, score_test
from benchmarks.methods.registry import METHODS
from benchmarks.methods.sets import DATA
from benchmarks.methods.ss_vq_vae import fit_ss_vq_vae
from raysvq.evaluation.labelled_images import TestImage, read_manifest
from raysvq.evaluation.masks import MaskReader
from raysvq.imaging.overlay import overlay, upsample
from raysvq.model.projection import project
from raysvq.model.scorer import ImageScorer, to_model_input
from raysvq.schema import ANOMALOUS, NORMAL, TEST

SETS = ("mvtec_leather_256", "mvtec_bottle", "bsd_pitting")
LABELLED = Level("outliers", 10)
WIDTH = 160  # pixels of a thumbnail
COLOURS = 128  # of a PNG
POSITIONS = 400  # of each kind that become points

Panel = tuple[str, list[npt.NDArray[Any]]]  # title; image, mask, map


def main() -> None:
    """Train, score and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds the sets")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for the pictures")
    parser.add_argument("--only", choices=["maps", "latents"], help="not the others")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help=f"of the maps: {' '.join(SETS)}")
    parser.add_argument("--set", nargs="+", default=[], help="settings, as of `raysvq train`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.only != "latents":
            for name in arguments.sets:
                paths = Manifests(arguments.data, Path(scratch))(name, LABELLED, 0)
                scorer = fit_ss_vq_vae(paths.learn, METHODS["features"].settings(name, 0, arguments.set))
                draw_maps(scorer, paths.test, arguments.out / f"maps-{name}.png")
        if arguments.only != "maps":
            draw_latents(arguments.data, Path(scratch), arguments.set, arguments.out / "latents.png")


def draw_maps(scorer: Scorer, manifest: str, path: Path) -> None:
    """A column for a normal image and for each kind of defect: the image, its mask, its map.

    It is clear up to the 99 % quantile of normal images' values, and strongest from the others' median peak.
    """
    results, _ = score_test(scorer, manifest)
    images = read_manifest(manifest).images
    normal = [results[name].map_values for name, image in images.items() if not image.anomalous]
    low = float(np.quantile(np.concatenate(normal), 0.99))
    chosen = list(typical(list(images.values()), results))
    peaks = [results[image.image_id].map_values.max() for image in chosen if image.anomalous]
    columns = [_panel(image, results, low, float(np.median(peaks))) for image in chosen]
    height = max(part.shape[0] for _, parts in columns for part in parts) / WIDTH
    figure = Figure(figsize=(1.3 * len(columns), 0.25 + 1.3 * height * 3))
    axes = figure.subplots(3, len(columns), squeeze=False)
    for column, (title, parts) in enumerate(columns):
        axes[0][column].set_title(title, fontsize=8)
        for axis, part in zip(axes[:, column], parts, strict=True):
            axis.imshow(part)
            axis.set_axis_off()
    _save(figure, path)


def typical(images: Sequence[TestImage], results: Results) -> Iterator[TestImage]:
    """Of normal images, then of each kind of defect the one of the median score; of a single kind three."""
    kinds = sorted({(image.anomalous, image.defect_type or "") for image in images})
    for kind in kinds:
        shown = 3 if kind[0] and len(kinds) == 2 else 1
        of_kind = [image for image in images if (image.anomalous, image.defect_type or "") == kind]
        of_kind.sort(key=lambda image: (results[image.image_id].image_score, image.image_id))
        yield from (of_kind[len(of_kind) * number // (shown + 1)] for number in range(1, shown + 1))


def _panel(image: TestImage, results: Results, low: float, high: float) -> Panel:
    result = results[image.image_id]
    size = result.tiling.height, result.tiling.width
    pixels = np.asarray(Image.open(image.uri).convert("RGB"))
    mask = MaskReader().read(image.mask_uri, *size) if image.anomalous else None
    marked = np.zeros((*size, 3), np.uint8) if mask is None else np.uint8(255) * mask[..., None].repeat(3, 2)
    heat = overlay(pixels, upsample(result.anomaly_map, result.span, size), low, high)
    small = (WIDTH, round(WIDTH * size[0] / size[1]))
    parts = [cv2.resize(part, small, interpolation=cv2.INTER_AREA) for part in (pixels, marked, heat)]
    return image.defect_type or NORMAL, parts


def draw_latents(data: Path, scratch: Path, overrides: Sequence[str], path: Path) -> None:
    """Encodings of normal and of marked positions of leather's test patches, without and with outliers."""
    jobs = paper.plan([SETS[0]], [paper.WITHOUT, "pixels"], [0.0, 0.2], [0], overrides)
    drawn = patches.cut_patches(data / SETS[0], scratch / "patches", 0, whole=False)
    figure = Figure(figsize=(4.2 * len(jobs), 4.2))
    for axis, job in zip(figure.subplots(1, len(jobs)), jobs, strict=True):
        manifest = patches.write_manifest(drawn, job.gamma, scratch / f"latents-{job.gamma}.parquet")
        scorer = fit_ss_vq_vae(manifest, job.settings)
        normal, marked = (encodings(scorer, drawn, label) for label in (NORMAL, ANOMALOUS))
        codes = scorer.model.quantizer.codebook.detach().numpy()
        points, how = project(np.concatenate([normal, marked, codes]))
        for part, colour, size, name in (
            (points[: len(normal)], "#1c7ed6", 6, "normal"),
            (points[len(normal) : -len(codes)], "#d9480f", 6, "anomalous"),
            (points[-len(codes) :], "#202020", 3, "codes"),
        ):
            axis.scatter(part[:, 0], part[:, 1], s=size, color=colour, label=name, linewidths=0)
        axis.set_title(f"{METHODS[job.method].title}, γ = {job.gamma:g} ({how})", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.legend(fontsize=8, markerscale=2)
    _save(figure, path)


def encodings(scorer: ImageScorer, drawn: Sequence[patches.Patch], label: str) -> npt.NDArray[np.float32]:
    """Of test patches of a label one grid position each, of anomalous ones a marked one, (n, d)."""
    found, model = [], scorer.model
    rng = np.random.default_rng(0)
    for patch in [one for one in drawn if (one.split, one.label) == (TEST, label)][:POSITIONS]:
        pixels = np.asarray(Image.open(patch.uri).convert("RGB"))
        with torch.inference_mode():
            grid = model.encode(to_model_input(pixels[None], scorer.device))[0].movedim(0, -1).numpy()
        wanted = np.ones(grid.shape[:2], bool)
        if patch.mask_uri:
            mask = np.asarray(Image.open(patch.mask_uri)) > 0
            shares = mask.reshape(grid.shape[0], model.cell, grid.shape[1], model.cell).mean((1, 3))
            wanted = shares == shares.max()
        found.append(grid[wanted][rng.integers(wanted.sum())])
    return np.stack(found)


def _save(figure: Figure, path: Path) -> None:
    """As a PNG of few colours, which is a third as large."""
    figure.tight_layout(pad=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    main()
