"""A few small images with a listing, a model that needs no training, and scoring jobs over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch

from raysvq.data.index import build_index
from raysvq.decisions import fixed_decisions
from raysvq.model.bundle import Bundle, make_bundle, save_bundle
from raysvq.model.bundle_summary import Reference
from raysvq.model.network import build_network
from raysvq.model.scorer import ImageScorer
from raysvq.results import open_results
from raysvq.scoring.job import score
from raysvq.scoring.summary import ScoreSummary
from raysvq.settings import Settings, SplitSettings, parse_settings
from raysvq.storage import join, write_bytes

SITES = ("north/1", "süd")
DAYS = ("2026-05-04T23:30:00Z", "2026-05-05T00:30:00Z", "")
MODEL = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "codebook_size": 16, "embedding_dim": 4}

Row = dict[str, Any]


@dataclass
class Plates:
    """An image set in a folder, local or of an object store, with model, manifest and results beside it."""

    folder: str
    contents: dict[str, bytes]  # by file name
    mode: str = "tiles"
    bundle: Bundle = field(init=False)

    def __post_init__(self) -> None:
        for name, content in self.contents.items():
            self.put(name, content)
        self.index()
        model_settings = parse_settings({"tiles": {"size": 32, "mode": self.mode}, "model": MODEL})
        self.bundle = _bundle(model_settings, self.contents)
        save_bundle(self.bundle, self.model)

    @property
    def manifest(self) -> str:
        return join(self.folder, "manifest.parquet")

    @property
    def model(self) -> str:
        return join(self.folder, "model")

    @property
    def out(self) -> str:
        return join(self.folder, "out")

    def uri(self, name: str) -> str:
        return join(self.folder, "images", name)

    def put(self, name: str, content: bytes) -> None:
        """Write an image, or write it anew."""
        self.contents[name] = content
        write_bytes(self.uri(name), content)

    def index(self) -> None:
        """List what is there now: even ones normal, odd ones anomalous, on two sites and two days."""
        lines = ["uri,label,split,site,captured_at"] + [
            f"images/{name},{('normal', 'anomalous')[n % 2]},test,{SITES[n % 2]},{DAYS[n % 3]}"
            for n, name in enumerate(sorted(self.contents))
        ]
        write_bytes(join(self.folder, "listing.csv"), "\n".join(lines).encode())
        build_index(join(self.folder, "listing.csv"), self.manifest, SplitSettings())

    def settings(self, **scoring: Any) -> Settings:
        return parse_settings({"scoring": {"batch_images": 4, "precision": "float32"} | scoring})

    def score(self, **scoring: Any) -> ScoreSummary:
        """Run the job; keywords are settings of the section `scoring`."""
        return score(self.manifest, self.model, self.out, self.settings(**scoring))

    def rows(self, kind: str = "scores") -> dict[str, Row]:
        """What readers see, by file name; each image once."""
        rows = open_results(self.out, kind).to_table().to_pylist()
        found = {PurePosixPath(row["uri"]).name: row for row in rows}
        assert len(found) == len(rows)
        return found

    def direct(self) -> dict[str, float]:
        """What the library says of each file's bytes, without a job."""
        return _direct(self.bundle, self.contents)


def make_plates(folder: str, count: int, mode: str = "tiles") -> Plates:
    """Images of growing contrast; those of the upper half are anomalous to the model."""
    return Plates(folder, {f"plate-{n:02d}.png": plate(n) for n in range(count)}, mode)


def plate(seed: int) -> bytes:
    """A PNG of noise, of a size and contrast of its own."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 20 + 2 * seed % 230, (40 + seed % 5, 56 + seed % 7, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def _bundle(settings: Settings, contents: dict[str, bytes]) -> Bundle:
    torch.manual_seed(0)
    model = build_network(settings)
    validation = {"normal": 0, "anomalous": 0, "auroc": None}

    def with_threshold(value: float) -> Bundle:
        decisions = fixed_decisions(value, 0.5, "as found", "manual")
        return make_bundle(model, settings, Reference({}, validation), decisions, {}, {})

    return with_threshold(float(np.median(list(_direct(with_threshold(0.0), contents).values()))))


def _direct(bundle: Bundle, contents: dict[str, bytes]) -> dict[str, float]:
    scorer = ImageScorer(bundle.model, bundle.settings, bundle.settings.scoring)
    return {name: scorer(content).image_score for name, content in contents.items()}
