"""What a run is going to do: which images, on which workers, in which precision, from which interrupted runs.

`score` carries it out; `score --plan` prints what it would take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from raysvq.data.manifest import Row
from raysvq.errors import ScoringError
from raysvq.model.device import choose_precision, require_device
from raysvq.model.engines import Backend, Machine, choose_backend, look_around, may_take_openvino
from raysvq.runtime.failures import result_of, returns_failures
from raysvq.runtime.stall import stall_reporter
from raysvq.scoring.pending import Pending
from raysvq.scoring.request import Request
from raysvq.scoring.spec import SessionConfig
from raysvq.scoring.takeover import Leftovers, Takeover, take_over
from raysvq.scoring.work import RejectBudget, Run, new_run, provenance
from raysvq.scoring.workers import Workers, find_workers
from raysvq.settings import ScoringSettings, Settings

MIN_UNIT, USUAL_UNIT, MAX_UNIT = 16, 128, 4096  # images of a work unit
UNIT_BYTES = 64 * 2**20  # files of a work unit: minutes of a CPU at most, where images are large
TARGET_UNITS = 4000  # of a large run: so many receipts, and files of each kind
LARGE_UNITS = 8  # a run with more comes after those with fewer


def unit_images(images: int, image_bytes: float, asked: int | None) -> int:
    """Images of a work unit: few enough to share out a small run, files large enough for a large one.

    Args:
        image_bytes: size of an image's file, in the mean.
        asked: `scoring.batch_images`.
    """
    if asked is not None:
        return asked
    even = min(max(images // 64, MIN_UNIT), USUAL_UNIT)
    light = max(1, int(UNIT_BYTES / max(image_bytes, 1.0)))
    return min(max(min(even, light), -(-images // TARGET_UNITS)), MAX_UNIT)


def line_up(units: Sequence[int], models: Sequence[str]) -> list[int]:
    """The order of several runs in one job: numbers of those with work, by their work units and models.

    Small runs come first, so that they end early, those of one model together, so that it is loaded once.
    Large ones share the workers at the end.
    """
    with_work = [number for number, count in enumerate(units) if count]
    return sorted(with_work, key=lambda at: (units[at] > LARGE_UNITS, models[at], units[at]))


@dataclass(frozen=True)
class RunPlan:
    """How a run carries out a request that leaves something to do."""

    session: SessionConfig
    origin: Row  # provenance columns of the run's rows
    run: Run
    budget: RejectBudget
    takeover: Takeover  # and what is left, to be cut into work units


@dataclass(frozen=True)
class Crew:
    """Who scores, and how exactly."""

    workers: Workers
    backends: Mapping[str, Backend]  # by model digest


def find_crew(requests: Sequence[Request], settings: Settings) -> Crew:
    """Join the cluster, and choose the engine and precision of each model.

    Raises:
        SettingsError: as `find_workers`; or the workers cannot compute as asked.
    """
    workers = find_workers(settings.scoring, settings.ray)
    models = {request.bundle.model_digest: request for request in requests}
    return Crew(workers, _resolve_backends(models, settings.scoring, workers))


def plan_run(request: Request, run_id: str, pending: Pending, leftovers: Leftovers, crew: Crew) -> RunPlan:
    """Plan a run. Writes nothing below the score directory."""
    scoring, workers = request.settings.scoring, crew.workers
    backend = crew.backends[request.bundle.model_digest]
    origin = provenance(request.bundle, run_id, request.digests()["settings_digest"], backend)
    run = new_run(origin, request.decisions.digest, scoring, pending.version)
    budget = RejectBudget(pending.images, scoring.max_rejected, pending.retried)
    return RunPlan(
        session=SessionConfig(
            model=request.model,
            model_version=request.bundle.model_version,
            decisions_digest=request.bundle.decisions.digest,
            scoring=scoring,
            storage=request.settings.storage,
            device=workers.device,
            backend=backend,
            decoders=workers.decoders,
            decisions=request.fitted.as_json if request.fitted else None,
            region=request.region,
            region_digest=request.region_digest,
        ),
        origin=origin,
        run=run,
        budget=budget,
        takeover=take_over(leftovers, run, pending, budget),
    )


def _resolve_backends(
    models: Mapping[str, Request], scoring: ScoringSettings, workers: Workers
) -> dict[str, Backend]:
    """Engine and precision of each model, on all workers: `auto` asks the first one that is free.

    Raises:
        SettingsError: a model, or the workers, have not what is asked for.
    """
    if scoring.precision == "bfloat16":
        from raysvq.model.bundle import load_bundle  # brings PyTorch

        for request in models.values():
            load_bundle(request.model).model.require_bfloat16()
    measured = {name: request.bundle.reference.deviations for name, request in models.items()}
    safe = any(choose_precision("auto", each["torch"], fast=True) == "bfloat16" for each in measured.values())
    settings = [request.bundle.settings.model for request in models.values()]
    on_cpu = workers.device == "cpu" and any(may_take_openvino(scoring, each) for each in settings)
    matters = on_cpu or (scoring.precision == "auto" and safe)
    machine = _ask_for_machine(workers) if matters else Machine(workers.device, False, False)
    return {
        name: choose_backend(scoring, models[name].bundle.settings.model, each, machine)
        for name, each in measured.items()
    }


def _ask_for_machine(workers: Workers) -> Machine:
    task = _look_around.options(**workers.resources)
    with stall_reporter("work unit finished", needs=workers.needs):
        found: Machine = result_of(task.remote(workers.device))
    return found


@ray.remote
@returns_failures
def _look_around(device: str) -> Machine:
    require_device(device, ScoringError)
    return look_around(device)
