"""Files of a sweep until it has published a model: points, results and models of its trials.

Ray Tune's own storage is not used for this. `Tuner.restore` reads pickles (`tuner.pkl`, the searcher's
state), which would cross a trust boundary in a shared bucket; and its snapshots are taken at intervals: with
Ray 2.60, a trial that had ended just before the driver was killed ran again. Here a result is on storage
before Ray Tune hears of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import safetensors.torch

from raysvq.errors import DataError
from raysvq.evaluation.leaderboard import Point
from raysvq.model.bundle import load_bundle, load_reference, save_bundle, save_reference, weights
from raysvq.model.network import Network, build_network
from raysvq.model.scorer import ImageScorer
from raysvq.schema import TRAIN
from raysvq.settings import Settings
from raysvq.storage import exists, join, list_objects, read_bytes, remove_folder, write_bytes
from raysvq.training.checkpoint import TrainingState
from raysvq.training.chunks import find_units
from raysvq.training.export import export_bundle, require_normals, write_training_ids
from raysvq.training.in_process import local_device
from raysvq.training.metrics import write_events
from raysvq.training.validation import reference_of, validate, validation_images

FOLDER = "_sweep"
RESULT = ("rung", "value", "values", "curve", "seconds", "error")
MEASURED = ("train_s", "image_ms", "model_mib", "images")  # values of a finished trial
_SWEEP, _WEIGHTS, _STATE = "sweep.json", "weights.safetensors", "state.json"
_FORMAT = 2


@dataclass(frozen=True)
class SweepState:
    """The files of one sweep, in a folder of its own."""

    folder: str

    def points(self) -> list[Point]:
        """Points of the trials suggested so far."""
        try:
            found: list[Point] = json.loads(read_bytes(join(self.folder, _SWEEP)))["points"]
        except FileNotFoundError:
            return []
        return found

    def write_points(self, points: Sequence[Point]) -> None:
        """Write the points of all trials so far: an interrupted trial runs again with its point."""
        content = {"format": _FORMAT, "points": list(points)}
        write_bytes(join(self.folder, _SWEEP), json.dumps(content).encode())

    def result(self, number: int) -> dict[str, Any] | None:
        """The last result of a trial; None if it has not ended."""
        try:
            found: dict[str, Any] = json.loads(read_bytes(self._result_file(number)))
        except FileNotFoundError:
            return None
        return found

    def results(self, numbers: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Last results, by number, of the trials that have ended."""
        found = ((number, self.result(number)) for number in numbers)
        return {number: result for number, result in found if result is not None}

    def write_result(self, number: int, result: dict[str, Any]) -> None:
        """Write the last result of a trial; it counts as ended then."""
        row = {name: result[name] for name in (*RESULT, *MEASURED) if name in result}
        write_bytes(self._result_file(number), json.dumps(row).encode())

    def _result_file(self, number: int) -> str:
        return join(self.folder, f"trial-{number:05d}.json")

    def model_folder(self, number: int) -> str:
        """Of a trial's model.

        A trial of several workers leaves a bundle there; one in its own process leaves weights and the
        progress of its training, and what only the published model needs is measured at the end.
        """
        return join(self.folder, f"model-{number:05d}")

    def has_model(self, number: int) -> bool:
        """Whether a trial has a complete model."""
        return any(exists(join(self.model_folder(number), name)) for name in ("bundle.json", _STATE))

    def save_model(
        self, number: int, model: Network, progress: TrainingState, summary: dict[str, Any]
    ) -> None:
        """Write a trial's model.

        Args:
            progress: state of the model's checkpoint, with the history of all steps.
            summary: of the training, for the bundle.
        """
        write_bytes(join(self.model_folder(number), _WEIGHTS), weights(model))
        state = {"progress": progress.text(), "summary": summary}
        write_bytes(join(self.model_folder(number), _STATE), json.dumps(state).encode())

    def remove_model(self, number: int) -> None:
        """Remove a trial's model, if it has one."""
        if exists(self.model_folder(number)):
            remove_folder(self.model_folder(number))

    def make_bundle(
        self, number: int, manifest: str, settings: Settings, summary: dict[str, Any], out: str
    ) -> None:
        """Write the bundle of a trial's model to `out`, as `raysvq train` would.

        Args:
            summary: of the training set, for the bundle.

        Raises:
            TrainingError: no normal validation image could be read.
        """
        folder = self.model_folder(number)
        if exists(join(folder, "bundle.json")):
            bundle, reference = load_bundle(folder), load_reference(folder)
        else:
            state = json.loads(read_bytes(join(folder, _STATE)))
            model = build_network(settings)
            model.load_state_dict(safetensors.torch.load(read_bytes(join(folder, _WEIGHTS))))
            limit, group_by = settings.training.validation_images, settings.decision.group_by
            images = validation_images(manifest, limit, group_by)
            images = find_units(images, settings, lambda part: part())
            scorer = ImageScorer(model, settings, settings.scoring, local_device(settings))
            outcome = validate(scorer, images)
            require_normals(outcome)
            progress = replace(TrainingState.parse(state["progress"]), validation=outcome)
            bundle = export_bundle(model, settings, progress, progress.history, summary | state["summary"])
            reference = reference_of(outcome)
        write_events(bundle.history["history"], out)
        write_training_ids(manifest, settings, [TRAIN], out)
        if reference is not None:
            save_reference(reference, out)
        save_bundle(bundle, out)


def require_readable(out: str) -> None:
    """Refuse a folder in which an earlier version of raysvq has left a sweep unfinished.

    Raises:
        DataError: it has.
    """
    files = [info.uri for info in list_objects(join(out, FOLDER), must_exist=False)]
    folders = {file.rpartition("/")[0] for file in files if file.rpartition("/")[2].startswith("trial-")}
    for folder in sorted(folders):
        if join(folder, _SWEEP) not in files:
            raise DataError(
                f"{folder} holds a sweep that an earlier version of raysvq began and did not finish; let that"
                f" version finish it, remove {join(out, FOLDER)}, or choose another --out"
            )
