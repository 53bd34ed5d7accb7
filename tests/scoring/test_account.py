"""Every image once, before a run commits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from raysvq.data.manifest import tally
from raysvq.errors import AccountingError
from raysvq.imaging.decode import DecodeError
from raysvq.model.bundle import Bundle
from raysvq.model.scorer import ImageResult
from raysvq.scoring.account import require_complete
from raysvq.scoring.pending import Pending
from raysvq.scoring.rows import Row, provenance, reject_row, score_row
from raysvq.scoring.sink import Files, write_unit

Source = Callable[..., Row]
Write = Callable[[str, list[int], list[int]], Files]


@pytest.fixture
def write(tmp_path: Path, source: Source, result: ImageResult, bundle: Bundle) -> Write:
    """Writes a unit of scored and rejected images, given by number."""

    def build(unit: str, scored: list[int], rejected: list[int]) -> Files:
        origin = provenance(bundle, "run-1", "5e77", "float32")
        scores = [score_row(source(number), result, bundle.reference, origin) for number in scored]
        rejects = [reject_row(source(number), DecodeError("empty", "0 bytes"), origin) for number in rejected]
        return write_unit(str(tmp_path), unit, {"scores": scores, "rejects": rejects, "maps": []}, {})

    return build


def _pending(folder: Path, source: Source, count: int) -> Pending:
    path = folder / "pending.parquet"
    pq.write_table(pa.table({"image_id": [source(number)["image_id"] for number in range(count)]}), path)
    return Pending(path, tally(ds.dataset(path)), 0, 0, 0)


def test_every_image_once_is_accepted(tmp_path: Path, source: Source, write: Write) -> None:
    one, two = write("u1", [0, 2], [1]), write("u2", [3], [])
    require_complete(
        str(tmp_path), {kind: one[kind] + two[kind] for kind in one}, _pending(tmp_path, source, 4)
    )


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
    with pytest.raises(AccountingError) as failure:
        require_complete(str(tmp_path), write("u1", scored, rejected), _pending(tmp_path, source, 3))
    assert found in str(failure.value)
    assert "nothing was committed" in str(failure.value)


def test_a_file_that_is_gone_is_named(tmp_path: Path, source: Source, write: Write) -> None:
    files = write("u1", [0, 1], [])
    (file,) = files["scores"]
    (tmp_path / file.name).unlink()
    with pytest.raises(AccountingError, match=rf"{file.name} is gone, .* start the run again"):
        require_complete(str(tmp_path), files, _pending(tmp_path, source, 2))
