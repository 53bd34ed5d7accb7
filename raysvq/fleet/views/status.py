"""The state of every camera, as the ledger has it: a table for people, plain values for machines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from raysvq.fleet.options import matches
from raysvq.fleet.planning.windows import HISTORY, newest_nights
from raysvq.fleet.views.columns import aligned
from raysvq.ledger.nights import read_nights
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.ledger.runs import read_runs

_HEAD = (
    "camera",
    "state",
    "night",
    "last image (UTC)",
    "new",
    "scored",
    "anomalous",
    "rejected",
    "skipped",
    "model",
)
_NUMBERS = range(4, 9)  # columns that are numbers
_BY_STATE = ("failed", "error", "warning", "quiet", "ok")


@dataclass(frozen=True)
class FleetStatus:
    """The newest night of every camera, and the newest run."""

    out: str
    run: FleetRun | None
    nights: tuple[CameraNight, ...]  # one a camera, worst state first

    def to_json(self) -> dict[str, Any]:
        """Plain values; times as text."""
        run = asdict(self.run) if self.run else None
        return {"out": self.out, "run": run, "cameras": [_plain(night) for night in self.nights]}

    def lines(self) -> Iterator[str]:
        """As a table, with what is to be said of a camera below its line."""
        if self.run is None:
            yield f"no run has finished in {self.out}"
            return
        head, *rows = aligned([_HEAD, *map(_cells, self.nights)], _NUMBERS)
        yield head
        for night, row in zip(self.nights, rows, strict=True):
            yield row
            if night.failure:
                yield f"    {night.failure}"
            yield from (f"    {finding.sentence}" for finding in night.findings)
        states = ", ".join(f"{count} {state}" for state, count in self.run.by_state.items() if count)
        ended = self.run.ended_at[:16].replace("T", " ")
        yield (
            f"last run: {self.run.number} for the night of {self.run.night}, ended {ended} UTC, exit code"
            f" {self.run.exit_code}: {states or 'no camera'}"
        )
        yield from (f"problem: {problem}" for problem in self.run.problems)


def read_status(out: str, only: Sequence[str] = ()) -> FleetStatus:
    """Read the newest nights of the cameras that `only` has patterns for.

    Raises:
        DataError: a part of the ledger is damaged, or of a later version of raysvq.
        StorageError: the store does not answer.
    """
    # A run over some cameras leaves the others as an earlier one found them.
    newest = newest_nights(read_nights(out, HISTORY))
    chosen = [night for name, night in newest.items() if matches(name, only)]
    runs = read_runs(out, 1)
    return FleetStatus(out, runs[-1] if runs else None, tuple(sorted(chosen, key=_worst_first)))


def _worst_first(night: CameraNight) -> tuple[int, str]:
    return _BY_STATE.index(night.state), night.camera


def _plain(night: CameraNight) -> dict[str, Any]:
    return asdict(night) | {"last_image": night.last_image.isoformat() if night.last_image else None}


def _cells(night: CameraNight) -> tuple[str, ...]:
    seen = f"{night.last_image:%Y-%m-%d %H:%M}" if night.last_image else "never"
    counts = (night.new, night.scored, night.anomalous, night.rejected, night.skipped)
    texts = (night.camera, night.state, night.night, seen)
    return (*texts, *(f"{count:,}" for count in counts), night.model_version or night.model or "")
