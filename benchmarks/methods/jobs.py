"""What has to be trained, and the runs that come of it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.hardware import accelerator, clock, processor
from benchmarks.methods.draws import Level
from benchmarks.methods.feature_cache import FeatureCache, installed
from benchmarks.methods.predictions import file_of, write_predictions
from benchmarks.methods.protocol import Manifests, Paths, Results, measure, score_test
from benchmarks.methods.records import Records, Run, code_digest, run_digest
from benchmarks.methods.registry import METHODS
from raysvq.errors import DataError, TrainingError
from raysvq.settings import AnomalySettings, Settings
from raysvq.training.in_process import local_device

Found = Mapping[tuple[str, str, Level], list[Run]]  # by set, method and level: one run per seed


@dataclass(frozen=True)
class Job:
    """A method on a draw of a set."""

    set_name: str
    method: str
    level: Level
    seed: int
    settings: Settings
    paths: Paths
    digest: str

    def __str__(self) -> str:
        return f"{self.set_name}  {self.method}  {self.level}  seed={self.seed}"


@dataclass(frozen=True)
class Bench:
    """Where jobs run."""

    predictions: Path
    cache: Path | None = None  # folder of features; None: they are computed each time
    processes: int = 1


def plan(
    sets: Sequence[str],
    methods: Sequence[str],
    levels: Sequence[Level],
    seeds: Sequence[int],
    overrides: Sequence[str],
    manifests: Manifests,
    progress: Callable[[str], None] = print,
) -> list[Job]:
    """All runs that are asked for, seed by seed, so that every method has results early.

    A method that takes no labels runs once per share of hidden defects. A level for which a set has too few
    anomalous images is left out, and named.
    """
    jobs = []
    without = list(dict.fromkeys(level.without_labels() for level in levels))
    for seed, name in itertools.product(seeds, sets):
        possible: dict[Level, Paths] = {}
        for level in dict.fromkeys([*levels, *without]):
            try:
                possible[level] = manifests(name, level, seed)
            except DataError as error:
                progress(f"left out: {name}, seed={seed}, {error}")
        for method in methods:
            settings = METHODS[method].settings(name, seed, overrides)
            for level in levels if METHODS[method].uses_labels else without:
                if paths := possible.get(level):
                    digest = run_digest(paths.digest, METHODS[method], level.value > 0, settings)
                    jobs.append(Job(name, method, level, seed, settings, paths, digest))
    return jobs


def trainings(jobs: Sequence[Job]) -> list[tuple[Job, ...]]:
    """Jobs without repetition, together where they differ only in how a map becomes an image score."""
    first: dict[str, Job] = {}
    for job in jobs:
        first.setdefault(job.digest, job)
    together: dict[str, list[Job]] = {}
    for job in first.values():
        key = job.digest
        if METHODS[job.method].pools_last:
            alike = job.settings.model_copy(update={"anomaly": AnomalySettings()})
            key = "pooled " + run_digest(job.paths.digest, METHODS[job.method], job.level.value > 0, alike)
        together.setdefault(key, []).append(job)
    return [tuple(part) for part in together.values()]


def complete(jobs: Sequence[Job], records: Records, bench: Bench) -> None:
    """Run what is not on record yet, under this or another name of the same computation."""
    missing = [job for job in jobs if not _is_known(job, records, bench)]
    for done in run_all(trainings(missing), bench):
        records.add(done)


def _is_known(job: Job, records: Records, bench: Bench) -> bool:
    known = records.find(job.digest)
    return known is not None and ("problem" in known or file_of(bench.predictions, job.digest).exists())


def finished(jobs: Sequence[Job], records: Records) -> Found:
    """The runs of these jobs, seeds together."""
    found: dict[tuple[str, str, Level], list[Run]] = {}
    for job in jobs:
        if known := records.find(job.digest):
            found.setdefault((job.set_name, job.method, job.level), []).append(known)
    return found


def run_all(parts: Sequence[tuple[Job, ...]], bench: Bench) -> Iterator[Run]:
    """Run trainings, in this process or several at a time; gives each run as it is done."""
    if bench.processes == 1:
        with installed(bench.cache) as cache:
            for number, part in enumerate(parts, start=1):
                print(f"[{number} of {len(parts)}] {' and '.join(map(str, part))}", flush=True)
                yield from run(part, bench.predictions, cache)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(bench.processes, context, _start, (bench,)) as pool:
        running = {pool.submit(_run_in_process, part): part for part in parts}
        for number, done in enumerate(as_completed(running), start=1):
            print(f"[{number} of {len(parts)}] {' and '.join(map(str, running[done]))}", flush=True)
            yield from done.result()


_open = contextlib.ExitStack()  # of a process of the pool, until it ends
_here: tuple[Path, FeatureCache | None]


def _start(bench: Bench) -> None:
    global _here
    torch.set_num_threads(1)
    _here = bench.predictions, _open.enter_context(installed(bench.cache))


def _run_in_process(part: tuple[Job, ...]) -> list[Run]:
    return run(part, *_here)


def run(part: tuple[Job, ...], predictions: Path, cache: FeatureCache | None = None) -> list[Run]:
    """Train and score once, measure each job. A training that ran away is a run without metrics.

    Args:
        cache: puts the clock forward by what it saved.
    """
    job = part[0]
    clock_now = clock(local_device(job.settings))

    def now() -> float:
        return clock_now() + (cache.seconds if cache else 0.0)

    started = now()
    try:
        scorer = METHODS[job.method].fit(job.paths.learn, job.settings)
    except TrainingError as error:
        return [_run(one) | {"problem": str(error)} for one in part]
    seconds = now() - started
    results, milliseconds = score_test(scorer, job.paths.test, now)
    times = {"train_s": round(seconds, 1), "score_ms": round(milliseconds, 2)}
    runs = []
    for one in part:
        pooled = results if one is job else _pooled(results, one.settings.anomaly)
        record = _run(one) | measure(pooled, one.paths.test) | times
        write_predictions(file_of(predictions, one.digest), record, pooled, one.paths.test, one.paths.root)
        runs.append(record)
    return runs


def _pooled(results: Results, settings: AnomalySettings) -> Results:
    """The same maps with other image scores."""
    return {name: replace(result, image_score=result.pooled(settings)) for name, result in results.items()}


def _run(job: Job) -> Run:
    return {
        "set": job.set_name,
        "method": job.method,
        "level": str(job.level),
        "seed": job.seed,
        "digest": job.digest,
        "drawn": job.paths.digest,
        "steps": job.settings.training.steps,
        "code": code_digest(),
        "hardware": hardware(job.settings),
    }


def hardware(settings: Settings) -> str:
    """CPU model, cores, the GPU if one computes, version of PyTorch."""
    computing = [processor(), "1 thread", *accelerator(local_device(settings)), f"torch {torch.__version__}"]
    return ", ".join(computing)
