"""What the scripts of the page work on, as JSON that is safe inside a script element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from markupsafe import Markup

from raysvq.evaluation.labelled_images import free_name
from raysvq.evaluation.result import DEFECT_TYPE, GROUP, Evaluation, ImageRecord
from raysvq.report.evaluation.scale import ScoreScale
from raysvq.report.evaluation.thumbnails import Picture
from raysvq.report.page import coded, script_json

_DIGITS = 9  # significant ones: exact for float32


def page_data(evaluation: Evaluation, pictures: Mapping[str, Picture], scale: ScoreScale | None) -> Markup:
    """The images by column, the pictures by position, and the scale of the threshold, as JSON.

    Columns keep 10,000 images small.
    """
    images = evaluation.images
    prefix = common_folder([image.uri for image in images])
    places = {image.image_id: place for place, image in enumerate(images)}
    data = {
        "threshold": evaluation.threshold,
        "scale": None if scale is None else {"low": scale.low, "high": scale.high, "log": scale.logarithmic},
        "costs": {
            "rate": evaluation.costs.defect_rate,
            "miss": evaluation.costs.miss,
            "alarm": evaluation.costs.false_alarm,
        },
        "prefix": prefix,
        "names": [image.uri[len(prefix) :] for image in images],
        "scores": [_number(image.score) for image in images],
        "thresholds": [_number(image.threshold) for image in images]
        if evaluation.threshold is None
        else None,
        "p": [_number(image.p_value, 3) for image in images],
        "bad": "".join("01"[image.anomalous] for image in images),
        "flagged": "".join("01"[image.flagged] for image in images),
        "size": [[image.width, image.height] for image in images],
        "defects": {
            str(place): [image.defects, image.defects_found]
            for place, image in enumerate(images)
            if image.defects is not None
        },
        "area": {
            str(place): _number(image.defect_area, 3)
            for place, image in enumerate(images)
            if image.defect_area is not None
        },
        "columns": columns(images),
        "pictures": {str(places[image_id]): _picture(picture) for image_id, picture in pictures.items()},
    }
    return script_json(data)


def columns(images: Sequence[ImageRecord]) -> list[dict[str, Any]]:
    """Defect type, group, the group that decided, and metadata: their values, and each image's as an index.

    A name that is taken stands in brackets. A column without a value is left out. An image without a value
    has the index -1.
    """
    named: dict[str, list[str | None]] = {
        DEFECT_TYPE: [image.defect_type for image in images],
        GROUP: [image.group for image in images],
        "decided_by": [image.decision_group for image in images],
    }
    for key in sorted({key for image in images for key in image.meta}):
        named[free_name(key, named)] = [image.meta.get(key) for image in images]
    return [coded(name, values) for name, values in named.items() if any(values)]


def common_folder(uris: Sequence[str]) -> str:
    """The folders that all URIs begin with, with the last slash."""
    first, last = min(uris, default=""), max(uris, default="")
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: first.rfind("/", 0, len(list(alike))) + 1]


def _picture(picture: Picture) -> dict[str, Any]:
    if picture.problem is not None:
        return {"problem": picture.problem}
    shown = {"w": picture.width, "h": picture.height, "image": picture.image, "heat": picture.heat}
    shown |= {"contour": picture.contour, "mask": picture.mask, "mapped": picture.mapped}
    return {key: value for key, value in shown.items() if value}


def _number(value: float | None, digits: int = _DIGITS) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
