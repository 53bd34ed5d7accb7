"""A small fleet, as many tests start from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.world import FIRST, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two cameras with three and two images of the first day."""
    made = World(tmp_path)
    made.put("north.a", FIRST, "a1", "a2", "a3")
    made.put("north.b", FIRST, "b1", "b2")
    return made
