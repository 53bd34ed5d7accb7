"""Models of trials that may yet be taken: kept as they were trained, made a bundle once one is taken."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch

from raysvq.model.bundle import load_bundle, save_bundle, weights
from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageScorer
from raysvq.settings import Settings
from raysvq.storage import exists, join, read_bytes, remove_folder, write_bytes
from raysvq.training.checkpoint import Progress
from raysvq.training.export import export_bundle, require_normals
from raysvq.training.in_process import local_device
from raysvq.training.metrics import write_events
from raysvq.training.validation import validate, validation_images

_WEIGHTS, _STATE = "weights.safetensors", "state.json"


@dataclass(frozen=True)
class Kept:
    """The models of one sweep, a folder each beside the records.

    A trial of several workers leaves a bundle there, one in its own process weights and where its training
    stood: what only the model taken needs is measured at the end.
    """

    folder: str

    def place(self, number: int) -> str:
        """Of a trial's model."""
        return join(self.folder, f"model-{number:05d}")

    def has(self, number: int) -> bool:
        """Whether the model of a trial is there, and whole."""
        return any(exists(join(self.place(number), name)) for name in ("bundle.json", _STATE))

    def keep(self, number: int, model: Network, progress: Progress, summary: dict[str, Any]) -> None:
        """Write a trial's model.

        Args:
            progress: as it was when this model was validated, with the history of all steps.
            summary: what its bundle is to tell of the training.
        """
        write_bytes(join(self.place(number), _WEIGHTS), weights(model))
        state = {"progress": progress.text(), "summary": summary}
        write_bytes(join(self.place(number), _STATE), json.dumps(state).encode())

    def remove(self, number: int) -> None:
        """Forget a trial's model, if it has one."""
        if exists(self.place(number)):
            remove_folder(self.place(number))

    def make_bundle(
        self, number: int, manifest: str, settings: Settings, summary: dict[str, Any], out: str
    ) -> None:
        """Write the bundle of a trial's model to `out`, as `raysvq train` would.

        Args:
            summary: what else it is to tell of the training.

        Raises:
            TrainingError: no normal validation image could be read.
        """
        place = self.place(number)
        if exists(join(place, "bundle.json")):
            bundle = load_bundle(place)
        else:
            state = json.loads(read_bytes(join(place, _STATE)))
            model = build_network(settings)
            model.load_state_dict(safetensors.torch.load(read_bytes(join(place, _WEIGHTS))))
            images = validation_images(manifest, settings.training.validation_images)
            scorer = ImageScorer(model, settings, settings.scoring, local_device(settings))
            outcome = validate(scorer, images)
            require_normals(outcome)
            progress = replace(Progress.parse(state["progress"]), validation=outcome)
            bundle = export_bundle(model, settings, progress, progress.history, summary | state["summary"])
        write_events(bundle.history["history"], out)
        save_bundle(bundle, out)
