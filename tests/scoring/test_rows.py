"""Rows that fit their tables and say what the image's result says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raysvq import __version__, schema
from raysvq.decisions import CalibrationScores, Decisions, fit_decisions, fixed_decisions
from raysvq.errors import StorageError
from raysvq.imaging.decode import REASONS, DecodeError
from raysvq.model.anomaly import share_over
from raysvq.model.bundle import Bundle
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult
from raysvq.scoring import rows
from raysvq.scoring.rows import Row, map_row, reject_row, require_finite, score_row
from raysvq.scoring.work import provenance
from raysvq.settings import DecisionSettings

Source = Callable[..., Row]


def _decisions(threshold: float = 0.5, pixel_threshold: float = 0.1) -> Decisions:
    return fixed_decisions(threshold, pixel_threshold, "as found", "manual")


def _read_back(row: Row, table_schema: pa.Schema) -> Row:
    """As it comes out of the table; missing, extra and null fields are errors."""
    assert row.keys() == set(table_schema.names)
    table = pa.Table.from_pylist([row], schema=table_schema)
    table.validate(full=True)
    assert not [f.name for f in table_schema if not f.nullable and table[f.name].null_count]
    (read,) = table.to_pylist()
    return read


def _origin(bundle: Bundle) -> Row:
    return provenance(bundle, "run-1", "5e771465", EXACT)


def test_a_score_row_fits_its_table(source: Source, result: ImageResult, bundle: Bundle) -> None:
    row = _read_back(score_row(source(3), result, bundle.decisions, _origin(bundle)), schema.SCORES)
    assert {name: row[name] for name in ("image_id", "uri", "size_bytes", "etag", "mtime")} == {
        name: source(3)[name] for name in ("image_id", "uri", "size_bytes", "etag", "mtime")
    }
    assert (row["width"], row["height"]) == (70, 50)
    assert row["image_score"] == pytest.approx(result.image_score)
    assert row["map_max"] == result.anomaly_map.max()
    assert row["map_mean"] == pytest.approx(result.anomaly_map.mean())
    assert row["area_over_threshold"] == pytest.approx(share_over(result.anomaly_map, 0.1))
    assert row["threshold"] == 0.5
    assert row["heatmap_uri"] is None


def test_a_score_row_says_where_it_came_from(source: Source, result: ImageResult, bundle: Bundle) -> None:
    row = score_row(source(), result, bundle.decisions, _origin(bundle))
    assert row["run_id"] == "run-1"
    assert (row["model_version"], row["model_digest"]) == (bundle.model_version, bundle.model_digest)
    assert row["settings_digest"] == "5e771465"
    assert row["code_version"] == __version__
    assert abs(datetime.now(UTC) - row["scored_at"]) < timedelta(minutes=1)


def test_tiles_lie_inside_the_row_with_their_scores(
    source: Source, result: ImageResult, bundle: Bundle
) -> None:
    row = _read_back(score_row(source(), result, bundle.decisions, _origin(bundle)), schema.SCORES)
    assert len(row["tiles"]) == 2 * 3
    assert row["tiles"][0] == {"x": 0, "y": 0, "w": 32, "h": 32, "score": result.tile_scores[0]}
    assert row["tiles"][5] == {"x": 38, "y": 18, "w": 32, "h": 32, "score": result.tile_scores[5]}


def test_regions_follow_the_pixel_threshold(source: Source, result: ImageResult, bundle: Bundle) -> None:
    def regions(threshold: float) -> list[Row]:
        row = score_row(source(), result, _decisions(pixel_threshold=threshold), _origin(bundle))
        found: list[Row] = _read_back(row, schema.SCORES)["regions"]
        return found

    assert regions(float(result.anomaly_map.max())) == []
    (everything,) = regions(-1.0)
    assert everything == {"x": 0, "y": 0, "w": 70, "h": 50, "area": 70 * 50, "peak": result.anomaly_map.max()}


@pytest.mark.parametrize(("offset", "anomalous"), [(-1, True), (0, True), (1, False)])
def test_an_image_is_anomalous_from_the_threshold_on(
    source: Source, result: ImageResult, bundle: Bundle, offset: int, anomalous: bool
) -> None:
    score = np.float32(result.image_score)
    threshold = float(score) if not offset else float(np.nextafter(score, np.float32(offset * np.inf)))
    row = score_row(source(), result, _decisions(threshold=threshold), _origin(bundle))
    assert row["is_anomalous"] is anomalous
    stored = _read_back(row, schema.SCORES)
    assert (stored["image_score"] >= stored["threshold"]) is anomalous


def test_a_score_row_says_what_decided(source: Source, result: ImageResult, bundle: Bundle) -> None:
    score = np.float32(result.image_score)
    calibration = CalibrationScores(
        np.array([0.5 * score, score, 0.9 * score, 4 * score], np.float32),
        np.zeros(4, bool),
        ["left", "left", "left", "right"],
        ["1", "2", "3", "4"],
    )
    decisions = fit_decisions(calibration, DecisionSettings(group_by="camera"), 0.1, {})
    whole = _read_back(score_row(source(), result, decisions, _origin(bundle)), schema.SCORES)
    assert (whole["p_value"], whole["decision_group"]) == (3 / 5, None)
    assert whole["margin"] == pytest.approx(score / whole["threshold"] - 1, rel=1e-6)
    assert (whole["policy"], whole["decisions_digest"]) == ("max_false_alarm_rate", decisions.digest)

    camera = {"decision_group": "left"}
    left = _read_back(score_row(source(**camera), result, decisions, _origin(bundle)), schema.SCORES)
    assert (left["decision_group"], left["threshold"]) == ("left", decisions.groups["left"].threshold)
    camera = {"decision_group": "never seen"}
    other = _read_back(score_row(source(**camera), result, decisions, _origin(bundle)), schema.SCORES)
    assert (other["decision_group"], other["threshold"]) == (None, decisions.threshold)


def test_thresholds_without_calibration_scores_give_no_p_value(
    source: Source, result: ImageResult, bundle: Bundle
) -> None:
    row = _read_back(score_row(source(), result, bundle.decisions, _origin(bundle)), schema.SCORES)
    assert (row["p_value"], row["policy"]) == (None, "manual")


def test_a_map_row_fits_its_table_and_gives_the_map_back(source: Source, result: ImageResult) -> None:
    row = _read_back(map_row(source(7), result), schema.MAPS)
    values = np.frombuffer(row["values"], "<f4").reshape(row["map_height"], row["map_width"])
    np.testing.assert_array_equal(values, result.anomaly_map)
    assert row["image_id"] == source(7)["image_id"]
    assert (row["width"], row["height"], row["span_width"], row["span_height"]) == (70, 50, 72, 52)


def test_a_map_that_is_not_contiguous_is_stored_row_by_row(source: Source, result: ImageResult) -> None:
    turned = replace(result, terms=np.arange(6, dtype=np.float32).reshape(2, 3).T[None])
    row = map_row(source(), turned)
    np.testing.assert_array_equal(np.frombuffer(row["values"], "<f4").reshape(3, 2), turned.anomaly_map)


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (DecodeError("corrupt", "PNG: cut off"), "corrupt", "PNG: cut off"),
        (DecodeError("empty", "0 bytes"), "empty", "0 bytes"),
        (FileNotFoundError(2, "No such file", "/a.png"), "not_found", "[Errno 2] No such file: '/a.png'"),
        (PermissionError(13, "Permission denied"), "access_denied", "[Errno 13] Permission denied"),
        (StorageError("cannot read s3://b/a: reset"), "unreadable", "cannot read s3://b/a: reset"),
        (OSError("connection reset\nby peer"), "unreadable", "connection reset"),
        (TimeoutError(), "unreadable", "TimeoutError"),
    ],
)
def test_a_reject_row_fits_its_table_and_has_a_known_reason(
    source: Source, bundle: Bundle, error: DecodeError | OSError, reason: str, detail: str
) -> None:
    row = _read_back(reject_row(source(), error, _origin(bundle)), schema.REJECTS)
    assert (row["reason"], row["detail"]) == (reason, detail)
    assert row["reason"] in REASONS
    assert row["run_id"] == "run-1"


def test_a_source_without_etag_and_time_is_fine(source: Source, result: ImageResult, bundle: Bundle) -> None:
    bare = source(etag=None, mtime=None)
    row = _read_back(score_row(bare, result, bundle.decisions, _origin(bundle)), schema.SCORES)
    assert row["etag"] is row["mtime"] is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_a_reject_and_never_a_sound_image(
    result: ImageResult, value: float
) -> None:
    spoilt_map, spoilt_tiles = result.anomaly_map.copy(), result.tile_scores.copy()
    spoilt_map[0, 0] = spoilt_tiles[-1] = value
    for what, spoilt in {
        "score": replace(result, image_score=value),
        "map": replace(result, terms=spoilt_map[None]),
        "tile scores": replace(result, tile_scores=spoilt_tiles),
    }.items():
        found = require_finite(spoilt)
        assert isinstance(found, DecodeError)
        assert (found.reason, found.detail) == ("not_finite", f"{what} not finite")
        assert found.reason in REASONS
    assert require_finite(result) is result
    error = DecodeError("empty", "0 bytes")
    assert require_finite(error) is error


def test_rows_are_written_when_they_outgrow_the_buffer_and_at_the_end(
    tmp_path: Path, source: Source, result: ImageResult, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BUFFER_BYTES", 4999)  # two rejects, and not three
    buffer = rows.RowBuffer(str(tmp_path), "unit", {})
    written = []
    for number, error in enumerate([OSError("no answer"), DecodeError("empty", "0 bytes")] * 3, start=1):
        buffer.add_reject(reject_row(source(number), error, _origin(bundle)))
        written.append(sum(file.rows for file in buffer.files["rejects"]))
    assert written == [0, 0, 3, 3, 3, 6]
    buffer.add_score(score_row(source(0), result, bundle.decisions, _origin(bundle)))
    buffer.write()
    assert [file.rows for file in buffer.files["scores"]] == [1]
    assert (buffer.scored, buffer.reasons) == (1, {"unreadable": 3, "empty": 3})
    assert buffer.example == f"{source(1)['uri']}: no answer"
