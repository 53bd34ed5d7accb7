"""Trials of a sweep that run on this machine."""

from __future__ import annotations

import contextlib

import psutil


def running_trials(driver: psutil.Process | None = None) -> list[psutil.Process]:
    """Below a process; None: this one."""
    found = []
    for child in (driver or psutil.Process()).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if any(name in "".join(child.cmdline()) for name in ("run_trial", "ImplicitFunc")):
                found.append(child)
    return found
