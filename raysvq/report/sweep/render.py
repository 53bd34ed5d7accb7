"""Render the page of a sweep."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raysvq.evaluation.leaderboard import Leaderboard, Trial, number, pareto_front, remark, short
from raysvq.report.page import environment
from raysvq.report.sweep.charts import heat_map, learning_curves, parallel_coordinates, pareto_chart
from raysvq.storage import write_bytes


def write_report(board: Leaderboard, best: Trial, why: str, out_uri: str) -> None:
    """Write the page: one HTML file that needs nothing beside it.

    Args:
        best: the trial that is published.
        why: the reason why it is not the first of the board; empty if it is.
        out_uri: URI of the file, `…/report.html`.

    Raises:
        StorageError: the place may not be written.
    """
    page = environment(Path(__file__).parent)
    page.filters.update(number=number, remark=remark, short=short)
    html = page.get_template("sweep.html").render(
        board=board,
        best=best,
        defaults=next((one for one in board.trials if not one.point), None),
        why=why,
        front=pareto_front(board.trials),
        heat_map=heat_map(board),
        parallel=parallel_coordinates(board),
        curves=learning_curves(board),
        pareto=pareto_chart(board),
        made=datetime.now(UTC).isoformat(),
    )
    write_bytes(out_uri, html.encode())
