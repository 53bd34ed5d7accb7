"""Every image once, before a run commits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysvq.errors import AccountingError
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import Bundle
from raysvq.model.engines import EXACT
from raysvq.model.scorer import ImageResult
from raysvq.results.format import Files
from raysvq.results.reconcile import require_complete
from raysvq.results.writer import write_unit
from raysvq.scoring.rows import Row, map_row, reject_row, score_row
from raysvq.scoring.work import provenance

Source = Callable[..., Row]
Write = Callable[[str, list[int], list[int]], Files]


@pytest.fixture
def write(tmp_path: Path, source: Source, result: ImageResult, bundle: Bundle) -> Write:
    """Writes a unit of scored and rejected images, given by number."""

    def build(unit: str, scored: list[int], rejected: list[int]) -> Files:
        origin = provenance(bundle, "run-1", "5e77", EXACT)
        scores = [score_row(source(number), result, bundle.decisions, origin) for number in scored]
        rejects = [reject_row(source(number), DecodeError("empty", "0 bytes"), origin) for number in rejected]
        return write_unit(str(tmp_path), unit, {"scores": scores, "rejects": rejects, "maps": []}, {})

    return build


def _pending(folder: Path, source: Source, count: int, maps: tuple[int, ...] = ()) -> Path:
    path = folder / "pending.parquet"
    rows = {"image_id": [source(number)["image_id"] for number in range(count)]}
    pq.write_table(pa.table(rows | {"keeps_map": [number in maps for number in range(count)]}), path)
    return path


def test_every_image_once_is_accepted(tmp_path: Path, source: Source, write: Write) -> None:
    one, two = write("u1", [0, 2], [1]), write("u2", [3], [])
    both = {kind: one[kind] + two[kind] for kind in one}
    require_complete(str(tmp_path), both, _pending(tmp_path, source, 4), tmp_path)


@pytest.mark.parametrize(
    ("scored", "rejected", "found"),
    [
        ([0, 1], [], "lost ['00000000000000000000000000000002'], twice []"),
        ([0, 1, 2], [1], "lost [], twice ['00000000000000000000000000000001']"),
        ([0, 0, 1], [], "lost ['00000000000000000000000000000002'], twice ['0000000000000000000000000000000"),
        ([0, 1, 2], [7], "not in the manifest ['00000000000000000000000000000007']"),
        ([], [], "3 images to score, 0 rows written"),
    ],
    ids=["lost", "twice", "one for another", "strange", "nothing"],
)
def test_lost_repeated_and_strange_images_are_named(
    tmp_path: Path, source: Source, write: Write, scored: list[int], rejected: list[int], found: str
) -> None:
    files = write("u1", scored, rejected)
    with pytest.raises(AccountingError) as failure:
        require_complete(str(tmp_path), files, _pending(tmp_path, source, 3), tmp_path)
    assert found in str(failure.value)
    assert "nothing was committed" in str(failure.value)


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ([0], "2 anomaly maps to keep, 1 written; lost ['00000000000000000000000000000001'], twice []"),
        ([0, 0, 1], "2 anomaly maps to keep, 3 written; lost [], twice ['00000000000000000000000000000000']"),
        ([0, 2], "2 anomaly maps to keep, 2 written; lost ['00000000000000000000000000000001']"),
    ],
    ids=["lost", "twice", "of another image"],
)
def test_maps_are_those_that_were_to_be_kept(
    tmp_path: Path, source: Source, write: Write, result: ImageResult, kept: list[int], found: str
) -> None:
    files = write("u1", [0, 1, 2], [])
    maps = {"maps": [map_row(source(number), result) for number in kept]}
    files |= write_unit(str(tmp_path), "m", maps, {})
    with pytest.raises(AccountingError) as failure:
        require_complete(str(tmp_path), files, _pending(tmp_path, source, 3, maps=(0, 1)), tmp_path)
    assert found in str(failure.value)


def test_a_rejected_image_needs_no_map(
    tmp_path: Path, source: Source, write: Write, result: ImageResult
) -> None:
    files = write("u1", [0], [1])
    files |= write_unit(str(tmp_path), "m", {"maps": [map_row(source(0), result)]}, {})
    require_complete(str(tmp_path), files, _pending(tmp_path, source, 2, maps=(0, 1)), tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path: Path, source: Source, write: Write) -> None:
    files = write("u1", [0, 1], [])
    (file,) = files["scores"]
    (tmp_path / file.name).unlink()
    with pytest.raises(AccountingError, match=rf"{file.name} is gone, .* start the run again"):
        require_complete(str(tmp_path), files, _pending(tmp_path, source, 2), tmp_path)
