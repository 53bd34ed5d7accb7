from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raysvq import storage
from raysvq.cli import app
from raysvq.errors import DataError
from raysvq.evaluation.compare import compare
from raysvq.evaluation.comparison import Comparison, ranking_verdict
from raysvq.evaluation.image_table import IMAGES, NAME
from raysvq.evaluation.paired import DeLong
from raysvq.settings import EvaluationSettings

NONE = {field.name: None for field in IMAGES}
LABELS = [False] * 60 + [True] * 30


def _row(number: int, anomalous: bool, score: float, group: str | None = None) -> dict[str, Any]:
    source = {"image_id": f"{number:05}", "uri": f"s3://b/{number}.png", "size_bytes": 9, "etag": str(number)}
    size = {"width": 8, "height": 8, "meta": [], "regions": []}
    decided = {"score": score, "threshold": 2.0, "flagged": score >= 2.0}
    return {**NONE, **source, **size, **decided, "anomalous": anomalous, "group": group}


def _rows(seed: int, gain: float, labels: list[bool] = LABELS, per_group: int = 0) -> list[dict[str, Any]]:
    seen = np.random.default_rng(0).normal(size=len(labels)) + np.array(labels)
    scores = seen + np.random.default_rng(seed).normal(0, 0.4, len(labels)) + gain * np.array(labels)
    return [
        _row(at, labels[at], float(score), f"part {at // per_group}" if per_group else None)
        for at, score in enumerate(scores)
    ]


def _write(folder: Path, rows: list[dict[str, Any]]) -> str:
    folder.mkdir(parents=True)
    schema = IMAGES.with_metadata({"model_version": f"model-{folder.name}", "model_digest": folder.name * 16})
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / NAME)
    return str(folder)


def _compare(tmp_path: Path, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Comparison:
    reports = _write(tmp_path / "a", a), _write(tmp_path / "b", b)
    return compare(*reports, EvaluationSettings(bootstrap=300))


def test_the_better_model_is_named_with_its_evidence(tmp_path: Path) -> None:
    found = _compare(tmp_path, _rows(1, 0.0), _rows(2, 2.0))
    assert found.auroc is not None
    assert found.auroc.b > found.auroc.a
    assert found.auroc_by_group is not None
    assert found.auroc_by_group[0] > 0
    assert (found.normal_images, found.anomalous_images, found.grouped) == (60, 30, False)
    assert found.verdict.startswith(f"B ranks better (AUROC B {found.auroc.b:.4f}, A {found.auroc.a:.4f}")
    assert (
        f"B finds more defective ones (B {found.found.flagged_b}, A {found.found.flagged_a}" in found.verdict
    )
    text = "\n".join(found.lines())
    for part in ("A: model-a", "B: model-b", "DeLong p", "McNemar p", "recall at 5 % false alarms"):
        assert part in text


def test_the_other_way_round_the_other_one_is_named(tmp_path: Path) -> None:
    found = _compare(tmp_path, _rows(2, 2.0), _rows(1, 0.0))
    assert found.verdict.startswith("A ranks better")


def test_models_alike_are_not_told_apart(tmp_path: Path) -> None:
    found = _compare(tmp_path, _rows(1, 0.5), _rows(2, 0.5))
    assert found.verdict.startswith("Neither model is shown to rank better")
    assert found.verdict.endswith("as they decide, no difference is shown.")


def test_a_report_does_not_differ_from_itself(tmp_path: Path) -> None:
    found = _compare(tmp_path, _rows(1, 0.5), _rows(1, 0.5))
    assert found.auroc is not None
    assert (found.auroc.p, found.false_alarms.p, found.found.p) == (1, 1, 1)
    assert all((one.low, one.high) == (0, 0) for one in found.recall)


def test_images_of_one_part_are_drawn_together_and_rule_the_verdict(tmp_path: Path) -> None:
    """Ten copies of three parts show nothing, however sure DeLong's test is."""
    labels = [False] * 30 + [True] * 30
    better = {0: 1.0, 1: -0.2, 2: 0.2}  # gain by part

    def rows(model: int) -> list[dict[str, Any]]:
        gains = [better[at % 3] * model * labels[at] for at in range(60)]
        scores = [at % 3 + labels[at] * 0.5 + gains[at] + 0.001 * at for at in range(60)]
        return [_row(at, labels[at], score, f"{labels[at]} {at % 3}") for at, score in enumerate(scores)]

    found = _compare(tmp_path, rows(0), rows(1))
    assert found.auroc is not None
    assert found.auroc.p is not None
    assert found.auroc.p < 0.05
    assert found.grouped
    assert found.verdict.startswith("Neither model is shown to rank better")


def test_images_of_one_report_only_are_counted_and_left_out(tmp_path: Path) -> None:
    found = _compare(tmp_path, _rows(1, 0.0)[5:], _rows(2, 2.0)[:80])
    assert (found.a.images, found.a.not_in_the_other) == (85, 10)
    assert (found.b.images, found.b.not_in_the_other) == (80, 5)
    assert (found.normal_images, found.anomalous_images) == (55, 20)


def test_files_that_have_changed_between_are_left_out(tmp_path: Path) -> None:
    other = _rows(2, 2.0)
    other[0]["etag"], other[1]["size_bytes"], other[2]["etag"] = "new", 10, None  # unknown is no change
    found = _compare(tmp_path, _rows(1, 0.0), other)
    assert (found.changed, found.normal_images, found.a.not_in_the_other) == (2, 58, 0)
    assert "2 more have changed between" in "\n".join(found.lines())


def test_different_labels_are_refused_by_name(tmp_path: Path) -> None:
    other = _rows(2, 2.0)
    other[3]["anomalous"] = True
    with pytest.raises(
        DataError, match=r"1 images have different labels .*s3://b/3\.png: normal in .*/a, ano"
    ):
        _compare(tmp_path, _rows(1, 0.0), other)


def test_reports_without_a_common_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/a has 10 images and .*/b 20, none of them in both"):
        _compare(tmp_path, _rows(1, 0.0)[:10], _rows(2, 2.0)[70:])
    with pytest.raises(DataError, match="all files have changed between"):
        _compare(tmp_path / "more", *([_row(0, True, 1.0) | {"etag": etag}] for etag in "ab"))


@pytest.mark.parametrize("anomalous", [False, True])
def test_images_of_one_label_compare_decisions_alone(tmp_path: Path, anomalous: bool) -> None:
    labels = [anomalous] * 20
    found = _compare(tmp_path, _rows(1, 0.0, labels), _rows(2, 0.0, labels))
    assert (found.auroc, found.auroc_by_group, found.recall) == (None, None, ())
    assert found.verdict.startswith("The rankings cannot be compared, as the common images have one label; ")
    assert json.loads(found.to_json())["auroc"] is None
    assert len(found.lines()) == 6


def test_too_few_images_tell_nothing(tmp_path: Path) -> None:
    rows = [_row(0, False, 1.0), _row(1, True, 3.0), _row(2, True, 4.0)]
    found = _compare(tmp_path, rows, rows)
    assert found.verdict.startswith(
        "Which model ranks better is not tested, as there are too few images or groups"
    )
    assert found.lines()


def test_the_verb_prints_the_verdict_and_writes_json(tmp_path: Path) -> None:
    a, b = _write(tmp_path / "a", _rows(1, 0.0)), _write(tmp_path / "b", _rows(2, 2.0))
    out = tmp_path / "comparison.json"
    done = CliRunner().invoke(app, ["compare", a, b, "--out", str(out), "--set", "evaluation.bootstrap=50"])
    assert done.exit_code == 0, done.output
    plain = json.loads(out.read_text())
    assert plain["verdict"] in done.output
    assert plain["verdict"].startswith("B ranks better")
    assert plain["b"]["model_version"] == "model-b"


def test_reports_may_lie_in_an_object_store(s3: str, tmp_path: Path) -> None:
    a, b = _write(tmp_path / "a", _rows(1, 0.0)), _write(tmp_path / "b", _rows(2, 2.0))
    uris = []
    for folder in (a, b):
        uris.append(f"{s3}/compare/{Path(folder).name}")
        storage.write_bytes(f"{uris[-1]}/{NAME}", Path(folder, NAME).read_bytes())
    settings = EvaluationSettings(bootstrap=50)
    assert compare(*uris, settings).verdict == compare(a, b, settings).verdict
    with pytest.raises(DataError, match=r"s3://.*/c/images\.parquet: no such file"):
        compare(uris[0], f"{s3}/compare/c", settings)


def test_of_few_groups_a_difference_is_one_that_both_intervals_show() -> None:
    auroc = DeLong(0.99, 0.97, -0.055, 0.008, 0.14)
    assert ranking_verdict(auroc, (-0.039, -0.007), False).startswith("Neither model is shown")
    found = ranking_verdict(auroc, (-0.039, -0.007), True)
    assert found.startswith("Neither model is shown to rank better")
    assert "difference -0.0550 to +0.0080" in found
    clear = DeLong(0.99, 0.97, -0.055, -0.001, 0.04)
    assert ranking_verdict(clear, (-0.039, -0.007), True).startswith(
        "A ranks better (AUROC B 0.9700, A 0.9900"
    )
    assert ranking_verdict(clear, (-0.07, 0.01), True).startswith("Neither model is shown")


def test_groups_without_a_bootstrap_are_not_called_too_few_images() -> None:
    auroc = DeLong(0.99, 0.97, -0.055, -0.001, 0.04)
    assert "or no bootstrap was asked for" in ranking_verdict(auroc, None, True)
