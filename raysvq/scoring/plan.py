"""What a run is going to do: which images, on which workers, in which precision, from which interrupted runs.

`score` carries it out; `score --plan` prints what it would take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
import ray

from raysvq.data.manifest import Row, open_manifest
from raysvq.decisions import Decisions, refit
from raysvq.errors import SettingsError
from raysvq.imaging.region import Region
from raysvq.model.alias import resolve
from raysvq.model.bundle import Bundle, load_bundle
from raysvq.model.device import Precision, choose_precision, has_fast_bfloat16
from raysvq.runtime.cluster import Capacity, connect
from raysvq.runtime.failures import result_of, returns_failures
from raysvq.runtime.stall import stall_reporter
from raysvq.scoring.pending import Pending, find_pending
from raysvq.scoring.rows import provenance
from raysvq.scoring.session import SessionConfig
from raysvq.scoring.takeover import Leftovers, Takeover, take_over
from raysvq.scoring.work import RejectBudget, Run, new_run
from raysvq.settings import DecisionSettings, ScoringSettings, Settings, digest
from raysvq.storage import canonical, configure

MIN_UNIT, USUAL_UNIT, MAX_UNIT = 16, 128, 4096  # images of a work unit
TARGET_UNITS = 4000  # of a large run: so many receipts, and files of each kind
MAX_TASK_UNITS = 32  # what a node that joins has to wait for, or one that is lost may hold
_CPU_PARTS = (0.75, 0.5, 0.25, 0.125)  # CPUs of a worker, where a machine has fewer CPUs than GPUs


@dataclass(frozen=True)
class Workers:
    """Who scores: an actor for each GPU, or a task for each CPU."""

    count: int
    cpus: float  # of each
    use_gpu: bool

    @property
    def resources(self) -> dict[str, float]:
        """Of one worker, as Ray asks for them."""
        return {"num_cpus": self.cpus} | ({"num_gpus": 1} if self.use_gpu else {})

    @property
    def device(self) -> str:
        """PyTorch's name of it."""
        return "cuda" if self.use_gpu else "cpu"

    @property
    def decoders(self) -> int:
        """Threads that decode in each worker; on CPUs a worker decodes in the thread that scores."""
        return max(1, int(self.cpus)) if self.use_gpu else 0

    @property
    def name(self) -> str:
        """For people."""
        return "GPU" if self.use_gpu else "CPU"


def plan_workers(capacity: Capacity) -> Workers:
    """GPUs where there are some, each with its share of its machine's CPUs to decode with; else CPUs.

    Actors on GPUs leave a CPU free for the tasks that feed them. On CPUs nothing need be kept free:
    tasks take whatever room there is at any time, and what a lost node held is done again by the others.

    Raises:
        SettingsError: the cluster is too small.
    """
    gpus = int(capacity.gpus)
    if not gpus and capacity.cpus >= 1:
        return Workers(int(capacity.cpus), 1.0, False)
    shares = [int(node.cpus / node.gpus) for node in capacity.nodes if node.gpus >= 1]
    for cpus in (*range(min(shares, default=0), 0, -1), *_CPU_PARTS):
        if gpus and capacity.places(cpus, True) >= gpus and capacity.keeps_a_cpu(gpus, cpus):
            return Workers(gpus, cpus, True)
    raise SettingsError(
        f"the cluster has {capacity.cpus:g} CPUs and {gpus} GPUs on {len(capacity.nodes)} node(s); scoring"
        " needs one CPU, and beside GPUs some CPU for each and a whole one to feed them: wait until its"
        " workers are up, or raise ray.cpus"
    )


def unit_images(images: int, asked: int | None) -> int:
    """Images of a work unit: few enough to share out a small run, files large enough for a large one."""
    if asked is not None:
        return asked
    even = min(max(images // 64, MIN_UNIT), USUAL_UNIT)
    return min(max(even, -(-images // TARGET_UNITS)), MAX_UNIT)


def share_out(units: int, workers: int) -> list[range]:
    """Work units in parts, one a task: long ones first, for a task costs as much as scoring some dozens
    of images; shorter ones towards the end, so that all workers end at about the same time.
    """
    parts, start = [], 0
    while start < units:
        length = min(-(-5 * (units - start) // (6 * workers)), MAX_TASK_UNITS)
        parts.append(range(start, start + length))
        start += length
    return parts


@dataclass(frozen=True)
class Request:
    """What a run is asked for, resolved and opened; made by `open_request` or `Models.request`."""

    manifest: ds.Dataset | None  # None where the rows to score are given
    model: str
    out: str
    bundle: Bundle
    settings: Settings
    region: Region | None = None  # outside it nothing is scored
    region_digest: str = ""
    decision: DecisionSettings | None = None  # in place of the model's own
    fitted: Decisions | None = None  # as `decision` says

    @property
    def decisions(self) -> Decisions:
        """What decides: as `decision` says, else as the model brings along."""
        return self.fitted or self.bundle.decisions

    def digests(self) -> dict[str, str]:
        """Of the model, and of the settings that a row's values depend on: not of how the work is cut up.

        Nor of decisions, which may be fitted anew without a new folder: each row has the digest of its own.
        """
        included = {"max_pixels", "image_memory_mib", "precision"}
        scoring = ScoringSettings.model_validate(self.settings.scoring.model_dump(include=included))
        settings = self.bundle.settings.model_copy(
            update={"scoring": scoring, "decision": DecisionSettings()}
        )
        of_settings = digest(settings)
        if self.region:
            both = f"{of_settings}:{self.region_digest}"
            of_settings = hashlib.sha256(both.encode()).hexdigest()[: len(of_settings)]
        return {"model_digest": self.bundle.model_digest, "settings_digest": of_settings}

    def find_pending(self, folder: Path, also: Sequence[Path] = (), mend: bool = False) -> Pending:
        """The images to score; `folder` is a local one for what does not fit into memory.

        For `also` and `mend` see `raysvq.scoring.pending.find_pending`.
        """
        assert self.manifest is not None
        scoring = self.settings.scoring
        group_by = self.decisions.group_by
        return find_pending(self.manifest, self.out, self.digests(), scoring, folder, also, mend, group_by)


def open_request(manifest: str, model: str, out: str, settings: Settings) -> Request:
    """Open what a run reads. Raises DataError, BundleError, StorageError or SettingsError."""
    configure(settings.storage)
    manifest, model, out = canonical(manifest), resolve(model), canonical(out)
    return Request(open_manifest(manifest), model, out, load_bundle(model), settings)


class Models:
    """The models of many requests on the driver, each opened once."""

    def __init__(self, settings: Settings) -> None:
        """`settings`: of scoring, storage and ray, for all requests."""
        configure(settings.storage)
        self._settings = settings
        self._bundles: dict[str, Bundle] = {}
        self._regions: dict[Region, str] = {}
        self._fitted: dict[tuple[str, DecisionSettings], Decisions] = {}

    def request(
        self,
        model: str,
        out: str,
        region: Region | None = None,
        decision: DecisionSettings | None = None,
    ) -> Request:
        """A request whose rows to score are given. `model` is a bundle or an alias, `out` a score directory.

        Raises:
            BundleError: the model is missing or damaged.
            SettingsError: the region's mask cannot be read, or the model cannot decide as `decision` says.
            StorageError: a store does not answer.
        """
        model = resolve(model)
        if model not in self._bundles:
            self._bundles[model] = load_bundle(model)
        bundle = self._bundles[model]
        if region and region not in self._regions:
            self._regions[region] = region.read().digest
        fitted = None
        if decision:
            key = model, decision
            if key not in self._fitted:
                self._fitted[key] = refit(bundle.decisions, bundle.settings.decision, decision)
            fitted = self._fitted[key]
        of_region = self._regions[region] if region else ""
        return Request(
            None, model, canonical(out), bundle, self._settings, region, of_region, decision, fitted
        )


@dataclass(frozen=True)
class RunPlan:
    """How a run carries out a request that leaves something to do."""

    workers: Workers
    session: SessionConfig
    origin: Row  # provenance columns of the run's rows
    run: Run
    budget: RejectBudget
    takeover: Takeover
    unit_images: int

    @property
    def units(self) -> int:
        """Work units left, once finished ones of interrupted runs are taken over."""
        return -(-self.takeover.rest.images // self.unit_images)


def plan_run(request: Request, run_id: str, pending: Pending, leftovers: Leftovers) -> RunPlan:
    """Join the cluster and plan a run. Writes nothing below the score directory.

    Raises:
        SettingsError: the cluster cannot be reached, or is too small.
    """
    settings, scoring = request.settings, request.settings.scoring
    workers = plan_workers(connect(settings.ray))
    precision = _resolve_precision(request, workers)
    origin = provenance(request.bundle, run_id, request.digests()["settings_digest"], precision)
    decisions = request.bundle.decisions
    run = new_run(origin, decisions.digest, scoring, pending.version)
    budget = RejectBudget(pending.images, scoring.max_rejected, pending.retried)
    takeover = take_over(leftovers, run, pending, budget)
    return RunPlan(
        workers=workers,
        session=SessionConfig(
            model=request.model,
            model_version=request.bundle.model_version,
            decisions_digest=decisions.digest,
            scoring=scoring,
            storage=settings.storage,
            device=workers.device,
            precision=precision,
            decoders=workers.decoders,
        ),
        origin=origin,
        run=run,
        budget=budget,
        takeover=takeover,
        unit_images=unit_images(takeover.rest.images, scoring.batch_images),
    )


def _resolve_precision(request: Request, workers: Workers) -> Precision:
    """The precision of all workers: `scoring.precision=auto` asks the first one that is free."""
    measured, setting = request.bundle.reference.bfloat16_deviation, request.settings.scoring.precision
    safe = choose_precision(setting, measured, fast=True)
    if setting != "auto" or safe == "float32":
        return safe
    task = _has_fast_bfloat16.options(**workers.resources)
    with stall_reporter("work unit finished"):
        return choose_precision("auto", measured, fast=result_of(task.remote(workers.device)))


@ray.remote
@returns_failures
def _has_fast_bfloat16(device: str) -> bool:
    return has_fast_bfloat16(device)
