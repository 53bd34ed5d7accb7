"""The table of what stems cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.stems import main
from tests.backbones import write_description, write_onnx


def test_a_stem_that_a_user_brings_stands_beside_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_onnx(tmp_path / "network.onnx")
    stems = ["efficientnet-lite0", write_description(tmp_path)]
    record = tmp_path / "stems.json"
    monkeypatch.setattr(
        sys, "argv", ["stems", *stems, "--side", "60", "--images", "1", "--json", str(record)]
    )
    main()
    shipped, brought = json.loads(record.read_text())
    assert (shipped["channels"], brought["channels"]) == (424, 10)
    assert (shipped["side"], brought["side"]) == (60, 64)
    assert shipped["ms"] > brought["ms"] > 0
    assert "| described.yaml | 64 | 10 | 0 |" in capsys.readouterr().out
