"""Names and values of the metrics, and that Ray's own exporter shows them after the run has ended."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raysvq.fleet.metrics import MAX_CAMERAS, METRICS, Sample, report_metrics, samples
from raysvq.settings import RaySettings
from tests.fleet.alerts.nights import finding, night, nights, run
from tests.ray_head import ROOT, Head, ray_head

DASHBOARD = ROOT / "deploy" / "grafana" / "raysvq-fleet.json"
DOCS = ROOT / "docs" / "scheduling.md"
NEWEST = datetime(2026, 11, 12, 1, 30, tzinfo=UTC)

REPORT = """
import time
from raysvq.fleet.metrics import report_metrics
from raysvq.settings import RaySettings
from tests.fleet.alerts.nights import night, nights, run
number = int(__import__("sys").argv[1])
given = nights(*(night(f"cam-{n:02}", scored=number) for n in range(50)))
assert report_metrics(run(number), given, RaySettings())
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as started:
        environment = started.environment | {"RAY_ADDRESS": started.cluster, "PYTHONPATH": str(ROOT)}
        yield replace(started, environment=environment)


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


def test_of_a_fleet_too_large_for_ray_only_cameras_that_need_a_look_have_series() -> None:
    given = [night(f"cam-{n:04}") for n in range(MAX_CAMERAS)]
    one_more = night("cam-dark", finding("cam-dark"))
    named = {each.tags.get("camera") for each in samples(run(), nights(*given, one_more))}
    assert named == {None, "cam-dark"}
    assert len({each.tags.get("camera") for each in samples(run(), nights(*given))}) == MAX_CAMERAS + 1


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


def exported(head: Head) -> dict[str, float]:
    """`cam-…` by its images scored, as Prometheus would be told."""
    with urllib.request.urlopen(head.metrics, timeout=20) as answer:
        text = answer.read().decode()
    found = re.findall(r'^ray_raysvq_fleet_camera_scored\{.*camera="([^"]+)".*\} (\S+)$', text, re.M)
    return {camera: float(value) for camera, value in found}


def wait_for(head: Head, wanted: dict[str, float], within_s: float) -> dict[str, float]:
    deadline = time.monotonic() + within_s
    while (found := exported(head)) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    return found


def test_rays_exporter_shows_the_last_run_long_after_its_driver_ended(head: Head, tmp_path: Path) -> None:
    for number in (1, 2):
        reported = head.run(sys.executable, "-c", REPORT, str(number))
        assert reported.returncode == 0, reported.stderr
        wanted = {f"cam-{n:02}": float(number) for n in range(50)}
        assert wait_for(head, wanted, 60) == wanted
    time.sleep(25)  # longer than Ray shows what a driver that ended had set
    assert exported(head) == wanted
