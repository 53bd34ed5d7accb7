"""What a manifest says of the images that a model learns from, in bounded memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow.dataset as ds

from raysvq.data.decision_group import group_sql
from raysvq.data.training_set import TrainingSet
from raysvq.schema import ANOMALOUS, NORMAL, TEST
from raysvq.tables import database, spool_columns

PLACES = ("site", "line", "camera")  # keys of `meta` that say where images come from
MAX_VALUES = 20  # of each, and types of defects, that are kept: the most frequent
_COLUMNS = ["label", "split", "mask_uri", "group", "defect_type", "captured_at", "meta"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def describe(manifest: ds.Dataset, splits: Sequence[str]) -> TrainingSet:
    """Describe the labelled images of some splits, and count those of the test split."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "manifest.parquet"
        spool_columns(manifest, _COLUMNS, path)
        with database(Path(name), manifest=[path]) as connection:
            chosen = ", ".join(f"'{split}'" for split in splits)
            connection.execute(
                f"create temp view learnt as from manifest m where m.split in ({chosen})"
                f" and m.label in ('{NORMAL}', '{ANOMALOUS}')"
            )
            return _describe(connection)


def _describe(connection: duckdb.DuckDBPyConnection) -> TrainingSet:
    ((groups, ungrouped, masks, first, last, dated),) = connection.execute(
        f"""
        select
            count(distinct "group") filter (label = '{NORMAL}'),
            count(*) filter (label = '{NORMAL}' and "group" is null),
            count(mask_uri) filter (label = '{ANOMALOUS}'),
            epoch_us(min(captured_at)), epoch_us(max(captured_at)), count(captured_at)
        from learnt
        """
    ).fetchall()
    tested = connection.execute(
        f"select label, count(*) from manifest where split = '{TEST}' group by label order by label"
    )
    test = dict(tested.fetchall())
    places = {
        place: _most_frequent(connection, f"from learnt m select {group_sql(place)}") for place in PLACES
    }
    return TrainingSet(
        groups=groups,
        ungrouped=ungrouped,
        defect_types=_most_frequent(
            connection, f"select defect_type from learnt where label = '{ANOMALOUS}'"
        ),
        masks=masks,
        first=_iso(first),
        last=_iso(last),
        dated=dated,
        places={place: values for place, values in places.items() if values},
        test=test,
    )


def _most_frequent(connection: duckdb.DuckDBPyConnection, values: str) -> dict[str, int]:
    """The most frequent values of a query of one column, and how often they occur; null does not count."""
    counted = connection.execute(
        f"select value, count(*) as times from ({values}) as of(value) where value is not null"
        f" group by value order by times desc, value limit {MAX_VALUES}"
    )
    return dict(counted.fetchall())


def _iso(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="seconds")
