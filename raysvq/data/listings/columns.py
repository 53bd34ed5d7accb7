"""The header of a listing: the columns raysvq knows, and those that nearly are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from raysvq.errors import DataError
from raysvq.schema import MANIFEST

KNOWN = ("uri", "label", "mask_uri", "split", "group", "defect_type", "captured_at")

_ALSO_CALLED = {
    "uri": "image image_uri image_path image_file image_url image_name img img_path path file file_path"
    " file_name filename url location source source_ref s3_uri s3_path s3_key key",
    "label": "class class_label target anomaly anomalous is_anomaly is_anomalous is_normal is_defect"
    " is_defective defective ok_ng label_name label_index",
    "mask_uri": "mask mask_path mask_file mask_url mask_name gt gt_path gt_mask ground_truth"
    " ground_truth_path groundtruth segmentation segmentation_path annotation_path",
    "split": "subset partition fold train_test",
    "group": "group_id group_name grouping",
    "defect_type": "defect defect_class defect_kind defect_name anomaly_type anomaly_class type_of_defect",
    "captured_at": "captured capture_time capture_date captured_on timestamp time_stamp datetime date_time"
    " taken_at acquired_at acquisition_time recorded_at",
}
_BARE = {known.replace("_", ""): known for known in KNOWN}
_MEANT = {re.sub("_", "", other): name for name, others in _ALSO_CALLED.items() for other in others.split()}


def require_columns(names: Sequence[str], where: str) -> None:
    """Check the header of a listing.

    Metadata may have any name that no known column could be meant by.

    Raises:
        DataError: a column is missing, stands twice or is nearly a known one; the error names it.
    """
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{where}: the column {twice[0]!r} stands {Counter(names)[twice[0]]} times")
    if "uri" not in names:
        raise DataError(f"{where}: no column `uri`; found {', '.join(names) or 'none'}{_hint(names)}")
    for place, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"{where}: column {place} has no name; pandas writes its index so, without `index=False`"
            )
        if meant := _meant(name, names):
            raise DataError(
                f"{where}: the column {name!r} is to be called `{meant}`, or, if it is metadata, by a name"
                " that cannot mean that"
            )
        if name != name.strip():
            raise DataError(f"{where}: the column {name!r} has blanks around its name; expected none")


def is_manifest(names: Sequence[str]) -> bool:
    """Whether the columns are those of a manifest."""
    return set(MANIFEST.names) <= set(names)


def _meant(name: str, names: Sequence[str]) -> str | None:
    """The known column that a name nearly is. Where that one is there, another word does not mean it."""
    if name in KNOWN:
        return None
    bare = re.sub(r"[\W_]", "", name).casefold()
    if bare in _BARE:
        return _BARE[bare]
    close = get_close_matches(bare, _BARE, n=1, cutoff=0.8)
    meant = _MEANT.get(bare) or (_BARE[close[0]] if close else None)
    return None if meant in names else meant


def _hint(names: Sequence[str]) -> str:
    """What may have gone wrong where there is no column `uri`."""
    for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(names) == 1 and separator in names[0]:
            return f"; the fields seem to be separated by {called}, expected commas"
    nearly = [name for name in names if _meant(name, names) == "uri"]
    return f"; is {nearly[0]!r} to be called `uri`?" if nearly else ""
