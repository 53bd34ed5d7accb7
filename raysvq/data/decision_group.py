"""The group that an image is decided by: `group` of its manifest row, or a key of its `meta`."""

from __future__ import annotations

import pyarrow.dataset as ds

from raysvq.data.manifest import Row
from raysvq.errors import DataError
from raysvq.tables import stream

GROUP = "group"


def group_columns(group_by: str | None) -> list[str]:
    """Columns of the manifest that `decision_group` reads."""
    return [] if group_by is None else [GROUP if group_by == GROUP else "meta"]


def decision_group(row: Row, group_by: str | None) -> str | None:
    """The group of a manifest row, by `decision.group_by`; None where it has none."""
    if group_by is None:
        return None
    group: str | None = row[GROUP] if group_by == GROUP else dict(row["meta"] or ()).get(group_by)
    return group


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
    rows = (row for batch in stream(manifest, group_columns(group_by)) for row in batch.to_pylist())
    if all(decision_group(row, group_by) is None for row in rows):
        raise no_group(group_by)
