"""What it costs to show a fleet's metrics to Prometheus.

A head node is started, a run over so many cameras reports its metrics, and its driver ends. Then Ray's
exporter is asked every 15 s, as Prometheus does. Requirements, with 1,000 cameras: all series are there
within 30 s of the driver's end and stay; the process that sets them takes less than 300 MiB and 5 % of a
core.

    python -m benchmarks.exporter --json benchmarks/results/exporter.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from devtools.ray_head import Head, ray_head

SCRAPE_EVERY_S = 15

DRIVER = """
import sys
from datetime import UTC, datetime
from raysvq.fleet.metrics.names import report_metrics, samples
from raysvq.ledger.records import CameraNight, FleetRun
from raysvq.settings import RaySettings

now = datetime.now(UTC)
names = [f"north.line-{n % 20:02}.cam-{n:04}" for n in range(int(sys.argv[1]))]
nights = {name: CameraNight(name, "run", "2026-11-12", "ok", last_image=now) for name in names}
run = FleetRun(1, "run", "plant", "2026-11-12", now.isoformat(), now.isoformat(), "0", "0", {}, len(names),
    {"ok": len(names)}, 0, 0, 0, 0, 0, 0, 0.0, 0.0, {})
assert report_metrics(run, nights, RaySettings())
print(len(list(samples(run, nights))))
"""


def scrape(head: Head) -> tuple[int, int, float]:
    """Series of the fleet, bytes of all, and seconds of an answer."""
    started = time.perf_counter()
    with urllib.request.urlopen(head.metrics, timeout=60) as answer:
        text = answer.read()
    series = sum(line.startswith(b"ray_raysvq_fleet_") for line in text.splitlines())
    return series, len(text), time.perf_counter() - started


def holder(head: Head) -> psutil.Process:
    """The process that sets the gauges: an actor of this head."""
    mine = head.environment["RAY_AUTH_TOKEN_PATH"]
    for process in psutil.process_iter():
        try:
            named = "_Holder" in " ".join(process.cmdline())
            if named and process.environ().get("RAY_AUTH_TOKEN_PATH") == mine:
                return process
        except psutil.Error:
            continue
    raise RuntimeError("no process exports the gauges")


def measure(cameras: int, minutes: float) -> dict[str, Any]:
    with ray_head() as head:
        environment = head.environment | {"RAY_ADDRESS": head.cluster, "PYTHONPATH": os.getcwd()}
        command = [sys.executable, "-c", DRIVER, str(cameras)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        ended, expected = time.monotonic(), int(done.stdout.split()[-1])
        while scrape(head)[0] < expected and time.monotonic() - ended < 60:
            time.sleep(1)
        shown_after = time.monotonic() - ended
        process, seconds, fewest = holder(head), [], expected
        cpu, started = sum(process.cpu_times()[:2]), time.monotonic()
        while time.monotonic() - started < 60 * minutes:
            time.sleep(SCRAPE_EVERY_S)
            series, size, answer = scrape(head)
            fewest = min(fewest, series)
            seconds.append(answer)
        share = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - started)
        return {
            "cameras": cameras,
            "series": expected,
            "fewest_series": fewest,
            "shown_after_s": round(shown_after, 1),
            "process_mib": round(process.memory_info().rss / 2**20),
            "process_cpu_percent": round(100 * share, 1),
            "scrape_s": round(sorted(seconds)[len(seconds) // 2], 2),
            "scrape_kib": round(size / 1024),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cameras", type=int, nargs="+", default=[20, 1000])
    parser.add_argument("--minutes", type=float, default=3.0, help="How long each is watched.")
    parser.add_argument("--json", type=Path, help="File for the figures.")
    arguments = parser.parse_args()
    found = [measure(cameras, arguments.minutes) for cameras in arguments.cameras]
    for figures in found:
        print(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
