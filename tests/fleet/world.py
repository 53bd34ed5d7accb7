"""A fleet of a few drawn cameras in a folder, an untrained model, and nights over them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from devtools.untrained import untrained_bundle
from raysvq.fleet.inspect import inspect
from raysvq.fleet.options import InspectOptions
from raysvq.fleet.settings.file import load_fleet
from raysvq.fleet.settings.fleet import Fleet
from raysvq.ledger.entries import spool_entries
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import SCORED, CameraNight, FleetRun
from raysvq.model.bundle import save_bundle
from raysvq.results import open_results
from raysvq.settings import parse_settings

NETWORK = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "codebook_size": 16, "embedding_dim": 4}
FIRST, SECOND = date(2026, 5, 4), date(2026, 5, 5)


class _KilledError(BaseException):
    pass


def _die(*_: Any, **__: Any) -> Any:
    raise _KilledError


@dataclass
class World:
    """Images by camera and day below `raw`, beside fleet.yaml and what it fills."""

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)  # of fleet.yaml, over those of `fleet_yaml`

    def __post_init__(self) -> None:
        settings = parse_settings({"tiles": {"size": 32}, "model": NETWORK})
        save_bundle(untrained_bundle(settings, 1.0), str(self.folder / "model"))

    def put(self, camera: str, day: date, *names: str, seed: int = 0) -> None:
        """Draw images, or draw them anew with another seed."""
        for number, name in enumerate(names):
            path = self.path(camera, day, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([seed, number]).integers(0, 255, (40, 40 + seed % 7, 3), np.uint8)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
            noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
            os.utime(path, (noon + seed, noon + seed))

    def path(self, camera: str, day: date, name: str) -> Path:
        """Of an image; a camera is named by its site and its own name, such as north.a."""
        return self.folder.joinpath("raw", *camera.split("."), day.isoformat(), f"{name}.png")

    @property
    def out(self) -> str:
        return str(self.folder / "fleet")

    def file(self) -> str:
        """Path of fleet.yaml, which it writes."""
        values: dict[str, Any] = {
            "fleet": "plant",
            "out": self.out,
            "defaults": {"model": str(self.folder / "model")},
        }
        values["cameras"] = [
            {"images": f"{self.folder}/raw/{{site}}/{{camera}}/{{date:%Y-%m-%d}}/{{name}}.png"}
        ]
        values["settings"] = {
            "scoring": {"precision": "float32"},
            "ray": {"cpus": 2, "object_store_mib": 256},
        }
        path = self.folder / "fleet.yaml"
        path.write_text(yaml.safe_dump(values | self.values))
        return str(path)

    def fleet(self) -> Fleet:
        """fleet.yaml as it is read."""
        return load_fleet(self.file())

    def inspect(self, night: date | None = FIRST, **options: Any) -> FleetRun:
        """A run of that night."""
        return inspect(self.fleet(), InspectOptions(until=night, **options))

    def inspect_killed(self, place: str) -> None:
        """A run that is killed where it would call what has this name."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, _die)
            with pytest.raises(_KilledError):
                self.inspect()

    def nights(self) -> dict[str, CameraNight]:
        """Of the newest run, by camera."""
        return {night.camera: night for night in read_nights(self.out, 1)[-1]}

    def scored(self, camera: str, kind: str = "scores") -> list[str]:
        """Names of the images that readers see scored, or rejected, sorted; each once."""
        uris = open_results(f"{self.out}/cameras/{camera}", kind).to_table(columns=["uri"])["uri"].to_pylist()
        return sorted(Path(uri).stem for uri in uris)

    def rows(self, camera: str) -> dict[str, float]:
        """Scores that readers see, by name."""
        table = open_results(f"{self.out}/cameras/{camera}", "scores").to_table(
            columns=["uri", "image_score"]
        )
        return {Path(row["uri"]).stem: row["image_score"] for row in table.to_pylist()}

    def outcomes(self, camera: str) -> dict[str, str]:
        """What the results say of each image, as the ledger puts it."""
        rejects = open_results(f"{self.out}/cameras/{camera}", "rejects").to_table()
        rejected = {Path(row["uri"]).stem: row["reason"] for row in rejects.to_pylist()}
        return dict.fromkeys(self.scored(camera), SCORED) | rejected

    def ledger(self) -> dict[str, str]:
        """What the ledger says of each image."""
        days = [FIRST + timedelta(days=n) for n in range(-40, 40)]
        with TemporaryDirectory() as folder:
            entries = spool_entries(self.out, days, Path(folder) / "entries.parquet")
            rows = pq.read_table(entries.path).to_pylist()
        return {Path(row["uri"]).stem: row["outcome"] for row in rows}

    def another_model(self) -> tuple[str, str]:
        """Path and version."""
        settings = parse_settings({"tiles": {"size": 32}, "model": NETWORK | {"codebook_size": 8}})
        bundle = untrained_bundle(settings, 1.0)
        save_bundle(bundle, str(self.folder / "other"))
        return str(self.folder / "other"), bundle.model_version
