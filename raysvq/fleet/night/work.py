"""The images of a night, scored as one job; each camera's commit is entered into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from raysvq import log
from raysvq.errors import RaysvqError
from raysvq.fleet.night.entering import LedgerWriter
from raysvq.fleet.night.evidence import read_committed
from raysvq.fleet.night.nights import Work
from raysvq.fleet.planning.plan import CameraPlan
from raysvq.fleet.settings.cameras import Camera
from raysvq.scoring.parts import Part, PartOutcome, score_parts
from raysvq.scoring.request import Models, Request
from raysvq.settings import Settings
from raysvq.storage import canonical

READERS = 4  # cameras whose commits are read while others are scored
FEW = 20  # cameras of which each has a line as it ends


class Requests:
    """What cameras are scored with: each model, mask and decision is opened once, or refused once."""

    def __init__(self, out: str, settings: Settings) -> None:
        self.settings = settings
        self._out = out
        self._models = Models(settings)
        self._opened: dict[tuple[object, ...], Request | RaysvqError] = {}

    def of(self, camera: Camera) -> Request:
        """Of a camera.

        Raises:
            RaysvqError: its model, mask or decision cannot be used.
        """
        what = camera.model, camera.region, camera.decision
        if what not in self._opened:
            try:
                self._opened[what] = self._models.request(what[0], camera.folder(self._out), what[1], what[2])
            except RaysvqError as error:
                self._opened[what] = error
        opened = self._opened[what]
        if isinstance(opened, RaysvqError):
            raise opened
        request = replace(opened, out=canonical(camera.folder(self._out)))
        allowed = camera.budget.max_rejected
        if allowed is None:
            return request
        scoring = self.settings.scoring.model_copy(update={"max_rejected": allowed})
        return replace(request, settings=self.settings.model_copy(update={"scoring": scoring}))

    def group_by(self, camera: Camera) -> str | None:
        """What a camera's model decides by. Raises as `of`."""
        return self.of(camera).decisions.group_by


def score_night(
    plans: Mapping[str, CameraPlan],
    requests: Requests,
    known: Mapping[str, int],
    ledger: LedgerWriter,
    require_held: Callable[[], None],
    run_id: str,
) -> Iterator[tuple[str, Work]]:
    """Score what is pending, and read what was committed.

    Args:
        plans: of cameras with something to score.
        known: camera -> version of its scores as of its last night.
        run_id: of the rows.

    Yields:
        Each camera with what became of its work.

    Raises:
        SettingsError: the cluster cannot be reached, or is too small.
        DataError: another run has taken over.
    """
    parts = {
        name: Part(name, requests.of(plan.camera), plan.pending, plan.camera.budget.max_seconds)
        for name, plan in plans.items()
        if plan.pending is not None
    }
    ended: list[Future[tuple[str, Work]]] = []
    with ThreadPoolExecutor(READERS) as pool:
        for outcome in score_parts(list(parts.values()), requests.settings, require_held, run_id):
            _announce(outcome, len(parts))
            name = outcome.name
            given = plans[name], parts[name].request, outcome, known.get(name, 0), ledger
            ended.append(pool.submit(_work, *given))
        for future in ended:
            yield future.result()


def _work(
    plan: CameraPlan, request: Request, outcome: PartOutcome, known: int, ledger: LedgerWriter
) -> tuple[str, Work]:
    name, summary = outcome.name, outcome.summary
    done, seconds = (summary.done, float(summary.spent.total())) if summary else (0, 0.0)
    failure = str(outcome.failure) if outcome.failure else None
    work = Work(request, None, done, seconds, failure)
    if outcome.version <= known:
        return name, work
    try:
        committed = read_committed(name, request.out, known, plan.version, outcome.version, ledger.add)
    except RaysvqError as error:
        return name, replace(work, entered=False, failure=failure or f"its commit cannot be read: {error}")
    return name, replace(work, committed=committed)


def _announce(outcome: PartOutcome, parts: int) -> None:
    """A line of a camera that failed; of others where they are few."""
    if outcome.failure:
        log.warning(f"{outcome.name}: {outcome.failure}", camera=outcome.name)
    elif outcome.summary and (parts <= FEW or log.is_json()):
        one = outcome.summary
        line = (
            f"{outcome.name}: {one.scored} scored, {one.anomalous} anomalous, {one.rejects.total()} rejected"
        )
        log.info(line, "camera", camera=outcome.name, scored=one.scored, anomalous=one.anomalous)
