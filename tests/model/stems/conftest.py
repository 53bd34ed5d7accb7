"""A description of an ONNX file, as a user writes it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.backbones import write_description, write_onnx

Describe = Callable[..., str]


@pytest.fixture
def describe(tmp_path: Path) -> Describe:
    """Write a description beside `network.onnx`, and give its path; `license=...` adds or changes a key."""
    write_onnx(tmp_path / "network.onnx")
    return partial(write_description, tmp_path)
