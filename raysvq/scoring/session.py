"""What a worker process sets up before it can score: storage, threads, the model and a deadline.

The scoring job, its plan and the heat maps of the highest scores all work in such a session.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import cv2
import torch

from raysvq.errors import BundleError, ScoringError
from raysvq.imaging.sandbox import Deadline, Sandbox, decode
from raysvq.model.bundle import load_bundle
from raysvq.model.device import Precision, memory_errors_as
from raysvq.model.scorer import ImageScorer
from raysvq.settings import ScoringSettings, StorageSettings
from raysvq.storage import configure


@dataclass(frozen=True)
class SessionConfig:
    """What a worker session is made of; can be sent to any machine."""

    model: str  # the bundle's folder
    model_version: str  # that the folder held when the run started
    decisions_digest: str  # likewise
    scoring: ScoringSettings
    storage: StorageSettings
    device: str = "cpu"
    precision: Precision = "float32"
    decoders: int = 0  # threads that decode beside a GPU; 0 decodes in the thread that scores


class WorkerSession:
    """The model, ready to score images in this process."""

    def __init__(self, config: SessionConfig) -> None:
        """Raises BundleError where model or thresholds were replaced since the run started."""
        configure(config.storage, reached=True)
        if config.device == "cpu":
            torch.set_num_threads(1)
        cv2.setNumThreads(1)
        self.config = config
        self.bundle = load_bundle(config.model)
        if self.bundle.model_version != config.model_version:
            raise BundleError(
                f"{config.model} holds another model than when this run started; start it again"
            )
        if self.bundle.decisions.digest != config.decisions_digest:
            raise BundleError(
                f"{config.model} holds other thresholds than when this run started; start it again"
            )
        self.deadline = Deadline(config.scoring.decode_timeout_s)
        self.scorer = ImageScorer(
            self.bundle.model,
            self.bundle.settings,
            config.scoring,
            config.device,
            config.precision,
            config.decoders,
            self.deadline,
        )

    def sandbox(self) -> Sandbox:
        """A process that decodes as the scorer does, for images that may crash or hang the decoder."""
        scoring = self.config.scoring
        decoder = partial(decode, tiles=self.bundle.settings.tiles, scoring=scoring)
        return Sandbox(decoder, scoring.decode_timeout_s)


def memory_advice(config: SessionConfig) -> AbstractContextManager[None]:
    """Raise a ScoringError that names the settings to lower where memory is used up."""
    on_cpu = " or scoring.image_memory_mib, or take fewer workers (ray.cpus),"
    return memory_errors_as(
        ScoringError,
        f"a worker ran out of memory on {config.device}: lower scoring.tile_batch, which is"
        f" {config.scoring.tile_batch},{on_cpu if config.device == 'cpu' else ''} and start the run again",
    )
