"""The end of a sweep: the settings taken, their model, and the alias that stands for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ray
import yaml

from raysvq import log
from raysvq.errors import DataError
from raysvq.model.alias import promote
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.runtime.failures import result_of, returns_failures
from raysvq.settings import Settings, digest
from raysvq.storage import configure, exists, join, read_bytes, remove_folder, write_bytes
from raysvq.training.plan import require_trainable
from raysvq.training.ray_trainer import train
from raysvq.tuning.kept import Kept

CHAMPION = "champion"
MODEL = "model"
_MADE = "made"  # in the sweep's state: the digest of the settings whose model it wrote


def crown(
    manifest: str,
    out: str,
    number: int,
    settings: Settings,
    kept: Kept,
    resources: Mapping[str, float],
    require_held: Callable[[], None],
) -> Bundle:
    """Write the settings of a trial as `best.yaml`; its model becomes the champion, if it is not yet.

    It is trained anew where it is to learn from other images than in the trial, or none was kept.

    Args:
        resources: of a trial, as Ray takes them.
        require_held: raises where another run has taken the folder over.

    Raises:
        DataError: there is a model of other settings, which this sweep did not make.
    """
    plain = settings.model_dump(mode="json", exclude={"ray", "storage", "tuning"})
    write_bytes(join(out, "best.yaml"), yaml.safe_dump(plain, sort_keys=False).encode())
    model = join(out, MODEL)
    made = join(kept.folder, _MADE)
    if exists(join(model, "bundle.json")) and digest(load_bundle(model).settings) != digest(settings):
        _require_made(model, made)
        remove_folder(model)  # of another trial, best before a lost one could be run
    if not exists(join(model, "bundle.json")):
        write_bytes(made, digest(settings).encode())
        if settings.tuning.refit or not kept.has(number):
            log.info(f"training with the settings of trial {number}", trial=number)
            train(manifest, model, settings)
        else:
            log.info(f"taking the model of trial {number}", trial=number)
            _take(manifest, model, number, settings, kept, resources)
    require_held()
    promote(f"{out}@{CHAMPION}", model)
    return load_bundle(model)


def _require_made(model: str, made: str) -> None:
    """Refuse to replace a model that came into the folder while the sweep did not run."""
    if not exists(made) or read_bytes(made).decode() != digest(load_bundle(model).settings):
        raise DataError(f"{model} holds a model that this sweep did not make; move it, and start again")


def _take(
    manifest: str, out: str, number: int, settings: Settings, kept: Kept, resources: Mapping[str, float]
) -> None:
    @returns_failures
    def make_bundle() -> None:
        configure(settings.storage)
        kept.make_bundle(number, manifest, settings, summary, out)

    summary, _ = require_trainable(manifest, settings)
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    result_of(ray.remote(num_cpus=cpus, num_gpus=gpus)(make_bundle).remote())
