"""What a driver that scores imports."""

from __future__ import annotations

import subprocess
import sys


def test_a_driver_starts_without_what_workers_alone_need() -> None:
    listed = "import sys, raysvq.cli, raysvq.scoring.job; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "sklearn", "optuna", "matplotlib"} & set(done.stdout.split())
