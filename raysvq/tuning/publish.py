"""Publish the outcome of a sweep: choose a trial, write its model, let the alias `champion` stand for it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import ray
import yaml
from scipy.stats import norm, t

from raysvq import log
from raysvq.errors import DataError
from raysvq.evaluation.leaderboard import FINISHED, Trial
from raysvq.model.alias import promote
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.runtime.failures import result_of, returns_failures
from raysvq.settings import Settings, digest
from raysvq.storage import configure, exists, join, read_bytes, remove_folder, write_bytes
from raysvq.training.plan import require_trainable
from raysvq.training.ray_trainer import train
from raysvq.tuning.splits import without_folds
from raysvq.tuning.state import SweepState
from raysvq.tuning.trial_metrics import IMAGE_AUROC, SYNTHETIC_AUROC

CHAMPION = "champion"
MODEL = "model"
_CHANCE = 0.05  # probability that a trial no better than the defaults is chosen
_WRITTEN = "made"  # file in the sweep's state with the settings digest of the model that it writes


def choose(trials: Sequence[Trial], metric: str) -> tuple[Trial, str]:
    """The trial to publish, and the reason why it is not the first of the ranked `trials`, if so.

    The defaults, trial 0, are chosen unless they failed, exceed a limit, or the best trial leads by more than
    chance: at the level _CHANCE, with Bonferroni's correction for the number of trials.

    Over several draws of the split, the threshold is that of a t-test of the differences over the same
    draws, their variance pooled over the trials. A single draw does not show its own spread: there it
    follows from the number of validation images, see `_standard_error`.
    """
    best = trials[0]
    defaults = next((one for one in trials if one.number == 0 and one.status == FINISHED), None)
    if defaults is None or best is defaults:
        return best, ""
    several = len(defaults.values) > 1
    chance = (
        _chance_over_draws(defaults, trials) if several else _chance_of_one_draw(defaults, trials, metric)
    )
    lead = (best.value or 0) - (defaults.value or 0)
    if lead > chance:
        return best, ""
    normal, anomalous = defaults.images
    over = f"over {len(defaults.values)} splits" if several else _counted(normal, anomalous, metric)
    return defaults, (
        f"the defaults are kept: trial {best.number} is ahead by {lead:.4f} {over}, and luck alone may put"
        f" one of {len(trials) - 1} trials {chance:.4f} ahead"
    )


def publish(
    manifest: str,
    out: str,
    number: int,
    settings: Settings,
    state: SweepState,
    resources: Mapping[str, float],
    require_held: Callable[[], None],
) -> Bundle:
    """Write the settings of a trial as `best.yaml`, and make its model the champion, if it is not yet.

    The model is trained anew if it shall learn from other images than in the trial, or is not stored.

    Args:
        resources: of a trial, as Ray takes them.
        require_held: raises where another run has taken the folder over.

    Raises:
        DataError: there is a model of other settings, which this sweep did not write.
    """
    plain = settings.model_dump(mode="json", exclude={"ray", "storage", "tuning"})
    write_bytes(join(out, "best.yaml"), yaml.safe_dump(plain, sort_keys=False).encode())
    model = join(out, MODEL)
    written = join(state.folder, _WRITTEN)
    if exists(join(model, "bundle.json")) and digest(load_bundle(model).settings) != digest(settings):
        _require_written(model, written)
        remove_folder(model)  # of a trial that was best until a lost one was run again
    if not exists(join(model, "bundle.json")):
        write_bytes(written, digest(settings).encode())
        if settings.tuning.refit or not state.has_model(number):
            log.info(f"training with the settings of trial {number}", trial=number)
            train(manifest, model, settings)
        else:
            log.info(f"taking the model of trial {number}", trial=number)
            _take(manifest, model, number, settings, state, resources)
    require_held()
    promote(f"{out}@{CHAMPION}", model)
    return load_bundle(model)


def _require_written(model: str, written: str) -> None:
    """Refuse to replace a model that came into the folder while the sweep did not run."""
    if not exists(written) or read_bytes(written).decode() != digest(load_bundle(model).settings):
        raise DataError(f"{model} holds a model that this sweep did not make; move it, and start again")


def _take(
    manifest: str,
    out: str,
    number: int,
    settings: Settings,
    state: SweepState,
    resources: Mapping[str, float],
) -> None:
    @returns_failures
    def make_bundle() -> None:
        configure(settings.storage)
        state.make_bundle(number, manifest, settings, summary, out)

    summary, _ = require_trainable(manifest, without_folds(settings))
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    result_of(ray.remote(num_cpus=cpus, num_gpus=gpus)(make_bundle).remote())


def _chance_over_draws(defaults: Trial, trials: Sequence[Trial]) -> float:
    repeats = len(defaults.values)
    ahead = [
        [value - usual for value, usual in zip(one.values, defaults.values, strict=True)]
        for one in trials
        if one is not defaults and len(one.values) == repeats
    ]
    error = math.sqrt(statistics.mean(statistics.variance(one) for one in ahead) / repeats)
    return error * float(t.ppf(1 - _CHANCE / (len(trials) - 1), (repeats - 1) * len(ahead)))


def _chance_of_one_draw(defaults: Trial, trials: Sequence[Trial], metric: str) -> float:
    """The lead that a trial may have by chance if both are as good as their mean.

    Both are evaluated on the same images, so they differ less than two independent ones would: the defaults
    are chosen more often than need be. `tuning.repeats` distinguishes finer.
    """
    mean = ((trials[0].value or 0) + (defaults.value or 0)) / 2
    error = math.sqrt(2) * _standard_error(mean, *defaults.images, metric)
    return error * float(norm.ppf(1 - _CHANCE / (len(trials) - 1)))


def _standard_error(value: float, normal: int, anomalous: int, metric: str) -> float:
    """Standard error of a metric over so many validation images.

    For the AUROC of images: Hanley and McNeil, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", Radiology 143 (1982), eq. 1. Other metrics get the maximum for a mean of
    values between 0 and 1; they count images too, as tiles and regions of one image are not independent.
    """
    if not normal or not anomalous:
        return math.inf
    evenly = value * (1 - value)
    if metric not in (IMAGE_AUROC, SYNTHETIC_AUROC):
        return math.sqrt(evenly / min(normal, anomalous))
    two_outliers = value / (2 - value) - value**2
    two_normals = 2 * value**2 / (1 + value) - value**2
    variance = evenly + (anomalous - 1) * two_outliers + (normal - 1) * two_normals
    return math.sqrt(variance / (normal * anomalous))


def _counted(normal: int, anomalous: int, metric: str) -> str:
    kind = "images with a defect drawn on" if metric == SYNTHETIC_AUROC else "outliers"
    return f"with {anomalous} validation {kind} and {normal} normal images"
