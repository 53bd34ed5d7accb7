"""The group that an image is decided by: `group` of its manifest row, or a key of its `meta`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from raysvq.errors import DataError
from raysvq.tables import stream

if TYPE_CHECKING:
    import pyarrow.dataset as ds

GROUP = "group"


def group_columns(group_by: str | None) -> list[str]:
    """Columns of the manifest that `groups_of` reads."""
    return [] if group_by is None else [GROUP if group_by == GROUP else "meta"]


def groups_of(rows: pa.Table | pa.RecordBatch, group_by: str | None) -> list[str | None]:
    """The group of each row, by `decision.group_by`; None where it has none."""
    if group_by is None:
        return [None] * rows.num_rows
    if group_by == GROUP:
        groups: list[str | None] = rows[GROUP].to_pylist()
        return groups
    return [dict(meta or ()).get(group_by) for meta in rows["meta"].to_pylist()]


def group_sql(group_by: str | None) -> str:
    """SQL for the group of a manifest row `m`."""
    if group_by is None:
        return "null::varchar"
    if group_by == GROUP:
        return f'm."{GROUP}"'
    return "list_extract(map_extract(m.meta, '{}'), 1)".format(group_by.replace("'", "''"))


def no_group(group_by: str) -> DataError:
    """That no row of a manifest has a group."""
    return DataError(
        f"setting `decision.group_by`: no image of the manifest has {group_by!r}; expected `group`, or a"
        " metadata column of the listing that was indexed"
    )


def require_groups(manifest: ds.Dataset, group_by: str | None) -> None:
    """Check that some image has a group; the others are decided by the whole.

    Raises:
        DataError: none has, so that the setting is surely mistaken.
    """
    if group_by is None:
        return
    batches = stream(manifest, group_columns(group_by))
    if not any(group is not None for batch in batches for group in groups_of(batch, group_by)):
        raise no_group(group_by)
