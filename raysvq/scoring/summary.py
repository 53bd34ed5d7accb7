"""What a scoring run did, counted as its work units are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from raysvq.results import Files
from raysvq.results.format import no_files
from raysvq.scoring.work import UnitReport


@dataclass
class ScoreSummary:
    """What a scoring run did."""

    out: str
    run_id: str
    images: int  # to score in this run
    done_before: int = 0  # images of the manifest that earlier runs committed
    rescored: int = 0  # images whose committed rows this run replaced
    taken_over: int = 0  # images that interrupted runs had finished
    scored: int = 0
    anomalous: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    spent: Counter[str] = field(default_factory=Counter)  # seconds of all workers: read, score, rows, write
    heatmaps: list[str] = field(default_factory=list)  # of the worst
    files: Files = field(default_factory=no_files)

    @property
    def done(self) -> int:
        """Images accounted for so far."""
        return self.scored + self.rejects.total()

    def add(self, report: UnitReport) -> None:
        """Count a work unit's report."""
        self.scored += report.scored
        self.anomalous += report.anomalous
        self.rejects.update(report.reasons)
        for kind, files in report.files.items():
            self.files[kind] += files

    def lines(self) -> Iterator[str]:
        """For people."""
        if not self.images:
            done = f"all {self.done_before} images of the manifest are done in {self.out}"
            yield f"nothing to do: {done if self.done_before else 'the manifest holds no image'}"
            return
        yield (
            f"{self.scored} images scored, {self.anomalous} of them anomalous,"
            f" {self.rejects.total()} rejected, in {self.seconds:.0f} s"
        )
        if total := self.spent.total():
            shares = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in self.spent.most_common())
            yield f"workers' time: {shares}"
        for reason, images in self.rejects.most_common():
            yield f"  rejected as {reason}: {images}"
        if self.heatmaps:
            yield f"{len(self.heatmaps)} heat maps, the first is {self.heatmaps[0]}"
        yield f"run {self.run_id} committed in {self.out}"
