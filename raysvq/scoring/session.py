"""What a worker process sets up before it can score: storage, threads, the model and a deadline.

The scoring job, its plan and the heat maps of the highest scores all work in such a session.
"""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import cv2
import torch

from raysvq.decisions import Decisions
from raysvq.errors import BundleError, ScoringError
from raysvq.imaging.sandbox import Deadline, Sandbox, decode
from raysvq.model.bundle import load_bundle
from raysvq.model.device import memory_errors_as, require_device
from raysvq.model.scorer import ImageScorer
from raysvq.scoring.spec import SessionConfig
from raysvq.storage import configure


class WorkerSession:
    """The model, ready to score images in this process."""

    def __init__(self, config: SessionConfig) -> None:
        """Open the model.

        Raises:
            BundleError: model or thresholds were replaced since the run started.
            ScoringError: there is no GPU where one is asked for.
        """
        configure(config.storage, reached=True)
        require_device(config.device, ScoringError)
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
            config.backend.precision,
            config.decoders,
            self.deadline,
            config.backend.engine,
        )

    def with_part(self, config: SessionConfig) -> WorkerSession:
        """A session of the same model with settings, decisions and region of its own.

        Raises:
            SettingsError: the region's mask cannot be read.
            ScoringError: the mask was replaced since the run started.
        """
        session = copy.copy(self)
        session.config = config
        if config.decisions is not None:
            decisions = Decisions.from_json(json.loads(config.decisions))
            session.bundle = replace(self.bundle, decisions=decisions)
        if config.region is not None:
            region = config.region.read()
            if region.digest != config.region_digest:
                raise ScoringError(
                    f"mask {config.region.mask_uri} is another one than when this run started; start it again"
                )
            session.scorer = self.scorer.within(region)
        return session

    def sandbox(self) -> Sandbox:
        """A process that decodes as the scorer does, for images that may crash or hang the decoder."""
        scoring = self.config.scoring
        decoder = partial(decode, tiles=self.bundle.settings.tiles, scoring=scoring)
        return Sandbox(decoder, scoring.decode_timeout_s)


_kept: OrderedDict[SessionConfig, WorkerSession] = OrderedDict()  # by model; the last used comes last


def open_session(config: SessionConfig) -> WorkerSession:
    """A session of this process; models stay in it within `scoring.models_memory_mib`.

    Raises:
        BundleError: as `WorkerSession`.
        SettingsError, ScoringError: as `WorkerSession.with_part`.
    """
    configure(config.storage, reached=True)
    key = config.of_model
    if key not in _kept:
        _kept[key] = WorkerSession(key)
        _forget(config.scoring.models_memory_mib * 2**20)
    _kept.move_to_end(key)
    return _kept[key].with_part(config)


def _forget(allowed: int) -> None:
    """Drop the models that were not used for longest, all but the last, until they fit so many bytes."""
    sizes = [session.bundle.model.size_bytes for session in _kept.values()]
    while len(_kept) > 1 and sum(sizes[-len(_kept) :]) > allowed:
        _kept.popitem(last=False)


def memory_advice(config: SessionConfig) -> AbstractContextManager[None]:
    """Raise a ScoringError that names the settings to lower where memory is used up."""
    on_cpu = " or scoring.image_memory_mib, or take fewer workers (ray.cpus),"
    return memory_errors_as(
        ScoringError,
        f"a worker ran out of memory on {config.device}: lower scoring.tile_batch, which is"
        f" {config.scoring.tile_batch},{on_cpu if config.device == 'cpu' else ''} and start the run again",
    )
