"""What the processes of a scoring job import."""

from __future__ import annotations

import subprocess
import sys


def test_a_driver_starts_without_what_workers_alone_need() -> None:
    found = _imported_with("raysvq.cli, raysvq.scoring.job")
    assert not {"torch", "scipy", "sklearn", "optuna", "matplotlib", "openvino", "ray.data"} & found


def test_a_worker_starts_without_what_scoring_needs_not() -> None:
    found = _imported_with("raysvq.scoring.plan, raysvq.scoring.worker")
    assert "torch" in found
    assert not {"scipy", "sklearn", "optuna", "matplotlib", "ray.data", "pandas", "duckdb"} & found


def _imported_with(modules: str) -> set[str]:
    listed = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
