"""What has to be trained, and the runs that come of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.hardware import accelerator, clock, processor
from benchmarks.methods.protocol import NO_LABELS, Level, Manifests, measure, score_test
from benchmarks.methods.records import Run, run_digest
from benchmarks.methods.registry import METHODS
from raysvq.errors import TrainingError
from raysvq.settings import Settings
from raysvq.training.in_process import local_device


@dataclass(frozen=True)
class Job:
    """A training, and the levels it is measured at."""

    set_name: str
    method: str
    seed: int
    levels: tuple[Level, ...]
    settings: Settings

    def digest(self, level: Level) -> str:
        """Of the run at a level."""
        return run_digest(self.set_name, METHODS[self.method], level, self.settings)

    def __str__(self) -> str:
        return f"{self.set_name}  {self.method}  {' '.join(map(str, self.levels))}  seed={self.seed}"


def plan(
    sets: Sequence[str],
    methods: Sequence[str],
    levels: Sequence[Level],
    seeds: Sequence[int],
    overrides: Sequence[str],
) -> list[Job]:
    """All trainings that are asked for, seed by seed, so that every method has results early."""
    jobs = []
    for seed, name, method in itertools.product(seeds, sets, methods):
        settings = METHODS[method].settings(name, seed, overrides)
        groups = [(level,) for level in levels] if METHODS[method].uses_labels else [tuple(levels)]
        jobs += [Job(name, method, seed, group, settings) for group in groups]
    return jobs


def run(job: Job, levels: Sequence[Level], manifests: Manifests) -> Iterator[Run]:
    """Train once, measure at each of the levels. A training that ran away is a run without metrics."""
    method = METHODS[job.method]
    learns = levels[0] if method.uses_labels else NO_LABELS
    manifest = manifests(job.set_name, learns, job.seed)
    now = clock(local_device(job.settings))
    started = now()
    try:
        scorer = method.fit(manifest, job.settings)
    except TrainingError as error:
        for level in levels:
            yield _run(job, level) | {"problem": str(error)}
        return
    seconds = now() - started
    results, milliseconds = score_test(scorer, manifest, now)
    times = {"train_s": round(seconds, 1), "score_ms": round(milliseconds, 2)}
    for level in levels:
        found = measure(results, manifests(job.set_name, level, job.seed))
        yield _run(job, level) | found | times


def _run(job: Job, level: Level) -> Run:
    return {
        "set": job.set_name,
        "method": job.method,
        "level": str(level),
        "seed": job.seed,
        "digest": job.digest(level),
        "steps": job.settings.training.steps,
        "hardware": hardware(job.settings),
    }


def hardware(settings: Settings) -> str:
    """CPU model, cores, the GPU if one computes, version of PyTorch."""
    computing = [processor(), "1 thread", *accelerator(local_device(settings)), f"torch {torch.__version__}"]
    return ", ".join(computing)
