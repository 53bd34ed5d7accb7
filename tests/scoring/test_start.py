"""What a scoring worker loads."""

from __future__ import annotations

import subprocess
import sys


def test_a_worker_starts_without_what_only_training_and_reports_need() -> None:
    heavy = ["sklearn", "matplotlib", "scipy.stats", "optuna", "jinja2", "tensorboardX"]
    program = f"import raysvq.scoring.worker, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
