"""Names and values of the metrics; tests/test_jobs.py has that Ray's exporter shows them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raysvq.fleet.metrics.names import MAX_CAMERAS, METRICS, Sample, report_metrics, samples
from raysvq.settings import RaySettings
from tests.fleet.alerts.nights import finding, night, nights, run

ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "raysvq-fleet.json"
DOCS = ROOT / "docs" / "scheduling.md"
NEWEST = datetime(2026, 11, 12, 1, 30, tzinfo=UTC)


def values(given: list[Sample]) -> dict[tuple[str, ...], float]:
    return {(each.metric.removeprefix("raysvq_fleet_"), *each.tags.values()): each.value for each in given}


def test_a_runs_numbers_become_gauges_with_the_tags_that_are_declared() -> None:
    ended = run(
        exit_code=1, by_state={"ok": 1, "error": 1}, findings={"error": 1}, problems=("s3://x: forbidden",)
    )
    given = list(
        samples(
            ended,
            nights(night("cam-01", last_image=NEWEST), night("cam-02", finding("cam-02", level="error"))),
        )
    )
    assert {each.metric for each in given} == set(METRICS)
    for each in given:
        assert tuple(each.tags) == ("fleet", *METRICS[each.metric].tags)
    found = values(given)
    plant = "north-plant"
    assert found["run_seconds", plant] == 600
    assert found["run_exit_code", plant] == found["problems", plant] == 1
    assert (found["cameras", plant, "error"], found["cameras", plant, "failed"]) == (1, 0)
    assert (found["images", plant, "scored"], found["findings", plant, "error"]) == (100, 1)
    assert (found["camera_state", plant, "cam-01"], found["camera_state", plant, "cam-02"]) == (0, 2)
    assert found["camera_last_image_timestamp_seconds", plant, "cam-01"] == NEWEST.timestamp()
    assert ("camera_last_image_timestamp_seconds", plant, "cam-02") not in found


def test_of_a_large_fleet_the_worst_cameras_have_series() -> None:
    given = [night(f"cam-{n:04}", anomalous=n % 7) for n in range(1000)]
    dark = night("cam-dark", finding("cam-dark"))
    failed = night("cam-gone", failure="forbidden", state="failed")
    found = list(samples(run(), nights(*given, dark, failed)))
    named = list(dict.fromkeys(each.tags["camera"] for each in found if "camera" in each.tags))
    assert len(named) == MAX_CAMERAS
    assert named[:4] == ["cam-gone", "cam-dark", "cam-0006", "cam-0013"]
    assert len(found) < 5 * MAX_CAMERAS + 30


def test_without_a_cluster_that_stays_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not report_metrics(run(), {}, RaySettings())


def test_a_run_that_was_narrowed_leaves_the_series_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert not report_metrics(run(arguments={"only": ["cam-01"]}), {}, RaySettings())


def test_the_dashboard_and_the_docs_have_exactly_these_names() -> None:
    text = DASHBOARD.read_text()
    board = json.loads(text)
    assert set(re.findall(r"\bray_(raysvq_fleet_[a-z_]+)", text)) == set(METRICS)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for metric, labels in re.findall(r"by \((\w+)\) \(ray_(?:raysvq_fleet_)?(\w+)", text):
        assert metric in METRICS[f"raysvq_fleet_{labels}"].tags
    rows = dict(re.findall(r"^\| `ray_(raysvq_fleet_\w+)` \| (.*?) \|", DOCS.read_text(), re.M))
    assert rows == {
        name: ", ".join(f"`{tag}`" for tag in ("fleet", *metric.tags)) for name, metric in METRICS.items()
    }
