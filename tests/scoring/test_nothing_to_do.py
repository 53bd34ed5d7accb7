"""Days on which there is nothing to score: said, without a cluster."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray

from raysvq.cli import main
from raysvq.schema import MANIFEST
from raysvq.scoring import job
from raysvq.scoring.summary import ScoreSummary
from tests.plates import Plates, make_plates


@pytest.fixture
def plates(tmp_path: Path) -> Plates:
    return make_plates(str(tmp_path), 2)


@pytest.mark.parametrize("more", [[], ["--plan"], ["--set", "scoring.partition_by=[site]"]], ids=str)
def test_an_empty_manifest_is_no_error_and_starts_nothing(
    plates: Plates, more: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # where no cluster is
    empty = f"{plates.folder}/empty.parquet"
    pq.write_table(MANIFEST.empty_table(), empty)
    was_up = ray.is_initialized()
    with pytest.raises(SystemExit) as ended:
        main(["score", empty, "--model", plates.model, "--out", plates.out, *more])
    assert ended.value.code == 0
    assert ray.is_initialized() == was_up
    plain = "images     0 to score (0 again), 0 are done\n"
    assert capsys.readouterr().out == (
        plain if more == ["--plan"] else "nothing to do: the manifest holds no image\n"
    )


def test_what_is_done_already_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "score", lambda *_: ScoreSummary("scores", "run-2", 0, done_before=5))
    with pytest.raises(SystemExit):
        main(["score", "manifest.parquet"])
    assert capsys.readouterr().out == "nothing to do: all 5 images of the manifest are done in scores\n"
